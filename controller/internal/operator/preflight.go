package operator

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

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
	out := []protocol.Preflight{}
	applied := d.store.Applied()
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
		out = append(out, d.found(applied, r))
	}
	return out, nil
}

// found is what is known of a server before it is converted, as the settings f are.
func (d *Desk) found(f protocol.Fleet, r protocol.Server) protocol.Preflight {
	_, replication, launch, _ := fleet.Settings(f, r.Name)
	report, _, known := d.reports.Agent(r.Name)
	return preflight.Server(r.Name, report, known, preflight.SurveyOrder(r.Survey, launch), replication)
}

// count says how many findings there are about the servers that are in a configuration, as one line; empty: none that matter.
func (d *Desk) count(f protocol.Fleet) string {
	records, err := d.store.Servers.List("")
	if err != nil {
		return ""
	}
	var sum protocol.FindingCount
	var with []string
	for _, r := range records {
		if r.Lifecycle == protocol.Cutover || r.Lifecycle == protocol.Disconnected || !slices.ContainsFunc(f.Servers, func(s protocol.ServerSettings) bool { return s.Name == r.Name }) {
			continue
		}
		n := protocol.CountFindings(d.found(f, r).Findings)
		if n != (protocol.FindingCount{}) {
			sum.Critical, sum.Warnings, with = sum.Critical+n.Critical, sum.Warnings+n.Warnings, append(with, r.Name)
		}
	}
	switch len(with) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("preflight of %s: %s; see rehost server preflight %s", with[0], sum, with[0])
	}
	return fmt.Sprintf("preflight of %d servers: %s; see rehost server preflight", len(with), sum)
}
