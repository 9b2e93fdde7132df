package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"rehost/protocol"
	"rehost/test/stamp"
)

// while is how long a fault lasts that is not over at once: time for frames to meet it.
const while = 2 * time.Second

// fault is something that goes wrong with the broker or a volume, and is over when run returns.
type fault struct {
	name string
	run  func(ctx context.Context, w *stamp.World, rng *rand.Rand) error
}

// faults is all that goes wrong.
var faults = []fault{
	{"the stream is deleted", func(ctx context.Context, w *stamp.World, _ *rand.Rand) error {
		s, err := w.Stream(ctx)
		if err != nil {
			return err
		}
		return w.JS.DeleteStream(ctx, s.CachedInfo().Config.Name)
	}},
	{"the stream is purged", withFrames(func(ctx context.Context, _ *stamp.World, s jetstream.Stream, _ *rand.Rand) error {
		return s.Purge(ctx)
	})},
	{"messages are dropped", withFrames(dropMessages)},
	{"messages come twice", withFrames(doubleMessages)},
	{"a message is changed", withFrames(changeMessage)},
	{"a block file is cut short", withStore(truncateBlock)},
	{"bits of block files flip", withStore(func(dir string, rng *rand.Rand) error { return flip(dir, ".blk", rng) })},
	{"bits of the index flip", withStore(func(dir string, rng *rand.Rand) error { return flip(dir, "index.db", rng) })},
	{"the stream's files are of before", rollBack},
	{"the whole broker is of before", rollBackAll},
	{"the broker is a new one", func(_ context.Context, w *stamp.World, _ *rand.Rand) error {
		w.Broker.Stop()
		defer w.Broker.Start()
		return os.RemoveAll(filepath.Join(w.BrokerDir, "jetstream"))
	}},
	{"the stream is full", func(ctx context.Context, w *stamp.World, _ *rand.Rand) error {
		w.Replica.Stop()
		defer w.Replica.Start()
		w.LimitStream(1 << 20)
		defer w.LimitStream(0)
		return told(ctx, w, protocol.ProblemStreamFull)
	}},
	{"the volumes' filesystem is full", fillVolumes},
	{"the source forgets its marks", func(ctx context.Context, w *stamp.World, _ *rand.Rand) error {
		w.Agent.Stop()
		defer w.Agent.Start()
		return errors.Join(w.ForgetMarks(), pause(ctx, while)) // writes go on
	}},
}

// withFrames runs fn while frames wait in the stream for a replication server that is away.
func withFrames(fn func(ctx context.Context, w *stamp.World, s jetstream.Stream, rng *rand.Rand) error) func(context.Context, *stamp.World, *rand.Rand) error {
	return func(ctx context.Context, w *stamp.World, rng *rand.Rand) error {
		w.Replica.Stop()
		defer w.Replica.Start()
		for ctx.Err() == nil {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
			s, err := w.Stream(ctx)
			if err == nil && s.CachedInfo().State.Msgs >= 4 {
				return fn(ctx, w, s, rng)
			}
		}
		return ctx.Err()
	}
}

// dropMessages deletes about a third of what waits.
func dropMessages(ctx context.Context, _ *stamp.World, s jetstream.Stream, rng *rand.Rand) error {
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		if rng.IntN(3) > 0 && seq != state.FirstSeq+1 { // at least one
			continue
		}
		if err := s.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
			return err
		}
	}
	return nil
}

// doubleMessages puts what waits into the stream again, behind what the agent has sent since.
func doubleMessages(ctx context.Context, w *stamp.World, s jetstream.Stream, _ *rand.Rand) error {
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err == nil {
			err = w.Republish(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changeMessage makes the stream hold what it held, with one bit of content changed: what no checksum of the broker's own
// finds. The agent stands still meanwhile, so that nothing comes between.
func changeMessage(ctx context.Context, w *stamp.World, s jetstream.Stream, _ *rand.Rand) (err error) {
	agent := w.Agent.Pid()
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Kill(agent, syscall.SIGCONT)) }()
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	changed := false
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return err
		}
		if !changed && len(m.Data) > 8<<10 { // not a greeting or a point
			m.Data[len(m.Data)-1] ^= 1
			changed = true
		}
		if err := w.Republish(ctx, m); err != nil {
			return err
		}
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(info.State.LastSeq+1)); err != nil {
		return err
	}
	w.Replica.Start() // it has the stream for itself
	return pause(ctx, while)
}

