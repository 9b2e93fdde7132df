package config

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

const (
	// defaultGateTimeout is how long a command or a page may take to answer: a person waits for it.
	defaultGateTimeout = 10 * time.Second
	// maxApprovals of one role bounds a slip of the finger, which would leave a gate closed for ever.
	maxApprovals = 20
)

type approvalBlock struct {
	Role     string         `hcl:"role,label"`
	RoleAt   hcl.Range      `hcl:"role,label_range"`
	Count    *hcl.Attribute `hcl:"count,optional"`
	FourEyes *hcl.Attribute `hcl:"four_eyes,optional"`
	Valid    *hcl.Attribute `hcl:"valid,optional"`
}

type commandBlock struct {
	Name    string         `hcl:"name,label"`
	NameAt  hcl.Range      `hcl:"name,label_range"`
	At      hcl.Range      `hcl:",def_range"`
	Argv    *hcl.Attribute `hcl:"argv"`
	Timeout *hcl.Attribute `hcl:"timeout,optional"`
}

type pageBlock struct {
	Name     string         `hcl:"name,label"`
	NameAt   hcl.Range      `hcl:"name,label_range"`
	At       hcl.Range      `hcl:",def_range"`
	URL      *hcl.Attribute `hcl:"url"`
	Status   *hcl.Attribute `hcl:"status,optional"`
	Contains *hcl.Attribute `hcl:"contains,optional"`
	Timeout  *hcl.Attribute `hcl:"timeout,optional"`
}

// people reads who must approve.
func (b *gatesBlock) people(r *reader, s *protocol.GateSettings) {
	seen := map[string]bool{}
	for _, a := range b.Approvals {
		want := protocol.ApprovalSettings{Role: a.Role, Count: 1}
		r.label(seen, "approval", a.Role, a.RoleAt)
		r.integer(a.Count, &want.Count, 1, maxApprovals)
		r.flag(a.FourEyes, &want.FourEyes)
		r.limit(a.Valid, &want.Valid, 3*24*time.Hour, minAge, maxAge)
		s.Approvals = append(s.Approvals, want)
	}
}

// answers reads which programs and pages are asked.
func (b *gatesBlock) answers(r *reader, s *protocol.GateSettings) {
	seen := map[string]bool{}
	for _, c := range b.Commands {
		r.label(seen, "command", c.Name, c.NameAt)
		s.Commands = append(s.Commands, c.read(r))
	}
	seen = map[string]bool{}
	for _, p := range b.Pages {
		r.label(seen, "http", p.Name, p.NameAt)
		s.Pages = append(s.Pages, p.read(r))
	}
}

// label checks the label of a block inside of another one, which has it once.
func (r *reader) label(seen map[string]bool, kind, name string, at hcl.Range) {
	if r.name(name, at); seen[name] {
		r.fail(at, "Duplicate name", "There is already %s %q in these gates. Rename or remove one of them.", kind, name)
	}
	seen[name] = true
}

func (b commandBlock) read(r *reader) protocol.CommandGateSettings {
	s := protocol.CommandGateSettings{Name: b.Name, Timeout: defaultGateTimeout}
	r.need(b.Argv, b.At, "argv", `["ticket-is-open", "CHG-4711"]`)
	if r.texts(b.Argv, &s.Argv) {
		switch {
		case len(s.Argv) == 0:
			r.fail(b.Argv.Expr.Range(), "No program", "argv names a program and its arguments. Write for example argv = [%q].", "ticket-is-open")
		case s.Argv[0] == "" || strings.HasPrefix(s.Argv[0], ".") || strings.ContainsAny(s.Argv[0], "/\x00 "):
			r.fail(b.Argv.Expr.Range(), "Not a program's name", "%q must be the name of a file in the folder that gate_commands in controller.hcl names: no path, no arguments, no shell. Write for example argv = [%q, %q].",
				s.Argv[0], "ticket-is-open", "CHG-4711")
		}
	}
	r.duration(b.Timeout, &s.Timeout, time.Second, protocol.MaxGateTimeout)
	return s
}

func (b pageBlock) read(r *reader) protocol.PageGateSettings {
	s := protocol.PageGateSettings{Name: b.Name, Status: 200, Timeout: defaultGateTimeout}
	r.need(b.URL, b.At, "url", `"https://changes.example.com/CHG-4711"`)
	if r.text(b.URL, &s.URL) {
		switch u, ok := webURL(s.URL); {
		case !ok:
			r.fail(b.URL.Expr.Range(), "Not a page's URL", "%q is no URL that can be asked. Write for example %q.", s.URL, "https://changes.example.com/CHG-4711")
		case u.User != nil:
			r.fail(b.URL.Expr.Range(), "Password in a URL", "Whoever may look at the configuration would see it. Write a command that knows where it is kept.")
		}
	}
	r.integer(b.Status, &s.Status, 100, 599)
	r.text(b.Contains, &s.Contains)
	r.duration(b.Timeout, &s.Timeout, time.Second, protocol.MaxGateTimeout)
	return s
}
