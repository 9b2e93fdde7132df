package step

import (
	"context"
	"time"

	"rehost/protocol"
)

// withdraw removes what a cutover launched; the record forgets the cutover when nothing of it is left.
func withdraw(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil {
		return err
	}
	if rec.Cutover == nil {
		return &skip{"there is no target of a cutover"}
	}
	// Before the record forgets: a run that is cut off after that must know that this was no test.
	if err := w.set(ctx, dataWithdrawn, "yes"); err != nil {
		return err
	}
	if err := w.removeLaunch(ctx, rec.Cutover.Job, rec.Cutover.Point); err != nil {
		return err
	}
	_, err = w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error { r.Cutover = nil; return nil })
	return err
}

// untest forgets that a test has passed, unless a cutover was taken back.
func untest(ctx context.Context, w *Work) error {
	if w.data(dataWithdrawn) != "" {
		return &skip{"the test before the cutover still counts"}
	}
	_, err := w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error { r.Tested = time.Time{}; return nil })
	return err
}
