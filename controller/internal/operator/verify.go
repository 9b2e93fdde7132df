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
		if rec.Verify != req.ID {
			return protocol.VerifyReport{}, &protocol.Problem{
				Code: protocol.ProblemConflict, Server: req.Server, Message: "another verify of " + req.Server + " was ordered meanwhile", Hint: "wait for it: rehost verify " + req.Server + " --wait",
			}
		}
		return protocol.VerifyReport{ID: req.ID}, nil
	}
	if p := d.pointable(req.Server); p != nil {
		p.Message = "what is not in sync cannot be verified: " + p.Message
		return protocol.VerifyReport{}, p
	}
	// One that is under way serves whoever asks for another one.
	if rec.Verify != "" && (report.Verify == nil || report.Verify.ID != rec.Verify || report.Verify.Ended.IsZero()) {
		return protocol.VerifyReport{ID: rec.Verify}, nil
	}
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	id := "v" + hex.EncodeToString(b)
	_, err = d.store.Servers.Update(ctx, req.Server, func(r *protocol.Server) error { r.Verify = id; return nil })
	return protocol.VerifyReport{ID: id}, err
}
