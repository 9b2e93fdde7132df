package migration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/protocol"
	"rehost/test/image"
	"rehost/test/writer"
)

// rootOffset is where the root partition begins on the source's disk.
const rootOffset = 2048 * 512

// Hashes are the SHA-256 of the whole source disk at a point, taken from the copy made while everything was
// frozen, and of the snapshot that the cloud has of the point.
type Hashes struct {
	Source   string `json:"source"`
	Snapshot string `json:"snapshot"`
}

// Equal says whether the snapshot is what the source was.
func (h Hashes) Equal() bool { return h.Source != "" && h.Source == h.Snapshot }

// Hash hashes both sides of a point.
func (m *Migration) Hash(ctx context.Context, p protocol.Point) (Hashes, error) {
	if len(p.Snapshots) != 1 {
		return Hashes{}, fmt.Errorf("point %s has %d snapshots, want 1", p.ID, len(p.Snapshots))
	}
	var h Hashes
	g, ctx := errgroup.WithContext(ctx)
	for _, side := range []struct {
		path string
		to   *string
	}{{m.frozen(p.ID), &h.Source}, {m.Snapshot(p.Snapshots[0]), &h.Snapshot}} {
		g.Go(func() (err error) {
			*side.to, err = hashFile(ctx, side.path)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Hashes{}, fmt.Errorf("hash point %s: %w", p.ID, err)
	}
	return h, nil
}

// frozen is the copy of the source's disk taken while it was frozen for a point.
func (m *Migration) frozen(point string) string {
	return filepath.Join(m.pool.Root(), "points", point+".raw")
}

// Snapshot is the file behind a snapshot of the local cloud.
func (m *Migration) Snapshot(id string) string {
	return filepath.Join(m.dev(), "cloud", "pool", "snapshots", id+".raw")
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}

// RecordsAt counts the records that the source's ledger held at a point: it mounts a copy of the
// frozen disk, read-only.
func (m *Migration) RecordsAt(ctx context.Context, point string) (last int64, err error) {
	copied := m.frozen(point) + ".mount"
	if err := m.pool.Clone(m.frozen(point), copied); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(copied)) }()
	loop, err := blockdev.AttachLoop(ctx, blockdev.LoopOptions{File: copied, Offset: rootOffset})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, loop.Detach()) }()
	dir, err := os.MkdirTemp(m.cfg.Dir, "mount-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Mount(loop.Path, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		return 0, fmt.Errorf("mount the source as of point %s: %w", point, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
	f, err := os.Open(filepath.Join(dir, writer.LedgerPath))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	last, _, err = writer.Verify(f, writer.AllowTorn)
	return last, err
}

// Target is what a launched instance showed.
type Target struct {
	RootDevice      string `json:"root_device"`
	HTTPStatus      int    `json:"http_status"`
	RecordsExpected int64  `json:"records_expected"`
	RecordsFound    int64  `json:"records_found"`
}

// Complete says whether the target is what the source was, on EC2's kind of disk.
func (t Target) Complete() bool {
	return strings.HasPrefix(t.RootDevice, "/dev/nvme") && t.HTTPStatus == http.StatusOK &&
		t.RecordsExpected > 0 && t.RecordsExpected == t.RecordsFound
}

// mounted is how the kernel says which device it has mounted as root; the last one counts.
var mounted = regexp.MustCompile(`EXT4-fs \(([a-z0-9]+)\): (?:re-)?mounted`)

// Inspect looks at a launched instance from outside, as its users do: the page, the ledger, the console.
func (m *Migration) Inspect(ctx context.Context, l *protocol.Launched) (Target, error) {
	var t Target
	if l == nil || l.Address == "" {
		return t, errors.New("inspect the target: nothing is launched")
	}
	page, status, err := get(ctx, "http://"+l.Address+"/")
	t.HTTPStatus = status
	if err != nil {
		return t, err
	}
	if !strings.Contains(page, image.Sentence) {
		return t, fmt.Errorf("the page at %s is not the source's", l.Address)
	}
	ledger, _, err := get(ctx, "http://"+l.Address+"/ledger/records.txt")
	if err != nil {
		return t, err
	}
	if t.RecordsFound, _, err = writer.Verify(strings.NewReader(ledger), writer.AllowTorn); err != nil {
		return t, fmt.Errorf("the ledger on the target: %w", err)
	}
	driver, err := m.Driver(ctx)
	if err != nil {
		return t, err
	}
	console, err := driver.ConsoleOutput(ctx, l.Instance)
	if err != nil {
		return t, err
	}
	if found := mounted.FindAllStringSubmatch(console, -1); found != nil {
		t.RootDevice = "/dev/" + found[len(found)-1][1]
	}
	return t, nil
}

func get(ctx context.Context, url string) (body string, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(resp.Body)
	return string(text), resp.StatusCode, err
}
