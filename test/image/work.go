package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/internal/revert"
)

// recipeVersion changes when the code below writes another disk from the same files.
const recipeVersion = 1

// work is one build in a folder of its own. The names in it are fixed, so that
// the next build finds and removes what a killed one left.
type work struct {
	content  content
	dir      string
	progress func(string)
}

func (w work) disk() string { return filepath.Join(w.dir, "disk.raw") }
func (w work) root() string { return filepath.Join(w.dir, "root") }

// build writes the disk. It leaves nothing mounted or attached, whatever happens.
func (w work) build(ctx context.Context) error {
	if err := w.sweep(ctx); err != nil {
		return fmt.Errorf("remove what an earlier build left: %w", err)
	}
	var undo revert.Stack
	defer undo.Fail()
	undo.Add(func() { _ = os.RemoveAll(w.dir) })
	if err := os.MkdirAll(w.root(), 0o755); err != nil {
		return err
	}
	w.progress("making partitions and filesystems")
	if err := w.partition(); err != nil {
		return err
	}
	src, err := attach(ctx, w.disk(), w.root(), w.format)
	if err != nil {
		return err
	}
	undo.Add(func() { _ = src.Close() })
	if err := w.install(ctx); err != nil {
		return err
	}
	w.progress("installing the boot loader")
	if err := w.finish(ctx, src.partition); err != nil {
		return err
	}
	if w.content.anonymous {
		if err := anonymize(w.root()); err != nil {
			return err
		}
	}
	// Free blocks become holes: the image stays small and its copies quick.
	if _, err := command.Run(ctx, "fstrim", w.root()); err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(w.root(), "boot/grub/i386-pc/core.img"))
	if err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(w.root(), "boot/grub/i386-pc/boot.img"))
	if err != nil {
		return err
	}
	if err := src.Close(); err != nil {
		return err
	}
	if err := w.embed(boot, core); err != nil {
		return err
	}
	undo.Success()
	return nil
}

// partition makes the file with its partition table and an empty swap.
func (w work) partition() error {
	f, err := os.Create(w.disk())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(diskBytes); err != nil {
		return fmt.Errorf("size %s: %w", w.disk(), err)
	}
	if _, err := f.WriteAt(partitionTable(), tableOffset); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	if _, err := f.WriteAt(swapHeader(), swapOffset); err != nil {
		return fmt.Errorf("write the swap header: %w", err)
	}
	return f.Close()
}

// format makes the root filesystem. Nothing is left to the kernel's lazy
// initialisation: it would write in the background at each later mount.
func (w work) format(ctx context.Context, device string) error {
	_, err := command.Run(ctx, "mkfs.ext4", "-q", "-F", "-N", "131072",
		"-O", "^metadata_csum_seed,^orphan_file", // GRUB 2.06 reads neither
		"-E", "lazy_itable_init=0,lazy_journal_init=0", device)
	return err
}

// dpkgOptions keep an installation small and quick.
var dpkgOptions = []string{
	"--dpkgopt=force-confold", "--dpkgopt=force-unsafe-io",
	"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
}

// install fills the root with packages, then lays the server's own files over them.
func (w work) install(ctx context.Context) error {
	early := filepath.Join(w.dir, "early")
	for _, sub := range []string{"etc/fstab", "etc/initramfs-tools"} {
		if err := w.content.write(early, sub); err != nil {
			return err
		}
	}
	args := []string{
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--",
		"mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
		"--include=" + strings.Join(w.content.packages, ","),
		// The initramfs is made once, while the kernel is installed, so its configuration comes first.
		"--essential-hook=cp -a '" + early + "/.' \"$1\"",
		"--essential-hook=echo grub-pc grub-pc/install_devices_empty boolean true | chroot \"$1\" debconf-set-selections",
	}
	apt, err := w.aptOptions(ctx)
	if err != nil {
		return err
	}
	args = append(append(append(args, dpkgOptions...), apt...), "bookworm", w.root())
	sources, err := w.aptSources()
	if err != nil {
		return err
	}
	args = append(args, sources...)
	// The pid namespace ends with its first process: a cancelled build leaves no dpkg behind.
	stop := w.watch(ctx)
	_, err = command.Run(ctx, "unshare", args...)
	stop()
	if err != nil {
		return hint.Wrap(err, "run `apt-get update`: mmdebstrap installs from the same archive, and its errors say more")
	}
	return w.content.write(w.root(), ".")
}

// watch reports every ten seconds how much has been installed, until stop is called.
func (w work) watch(ctx context.Context) (stop func()) {
	w.progress("installing packages with mmdebstrap")
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var st unix.Statfs_t
			if err := unix.Statfs(w.root(), &st); err == nil {
				used := (st.Blocks - st.Bfree) * uint64(st.Bsize)
				w.progress(fmt.Sprintf("installing packages: %d MB on the disk", used/1e6))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// finish does in the root what an installer does last; see finish.sh.
func (w work) finish(ctx context.Context, device string) error {
	uuid, err := command.Run(ctx, "blkid", "-p", "-s", "UUID", "-o", "value", device)
	if err != nil {
		return err
	}
	script := filepath.Join(w.dir, "finish.sh")
	if err := os.WriteFile(script, finish, 0o644); err != nil {
		return err
	}
	_, err = command.Run(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"sh", script, w.dir, device, string(bytes.TrimSpace(uuid)))
	return err
}

// anonymize takes away what copies of a server must not share; each makes its own at its first boot.
func anonymize(root string) error {
	keys, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	if err != nil {
		return err
	}
	for _, path := range keys {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.Truncate(filepath.Join(root, "etc/machine-id"), 0); err != nil {
		return err
	}
	path := filepath.Join(root, "etc/shadow")
	shadow, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	locked := regexp.MustCompile(`(?m)^root:[^:]*:`).ReplaceAll(shadow, []byte("root:*:"))
	return os.WriteFile(path, locked, 0o640)
}

// embed puts GRUB before the first partition, as grub-install does.
func (w work) embed(boot, core []byte) error {
	if err := checkBootLoader(boot, core); err != nil {
		return err
	}
	f, err := os.OpenFile(w.disk(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(boot[:bootCodeBytes], 0); err != nil {
		return fmt.Errorf("write the boot sector: %w", err)
	}
	if _, err := f.WriteAt(core, sectorBytes); err != nil {
		return fmt.Errorf("write core.img: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", w.disk(), err)
	}
	return f.Close()
}

// sweep removes what a killed build left: its mount, its loop devices, its folder.
func (w work) sweep(ctx context.Context) error {
	if _, err := os.Stat(w.dir); err != nil {
		return nil //nolint:nilerr // no folder, nothing left
	}
	if err := unmount(ctx, w.root()); err != nil {
		return err
	}
	outer, err := loopsOf(ctx, w.disk())
	if err != nil {
		return err
	}
	for _, device := range outer {
		inner, err := loopsOf(ctx, device)
		if err != nil {
			return err
		}
		for _, d := range append(inner, device) {
			if err := detachLoop(ctx, d); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(w.dir)
}

// write writes the embedded files below sub under dir, with the permissions
// that a server has.
func (c content) write(dir, sub string) error {
	tree, err := fs.Sub(c.tree, c.top)
	if err != nil {
		return err
	}
	return fs.WalkDir(tree, sub, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, path)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
}
