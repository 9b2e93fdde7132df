package convert

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// moduleIndex are the files by which modprobe and udev find modules.
var moduleIndex = []string{
	"modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.symbols", "modules.symbols.bin",
	"modules.softdep", "modules.order", "modules.devname", "modules.builtin", "modules.builtin.bin",
	"modules.builtin.alias.bin", "modules.builtin.modinfo",
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

// stackDrivers returns the drivers that the root filesystem, and /usr, need besides those of EC2. A driver
// that a kernel does not know by this name is part of it.
func (f Facts) stackDrivers() []string {
	var found []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(found, n) {
				found = append(found, n)
			}
		}
	}
	for _, d := range f.Disks {
		for _, s := range d.Filesystems {
			if s.Mount != "/" && s.Mount != "/usr" {
				continue
			}
			for _, l := range s.Stack {
				switch l.Kind {
				case LayerLVM:
					add("dm_mod")
				case LayerMD:
					add("raid1")
				case LayerLUKS:
					add("dm_mod", "dm_crypt")
				case LayerSubvolume, LayerThin: // a thin pool is refused
				}
			}
			if slices.Contains([]string{"ext4", "xfs", "btrfs"}, s.Type) {
				add(s.Type)
			}
		}
	}
	return found
}

// unpackModule returns a module as the kernel loads it. Distributions compress them with one of three programs.
func unpackModule(name string, data []byte) ([]byte, error) {
	var r io.Reader = bytes.NewReader(data)
	var err error
	switch path.Ext(name) {
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".xz":
		r, err = xz.NewReader(r)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, fmt.Errorf("unpack module %s: %w", name, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule))
	if err != nil {
		return nil, fmt.Errorf("unpack module %s: %w", name, err)
	}
	return out, nil
}

// timeoutKind looks for the NVMe driver's parameter in a module or in modules.builtin.modinfo. Kernels
// before 4.6 have it in nvme, and before 4.15 it is a byte: there a larger value keeps the module from being loaded.
func timeoutKind(module string, data []byte) (arg string, ok bool) {
	for kind, value := range map[string]string{"uint": ioTimeout, "byte": "255"} {
		if bytes.Contains(data, []byte("parmtype=io_timeout:"+kind)) {
			return module + ".io_timeout=" + value, true
		}
	}
	return "", false
}

// ioTimeout is the longest time in seconds that the NVMe driver may be told to wait for a request.
const ioTimeout = "4294967295"

// inspectTimeout finds out how this kernel is told to wait for EBS.
func (k *Kernel) inspectTimeout(root *Root, deps map[string][]string) error {
	for _, module := range []string{"nvme_core", "nvme"} {
		if builtin, err := root.ReadFile(moduleDir(k.Version)+"/modules.builtin.modinfo", maxModule); err == nil {
			// Entries are NAME.KEY=VALUE and end with a zero byte.
			data := bytes.ReplaceAll(builtin, []byte(module+".parmtype=io_timeout"), []byte("\x00"+module+"\x00parmtype=io_timeout"))
			if bytes.Contains(data, []byte("\x00"+module+"\x00")) {
				k.Timeout, _ = timeoutKind(module, data)
				return nil
			}
		}
		file, ok := modulePath(module, deps)
		if !ok || path.Clean("/"+file) != "/"+file {
			continue
		}
		data, err := root.ReadFile(moduleDir(k.Version)+"/"+file, maxModule)
		if missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		if data, err = unpackModule(file, data); err != nil {
			continue // whether the module is any good is not decided here
		}
		if arg, ok := timeoutKind(module, data); ok {
			k.Timeout = arg
			return nil
		}
	}
	return nil
}
