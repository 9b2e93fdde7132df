// Package ship moves granules from the source's disks to the server's stream, and knows for each one where it is:
//
//	clean --write--> dirty --drain--> need --read+publish--> pending(seq) --durable(>=seq)--> clean
//	                                  ^                          |
//	                                  +---- nak, new session ----+
//
// It owns the file that holds need|pending, the session and its chain, and the points. It never decides whether to
// replicate or when to take a point, never writes to a disk, and never counts a frame as arrived before the replica
// has said that it is durable.
//
// Goroutines: one that drains, one that picks, a fixed number that read and pack, one that publishes in order, one
// that waits for the broker's acknowledgements, one that listens to the replica, one that decides how a sync goes on, one
// that takes in the replica's hashes, one that verifies, one that compares again and again where there is no tracker; requests for hashes under way; and readers during a point.
package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Defaults and limits of a shipper.
const (
	DefaultWindow      = 128 << 20
	DefaultPointMemory = 256 << 20
	// maxAhead is how many jobs are read or wait to be published; each holds two buffers of a frame's size.
	maxAhead = 6
	// maxUnacked is how many frames the broker has not yet acknowledged; each holds its message.
	maxUnacked = 24
	// maxFrames bounds what is remembered of frames that are not durable, where frames are small.
	maxFrames  = 8192
	drainEvery = 200 * time.Millisecond
	proveEvery = 2 * time.Minute
	// proveFor is how long a proof may wait for a quiet moment; nothing is drained meanwhile.
	proveFor = 100 * time.Millisecond
	// probeAfter is how long the replica may make no progress before an empty frame is sent, which shows up a gap.
	probeAfter = 5 * time.Second
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Disk is one disk of the source.
type Disk struct {
	Name         string // as configured
	Identity     string // serial or number: another disk under the same name has another one
	SizeBytes    int64
	GranuleBytes int64 // a power of two, at most 1 MiB
	Reader       io.ReaderAt
}

// Tracker hands over the marks of written granules: keep is called before the mark is cleared.
type Tracker interface {
	Drain(disk int, keep func(word int, bits uint64)) int
	// Taint counts what makes the marks not the whole truth; when the number grows everything is sent again.
	Taint() (uint64, string)
	// Prove waits, as long as ctx allows, for a quiet moment to compare the marks with what the kernel counted; Taint has
	// the outcome. An error says that they cannot be compared.
	Prove(ctx context.Context) error
}

// Freezer stops the writers of the disks for a moment.
type Freezer interface {
	// Sync writes out what the filesystems on the disks hold in memory.
	Sync(ctx context.Context) error
	// Freeze stops all writers, for limit at most: then they are let go whatever happens.
	Freeze(ctx context.Context, limit time.Duration) (Still, error)
	// Thaw lets the writers go, and tells how long they stood still; 0 when it does not know. An error says that they may
	// have been let go before. It is called after each Freeze, also after one that failed.
	Thaw() (time.Duration, error)
}

// Still says what stands still.
type Still struct {
	Grade    protocol.Grade
	Since    time.Time // since when some writer waits; zero: since Freeze was called
	Excluded []string  // mounts that could only be synced
}

// Config says what to ship.
type Config struct {
	Server     string
	Generation string
	BootID     string
	Tier       string
	Tracker    string // names the marks: others that are made anew have another name, and have not seen what came before
	Disks      []Disk
	File       string        // holds the granules' states; on a filesystem that ends with the boot
	Window     int64         // bytes of frames that are not durable, at most; 0: DefaultWindow
	Memory     int64         // bytes that a point may read into memory; 0: DefaultPointMemory
	Workers    int           // that read and pack; 0: 3
	Budget     time.Duration // longest wanted freeze where the order does not say; 0: 250 ms
	Cap        time.Duration // after which the freezer lets the writers go; 0: 2 s
	FrozenHook []string
	Verify     Verify
	// Periodic says that no tracker tells what was written: everything is compared every RescanEvery (0:
	// DefaultRescanEvery), and a point is taken only when nothing was written during a comparison.
	Periodic    bool
	RescanEvery time.Duration
}

// Deps is what a shipper works with.
type Deps struct {
	Tracker Tracker
	Resumed bool // the tracker has seen every write since the file was written
	Conn    *nats.Conn
	Freezer Freezer
	// Free says for each disk which ranges no filesystem uses: a sync leaves them out. It is asked when the tracker has
	// been at work already, and must answer with what the kernel knows, not with what is on the disk. It may be nil.
	Free func(ctx context.Context) ([][]Range, error)
	// Scratch writes to a file of the agent's own and says where on the disks it lies, for a test of the tracker; an error
	// says why there can be none. It may be nil.
	Scratch func() (Place, error)
	// Check says whether the disks are still those that the replica is of; it may be nil.
	Check func() error
	// Writes counts what the kernel has written to the disks, in sectors; needed where Periodic is set.
	Writes func() (uint64, error)
	// Fenced says whether the source's writers were stopped for a cutover.
	Fenced func() bool
	// PreFreeze and PostThaw are the owner's hooks around a freeze; they may be nil. PostThaw runs whenever PreFreeze did.
	PreFreeze func(ctx context.Context) error
	PostThaw  func(ctx context.Context)
	Logger    hclog.Logger
}

// Shipper ships the disks of one server in one generation.
type Shipper struct {
	cfg      Config
	deps     Deps
	log      hclog.Logger
	js       jetstream.JetStream
	granules *granules
	scanner  *scanner
	limit    *limit
	pool     *blockdev.Pool
	status   *meter

	toRead  chan *job
	ordered chan *job
	acks    chan sent
	unacked chan struct{} // a token for each message that the broker has not acknowledged
	msgBufs chan []byte

	verifyKick chan struct{} // a pass was asked for

	left []*job        // given up by publishLoop while a reader may still have them; for release
	over chan struct{} // closed when Run ends

	drainMu sync.Mutex // whoever drains; guards the one beneath
	tainted string     // why everything is sent again, until it is logged: not while frozen

	pointMu sync.Mutex // one point at a time; guards stopped
	stopped bool

	mu   sync.Mutex // guards the fields beneath
	sess session
	wake chan struct{} // closed and replaced when anything that somebody waits for has changed
	held bool          // nothing may be picked: a point is being taken
	busy int           // jobs picked but not yet published or dropped
	jobs uint64        // of the last job picked
}

// New opens the granules' file, or makes one in which every granule is needed. It starts nothing.
func New(cfg Config, deps Deps) (*Shipper, error) {
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultPointMemory
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 3
	}
	if cfg.Budget <= 0 {
		cfg.Budget = defaultBudget
	}
	if cfg.RescanEvery <= 0 {
		cfg.RescanEvery = DefaultRescanEvery
	}
	if cfg.Periodic && deps.Writes == nil {
		return nil, errNoWrites
	}
	if cfg.Cap <= 0 {
		cfg.Cap = freezeCap
	}
	for _, d := range cfg.Disks {
		if d.GranuleBytes < 4096 || d.GranuleBytes > protocol.MaxRaw || d.GranuleBytes&(d.GranuleBytes-1) != 0 {
			return nil, hint.New(fmt.Sprintf("disk %s: granule of %d bytes", d.Name, d.GranuleBytes), "choose a power of two from 4 KiB to 1 MiB")
		}
	}
	file, fresh, err := openFile(cfg, deps.Resumed)
	if err != nil {
		return nil, err
	}
	// A frame has to be acknowledged by the broker well before a session is given up for silence.
	js, err := jetstream.New(deps.Conn, jetstream.WithPublishAsyncMaxPending(4*maxUnacked), jetstream.WithPublishAsyncTimeout(15*time.Second))
	if err != nil {
		return nil, fmt.Errorf("prepare to publish: %w", err)
	}
	s := &Shipper{
		cfg: cfg, deps: deps, log: deps.Logger, js: js, granules: newGranules(cfg.Disks, file), status: newMeter(), limit: newLimit(),
		scanner: newScanner(deps.Conn, &cfg),
		toRead:  make(chan *job, maxAhead), ordered: make(chan *job, 2*maxAhead), acks: make(chan sent, maxUnacked),
		unacked: make(chan struct{}, maxUnacked), msgBufs: make(chan []byte, maxUnacked), wake: make(chan struct{}), over: make(chan struct{}),
		verifyKick: make(chan struct{}, 1),
	}
	s.sess.base, s.sess.full = file.base, fresh || file.base == (protocol.Position{})
	s.log.Info("granules opened", "continued", !fresh, "need_bytes", s.granules.needBytes())
	return s, nil
}

