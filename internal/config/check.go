package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultCheck returns the defaults of a check block of one kind. An instance may take
// minutes to boot where its CPU is emulated, hence the timeout.
func DefaultCheck(kind string) protocol.CheckSettings {
	s := protocol.CheckSettings{Kind: kind, Timeout: 10 * time.Minute}
	switch kind {
	case "http":
		s.Port, s.Path, s.Status = 80, "/", 200
	case "console":
		s.Contains = "login:"
	}
	return s
}

type checkBlock struct {
	Name     string         `hcl:"name,label"`
	NameAt   hcl.Range      `hcl:"name,label_range"`
	At       hcl.Range      `hcl:",def_range"`
	Kind     *hcl.Attribute `hcl:"kind"`
	Port     *hcl.Attribute `hcl:"port,optional"`
	Path     *hcl.Attribute `hcl:"path,optional"`
	Status   *hcl.Attribute `hcl:"status,optional"`
	Contains *hcl.Attribute `hcl:"contains,optional"`
	Timeout  *hcl.Attribute `hcl:"timeout,optional"`
}

func (b checkBlock) read(r *reader) protocol.CheckSettings {
	kind := ""
	r.need(b.Kind, b.At, "kind", `"http"`)
	r.oneOf(b.Kind, &kind, "http", "tcp", "console")
	s := DefaultCheck(kind)
	s.Name = b.Name
	r.integer(b.Port, &s.Port, 1, maxPort)
	r.path(b.Path, &s.Path)
	r.integer(b.Status, &s.Status, 100, 599)
	r.text(b.Contains, &s.Contains)
	r.duration(b.Timeout, &s.Timeout, time.Second, 24*time.Hour)
	switch kind {
	case "http":
	case "tcp":
		r.useless(kind, b.Path, b.Status, b.Contains)
		if b.Port == nil {
			r.fail(b.At, "No port", "A check of kind \"tcp\" needs a port. Write for example port = 22.")
		}
	case "console":
		r.useless(kind, b.Port, b.Path, b.Status)
	}
	return s
}

// useless refuses attributes that a check of this kind does not look at: they would promise what is never checked.
func (r *reader) useless(kind string, attrs ...*hcl.Attribute) {
	for _, a := range attrs {
		if a != nil {
			r.fail(a.NameRange, "Attribute without effect", "A check of kind %q has no %s. Remove it, or change the kind.", kind, a.Name)
		}
	}
}
