package convert

import (
	"fmt"
	"io/fs"
	"strings"

	"rehost/protocol"
)

// Plan is what a conversion would change, in order, and what was found on the way.
type Plan struct {
	Guest    protocol.Guest     `json:"guest"`
	Edits    []Edit             `json:"edits"`
	Findings []protocol.Finding `json:"findings"`
}

// Edit is one change of one file.
type Edit struct {
	protocol.Change
	Data    []byte      `json:"-"`                // the new content; for an append, what is added
	Mode    fs.FileMode `json:"mode,omitempty"`   // of a new file
	Target  string      `json:"target,omitempty"` // of a link
	OldSize int64       `json:"old_size"`         // of a file that grows
	stamp   string      // of a file that grows, when its sum was taken; empty: not known
}

// Actions of a change.
const (
	ActionCreate = "create"
	ActionEdit   = "edit"
	ActionAppend = "append"
	ActionRemove = "remove"
	ActionLink   = "link"
)

// planner collects edits; each has a reason.
type planner struct {
	facts    Facts
	set      protocol.ConversionSettings
	edits    []Edit
	findings []protocol.Finding
	cards    []card     // that a kept network configuration names
	chosen   *BootEntry // that becomes the default; nil: the default one stays
}

// MakePlan decides what to change. It is pure: the same facts and settings give
// the same plan. For a guest that cannot be made to boot the plan has critical findings and no edits,
// and the error is a [*protocol.Problem] with all of them.
func MakePlan(f Facts, set protocol.ConversionSettings) (Plan, error) {
	if set.Network == "" {
		set.Network = "dhcp"
	}
	p := &planner{facts: f, set: set}
	for _, step := range []func() error{
		p.checkArchitecture, p.checkKernel, p.biosBoot, p.initramfs, p.initramfsConfig, p.modprobe, p.fstab, p.crypttab, p.resume, p.assembly, p.network, p.boundServices, p.grub, p.systemdBoot, p.uefiFallback,
		p.services, p.cloudInit, p.agent, p.identity, p.firstBoot, p.relabel, p.checkSpace,
	} {
		if err := step(); err != nil {
			return Plan{}, err
		}
	}
	plan := Plan{Guest: p.facts.Guest, Edits: p.edits, Findings: p.findings}
	if err := Refusal(p.findings); err != nil {
		plan.Edits = nil
		return plan, err
	}
	return plan, nil
}

// refuse takes note of a critical finding; one is enough to refuse the whole plan.
func (p *planner) refuse(code protocol.FindingCode, subject, hint, format string, args ...any) {
	p.findings = append(p.findings, protocol.Finding{
		Severity: protocol.SeverityCritical, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...),
	})
}

// warn takes note of what will be missing or slow.
func (p *planner) warn(code protocol.FindingCode, subject, hint, format string, args ...any) {
	p.findings = append(p.findings, protocol.Finding{
		Severity: protocol.SeverityWarning, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...),
	})
}

// note takes note of what is worth knowing.
func (p *planner) note(code protocol.FindingCode, subject, format string, args ...any) {
	p.findings = append(p.findings, protocol.Finding{Severity: protocol.SeverityInfo, Code: code, Subject: subject, Message: fmt.Sprintf(format, args...)})
}

// Refusal is a problem when a finding is critical. It names all of them, so that they can be mended in one go.
func Refusal(findings []protocol.Finding) error {
	var messages, hints []string
	for _, f := range findings {
		if f.Severity == protocol.SeverityCritical {
			messages, hints = append(messages, f.Message), append(hints, f.Hint)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return &protocol.Problem{
		Code: protocol.ProblemConversion, Step: "convert",
		Message: strings.Join(messages, "; "), Hint: strings.Join(hints, "; "),
	}
}

// write plans the new content of a file. Nothing is planned when it is the old one.
func (p *planner) write(path, content string, mode fs.FileMode, reason string) {
	old, ok := p.facts.Files[path]
	if ok && old.Mode.IsRegular() && string(old.Data) == content {
		return
	}
	e := Edit{Data: []byte(content), Mode: mode}
	e.Change = protocol.Change{Path: path, Action: ActionCreate, Reason: reason, After: sum(e.Data), Detail: difference(string(old.Data), content)}
	if ok {
		e.Action, e.Before = ActionEdit, old.Sum
	}
	p.edits = append(p.edits, e)
}

// remove plans the removal of a file or link, if it is there.
func (p *planner) remove(path, reason string) {
	old, ok := p.facts.Files[path]
	if _, twice := p.facts.Files[old.At]; twice {
		return // known under its own path too
	}
	if ok && !old.Mode.IsDir() {
		p.edits = append(p.edits, Edit{Change: protocol.Change{Path: path, Action: ActionRemove, Reason: reason, Before: old.Sum, Detail: old.Link}})
	}
}

// link plans a link.
func (p *planner) link(path, target, reason string) {
	old := p.facts.Files[path]
	if old.Link == target {
		return
	}
	p.edits = append(p.edits, Edit{
		Change: protocol.Change{Path: path, Action: ActionLink, Reason: reason, Before: old.Sum, Detail: target},
		Target: target,
	})
}
