// Package image builds the disk of a real server: Debian 12 with a generic
// kernel, BIOS GRUB, Apache and OpenSSH, set up for a virtual machine with virtio
// devices and for nothing else. It is what the demo and the scenario tests
// migrate; a variant of it has cloud-init. The package builds a disk once, keeps
// it in the user's cache folder, and attaches copies of it as loop devices; it
// never changes the cached file and never touches a disk that it did not make.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
)

// What the disk carries, for those who check a migrated server.
const (
	// Sentence is on the page that Apache serves at /.
	Sentence = "This server keeps the ledger, and it has been up for a long time."
	// MAC is the address that the server's network card has always had: its udev rules name it.
	MAC = "52:54:00:12:34:56"
	// Address is the static address in the server's network configuration.
	Address = "10.0.2.15"
)

// Options says which image, where it is kept and who hears of the progress.
type Options struct {
	Variant  Variant      // empty: Ledger
	CacheDir string       // empty: the folder rehost in the user's cache folder
	Progress func(string) // one line for each step; may be nil
}

// Build returns the path of the image, and builds it first when the cache has
// none for this recipe: about two minutes and one download of 120 MB. Concurrent
// callers, also in other processes, wait for the one that builds. Needs root.
func Build(ctx context.Context, o Options) (string, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if os.Geteuid() != 0 {
		return "", hint.New("build an image: not root", "run it with sudo: loop devices and mounts need root")
	}
	dir, err := cacheDir(o.CacheDir)
	if err != nil {
		return "", err
	}
	if o.Variant == "" {
		o.Variant = Ledger
	}
	content, err := o.Variant.content()
	if err != nil {
		return "", fmt.Errorf("build an image: %w", err)
	}
	sum, err := content.recipe()
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, string(o.Variant))
	path := name + "-" + sum + ".raw"
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(ctx, name+".lock", o.Progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil { // built while we waited
		return path, nil
	}
	w := work{content: content, dir: name + ".building", progress: o.Progress}
	if err := w.build(ctx); err != nil {
		return "", fmt.Errorf("build the %s image: %w", o.Variant, err)
	}
	if err := os.Rename(w.disk(), path); err != nil {
		return "", fmt.Errorf("keep the %s image: %w", o.Variant, err)
	}
	return path, errors.Join(os.RemoveAll(w.dir), dropOlder(dir, o.Variant, path))
}

// Copy writes a sparse copy of the image to path, sharing its blocks where the filesystem can.
func Copy(ctx context.Context, img, path string) error {
	_, err := command.Run(ctx, "cp", "--sparse=always", "--reflink=auto", "--", img, path)
	return err
}

// cacheDir returns the folder of the image and creates it: HOME may be set without ~/.cache being there.
func cacheDir(dir string) (string, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", hint.Wrap(fmt.Errorf("find the cache folder: %w", err), "set HOME or XDG_CACHE_HOME")
		}
		dir = filepath.Join(user, "rehost")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create the cache folder: %w", err)
	}
	return filepath.Abs(dir)
}

// dropOlder removes the variant's images of other recipes: nobody asks for them again.
func dropOlder(dir string, v Variant, keep string) error {
	old, err := filepath.Glob(filepath.Join(dir, string(v)+"-*.raw"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if path != keep {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// lock takes an exclusive lock on path. The kernel drops it if the process dies.
func lock(ctx context.Context, path string, progress func(string)) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache lock: %w", err)
	}
	said := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !said {
			progress("waiting for another process that builds the same image")
			said = true
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
