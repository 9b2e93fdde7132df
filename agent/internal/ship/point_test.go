package ship

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/protocol"
)

// still is a tracker and a freezer of disks that nobody writes to.
type still struct {
	freezes  int
	unproven error
}

func (*still) Drain(int, func(int, uint64)) int { return 0 }
func (*still) Taint() (uint64, string)          { return 0, "" }
func (*still) Sync(context.Context) error       { return nil }
func (s *still) Prove(context.Context) error    { return s.unproven }
func (*still) Thaw() (time.Duration, error)     { return 0, nil }

func (s *still) Freeze(context.Context, time.Duration) (Still, error) {
	s.freezes++
	return Still{Grade: protocol.GradeFilesystem}, nil
}

// zeros is a disk without content.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

func newStill(t *testing.T, s *still) *Shipper {
	t.Helper()
	cfg := testConfig(t, 4*testGranule)
	cfg.Disks[0].Reader, cfg.Memory, cfg.Cap = zeros{}, DefaultPointMemory, freezeCap
	f, _ := mustOpen(t, cfg, true)
	return &Shipper{
		cfg: cfg, deps: Deps{Tracker: s, Freezer: s}, log: hclog.NewNullLogger(), granules: newGranules(cfg.Disks, f), status: newMeter(), wake: make(chan struct{}),
	}
}

// A session may end while the owner's hook runs. What is read then would be dropped on the way, since it is of no session,
// and the point's frame could still go out with the next one, without it.
func TestNothingIsFrozenWithoutASession(t *testing.T) {
	tracker := &still{}
	s := newStill(t, tracker)
	if f, err := s.freeze(t.Context(), group{order: protocol.PointOrder{ID: "p"}}, time.Second); !errors.Is(err, errEnded) || len(f.parts) > 0 || tracker.freezes > 0 {
		t.Fatalf("without a session: %v, %d parts read, frozen %d times", err, len(f.parts), tracker.freezes)
	}
	s.sess.open = true
	s.granules.begin(syncSend, nil)
	if f, err := s.freeze(t.Context(), group{order: protocol.PointOrder{ID: "p"}}, time.Second); err != nil || len(f.parts) == 0 || tracker.freezes != 1 {
		t.Fatalf("with a session: %v, %d parts read, frozen %d times", err, len(f.parts), tracker.freezes)
	}
}

func TestADiskThatIsNotWhatItWasOffersNoPoint(t *testing.T) {
	tracker := &still{}
	s := newStill(t, tracker)
	s.sess.open = true
	s.granules.begin(syncSend, nil)
	s.granules.settle(take(s.granules, 1, 1<<40), true)
	s.deps.Check = func() error { return errors.New("disk a has half its bytes") }
	_, err := s.takePoint(t.Context(), protocol.PointOrder{ID: "p"})
	if p, ok := errors.AsType[*protocol.Problem](err); !ok || p.Code != protocol.ProblemAgentDisk || tracker.freezes > 0 {
		t.Fatalf("got %v, frozen %d times", err, tracker.freezes)
	}
}

func TestATrackerThatMissesTheAgentsOwnWriteLeadsToAComparison(t *testing.T) {
	s := newStill(t, &still{})
	s.granules.begin(syncSend, nil)
	s.granules.settle(take(s.granules, 1, 1<<40), true)
	s.deps.Scratch = func() (Place, error) { return Place{}, errors.New("no such place") }
	if s.selfTest(t.Context()); !s.granules.synced() {
		t.Fatal("a test that could not be made counts as failed")
	}
	var untested protocol.AgentReport
	if s.Report(&untested); len(untested.TierNotes) != 1 || !strings.Contains(untested.TierNotes[0], "no such place") {
		t.Errorf("what is not tested is not told: %q", untested.TierNotes)
	}
	s.deps.Scratch = func() (Place, error) { return Place{Disk: 0, Offset: 4096, Length: 4096}, nil }
	if s.selfTest(t.Context()); s.granules.synced() || !s.granules.undecided() {
		t.Error("the tracker saw nothing, and nothing is compared")
	}
	var r protocol.AgentReport
	if s.Report(&r); len(r.TierNotes) != 0 || len(r.Problems) != 1 || r.Problems[0].Code != protocol.ProblemTracker {
		t.Errorf("problems %+v", r.Problems)
	}
}

func TestAnUnprovenTrackerOffersNoPoint(t *testing.T) {
	tracker := &still{unproven: errors.New("no counters")}
	s := newStill(t, tracker)
	s.sess.open = true
	s.granules.begin(syncSend, nil)
	s.granules.settle(take(s.granules, 1, 1<<40), true)
	if _, err := s.takePoint(t.Context(), protocol.PointOrder{ID: "p"}); err == nil || tracker.freezes > 0 {
		t.Fatalf("got %v, frozen %d times", err, tracker.freezes)
	}
	var r protocol.AgentReport
	if s.Report(&r); len(r.Problems) != 1 || r.Problems[0].Code != protocol.ProblemTracker {
		t.Fatalf("problems %+v", r.Problems)
	}
	tracker.unproven = nil
	if err := s.prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = protocol.AgentReport{}
	if s.Report(&r); len(r.Problems) != 0 {
		t.Fatalf("problems %+v after the proof", r.Problems)
	}
}

// What the hook before the freeze has begun to stop, the hook after the thaw must let go: also when the first one failed,
// and when the freeze did.
func TestTheHookAfterTheThawRunsWheneverTheOneBeforeDid(t *testing.T) {
	for name, broken := range map[string]bool{"the hook fails": true, "there is no session": false} {
		t.Run(name, func(t *testing.T) {
			tracker := &still{}
			s := newStill(t, tracker)
			s.granules.begin(syncSend, nil)
			s.granules.settle(take(s.granules, 1, 1<<40), true)
			s.sess.open = broken
			before, after := 0, 0
			s.deps.PreFreeze = func(context.Context) error {
				before++
				if broken {
					return errors.New("the database does not answer")
				}
				return nil
			}
			s.deps.PostThaw = func(ctx context.Context) {
				if after++; ctx.Err() != nil {
					t.Error("the hook is not given any time")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := s.takePoint(ctx, protocol.PointOrder{ID: "p"}); err == nil || before != 1 || after != 1 || tracker.freezes != 0 {
				t.Errorf("got %v; hooks ran %d and %d times, frozen %d times", err, before, after, tracker.freezes)
			}
		})
	}
}
