package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehost/protocol"
)

// Stale says what has moved between two plans of the same configuration, or nil when they are the same.
func Stale(was string, before []protocol.PlanChange, now protocol.Plan) *protocol.Problem {
	if was == now.Hash {
		return nil
	}
	text := "the plan is stale: what it was made for has changed since"
	if moved := moved(before, now.Changes); len(moved) > 0 {
		text += ": " + bounded(moved)
	}
	return &protocol.Problem{Code: protocol.ProblemConflict, Message: text, Hint: "nothing was applied; look at a new plan: rehost plan"}
}

// moved says of each block what became of it. Both plans lead to the same configuration, so where they differ the world does.
func moved(before, now []protocol.PlanChange) []string {
	was, is := byBlock(before), byBlock(now)
	var out []string
	for _, c := range before {
		if text := became(&c, is[block(c)]); text != "" {
			out = append(out, block(c)+" "+text)
		}
	}
	for _, c := range now {
		if was[block(c)] == nil {
			out = append(out, block(c)+" "+became(nil, &c))
		}
	}
	return out
}

func block(c protocol.PlanChange) string { return c.Kind + " " + c.Name }

func byBlock(changes []protocol.PlanChange) map[string]*protocol.PlanChange {
	out := map[string]*protocol.PlanChange{}
	for _, c := range changes {
		out[block(c)] = &c
	}
	return out
}

// became says how the applied block has changed, seen by what two plans would do to it; empty: not at all.
func became(was, is *protocol.PlanChange) string {
	if was != nil && is != nil && was.Action == protocol.PlanUpdate && is.Action == protocol.PlanUpdate {
		return fieldsBecame(was.Fields, is.Fields)
	}
	if a, b := stands(was), stands(is); a != b {
		return "was " + a + ", is " + b
	}
	if was != nil && is != nil && was.Content != is.Content {
		return "has changed"
	}
	return ""
}

// stands says how a block stands before a change is made to it.
func stands(c *protocol.PlanChange) string {
	switch {
	case c == nil:
		return "as the plan wants it"
	case c.Action == protocol.PlanCreate:
		return strings.TrimSuffix("not there ("+c.Recorded+")", " ()")
	case c.Action == protocol.PlanRemove:
		return strings.TrimSuffix("there ("+c.Recorded+")", " ()")
	}
	return "other than the plan wants it"
}

// fieldsBecame names the settings whose values before the change differ.
func fieldsBecame(was, is []protocol.FieldChange) string {
	const wanted = "as wanted"
	before := map[string]string{}
	for _, f := range was {
		before[f.Field] = orNone(f.Before)
	}
	var out []string
	for _, f := range is {
		old, ok := before[f.Field]
		if !ok {
			old = wanted
		}
		if now := orNone(f.Before); now != old {
			out = append(out, fmt.Sprintf("%s was %s, is %s", f.Field, old, now))
		}
		delete(before, f.Field)
	}
	for _, field := range slices.Sorted(maps.Keys(before)) {
		out = append(out, fmt.Sprintf("%s was %s, is %s", field, before[field], wanted))
	}
	return strings.Join(out, ", ")
}

func orNone(v json.RawMessage) string {
	if len(v) == 0 {
		return "none"
	}
	return string(v)
}
