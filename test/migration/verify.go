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

// Hashes are the SHA-256 of the source's whole disks at a point, one behind the other, taken from the copies made while everything was
// frozen, and of the snapshots that the cloud has of the point.
type Hashes struct {
	Source   string `json:"source"`
	Snapshot string `json:"snapshot"`
}

// Equal says whether the snapshots are what the source was.
func (h Hashes) Equal() bool { return h.Source != "" && h.Source == h.Snapshot }

// Hash hashes both sides of a point.
func (m *Migration) Hash(ctx context.Context, p protocol.Point) (Hashes, error) {
	if len(p.Snapshots) != 2 {
		return Hashes{}, fmt.Errorf("point %s has %d snapshots, want 2", p.ID, len(p.Snapshots))
	}
	var h Hashes
	g, ctx := errgroup.WithContext(ctx)
	for _, side := range []struct {
		paths []string
		to    *string
	}{
		{[]string{m.frozen(p.ID), m.frozen(p.ID + ".data")}, &h.Source},
		{[]string{m.Snapshot(p.Snapshots[0]), m.Snapshot(p.Snapshots[1])}, &h.Snapshot},
	} {
		g.Go(func() (err error) {
			*side.to, err = hashFiles(ctx, side.paths)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Hashes{}, fmt.Errorf("hash point %s: %w", p.ID, err)
	}
	return h, nil
}

// frozen is the copy of the source's root disk taken while it was frozen for a point; that of its data disk is the point's with ".data".
func (m *Migration) frozen(point string) string {
	return filepath.Join(m.pool.Root(), "points", point+".raw")
}

// Snapshot is the file behind a snapshot of the local cloud.
func (m *Migration) Snapshot(id string) string {
	return filepath.Join(m.dev(), "cloud", "pool", "snapshots", id+".raw")
}

func hashFiles(ctx context.Context, paths []string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		if err := addFile(ctx, h, path); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func addFile(ctx context.Context, h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n]) // a hash takes everything
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
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
	DataDevice      string `json:"data_device"`
	HTTPStatus      int    `json:"http_status"`
	RecordsExpected int64  `json:"records_expected"`
	RecordsFound    int64  `json:"records_found"`
}

// Complete says whether the target is what the source was, on EC2's kind of disk.
func (t Target) Complete() bool {
	return strings.HasPrefix(t.RootDevice, "/dev/nvme") && strings.HasPrefix(t.DataDevice, "/dev/nvme") && t.HTTPStatus == http.StatusOK &&
		t.RecordsExpected > 0 && t.RecordsExpected == t.RecordsFound
}

// How the kernel says which device it has mounted as root, which it mounts twice, and which others.
var (
	remounted = regexp.MustCompile(`EXT4-fs \(([a-z0-9]+)\): re-mounted`)
	mounted   = regexp.MustCompile(`EXT4-fs \(([a-z0-9]+)\): mounted`)
)

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
	if found := remounted.FindStringSubmatch(console); found != nil {
		t.RootDevice = "/dev/" + found[1]
	}
	for _, found := range mounted.FindAllStringSubmatch(console, -1) {
		if device := "/dev/" + found[1]; device != t.RootDevice {
			t.DataDevice = device
		}
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
