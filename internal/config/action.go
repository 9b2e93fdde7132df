package config

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// maxAction bounds the content of an action, in bytes: it is in the configuration, which travels as one message.
const maxAction = 32 << 10

// DefaultAction returns the defaults of an action block. An action that nobody says more of matters, and is never begun twice.
func DefaultAction() protocol.ActionSettings {
	return protocol.ActionSettings{Phase: protocol.ActionInBoth, MustSucceed: true, Timeout: 10 * time.Minute}
}

type actionBlock struct {
	Name        string         `hcl:"name,label"`
	NameAt      hcl.Range      `hcl:"name,label_range"`
	At          hcl.Range      `hcl:",def_range"`
	Content     *hcl.Attribute `hcl:"content"`
	Phase       *hcl.Attribute `hcl:"phase,optional"`
	MustSucceed *hcl.Attribute `hcl:"must_succeed,optional"`
	Repeatable  *hcl.Attribute `hcl:"repeatable,optional"`
	Timeout     *hcl.Attribute `hcl:"timeout,optional"`
}

func (b actionBlock) read(r *reader) protocol.ActionSettings {
	s := DefaultAction()
	s.Name = b.Name
	r.need(b.Content, b.At, "content", `"#!/bin/sh\n..."`)
	r.program(b.Content, &s.Content)
	if len(s.Content) > maxAction {
		r.fail(b.Content.Expr.Range(), "Action too large", "It has %d bytes, and %d is the most. Let it fetch the rest.", len(s.Content), maxAction)
	}
	phase := string(s.Phase)
	r.oneOf(b.Phase, &phase, texts(protocol.ActionPhases)...)
	s.Phase = protocol.ActionPhase(phase)
	r.flag(b.MustSucceed, &s.MustSucceed)
	r.flag(b.Repeatable, &s.Repeatable)
	r.duration(b.Timeout, &s.Timeout, time.Second, 24*time.Hour)
	return s
}

// program reads a script, which must say what runs it.
func (r *reader) program(a *hcl.Attribute, to *string) {
	if r.text(a, to) && !strings.HasPrefix(*to, "#!/") {
		r.fail(a.Expr.Range(), "Not a script", "It must say what runs it. Begin with %q, or another interpreter of the server.", "#!/bin/sh")
	}
}

func texts[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}
