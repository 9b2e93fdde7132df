package config

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// maxScripts bounds what a launch block's scripts have together, in bytes. They travel in the user data of the
// conversion's instance, of which EC2 takes 16 KiB.
const maxScripts = 6 << 10

// maxScriptTime bounds one script: an instance that hangs costs money.
const maxScriptTime = time.Hour

// launchScriptBlock is a program of the server's owner.
type launchScriptBlock struct {
	Name    string         `hcl:"name,label"`
	NameAt  hcl.Range      `hcl:"name,label_range"`
	At      hcl.Range      `hcl:",def_range"`
	Phase   *hcl.Attribute `hcl:"phase,optional"`
	Content *hcl.Attribute `hcl:"content,optional"`

	Timeout   *hcl.Attribute `hcl:"timeout,optional"`
	OnFailure *hcl.Attribute `hcl:"on_failure,optional"`
}

// scripts reads the script blocks. As soon as there is one, they replace the inherited ones.
func (b launchBlock) scripts(r *reader, s *protocol.LaunchSettings) {
	if len(b.Scripts) > 0 {
		s.Scripts = nil
	}
	size := 0
	for _, n := range b.Scripts {
		r.name(n.Name, n.NameAt)
		if slices.ContainsFunc(s.Scripts, func(o protocol.Script) bool { return o.Name == n.Name }) {
			r.fail(n.NameAt, "Script is there twice", "This launch block has a script %q already. Give this one another name.", n.Name)
		}
		script := n.head(r)
		r.need(n.Content, n.At, "content", `"#!/bin/sh\n..."`)
		r.program(n.Content, &script.Content)
		if size += len(script.Content); size > maxScripts {
			r.fail(n.At, "Scripts too large", "With this one the scripts have %d bytes, and %d is the most. Let those of the first boot fetch the rest.", size, maxScripts)
		}
		s.Scripts = append(s.Scripts, script)
	}
}

// head reads all but the content.
func (n launchScriptBlock) head(r *reader) protocol.Script {
	phase, failure := string(protocol.ScriptFirstBoot), "fail"
	r.oneOf(n.Phase, &phase, texts(protocol.ScriptPhases)...)
	r.oneOf(n.OnFailure, &failure, "fail", "continue")
	if n.OnFailure != nil && phase == string(protocol.ScriptFirstBoot) {
		r.fail(n.OnFailure.NameRange, "Attribute without effect", "The conversion is over when a script of the first boot runs. Remove on_failure, and let a check of kind \"console\" look for %q.", "first boot: done, 0 failed")
	}
	s := protocol.Script{Name: n.Name, Phase: protocol.ScriptPhase(phase), MayFail: failure == "continue"}
	limit := s.Limit()
	if r.duration(n.Timeout, &limit, time.Second, maxScriptTime); n.Timeout != nil {
		s.Timeout = limit
	}
	return s
}