// Run ships until ctx ends. The granules' file stays, so that a later run continues.
func (s *Shipper) Run(ctx context.Context) (err error) {
	if s.pool, err = blockdev.NewPool(2*protocol.MaxRaw, maxAhead); err != nil {
		return err
	}
	signals := make(chan *nats.Msg, 64)
	sub, err := s.deps.Conn.ChanSubscribe(protocol.SignalSubject(s.cfg.Server), signals)
	if err != nil {
		return fmt.Errorf("listen to the replica: %w", err)
	}
	hashes, err := s.deps.Conn.ChanSubscribe(protocol.HashesSubject(s.cfg.Server), s.scanner.replies)
	if err != nil {
		return errors.Join(fmt.Errorf("listen to the replica: %w", err), sub.Unsubscribe())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.scanner.loop(ctx) })
	g.Go(func() error { return s.surveyLoop(ctx) })
	g.Go(func() error { return s.verifyLoop(ctx) })
	g.Go(func() error { return s.periodicLoop(ctx) })
	g.Go(func() error { return s.drainLoop(ctx) })
	g.Go(func() error { return s.pickLoop(ctx) })
	for range s.cfg.Workers {
		g.Go(func() error { return s.readLoop(ctx) })
	}
	g.Go(func() error { return s.publishLoop(ctx) })
	g.Go(func() error { return s.ackLoop(ctx) })
	g.Go(func() error { return s.signalLoop(ctx, signals) })
	err = g.Wait()
	if errSub := errors.Join(sub.Unsubscribe(), hashes.Unsubscribe()); errSub != nil {
		s.log.Debug("unsubscribe", "error", errSub)
	}
	close(s.over)
	s.pointMu.Lock() // a point that was being taken holds buffers
	defer s.pointMu.Unlock()
	s.stopped = true
	s.release()
	return err
}

