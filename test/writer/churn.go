package writer

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// Sizes of the files beside the ledger.
const (
	churnMinBytes = 4 << 10
	churnMaxBytes = 1 << 20
)

// churn creates, rewrites, renames and deletes files until ctx ends, through the
// page cache and without flushing, as most programs write.
func churn(ctx context.Context, o Options) error {
	if o.ChurnBytes < 0 {
		<-ctx.Done()
		return nil
	}
	if o.ChurnBytes == 0 {
		o.ChurnBytes = 3 << 19
	}
	if o.ChurnTotalBytes == 0 {
		o.ChurnTotalBytes = 48 << 20
	}
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return fmt.Errorf("seed the churn: %w", err)
	}
	c := newChurner(filepath.Join(o.Root, churnPath), o.ChurnTotalBytes, seed)
	// Files of an earlier writer would not be counted against the bound.
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("clear %s: %w", c.dir, err)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", c.dir, err)
	}
	for {
		written, err := c.step()
		if err != nil {
			return fmt.Errorf("change files: %w", err)
		}
		pause := time.Duration(float64(time.Second) * float64(written) / float64(o.ChurnBytes))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(pause, time.Millisecond)):
		}
	}
}

// churner knows the files it made.
type churner struct {
	dir    string
	limit  int64
	source *rand.ChaCha8 // of contents
	rand   *rand.Rand    // of decisions

	files []churnFile
	total int64
	next  int
}

func newChurner(dir string, limit int64, seed [32]byte) *churner {
	source := rand.NewChaCha8(seed)
	return &churner{dir: dir, limit: limit, source: source, rand: rand.New(source)}
}

type churnFile struct {
	path string
	size int64
}

// step does one random change and returns how many bytes it wrote.
func (c *churner) step() (int64, error) {
	size := int64(churnMinBytes) << c.rand.IntN(9) // 4 KiB to 1 MiB, small ones as likely as large ones
	switch what := c.rand.IntN(10); {
	case c.total+churnMaxBytes > c.limit, what == 0 && len(c.files) > 0:
		return 0, c.remove()
	case len(c.files) < 4, what < 5:
		return size, c.create(size)
	case what < 9:
		return c.rewrite(size)
	default:
		return 0, c.rename()
	}
}

func (c *churner) newPath() string {
	c.next++
	return filepath.Join(c.dir, fmt.Sprintf("file-%06d", c.next))
}

func (c *churner) create(size int64) error {
	f := churnFile{path: c.newPath(), size: size}
	if err := os.WriteFile(f.path, c.noise(size), 0o644); err != nil {
		return err
	}
	c.files, c.total = append(c.files, f), c.total+size
	return nil
}

// rewrite overwrites a part of a file in place.
func (c *churner) rewrite(size int64) (int64, error) {
	f := c.files[c.rand.IntN(len(c.files))]
	size = min(size, f.size)
	out, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = out.Close() }()
	if _, err := out.WriteAt(c.noise(size), c.rand.Int64N(f.size-size+1)); err != nil {
		return 0, err
	}
	return size, out.Close()
}

func (c *churner) rename() error {
	f := &c.files[c.rand.IntN(len(c.files))]
	to := c.newPath()
	if err := os.Rename(f.path, to); err != nil {
		return err
	}
	f.path = to
	return nil
}

func (c *churner) remove() error {
	i := c.rand.IntN(len(c.files))
	if err := os.Remove(c.files[i].path); err != nil {
		return err
	}
	c.total -= c.files[i].size
	c.files[i] = c.files[len(c.files)-1]
	c.files = c.files[:len(c.files)-1]
	return nil
}

// noise returns random bytes, which no compression makes smaller.
func (c *churner) noise(size int64) []byte {
	b := make([]byte, size)
	_, _ = c.source.Read(b) // never fails
	return b
}
