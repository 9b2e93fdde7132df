package step

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"rehost/controller/internal/store"
	"rehost/controller/internal/wave"
	"rehost/internal/bus"
	"rehost/protocol"
)

// document writes into a new job what later nobody could find out: who starts it and why, with which configuration, and what is predicted.
func (r *Runner) document(ctx context.Context, job *protocol.Job, applied protocol.Fleet, asked answers) error {
	text, err := json.Marshal(applied)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	job.By, job.Reason = bus.Sender(ctx), bus.Reason(ctx)
	job.Configuration = &protocol.JobConfiguration{Revision: r.store.Fleet.Revision(store.AppliedKey), Hash: fmt.Sprintf("%x", sha256.Sum256(text))}
	for i := range job.Servers {
		job.Servers[i].Verified = r.facts(applied, job.Servers[i].Server, job.Kind).Verified
	}
	var book protocol.Runbook
	switch {
	case job.Of.Wave == "":
		return nil
	case job.Rehearsal != nil:
		var of map[string]string
		if of, err = wave.Approved(applied, job.Of.Wave); err != nil {
			return err
		}
		job.Rehearsal.Of = wave.Rehearsed(of, job.Of.Wave)
		book, err = r.rehearsalBook(applied, job.Of.Wave)
	case job.Kind == protocol.JobCutover:
		book, err = r.runbook(applied, job.Of.Wave, job.By, asked)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	job.Runbook = &book
	return nil
}