// release gives back what the jobs that were under way hold. Nothing runs any more.
func (s *Shipper) release() {
	for _, j := range s.left {
		s.finish(j, errStopped)
	}
	for {
		select {
		case j := <-s.ordered:
			s.finish(j, errStopped)
			continue
		default:
		}
		break
	}
	if err := s.pool.Close(); err != nil {
		s.log.Warn("free buffers", "error", err)
	}
	if err := s.granules.file.close(); err != nil {
		s.log.Warn("close granules", "error", err)
	}
}

// notifyLocked wakes everybody who waits for a change of state.
func (s *Shipper) notifyLocked() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// waitFor blocks until ready, called with mu held, says so. It returns with mu held, unless err is not nil.
func (s *Shipper) waitFor(ctx context.Context, ready func() bool) error {
	s.mu.Lock()
	for !ready() {
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
	}
	return nil
}

// drainLoop moves marks out of the kernel at a steady pace, whatever the rest is doing.
func (s *Shipper) drainLoop(ctx context.Context) error {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	var proven time.Time
	for {
		if time.Since(proven) >= proveEvery {
			proven = time.Now()
			_ = s.prove(ctx) // it is in the report, and no point is taken
			s.selfTest(ctx)
		}
		s.drain()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// prove lets the tracker prove itself. What was written without a mark taints it, at the next drain.
func (s *Shipper) prove(ctx context.Context) error {
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, proveFor)
	defer cancel()
	err := s.deps.Tracker.Prove(ctx)
	if err == nil {
		s.status.clear(protocol.ProblemTracker)
		return nil
	}
	p := problemOf(protocol.ProblemTracker, fmt.Errorf("the tracker cannot prove that it sees every write: %w", err))
	s.status.problem(p.Code, p.Message, p.Hint)
	return p
}

// drain empties the kernel's marks into need.
func (s *Shipper) drain() {
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	s.drainLocked()
	if s.tainted != "" {
		s.log.Warn("not every write was tracked, everything is compared with the replica", "reason", s.tainted)
		s.tainted = ""
	}
}

// drainLocked is drain for those who hold drainMu. It returns how many granules had been written.
func (s *Shipper) drainLocked() int { return s.drainedLocked(func(int, int, uint64) {}) }

// drainedLocked is drainLocked, and tells what is handed out.
func (s *Shipper) drainedLocked(tell func(disk, word int, bits uint64)) int {
	now, n := time.Now(), 0
	s.granules.shutFor(true)
	for disk := range s.cfg.Disks {
		n += s.deps.Tracker.Drain(disk, func(word int, bits uint64) {
			s.granules.mark(disk, word, bits)
			tell(disk, word, bits)
		})
	}
	s.granules.shutFor(false)
	s.granules.drained(now, n)
	if count, why := s.deps.Tracker.Taint(); count > s.granules.taint() {
		s.tainted = why
		s.granules.needAll()
		s.granules.setTaint(count)
		n++
	}
	s.mu.Lock()
	s.notifyLocked() // also when nothing was drained: who wanted to pick meanwhile was sent away
	s.mu.Unlock()
	return n
}
