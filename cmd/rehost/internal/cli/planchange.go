package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/internal/config"
	"rehost/protocol"
)

// marks of a plan's changes, as terraform has them.
var marks = map[string]struct {
	mark  string
	color color
}{protocol.PlanCreate: {"+", green}, protocol.PlanUpdate: {"~", yellow}, protocol.PlanRemove: {"-", red}}

// maxWhole is how many new blocks of a kind are shown whole: a few screens. Of more, which a loop made, what differs is worth reading.
const maxWhole = 20

// planChanges shows what becomes of each block. Of many new ones of a kind the first is shown whole, and the others by what they have otherwise.
func planChanges(p *printer, env Env, changes []protocol.PlanChange, all bool) {
	created := map[string]int{}
	for _, c := range changes {
		if c.Action == protocol.PlanCreate {
			created[c.Kind]++
		}
	}
	first := map[string]*protocol.PlanChange{}
	short := false
	for _, c := range changes {
		if all || c.Action != protocol.PlanCreate || created[c.Kind] <= maxWhole || len(c.Fields) == 0 {
			planChange(p, env, c)
			continue
		}
		if first[c.Kind] == nil {
			first[c.Kind] = &c
			planChange(p, env, c)
			continue
		}
		short = true
		planLike(p, env, c, first[c.Kind])
	}
	if short {
		p.line("")
		p.line("Of more than %d new ones of a kind, the first is whole; --all shows all so.", maxWhole)
	}
}

// planLike shows a new block in a few lines, by what it has otherwise than another one.
func planLike(p *printer, env Env, c protocol.PlanChange, other *protocol.PlanChange) {
	words := []string{heading(env, c) + " as " + other.Name}
	for i, f := range unlike(other.Fields, c.Fields) {
		words[len(words)-1] += ","
		if i == 0 {
			words = append(words, "but")
		}
		words = append(words, fieldWords(f, true)...)
	}
	p.folded(env.Width, "  ", words)
	if !slices.Equal(c.Effects, other.Effects) {
		planEffects(p, c)
	}
}

func planChange(p *printer, env Env, c protocol.PlanChange) {
	p.line("  %s", heading(env, c))
	for _, f := range c.Fields {
		p.folded(env.Width, "      ", fieldWords(f, c.Action == protocol.PlanCreate))
	}
	planEffects(p, c)
}

func heading(env Env, c protocol.PlanChange) string {
	m := marks[c.Action]
	return env.paint(m.color, m.mark+" "+c.Kind+" "+c.Name)
}

func planEffects(p *printer, c protocol.PlanChange) {
	for _, e := range c.Effects {
		p.line("      effect: %s", oneLine(e))
	}
}

// unlike are the fields of a new block that another one has not, or has otherwise; those that only the other one has are without a value.
func unlike(other, fields []protocol.FieldChange) []protocol.FieldChange {
	was := map[string]json.RawMessage{}
	for _, f := range other {
		was[f.Field] = f.After
	}
	var out []protocol.FieldChange
	for _, f := range fields {
		if !bytes.Equal(was[f.Field], f.After) {
			out = append(out, f)
		}
		delete(was, f.Field)
	}
	for _, f := range other {
		if _, only := was[f.Field]; only {
			out = append(out, protocol.FieldChange{Field: f.Field})
		}
	}
	return out
}

// fieldWords are "name: before -> after", or "name: value" of a new block, with values as a configuration has them.
func fieldWords(f protocol.FieldChange, created bool) []string {
	words := valueWords(f.Field, f.After)
	if !created {
		words = append(append(valueWords(f.Field, f.Before), "->"), words...)
	}
	words[0] = strings.TrimSuffix(strings.TrimSuffix(f.Field, "_ns"), "_bytes") + ": " + words[0]
	return words
}

// valueWords are a value, or the values of a list.
func valueWords(field string, v json.RawMessage) []string {
	var items []json.RawMessage
	if !bytes.HasPrefix(v, []byte("[")) || json.Unmarshal(v, &items) != nil || len(items) == 0 {
		return []string{fieldValue(field, v)}
	}
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = fieldValue(field, item) + ","
	}
	words[0] = "[" + words[0]
	words[len(words)-1] = strings.TrimSuffix(words[len(words)-1], ",") + "]"
	return words
}

func fieldValue(field string, v json.RawMessage) string {
	name := field[strings.LastIndexByte(field, '.')+1:]
	var n int64
	if len(v) > 0 && json.Unmarshal(v, &n) == nil {
		switch {
		case name == "days":
			return fmt.Sprintf("%q", config.FormatDay(time.Weekday(n)))
		case strings.Contains(field, "windows[") && (name == "from_ns" || name == "to_ns"):
			return fmt.Sprintf("%q", config.FormatClock(time.Duration(n)))
		case strings.HasSuffix(name, "_ns"):
			return fmt.Sprintf("%q", config.FormatDuration(time.Duration(n)))
		case strings.HasPrefix(field, "bandwidth.") && strings.HasSuffix(name, "_bytes"):
			return fmt.Sprintf("%q", config.FormatRate(n))
		case strings.HasSuffix(name, "_bytes"):
			return fmt.Sprintf("%q", config.FormatSize(n))
		}
	}
	if len(v) == 0 {
		return "none"
	}
	return oneLine(string(v))
}
