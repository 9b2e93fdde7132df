package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
)

const (
	gib         = 1 << 30
	standard    = 4 * gib // bytes of the disk of section 10 of the design
	seed        = 20
	usedPercent = 55
	// Sizes of the files on the disk, in bytes, spread evenly over their logarithms.
	smallestFile, largestFile = 4 << 10, 64 << 20
)

// disk is the benchmark disk: an ext4 filesystem, 55 % used, half of that incompressible.
type disk struct {
	image string
	path  string // of the loop device
	size  int64
}

// openDisk attaches and mounts the disk of a size, and makes it when it is not there. Mounted, it is what a source is.
func openDisk(ctx context.Context, e *env, size int64) (*disk, error) {
	d := &disk{image: filepath.Join(e.dir, fmt.Sprintf("disk-%dg.img", size/gib)), size: size}
	if _, err := os.Stat(d.image); err != nil {
		say("  building a disk of %d GiB with seed %d, once", size/gib, seed)
		if err := buildDisk(ctx, d.image, size); err != nil {
			return nil, fmt.Errorf("build the benchmark disk: %w", err)
		}
	}
	loop, err := attach(ctx, e, d.image)
	if err != nil {
		return nil, err
	}
	d.path = loop
	return d, mount(ctx, &e.cleanup, d.path, filepath.Join(e.work, "source"))
}

// settle makes each measurement begin alike: nothing waits to be written, the image is in memory, the device's own
// cache is empty.
func (d *disk) settle() error {
	unix.Sync()
	f, err := os.Open(d.image)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if _, err := io.Copy(io.Discard, f); err != nil {
		return err
	}
	dev, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dev.Close() //nolint:errcheck // nothing was written
	return unix.IoctlSetInt(int(dev.Fd()), unix.BLKFLSBUF, 0)
}

func attach(ctx context.Context, e *env, file string) (string, error) {
	l, err := blockdev.AttachLoop(ctx, blockdev.LoopOptions{File: file})
	if err != nil {
		return "", err
	}
	e.later(l.Detach)
	return l.Path, nil
}

func mount(_ context.Context, c *cleanup, device, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(device, dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	c.later(func() error { return unix.Unmount(dir, 0) })
	return nil
}

// mountBPF gives an agent a filesystem for its pins that goes with our mount namespace.
func mountBPF(_ context.Context, c *cleanup, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount a bpffs: %w", err)
	}
	c.later(func() error { return unix.Unmount(dir, 0) })
	return nil
}

func sparseFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// buildDisk makes the disk under another name first, so that half a disk is never taken for one.
func buildDisk(ctx context.Context, image string, size int64) (err error) {
	part := image + ".part"
	var c env
	defer func() { err = errors.Join(err, c.clean(), os.RemoveAll(part)) }()
	if err := formatted(ctx, part, size); err != nil {
		return err
	}
	loop, err := attach(ctx, &c, part)
	if err != nil {
		return err
	}
	dir := image + ".mount"
	c.later(func() error { return os.Remove(dir) })
	if err := mount(ctx, &c.cleanup, loop, dir); err != nil {
		return err
	}
	if err := fill(ctx, dir, size*usedPercent/100); err != nil {
		return err
	}
	if err := c.clean(); err != nil {
		return err
	}
	return os.Rename(part, image)
}

// formatted makes a sparse file with an empty ext4 filesystem that does the same each time.
func formatted(ctx context.Context, file string, size int64) error {
	if err := sparseFile(file, size); err != nil {
		return err
	}
	const uuid = "6265a5a5-6e63-4800-8000-000000000001"
	_, err := command.Run(ctx, "mkfs.ext4", "-q", "-F", "-U", uuid, "-E", "hash_seed="+uuid+",lazy_itable_init=0,lazy_journal_init=0,nodiscard", file)
	return err
}

// fill writes files until the filesystem uses so many bytes.
func fill(ctx context.Context, dir string, used int64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	left := used - int64(st.Blocks-st.Bfree)*st.Bsize
	for i := 0; left > 0; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		spread := math.Log(largestFile / smallestFile)
		size := min(left, int64(smallestFile*math.Exp(rng.Float64()*spread)))
		folder := filepath.Join(dir, fmt.Sprintf("d%02d", i%37))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(folder, fmt.Sprintf("f%05d", i)), rng, size, i%2 == 0); err != nil {
			return err
		}
		left -= size
	}
	return nil
}

// writeFile writes noise, or lines as a log has them, of which lz4 leaves about a quarter.
func writeFile(path string, rng *rand.Rand, size int64, noise bool) error {
	var buf []byte
	for int64(len(buf)) < size {
		if noise {
			v := rng.Uint64()
			buf = append(buf, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
			continue
		}
		v := rng.Uint32()
		buf = fmt.Appendf(buf, "2026-11-%02d %02d:%02d host-%d app[%d]: %s request %08x served in %d ms\n",
			1+v%28, v>>5%24, v>>10%60, v>>16%8, 1000+v>>19%16, verbs[v>>23%uint32(len(verbs))], v, v>>26)
	}
	return os.WriteFile(path, buf[:size], 0o644)
}

var verbs = []string{"GET /index.html HTTP/1.1", "POST /api/v1/orders HTTP/1.1", "GET /static/logo.png HTTP/1.1", "DELETE /api/v1/session HTTP/1.1"}

// mountRAM mounts a filesystem in memory.
func mountRAM(c *cleanup, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	c.later(func() error { return unix.Unmount(dir, 0) })
	return nil
}
