// Package fleet compares a configuration with the applied one and with what is recorded and observed, and finds what is
// wrong with it. It is pure; what a changed configuration leads to is decided elsewhere.
package fleet

import (
	"slices"

	"rehost/protocol"
)

// Settings finds the settings of one server: its own, how it is staged, and how it is launched.
func Settings(f protocol.Fleet, server string) (protocol.ServerSettings, protocol.ReplicationSettings, protocol.LaunchSettings, bool) {
	i := slices.IndexFunc(f.Servers, func(s protocol.ServerSettings) bool { return s.Name == server })
	if i < 0 {
		return protocol.ServerSettings{}, protocol.ReplicationSettings{}, protocol.LaunchSettings{}, false
	}
	s := f.Servers[i]
	var r protocol.ReplicationSettings
	for _, v := range f.Replications {
		if v.Name == s.Replication {
			r = v
		}
	}
	var l protocol.LaunchSettings
	for _, v := range f.Launches {
		if v.Name == s.Launch {
			l = v
		}
	}
	return s, r, l, true
}

// Of is the part of a configuration that some servers are staged and launched by.
func Of(f protocol.Fleet, servers []string) protocol.Fleet {
	var out protocol.Fleet
	uses := func(of func(s protocol.ServerSettings) string, name string) bool {
		return slices.ContainsFunc(out.Servers, func(s protocol.ServerSettings) bool { return of(s) == name })
	}
	for _, s := range f.Servers {
		if slices.Contains(servers, s.Name) {
			out.Servers = append(out.Servers, s)
		}
	}
	for _, r := range f.Replications {
		if uses(func(s protocol.ServerSettings) string { return s.Replication }, r.Name) {
			out.Replications = append(out.Replications, r)
		}
	}
	for _, l := range f.Launches {
		if uses(func(s protocol.ServerSettings) string { return s.Launch }, l.Name) {
			out.Launches = append(out.Launches, l)
		}
	}
	return out
}

// Lookup is [Settings] for many servers of one configuration.
func Lookup(f protocol.Fleet) func(server string) (protocol.ServerSettings, protocol.ReplicationSettings, protocol.LaunchSettings, bool) {
	servers := map[string]protocol.ServerSettings{}
	for _, s := range f.Servers {
		servers[s.Name] = s
	}
	replications := map[string]protocol.ReplicationSettings{}
	for _, r := range f.Replications {
		replications[r.Name] = r
	}
	launches := map[string]protocol.LaunchSettings{}
	for _, l := range f.Launches {
		launches[l.Name] = l
	}
	return func(server string) (protocol.ServerSettings, protocol.ReplicationSettings, protocol.LaunchSettings, bool) {
		s, ok := servers[server]
		return s, replications[s.Replication], launches[s.Launch], ok
	}
}
