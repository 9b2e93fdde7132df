package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/image"
)

// againstV2V measures "rehost convert apply" and virt-v2v's conversion of the same disk in turns, both on an emulated processor, and
// says what ours would still change in virt-v2v's result: that was made for KVM, not for EC2.
func againstV2V(ctx context.Context, e *env, name string) (r result, err error) {
	source, err := image.Build(ctx, image.Options{})
	if err != nil {
		return result{}, err
	}
	v, err := newV2V(ctx, e)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if _, err := v.convert(ctx, e, source); err != nil { // it makes its appliance the first time, as ours is made already
		return result{}, fmt.Errorf("virt-v2v: %w", err)
	}
	var ours, peer []float64
	for round := range e.rounds {
		mine, _, err := convertOnce(ctx, e, source)
		if err != nil {
			return result{}, fmt.Errorf("round %d: %w", round+1, err)
		}
		theirs, err := v.convert(ctx, e, source)
		if err != nil {
			return result{}, fmt.Errorf("round %d: virt-v2v: %w", round+1, err)
		}
		say("  round %d of %d: %.1f s, virt-v2v %.1f s", round+1, e.rounds, mine, theirs)
		ours, peer = append(ours, mine), append(peer, theirs)
	}
	say("  for EC2, of virt-v2v's result %d of ours' changes are to be made:", len(v.left))
	for _, c := range v.left {
		say("    %s %s: %s", c.Action, c.Path, c.Reason)
	}
	return cost(name, "s", ours, peer, 1), nil
}

// v2v runs virt-v2v-in-place with an appliance of libguestfs.
type v2v struct {
	environment []string
	made        bool              // we made /lib/modules
	left        []protocol.Change // what ours would change in its result
}

// modulesFolder must be there for supermin, which makes libguestfs's appliance, even when it takes its modules from elsewhere.
const modulesFolder = "/lib/modules"

// newV2V gives libguestfs the Debian kernel of our own appliance: a build machine may have none in /boot.
func newV2V(ctx context.Context, e *env) (*v2v, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	kernel, err := newest(filepath.Join(cache, "rehost", "packages", "linux-image-*.deb"))
	if err != nil {
		return nil, err
	}
	root, guestfs := filepath.Join(e.work, "kernel"), filepath.Join(e.work, "guestfs")
	if err := os.MkdirAll(guestfs, 0o755); err != nil {
		return nil, err
	}
	if _, err := command.Run(ctx, "dpkg-deb", "-x", kernel, root); err != nil {
		return nil, err
	}
	image, err := newest(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	version := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	if _, err := command.Run(ctx, "depmod", "-b", root, version); err != nil {
		return nil, err
	}
	v := &v2v{environment: append(os.Environ(),
		"SUPERMIN_KERNEL="+image, "SUPERMIN_KERNEL_VERSION="+version, "SUPERMIN_MODULES="+filepath.Join(root, "lib/modules", version),
		"LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", "LIBGUESTFS_CACHEDIR="+guestfs, "TMPDIR="+guestfs)}
	err = os.Mkdir(modulesFolder, 0o755)
	v.made = err == nil
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return v, err
}

// newest returns the last of the files by name.
func newest(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is no %s", pattern)
	}
	if err != nil {
		return "", err
	}
	return found[len(found)-1], nil
}

// close takes the folder away again, unless something is in it now.
func (v *v2v) close() error {
	if !v.made {
		return nil
	}
	return os.Remove(modulesFolder)
}

func (v *v2v) convert(ctx context.Context, e *env, source string) (seconds float64, err error) {
	disk, err := guestDisk(ctx, e, source)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(disk)) }()
	cmd := exec.CommandContext(ctx, "virt-v2v-in-place", "-i", "disk", disk)
	cmd.Env = v.environment
	start := time.Now()
	out, err := cmd.CombinedOutput()
	seconds = time.Since(start).Seconds()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	if v.left == nil {
		r, _, err := ours(ctx, e, "plan", disk)
		if err != nil {
			return 0, err
		}
		v.left = append(make([]protocol.Change, 0), r.Changes...)
	}
	return seconds, nil
}
