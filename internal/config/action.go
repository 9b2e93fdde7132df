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
	return protocol.ActionSettings{By: protocol.ActionBySSH, Phase: protocol.ActionInBoth, MustSucceed: true, Timeout: 10 * time.Minute}
}

type actionBlock struct {
	Name        string         `hcl:"name,label"`
	NameAt      hcl.Range      `hcl:"name,label_range"`
	At          hcl.Range      `hcl:",def_range"`
	Content     *hcl.Attribute `hcl:"content"`
	By          *hcl.Attribute `hcl:"by,optional"`
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
	by, phase := string(s.By), string(s.Phase)
	r.oneOf(b.By, &by, texts(protocol.ActionBys)...)
	r.oneOf(b.Phase, &phase, texts(protocol.ActionPhases)...)
	s.By, s.Phase = protocol.ActionBy(by), protocol.ActionPhase(phase)
	r.flag(b.MustSucceed, &s.MustSucceed)
	if r.flag(b.Repeatable, &s.Repeatable); b.Repeatable != nil && s.AtFirstBoot() {
		r.fail(b.Repeatable.NameRange, "Attribute without effect", "An instance boots for the first time once, whatever becomes of the controller. Remove repeatable.")
	}
	r.duration(b.Timeout, &s.Timeout, time.Second, 24*time.Hour)
	return s
}

// firstBoots refuses servers whose scripts do not fit into the user data of their conversion.
func (r *reader) firstBoots(raw []serverBlock, f protocol.Fleet) {
	scripts := map[string][]protocol.Script{}
	for _, l := range f.Launches {
		scripts[l.Name] = l.Scripts
	}
	for i, s := range f.Servers {
		for _, kind := range []protocol.JobKind{protocol.JobTest, protocol.JobCutover} {
			own := protocol.FirstBootScripts(f.ActionsOf(s, kind))
			size := 0
			for _, script := range append(own, scripts[s.Launch]...) {
				size += len(script.Content)
			}
			if len(own) > 0 && size > maxScripts {
				r.fail(raw[i].Actions.Expr.Range(), "Scripts too large", "The actions at the first boot and the scripts of launch.%s have %d bytes, and %d is the most. Let them fetch the rest, or be run by %q.",
					s.Launch, size, maxScripts, protocol.ActionBySSH)
				break
			}
		}
	}
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
