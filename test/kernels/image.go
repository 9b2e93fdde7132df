package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehost/internal/command"
	"rehost/internal/cpio"
)

const (
	work    = "build/kernels"
	mirror  = "http://deb.debian.org/debian"
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	meta    = "linux-image-cloud-amd64"
)

// modules are what a guest loads besides those they need.
var modules = []string{"virtio_pci", "virtio_blk", "loop"}

// image is an unpacked kernel package.
type image struct {
	root, path, version string
}

// fetch gets the kernel of a release from Debian's archive, with lists and a cache of its own, and unpacks it.
func fetch(ctx context.Context, suite string) (*image, error) {
	dir, err := filepath.Abs(filepath.Join(work, suite))
	if err != nil {
		return nil, err
	}
	i := &image{root: filepath.Join(dir, "root")}
	if i.find() == nil {
		return i, nil
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	list := filepath.Join(dir, "sources.list")
	line := fmt.Sprintf("deb [signed-by=%s check-valid-until=no] %s %s main\n", keyring, mirror, suite)
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return nil, err
	}
	options := []string{
		"-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=-", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=root", "-qq",
	}
	if _, err := command.Run(ctx, "apt-get", append(options, "update")...); err != nil {
		return nil, err
	}
	depends, err := command.Run(ctx, "apt-cache", append(options, "depends", "--important", meta)...)
	if err != nil {
		return nil, err
	}
	_, name, ok := strings.Cut(string(depends), "Depends: ")
	if !ok {
		return nil, fmt.Errorf("%s of %s depends on nothing: %s", meta, suite, depends)
	}
	download := append([]string{"-C", dir, "apt-get"}, append(options, "download", strings.TrimSpace(name))...)
	if _, err := command.Run(ctx, "env", download...); err != nil {
		return nil, err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "linux-image-*.deb"))
	if err != nil || len(packages) != 1 {
		return nil, fmt.Errorf("packages in %s: %v", dir, packages)
	}
	if _, err := command.Run(ctx, "dpkg-deb", "-x", packages[0], i.root); err != nil {
		return nil, err
	}
	return i, i.find()
}

// find looks for the kernel in the unpacked package.
func (i *image) find() error {
	kernels, err := filepath.Glob(filepath.Join(i.root, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("kernels in %s: %v", i.root, kernels)
	}
	i.path = kernels[0]
	_, i.version, _ = strings.Cut(filepath.Base(i.path), "vmlinuz-")
	return nil
}

// initramfs makes an archive with a shell, the modules, the tests, and an init that runs them.
func (i *image) initramfs(ctx context.Context, args string) (string, error) {
	tests := filepath.Join(work, "track.test")
	if _, err := command.Run(ctx, "go", "test", "-c", "-o", tests, "./agent/internal/track"); err != nil {
		return "", err
	}
	var load strings.Builder
	files := map[string]string{"bin/busybox": "/bin/busybox", "bin/track.test": tests}
	if err := i.addModules(ctx, files, &load); err != nil {
		return "", err
	}
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "modules"} {
		if err := w.Write(d, cpio.ModeDir|0o755, nil); err != nil {
			return "", err
		}
	}
	if err := w.Write("init", cpio.ModeFile|0o755, fmt.Appendf(nil, initScript, load.String(), args)); err != nil {
		return "", err
	}
	for name, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if err := w.Write(name, cpio.ModeFile|0o755, data); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(i.root), "initramfs")
	return path, os.WriteFile(path, archive.Bytes(), 0o644)
}

// initScript takes the commands that load the modules, and the arguments of the tests.
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
%s
export REHOST_TRACK_DISK=/dev/vda
track.test -test.v -test.timeout 19m %s
echo "rehost: exit $?"
poweroff -f
`

// addModules adds the modules with those that they need, in the order of their loading.
func (i *image) addModules(ctx context.Context, files map[string]string, load *strings.Builder) error {
	// From trixie on /usr/lib holds the modules, and depmod goes by the old name.
	if _, err := os.Lstat(filepath.Join(i.root, "lib")); errors.Is(err, os.ErrNotExist) {
		if err := os.Symlink("usr/lib", filepath.Join(i.root, "lib")); err != nil {
			return err
		}
	}
	dir := filepath.Join(i.root, "lib/modules", i.version)
	if _, err := command.Run(ctx, "depmod", "-b", i.root, i.version); err != nil {
		return err
	}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	for _, m := range modules {
		for line := range strings.Lines(string(dep)) {
			file, needs, _ := strings.Cut(line, ":")
			name, _, _ := strings.Cut(filepath.Base(file), ".ko")
			if name != m {
				continue
			}
			all := append(strings.Fields(needs), file)
			slices.Reverse(all[:len(all)-1]) // what is needed by others comes last there
			for _, f := range all {
				to := "modules/" + filepath.Base(f)
				if files[to] == "" {
					files[to] = filepath.Join(dir, f)
					fmt.Fprintf(load, "insmod /%s\n", to)
				}
			}
		}
	}
	return nil
}
