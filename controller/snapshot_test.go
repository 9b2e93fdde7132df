package controller

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// TestAPointsSnapshotsAreShownToItsAgent asks as an agent what the snapshots of its points hold.
func TestAPointsSnapshotsAreShownToItsAgent(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	point := w.server().LastPoint.ID

	verify := func(req protocol.VerifyRequest) (protocol.VerifyReport, error) {
		return ask[protocol.VerifyRequest, protocol.VerifyReport](w, protocol.VerbVerify, req)
	}
	if _, err := verify(protocol.VerifyRequest{Server: "web-1", Point: "p-none"}); !isProblem(err) || !strings.Contains(err.Error(), "no point p-none") {
		t.Errorf("an unknown point: %v", err)
	}
	replica, err := verify(protocol.VerifyRequest{Server: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	ordered, err := verify(protocol.VerifyRequest{Server: "web-1", Point: point})
	if err != nil || ordered.ID == replica.ID || ordered.Point != point {
		t.Fatalf("ordered %+v after %+v: %v", ordered, replica, err)
	}
	if again, err := verify(protocol.VerifyRequest{Server: "web-1", Point: point}); err != nil || again.ID != ordered.ID {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if v := w.server().Record.Verify; v == nil || *v != (protocol.VerifyOrder{ID: ordered.ID, Point: point}) {
		t.Errorf("the record says %+v", v)
	}

	nc := bustest.Connect(t, w.bus, protocol.RoleAgent, "web-1")
	content := func(r protocol.SnapshotRequest) (protocol.SnapshotReply, error) {
		return bus.Request[protocol.SnapshotRequest, protocol.SnapshotReply](t.Context(), nc, protocol.SnapshotSubject("web-1"), r)
	}
	ask := protocol.SnapshotRequest{Point: point, Disk: "/dev/sdb", Length: 3 << 14, GranuleBytes: 1 << 14}
	got, err := content(ask)
	if err != nil || len(got.Hashes) != 3*16 {
		t.Fatalf("hashes: %d bytes, %v", len(got.Hashes), err)
	}
	other := ask
	other.Disk = "/dev/sda"
	if of, err := content(other); err != nil || string(of.Hashes) == string(got.Hashes) {
		t.Errorf("the other disk has the same hashes (%v)", err)
	}
	for name, change := range map[string]func(r *protocol.SnapshotRequest){
		"another disk":      func(r *protocol.SnapshotRequest) { r.Disk = "/dev/sdz" },
		"another point":     func(r *protocol.SnapshotRequest) { r.Point = "p-none" },
		"too much":          func(r *protocol.SnapshotRequest) { r.Length = (protocol.MaxScanGranules + 1) << 14 },
		"granules of zero":  func(r *protocol.SnapshotRequest) { r.GranuleBytes = 0 },
		"a point of nobody": func(r *protocol.SnapshotRequest) { r.Point = "" },
	} {
		r := ask
		change(&r)
		if _, err := content(r); !isProblem(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSnapshotsAreReadAtOnceAndNotForEver has a cloud that does not answer: a request waits for no other one, and each is told
// so before the agent has lost its patience.
func TestSnapshotsAreReadAtOnceAndNotForEver(t *testing.T) {
	const requests = 5
	w := newWorld(t)
	w.read = 300 * time.Millisecond
	var reading atomic.Int32
	w.cloud.reading = func(ctx context.Context) error {
		reading.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}
	defer w.controller(t.Context())()
	w.tested()

	nc := bustest.Connect(t, w.bus, protocol.RoleAgent, "web-1")
	ask := protocol.SnapshotRequest{Point: w.server().LastPoint.ID, Disk: "/dev/sdb", Length: 1 << 14, GranuleBytes: 1 << 14}
	began := time.Now()
	var asked sync.WaitGroup
	for range requests {
		asked.Go(func() {
			_, err := bus.Request[protocol.SnapshotRequest, protocol.SnapshotReply](t.Context(), nc, protocol.SnapshotSubject("web-1"), ask)
			if p, ok := errors.AsType[*protocol.Problem](err); !ok || p.Code != protocol.ProblemCloud || !strings.Contains(p.Message, "within 300ms") {
				t.Errorf("got %v", err)
			}
		})
	}
	asked.Wait()
	if took := time.Since(began); took > 2*w.read || reading.Load() != requests {
		t.Errorf("%d of %d requests took %s, one may take %s", reading.Load(), requests, took, w.read)
	}
}
