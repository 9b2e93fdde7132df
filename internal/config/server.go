package config

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// defaultBlock is the name of the replication and launch block that a server uses when it names none.
const defaultBlock = "default"

// DefaultServer returns a server block's defaults. Disks is empty: the agent's own configuration says which.
func DefaultServer() protocol.ServerSettings {
	return protocol.ServerSettings{
		Replication: defaultBlock,
		Launch:      defaultBlock,
		Disks:       []string{},
		Checks:      []string{},
		Fence:       "hook",
		FenceMax:    time.Hour,
	}
}

type serverBlock struct {
	Name        string         `hcl:"name,label"`
	NameAt      hcl.Range      `hcl:"name,label_range"`
	At          hcl.Range      `hcl:",def_range"`
	Replication *hcl.Attribute `hcl:"replication,optional"`
	Launch      *hcl.Attribute `hcl:"launch,optional"`
	Disks       *hcl.Attribute `hcl:"disks,optional"`
	Checks      *hcl.Attribute `hcl:"checks,optional"`
	Actions     *hcl.Attribute `hcl:"actions,optional"`
	Fence       *hcl.Attribute `hcl:"fence,optional"`
	FenceMax    *hcl.Attribute `hcl:"fence_max,optional"`
	After       *hcl.Attribute `hcl:"after,optional"`
}

func (b serverBlock) read(r *reader) protocol.ServerSettings {
	s := DefaultServer()
	s.Name = b.Name
	r.ref(b.Replication, "replication", &s.Replication)
	r.ref(b.Launch, "launch", &s.Launch)
	r.disks(b.Disks, &s.Disks)
	r.refs(b.Checks, "check", &s.Checks)
	r.refs(b.Actions, "action", &s.Actions)
	r.oneOf(b.Fence, &s.Fence, "hook", "confirmed")
	r.duration(b.FenceMax, &s.FenceMax, time.Minute, 24*time.Hour)
	r.refs(b.After, "server", &s.After)
	r.inherits(b.Replication, b.At, "replication", b.Name)
	r.inherits(b.Launch, b.At, "launch", b.Name)
	return s
}

// inherits checks that a server which names no block of a kind has a default one to use.
func (r *reader) inherits(a *hcl.Attribute, at hcl.Range, kind, server string) {
	if a != nil || slices.Contains(r.scope.names[kind], defaultBlock) {
		return
	}
	r.fail(at, "No "+kind+" settings", "The server %q names no %s block, and none is called %q. Write %s = %s.NAME. %s",
		server, kind, defaultBlock, kind, kind, didYouMean(defaultBlock, kind+".", r.scope.names[kind]))
}

// disks reads a list of whole disks by their device paths.
func (r *reader) disks(a *hcl.Attribute, to *[]string) {
	var got []string
	if !r.texts(a, &got) {
		return
	}
	for i, d := range got {
		switch {
		case !strings.HasPrefix(d, "/dev/"):
			r.fail(a.Expr.Range(), "Not a disk", "%q is not a device path. Write for example %q.", d, "/dev/sda")
			return
		case slices.Contains(got[:i], d):
			r.fail(a.Expr.Range(), "Named twice", "%s is twice in %s. Remove one of them.", d, a.Name)
			return
		}
	}
	*to = got
}
