package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"rehost/internal/cpio"
)

// drivers are what an EC2 instance needs: its disks and its network card.
var drivers = []string{"nvme", "ena"}

// moduleIndex are the files by which modprobe and udev find modules.
var moduleIndex = []string{
	"modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.symbols", "modules.symbols.bin",
	"modules.softdep", "modules.order", "modules.devname", "modules.builtin", "modules.builtin.bin",
	"modules.builtin.alias.bin", "modules.builtin.modinfo",
}

// Bounds for what is read of a kernel's modules and of an initramfs.
const (
	maxModule  = 64 << 20
	maxModules = 128 << 20 // that one initramfs lacks, with the index
	maxConf    = 64 << 10
	maxConfs   = 256
	maxHas     = 64 << 10
	maxInitrd  = 1 << 30
)

// inspectKernels finds the installed kernels and the one that will boot.
func (f *Facts) inspectKernels(root *Root) error {
	versions, err := root.ReadDir("/lib/modules")
	if err != nil && !missing(err) {
		return fmt.Errorf("inspect /lib/modules: %w", err)
	}
	if len(versions) > 64 {
		return fmt.Errorf("inspect /lib/modules: %d kernels", len(versions))
	}
	for _, v := range versions {
		dep, err := root.ReadFile(moduleDir(v)+"/modules.dep", maxModule)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("inspect kernel %s: %w", v, err)
		}
		k := Kernel{Version: v, Drivers: map[string]Driver{}}
		deps := parseDep(dep)
		builtin, err := root.ReadFile(moduleDir(v)+"/modules.builtin", maxModule)
		if err != nil && !missing(err) {
			return fmt.Errorf("inspect kernel %s: %w", v, err)
		}
		for _, d := range drivers {
			k.Drivers[d] = findDriver(d, deps, builtin)
		}
		if k.Initrd, err = inspectInitrd(root, k, deps, f.scans); err != nil {
			return fmt.Errorf("inspect the initramfs of kernel %s: %w", v, err)
		}
		f.Kernels = append(f.Kernels, k)
		f.Guest.Kernels = append(f.Guest.Kernels, v)
	}
	f.Guest.Kernel = f.bootKernel(root)
	return nil
}

// bootKernel returns the version of the kernel that GRUB boots by default; empty when that cannot be told.
func (f *Facts) bootKernel(root *Root) string {
	_, config, ok := f.grubConfig()
	if !ok {
		return ""
	}
	entry, ok := defaultEntry(config, f.grubEnv())
	if !ok {
		return ""
	}
	image := entry.kernel
	for _, p := range []string{"/boot/" + path.Base(image), image} {
		if resolved, err := root.Resolve(p); err == nil {
			if _, err := root.Stat(resolved); err == nil {
				image = resolved
				break
			}
		}
	}
	_, version, _ := strings.Cut(path.Base(image), "-")
	return version
}

func moduleDir(version string) string { return "/lib/modules/" + version }

// parseDep reads modules.dep: each module's path with the paths it depends on.
func parseDep(data []byte) map[string][]string {
	deps := map[string][]string{}
	for line := range bytes.Lines(data) {
		name, rest, ok := strings.Cut(string(line), ":")
		if ok {
			deps[name] = strings.Fields(rest)
		}
	}
	return deps
}

// moduleName returns the name of the module in a file such as kernel/drivers/nvme/host/nvme-core.ko.xz.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func modulePath(driver string, deps map[string][]string) (string, bool) {
	for file := range deps {
		if moduleName(file) == driver {
			return file, true
		}
	}
	return "", false
}

func findDriver(driver string, deps map[string][]string, builtin []byte) Driver {
	for line := range bytes.Lines(builtin) {
		if moduleName(strings.TrimSpace(string(line))) == driver {
			return DriverBuiltin
		}
	}
	if _, ok := modulePath(driver, deps); ok {
		return DriverModule
	}
	return DriverMissing
}

// inspectInitrd looks through a kernel's initramfs; nil when it has none.
func inspectInitrd(root *Root, k Kernel, deps map[string][]string, scans Scans) (*Initrd, error) {
	for _, name := range []string{"/boot/initrd.img-", "/boot/initramfs-", "/boot/initrd-"} {
		for _, suffix := range []string{"", ".img"} {
			p := name + k.Version + suffix
			f, err := root.OpenFile(p)
			if missing(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			defer func() { _ = f.Close() }()
			if info, err := f.Stat(); err != nil || info.Size() > maxInitrd {
				return nil, errors.Join(fmt.Errorf("read %s: it must have at most %d bytes", p, int64(maxInitrd)), err)
			}
			in := &Initrd{Path: p}
			if err := scans.scan(in, f, k.Version); err != nil {
				return nil, fmt.Errorf("read %s: %w", p, err)
			}
			return in, in.collect(root, k, deps)
		}
	}
	return nil, nil
}

// scan takes note of the modules and the configuration in an image.
func (in *Initrd) scan(image io.Reader, version string) error {
	in.Has, in.Conf = map[string]bool{}, map[string]string{}
	hash := sha256.New()
	counter := &countingWriter{}
	image = io.TeeReader(image, io.MultiWriter(hash, counter))
	kind, err := cpio.Walk(image, func(e cpio.Entry, data io.Reader) error {
		name := strings.TrimPrefix(path.Clean(e.Name), "/")
		switch {
		case strings.HasPrefix(name, "usr/lib/modules/"+version+"/"), strings.HasPrefix(name, "lib/modules/"+version+"/"):
			if strings.Contains(path.Base(name), ".ko") {
				in.Has[moduleName(name)] = true
			}
			in.Merged = in.Merged || strings.HasPrefix(name, "usr/")
		case name == "conf/modules", strings.HasPrefix(name, "conf/conf.d/"):
			text, err := io.ReadAll(io.LimitReader(data, maxConf))
			if err != nil {
				return err
			}
			if len(text) > 0 {
				in.Conf[name] = string(text)
			}
		}
		if len(in.Has) > maxHas || len(in.Conf) > maxConfs {
			return errors.New("it has too many modules or configuration files")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, image); err != nil {
		return err
	}
	in.Compression, in.Size, in.Sum = string(kind), counter.n, hex.EncodeToString(hash.Sum(nil))
	if in.state, err = hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return fmt.Errorf("keep the hash: %w", err)
	}
	return nil
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// collect reads the modules that the image lacks, as the guest has them (compressed
// or not), and the module index.
func (in *Initrd) collect(root *Root, k Kernel, deps map[string][]string) error {
	var files []string
	for _, d := range drivers {
		if k.Drivers[d] != DriverModule || in.Has[d] {
			continue
		}
		file, _ := modulePath(d, deps)
		for _, p := range append([]string{file}, deps[file]...) {
			if !slices.Contains(files, p) && !in.Has[moduleName(p)] {
				files = append(files, p)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	for _, p := range files {
		in.Names = append(in.Names, moduleName(p))
	}
	slices.Sort(files)
	slices.Sort(in.Names)
	total := 0
	for _, p := range append(files, moduleIndex...) {
		if path.Clean("/"+p) != "/"+p {
			return fmt.Errorf("module index names %q", p)
		}
		data, err := root.ReadFile(moduleDir(k.Version)+"/"+p, maxModule)
		if missing(err) && slices.Contains(moduleIndex, p) {
			continue // older kmod versions have fewer of them
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read module file %s", p), err)
		}
		if total += len(data); total > maxModules {
			return fmt.Errorf("the modules of kernel %s are larger than %d bytes", k.Version, maxModules)
		}
		in.Modules = append(in.Modules, ModuleFile{Name: p, Data: data})
	}
	return nil
}
