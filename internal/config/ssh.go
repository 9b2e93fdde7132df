package config

import (
	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// launchSSHBlock says how to get a shell on what is launched.
type launchSSHBlock struct {
	At      hcl.Range      `hcl:",def_range"`
	User    *hcl.Attribute `hcl:"user,optional"`
	KeyFile *hcl.Attribute `hcl:"key_file"`
	Port    *hcl.Attribute `hcl:"port,optional"`
}

// read reads the block, which replaces an inherited one.
func (b *launchSSHBlock) read(r *reader, s *protocol.LaunchSettings) {
	if b == nil {
		return
	}
	s.SSH = &protocol.SSHSettings{User: "root", Port: 22}
	r.need(b.KeyFile, b.At, "key_file", `"/etc/rehost/keys/checks"`)
	r.path(b.KeyFile, &s.SSH.KeyFile)
	r.filled(b.User, &s.SSH.User, "root")
	r.integer(b.Port, &s.SSH.Port, 1, maxPort)
}

// shells refuses servers with something that works by SSH where the launch block does not say how.
func (r *reader) shells(raw []serverBlock, f protocol.Fleet) {
	ssh := map[string]bool{}
	for _, l := range f.Launches {
		ssh[l.Name] = l.SSH != nil
	}
	needs := map[string]string{}
	for _, c := range f.Checks {
		if c.BySSH() {
			needs[c.Name] = c.Kind
		}
	}
	bySSH := map[string]bool{}
	for _, a := range f.Actions {
		bySSH[a.Name] = !a.AtFirstBoot()
	}
	for i, s := range f.Servers {
		for _, name := range s.Actions {
			if bySSH[name] && !ssh[s.Launch] {
				r.fail(raw[i].Actions.Expr.Range(), "No way to act",
					"action.%s is run by SSH, and launch.%s does not say how. Add a block to it: ssh { key_file = %q }.", name, s.Launch, "/etc/rehost/keys/checks")
				break
			}
		}
		for _, name := range s.Checks {
			if kind, needed := needs[name]; needed && !ssh[s.Launch] {
				r.fail(raw[i].Checks.Expr.Range(), "No way to ask",
					"check.%s is of kind %q, which works by SSH, and launch.%s does not say how. Add a block to it: ssh { key_file = %q }.", name, kind, s.Launch, "/etc/rehost/keys/checks")
				break
			}
		}
	}
}
