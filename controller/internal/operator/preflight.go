package operator

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/preflight"
	"rehost/protocol"
)

// Preflight says what was found about servers, and orders new surveys when that is wanted.
func (d *Desk) Preflight(ctx context.Context, req protocol.PreflightRequest) ([]protocol.Preflight, error) {
	servers, err := d.store.Servers.List("")
	if err != nil {
		return nil, err
	}
	for _, name := range req.Servers {
		if !slices.ContainsFunc(servers, func(r protocol.Server) bool { return r.Name == name }) {
			return nil, unknownServer(name)
		}
	}
	if req.Fresh {
		d.account.Forget()
	}
	applied := d.store.Applied()
	out := ofCloud(d.account.Findings(ctx, applied))
	settings := fleet.Lookup(applied)
	for _, r := range servers {
		if len(req.Servers) > 0 && !slices.Contains(req.Servers, r.Name) {
			continue
		}
		if req.Fresh {
			id := rand.Text()
			if r, err = d.store.Servers.Update(ctx, r.Name, func(r *protocol.Server) error { r.Survey = id; return nil }); err != nil {
				return nil, err
			}
		}
		_, replication, launch, _ := settings(r.Name)
		out = append(out, d.found(r, replication, launch))
	}
	return out, nil
}

// ofCloud are the findings that concern all servers; none: nothing is said.
func ofCloud(found []protocol.Finding) []protocol.Preflight {
	if len(found) == 0 {
		return []protocol.Preflight{}
	}
	return []protocol.Preflight{{Findings: found}}
}

// shown leaves out what is only good to know.
func shown(found []protocol.Finding) []protocol.Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f protocol.Finding) bool { return f.Severity == protocol.SeverityInfo })
}

// found is what is known of a server before it is converted, with these settings.
func (d *Desk) found(r protocol.Server, replication protocol.ReplicationSettings, launch protocol.LaunchSettings) protocol.Preflight {
	report, _, known := d.reports.Agent(r.Name)
	return preflight.With(preflight.Server(r.Name, report, known, preflight.SurveyOrder(r.Survey, launch), replication), preflight.Boots(r, launch, time.Now()))
}

// findings are those that matter of the servers of a configuration that are to be migrated yet.
func (d *Desk) findings(f protocol.Fleet, v fleet.View) []protocol.Preflight {
	var out []protocol.Preflight
	settings := fleet.Lookup(f)
	for _, s := range f.Servers {
		r, known := v.Servers[s.Name]
		if !known || r.Lifecycle == protocol.Cutover || r.Lifecycle == protocol.Disconnected {
			continue
		}
		_, replication, launch, _ := settings(s.Name)
		found := d.found(r, replication, launch)
		found.Findings = shown(found.Findings)
		if found.Guest = nil; len(found.Findings) > 0 {
			out = append(out, found)
		}
	}
	return out
}
