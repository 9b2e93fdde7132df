package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// How often copies may be booted: each is a conversion and an instance of some minutes.
const minReady, maxReady = time.Hour, 30 * 24 * time.Hour

// launchReadyBlock says how often it is found out whether a fresh copy of a server boots.
type launchReadyBlock struct {
	At    hcl.Range      `hcl:",def_range"`
	Every *hcl.Attribute `hcl:"every"`
}

func (b *launchReadyBlock) read(r *reader, s *time.Duration) {
	v, ok := r.value(b.Every)
	switch {
	case b.Every == nil:
		r.need(b.Every, b.At, "every", `"24h"`)
	case !ok:
	case v.Type() == cty.String && v.AsString() == "off": // of what it inherits
		*s = 0
	default:
		r.limit(b.Every, s, 24*time.Hour, minReady, maxReady)
	}
}
