// Package appliance builds the disk image of a conversion instance: a Debian
// kernel, an initramfs with rehost-convert as its first process, and GRUB for BIOS.
// All parts come from Debian packages that are unpacked and never installed. The
// image is kept in a cache folder, by a hash of what it is made of. The package
// does not run the image.
package appliance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
)

// recipeVersion changes when the code below makes another image of the same parts.
const recipeVersion = 5

// Options says what the image is made of.
type Options struct {
	CacheDir string       // empty: the folder rehost in the user's cache folder
	Convert  string       // the statically linked program rehost-convert
	Progress func(string) // one line for each step; may be nil
}

// Build returns the path of the image, and builds it first when the cache has none
// for these parts: the first time a quarter of a minute and one download of 75 MB,
// two seconds when only the program has changed. Concurrent callers,
// also in other processes, wait for the one that builds. It needs no root.
func Build(ctx context.Context, o Options) (string, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	dir, err := cacheDir(o.CacheDir)
	if err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "appliance.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	b := &build{Options: o, debs: filepath.Join(dir, "packages"), work: filepath.Join(dir, "appliance.building")}
	list, err := b.choose(ctx)
	if err != nil {
		return "", fmt.Errorf("build the conversion appliance: %w", err)
	}
	base := baseRecipe(list)
	key, err := recipe(base, o.Convert)
	if err != nil {
		return "", fmt.Errorf("build the conversion appliance: %w", err)
	}
	image := filepath.Join(dir, "appliance-"+key+".raw")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	b.base = filepath.Join(dir, "appliance-base-"+base)
	if err := errors.Join(os.RemoveAll(b.work), os.MkdirAll(b.work, 0o755)); err != nil {
		return "", fmt.Errorf("build the conversion appliance: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.work) }() // the next build removes it too
	if err := b.make(ctx, list); err != nil {
		return "", fmt.Errorf("build the conversion appliance: %w", err)
	}
	if err := os.Rename(b.disk(), image); err != nil {
		return "", fmt.Errorf("keep the conversion appliance: %w", err)
	}
	return image, dropOlder(dir, image, b.base)
}

// build is one build in a folder of its own. The names in it are fixed, so that the
// next build finds and removes what a killed one left.
type build struct {
	Options
	debs string // downloaded packages
	base string // what was made of the packages alone: kernel, initramfs without the program, GRUB
	work string
}

func (b *build) disk() string { return filepath.Join(b.work, "disk.raw") }
func (b *build) root() string { return filepath.Join(b.work, "root") }

// make writes the disk: the base, and the program as one more archive at the
// end of the initramfs.
func (b *build) make(ctx context.Context, list []pack) error {
	if _, err := os.Stat(b.base); err != nil {
		if err := b.makeBase(ctx, list); err != nil {
			return err
		}
	}
	b.Progress("making the bootable disk")
	kernel, err := os.ReadFile(filepath.Join(b.base, "vmlinuz"))
	if err != nil {
		return err
	}
	image, err := os.ReadFile(filepath.Join(b.base, "initrd.img"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(b.Convert)
	if err != nil {
		return err
	}
	tools, err := os.ReadFile(filepath.Join(b.base, "tools.img"))
	if err != nil {
		return err
	}
	out := bytes.NewBuffer(image)
	where := fmt.Appendf(nil, "%d %d\n", int64(toolsAt(kernel))*sectorBytes, len(tools))
	if err := writeTree(out, map[string][]byte{"init": program, "lib/rehost/tools": where}); err != nil {
		return err
	}
	return b.makeDisk(kernel, tools, out.Bytes())
}

// makeBase makes what does not depend on the program.
func (b *build) makeBase(ctx context.Context, list []pack) error {
	for _, p := range list {
		if err := b.fetch(ctx, p); err != nil {
			return err
		}
	}
	b.Progress("unpacking the kernel and the tools")
	for _, p := range list {
		if _, err := command.Run(ctx, "dpkg-deb", "-x", filepath.Join(b.debs, p.file()), b.root()); err != nil {
			return err
		}
	}
	base := filepath.Join(b.work, "base")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	kernel, err := onlyMatch(filepath.Join(b.root(), "boot/vmlinuz-*"))
	if err != nil {
		return err
	}
	packed, err := os.ReadFile(kernel)
	if err != nil {
		return err
	}
	image, err := unpackKernel(ctx, packed)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(base, "vmlinuz"), image, 0o644); err != nil {
		return err
	}
	_, version, _ := strings.Cut(filepath.Base(kernel), "-")
	b.Progress("making the initramfs for kernel " + version)
	if err := b.initramfs(ctx, version, base); err != nil {
		return err
	}
	if err := b.grub(ctx, base); err != nil {
		return err
	}
	return os.Rename(base, b.base)
}

// baseRecipe returns a short hash of what decides what is in the base.
func baseRecipe(list []pack) string {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, recipeVersion, list, modules, programs, moreModules, morePrograms, grubModules, grubLoad)
	h.Write(stub)
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// recipe returns a short hash of all that decides what is in the image.
func recipe(base, program string) (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprint(h, base, grubConfig)
	f, err := os.Open(program)
	if err != nil {
		return "", hint.Wrap(err, "build it first: CGO_ENABLED=0 go build ./cmd/rehost-convert")
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", hint.Wrap(fmt.Errorf("find the cache folder: %w", err), "set HOME or XDG_CACHE_HOME")
		}
		dir = filepath.Join(user, "rehost")
	}
	if err := os.MkdirAll(filepath.Join(dir, "packages"), 0o755); err != nil {
		return "", fmt.Errorf("create the cache folder: %w", err)
	}
	return filepath.Abs(dir)
}

// dropOlder removes images of other recipes but the newest few: tests build with
// programs of their own, and must not throw each other's image away.
func dropOlder(dir, keep, base string) error {
	old, err := filepath.Glob(filepath.Join(dir, "appliance-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		info, e := os.Stat(path)
		if e == nil && path != keep && path != base && time.Since(info.ModTime()) > 24*time.Hour {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// lock takes an exclusive lock on path. The kernel drops it if the process dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func onlyMatch(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files match %s", len(found), pattern)
	}
	return found[0], nil
}
