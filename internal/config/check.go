package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultCheck returns the defaults of a check block of one kind. An instance may take
// minutes to boot where its CPU is emulated, hence the timeout.
func DefaultCheck(kind string) protocol.CheckSettings {
	s := protocol.CheckSettings{Kind: kind, Timeout: 10 * time.Minute}
	switch kind {
	case protocol.CheckHTTP:
		s.Port, s.Path, s.Status = 80, "/", 200
	case protocol.CheckConsole:
		s.Contains = "login:"
	}
	return s
}

// looksAt are the attributes that a check of each kind looks at.
var looksAt = map[string][]string{
	protocol.CheckHTTP:     {"port", "path", "status", "headers", "contains"},
	protocol.CheckTCP:      {"port"},
	protocol.CheckConsole:  {"contains"},
	protocol.CheckInstance: {},
	protocol.CheckDNS:      {"lookup", "resolver", "answer"},
	protocol.CheckSSH:      {"command", "exit_code", "contains"},
	protocol.CheckUnit:     {"unit"},
	protocol.CheckProcess:  {"process"},
	protocol.CheckMounts:   {"free"},
}

type checkBlock struct {
	Name     string         `hcl:"name,label"`
	NameAt   hcl.Range      `hcl:"name,label_range"`
	At       hcl.Range      `hcl:",def_range"`
	Kind     *hcl.Attribute `hcl:"kind"`
	Port     *hcl.Attribute `hcl:"port,optional"`
	Path     *hcl.Attribute `hcl:"path,optional"`
	Status   *hcl.Attribute `hcl:"status,optional"`
	Headers  *hcl.Attribute `hcl:"headers,optional"`
	Contains *hcl.Attribute `hcl:"contains,optional"`
	Lookup   *hcl.Attribute `hcl:"lookup,optional"`
	Resolver *hcl.Attribute `hcl:"resolver,optional"`
	Answer   *hcl.Attribute `hcl:"answer,optional"`
	Command  *hcl.Attribute `hcl:"command,optional"`
	ExitCode *hcl.Attribute `hcl:"exit_code,optional"`
	Unit     *hcl.Attribute `hcl:"unit,optional"`
	Process  *hcl.Attribute `hcl:"process,optional"`
	Free     *hcl.Attribute `hcl:"free,optional"`
	Timeout  *hcl.Attribute `hcl:"timeout,optional"`
}

func (b checkBlock) read(r *reader) protocol.CheckSettings {
	kind := ""
	r.need(b.Kind, b.At, "kind", `"http"`)
	r.oneOf(b.Kind, &kind, protocol.CheckKinds...)
	s := DefaultCheck(kind)
	s.Name = b.Name
	r.integer(b.Port, &s.Port, 1, maxPort)
	r.path(b.Path, &s.Path)
	r.integer(b.Status, &s.Status, 100, 599)
	r.tags(b.Headers, &s.Headers)
	r.text(b.Contains, &s.Contains)
	r.filled(b.Lookup, &s.Lookup, "www.example.org")
	r.address(b.Resolver, &s.Resolver)
	if r.text(b.Answer, &s.Answer) && s.Answer != "target" {
		if _, err := netip.ParseAddr(s.Answer); err != nil {
			r.fail(b.Answer.Expr.Range(), "Not an address", "%q is not an IP address. Write for example %q, or %q for that of the launched instance.", s.Answer, "10.0.0.7", "target")
		}
	}
	r.command(b.Command, &s.Command)
	r.integer(b.ExitCode, &s.ExitCode, 0, 255)
	r.filled(b.Unit, &s.Unit, "nginx.service")
	r.filled(b.Process, &s.Process, "nginx")
	r.size(b.Free, &s.Free, 0, 1<<50)
	r.duration(b.Timeout, &s.Timeout, time.Second, 24*time.Hour)
	if attributes, known := looksAt[kind]; known {
		r.useless(kind, attributes, b.Port, b.Path, b.Status, b.Headers, b.Contains, b.Lookup, b.Resolver, b.Answer, b.Command, b.ExitCode, b.Unit, b.Process, b.Free)
	}
	b.complete(r, kind)
	return s
}

// complete refuses a check without what it asks for.
func (b checkBlock) complete(r *reader, kind string) {
	switch kind {
	case protocol.CheckTCP:
		if b.Port == nil {
			r.fail(b.At, "No port", "A check of kind \"tcp\" needs a port. Write for example port = 22.")
		}
	case protocol.CheckDNS:
		r.need(b.Lookup, b.At, "lookup", `"www.example.org"`)
	case protocol.CheckSSH:
		r.need(b.Command, b.At, "command", `["test", "-f", "/srv/ready"]`)
	case protocol.CheckUnit:
		r.need(b.Unit, b.At, "unit", `"nginx.service"`)
	case protocol.CheckProcess:
		r.need(b.Process, b.At, "process", `"nginx"`)
	}
}

// useless refuses attributes that a check of this kind does not look at: they would promise what is never checked.
func (r *reader) useless(kind string, known []string, attrs ...*hcl.Attribute) {
	for _, a := range attrs {
		if a != nil && !slices.Contains(known, a.Name) {
			r.fail(a.NameRange, "Attribute without effect", "A check of kind %q has no %s. Remove it, or change the kind.", kind, a.Name)
		}
	}
}

// filled reads a text that is not empty, and one line.
func (r *reader) filled(a *hcl.Attribute, to *string, example string) {
	var got string
	if !r.text(a, &got) {
		return
	}
	if strings.TrimSpace(got) == "" || strings.ContainsAny(got, "\n\x00") {
		r.fail(a.Expr.Range(), "Empty, or not one line", "Write for example %s = %q.", a.Name, example)
		return
	}
	*to = got
}

// command reads a program of a launched server with its arguments, whose path that one's shell looks up.
func (r *reader) command(a *hcl.Attribute, to *[]string) {
	var got []string
	if !r.texts(a, &got) {
		return
	}
	if len(got) == 0 || strings.TrimSpace(got[0]) == "" {
		r.fail(a.Expr.Range(), "Not a program", "%s is a program with its arguments. Write for example %s = [%q, %q], or [%q, %q, %q] for a shell.",
			a.Name, a.Name, "test", "-f", "sh", "-c", "a | b")
		return
	}
	*to = got
}