// withStore runs fn on the folder of the stream's messages, after the broker has ended with frames in it.
func withStore(fn func(dir string, rng *rand.Rand) error) func(context.Context, *stamp.World, *rand.Rand) error {
	return withFrames(func(_ context.Context, w *stamp.World, s jetstream.Stream, rng *rand.Rand) error {
		name := s.CachedInfo().Config.Name
		w.Broker.Stop()
		defer w.Broker.Start()
		dir, err := streamDir(w, name)
		if err != nil {
			return err
		}
		return fn(filepath.Join(dir, "msgs"), rng)
	})
}

// streamDir finds a stream's folder in the broker's store.
func streamDir(w *stamp.World, name string) (string, error) {
	found, err := filepath.Glob(filepath.Join(w.BrokerDir, "jetstream", "jetstream", "*", "streams", name))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d folders of stream %s", len(found), name)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// storeFiles lists the stream's files that end so and hold something.
func storeFiles(dir, suffix string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no %s in %s", suffix, dir)
	}
	slices.Sort(files)
	return files, err
}

func truncateBlock(dir string, rng *rand.Rand) error {
	files, err := storeFiles(dir, ".blk")
	if err != nil {
		return err
	}
	last := files[len(files)-1]
	info, err := os.Stat(last)
	if err != nil {
		return err
	}
	return os.Truncate(last, rng.Int64N(info.Size()))
}

// flip inverts some bits of each file.
func flip(dir, suffix string, rng *rand.Rand) error {
	files, err := storeFiles(dir, suffix)
	if err != nil {
		return err
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// rollBack gives the broker an older copy of the stream, as a restored backup does.
func rollBack(ctx context.Context, w *stamp.World, rng *rand.Rand) error {
	return restore(ctx, w, rng, func(stream string) string { return stream })
}

// rollBackAll gives it an older copy of everything, checkpoints too, as a virtual machine's snapshot does.
func rollBackAll(ctx context.Context, w *stamp.World, rng *rand.Rand) error {
	return restore(ctx, w, rng, func(string) string { return filepath.Join(w.BrokerDir, "jetstream") })
}

// restore copies a folder of the broker while frames are in the stream, and puts the copy back some time later.
func restore(ctx context.Context, w *stamp.World, rng *rand.Rand, choose func(stream string) (dir string)) error {
	var dir string
	old := filepath.Join(w.BrokerDir, "old")
	err := withFrames(func(_ context.Context, w *stamp.World, s jetstream.Stream, _ *rand.Rand) error {
		w.Broker.Stop()
		defer w.Broker.Start()
		stream, err := streamDir(w, s.CachedInfo().Config.Name)
		if err != nil {
			return err
		}
		dir = choose(stream)
		return os.CopyFS(old, os.DirFS(dir))
	})(ctx, w, rng)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*while); err != nil {
		return err
	}
	w.Broker.Stop()
	defer w.Broker.Start()
	return errors.Join(os.RemoveAll(dir), os.Rename(old, dir))
}

// fillVolumes takes all space of the filesystem that holds the volumes, which are sparse, for a while.
func fillVolumes(ctx context.Context, w *stamp.World, _ *rand.Rand) error {
	path := filepath.Join(w.VolumesDir, "filler")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for size := int64(256 << 20); size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			var at int64
			if at, err = f.Seek(0, 2); err == nil {
				err = unix.Fallocate(int(f.Fd()), 0, at, size)
			}
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return errors.Join(err, told(ctx, w, protocol.ProblemVolume), f.Close(), os.Remove(path))
}

// told waits until people are told what is wrong, and lets it go on for a while.
func told(ctx context.Context, w *stamp.World, code protocol.ProblemCode) error {
	for !w.Tells(code) {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("nobody tells %s: %w", code, err)
		}
	}
	return pause(ctx, while)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
