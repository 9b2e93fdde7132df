package config

import (
	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultApplication returns an application block's defaults.
func DefaultApplication() protocol.ApplicationSettings {
	return protocol.ApplicationSettings{Servers: []string{}}
}

type applicationBlock struct {
	Name    string         `hcl:"name,label"`
	NameAt  hcl.Range      `hcl:"name,label_range"`
	At      hcl.Range      `hcl:",def_range"`
	Servers *hcl.Attribute `hcl:"servers"`
	After   *hcl.Attribute `hcl:"after,optional"`
}

func (b applicationBlock) read(r *reader) protocol.ApplicationSettings {
	s := DefaultApplication()
	s.Name = b.Name
	r.need(b.Servers, b.At, "servers", "[server.NAME]")
	r.refs(b.Servers, "server", &s.Servers)
	r.refs(b.After, "application", &s.After)
	return s
}
