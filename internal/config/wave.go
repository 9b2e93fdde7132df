package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultWave returns a wave block's defaults.
func DefaultWave() protocol.WaveSettings {
	return protocol.WaveSettings{Applications: []string{}, After: []string{}, Concurrency: 10}
}

type waveBlock struct {
	Name         string         `hcl:"name,label"`
	NameAt       hcl.Range      `hcl:"name,label_range"`
	At           hcl.Range      `hcl:",def_range"`
	Applications *hcl.Attribute `hcl:"applications"`
	After        *hcl.Attribute `hcl:"after,optional"`
	Concurrency  *hcl.Attribute `hcl:"concurrency,optional"`
}

func (b waveBlock) read(r *reader) protocol.WaveSettings {
	s := DefaultWave()
	s.Name = b.Name
	r.need(b.Applications, b.At, "applications", "[application.NAME]")
	r.refs(b.Applications, "application", &s.Applications)
	r.refs(b.After, "wave", &s.After)
	r.integer(b.Concurrency, &s.Concurrency, 1, 200)
	return s
}

// waveCycle returns a circle of waves, each after the next, that starts and ends with the same name; nil when there is none.
func waveCycle(waves []protocol.WaveSettings) []string {
	after := map[string][]string{}
	for _, w := range waves {
		after[w.Name] = w.After
	}
	done := map[string]bool{}
	var walk func(name string, path []string) []string
	walk = func(name string, path []string) []string {
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		for _, next := range after[name] {
			if c := walk(next, path); c != nil {
				return c
			}
		}
		done[name] = true
		return nil
	}
	for _, w := range waves {
		if c := walk(w.Name, nil); c != nil {
			return c
		}
	}
	return nil
}

func (r *reader) noCycle(blocks []waveBlock, waves []protocol.WaveSettings) {
	circle := waveCycle(waves)
	if circle == nil {
		return
	}
	for _, b := range blocks {
		if b.Name == circle[0] && b.After != nil {
			r.fail(b.After.Expr.Range(), "Waves wait for each other", "No wave of this circle could ever start: %s. Remove one of these from an \"after\".",
				strings.Join(circle, " after "))
			return
		}
	}
}
