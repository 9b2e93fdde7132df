package config

import (
	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultWave returns a wave block's defaults.
func DefaultWave() protocol.WaveSettings {
	return protocol.WaveSettings{Applications: []string{}, After: []string{}, Concurrency: 10}
}

// maxConcurrency is more servers at once than an account lets be launched.
const maxConcurrency = 200

type waveBlock struct {
	Name         string         `hcl:"name,label"`
	NameAt       hcl.Range      `hcl:"name,label_range"`
	At           hcl.Range      `hcl:",def_range"`
	Applications *hcl.Attribute `hcl:"applications"`
	After        *hcl.Attribute `hcl:"after,optional"`
	Concurrency  *hcl.Attribute `hcl:"concurrency,optional"`
	Gates        *gatesBlock    `hcl:"gates,block"`
}

func (b waveBlock) read(r *reader) protocol.WaveSettings {
	s := DefaultWave()
	s.Name = b.Name
	r.need(b.Applications, b.At, "applications", "[application.NAME]")
	r.refs(b.Applications, "application", &s.Applications)
	r.refs(b.After, "wave", &s.After)
	r.integer(b.Concurrency, &s.Concurrency, 1, maxConcurrency)
	b.Gates.read(r, &s.Gates)
	return s
}
