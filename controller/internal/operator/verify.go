package operator

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"rehost/protocol"
)

// Verify orders a comparison of a server's disks with its replica, or says how far one is.
func (d *Desk) Verify(ctx context.Context, req protocol.VerifyRequest) (protocol.VerifyReport, error) {
	rec, err := d.store.Servers.Get(req.Server)
	if err != nil {
		return protocol.VerifyReport{}, unknownServer(req.Server)
	}
	report, _, _ := d.reports.Agent(req.Server)
	if req.ID != "" {
		if report.Verify != nil && report.Verify.ID == req.ID {
			return *report.Verify, nil
		}
		if rec.Verify == nil || rec.Verify.ID != req.ID {
			return protocol.VerifyReport{}, &protocol.Problem{
				Code: protocol.ProblemConflict, Server: req.Server, Message: "another verify of " + req.Server + " was ordered meanwhile", Hint: "wait for it: rehost verify " + req.Server + " --wait",
			}
		}
		return protocol.VerifyReport{ID: req.ID, Point: rec.Verify.Point}, nil
	}
	if p := d.pointable(req.Server); p != nil {
		p.Message = "what is not in sync cannot be verified: " + p.Message
		return protocol.VerifyReport{}, p
	}
	if req.Point != "" {
		if p := d.comparable(req.Server, req.Point); p != nil {
			return protocol.VerifyReport{}, p
		}
	}
	// One that is under way serves whoever asks for the same.
	if v := rec.Verify; v != nil && v.Point == req.Point && (report.Verify == nil || report.Verify.ID != v.ID || report.Verify.Ended.IsZero()) {
		return protocol.VerifyReport{ID: v.ID, Point: v.Point}, nil
	}
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	id := "v" + hex.EncodeToString(b)
	_, err = d.store.Servers.Update(ctx, req.Server, func(r *protocol.Server) error {
		r.Verify = &protocol.VerifyOrder{ID: id, Point: req.Point}
		return nil
	})
	return protocol.VerifyReport{ID: id, Point: req.Point}, err
}

// comparable says why a point's snapshots cannot be compared with the source, or nil.
func (d *Desk) comparable(server, id string) *protocol.Problem {
	pt, err := d.points.Get(server, id)
	switch {
	case err != nil:
		return &protocol.Problem{Code: protocol.ProblemUnknown, Server: server, Message: "no point " + id + " of " + server, Hint: "see them with: rehost point list " + server}
	case pt.State != protocol.PointComplete:
		return &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Server: server, Message: "point " + id + " is " + string(pt.State) + ": it has no snapshots to compare",
			Hint: "take one, and wait for it: rehost point take " + server + " --wait",
		}
	}
	return nil
}
