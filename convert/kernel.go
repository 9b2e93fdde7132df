package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// drivers are what an EC2 instance needs: its disks and its network card.
var drivers = []string{"nvme", "ena"}

// Bounds for what is read of a kernel's modules and of an initramfs.
const (
	maxModule  = 64 << 20
	maxModules = 128 << 20 // that one initramfs lacks, with the index
	maxConf    = 64 << 10
	maxConfs   = 256
	maxHas     = 64 << 10
	maxInitrd  = 1 << 30
	maxKernels = 64
)

// inspectKernels finds the installed kernels and the one that will boot.
func (f *Facts) inspectKernels(root *Root) error {
	versions, err := root.ReadDir("/lib/modules")
	if err != nil && !missing(err) {
		return fmt.Errorf("inspect /lib/modules: %w", err)
	}
	if len(versions) > maxKernels {
		return fmt.Errorf("inspect /lib/modules: %d kernels", len(versions))
	}
	indexes := map[string]map[string][]string{}
	for _, v := range versions {
		k, deps, err := f.inspectKernel(root, v)
		if err != nil {
			return fmt.Errorf("inspect kernel %s: %w", v, err)
		}
		if deps == nil {
			continue
		}
		indexes[v] = deps
		f.Kernels = append(f.Kernels, k)
		f.Guest.Kernels = append(f.Guest.Kernels, v)
	}
	f.inspectBoot(root)
	if f.Boot.Default >= 0 {
		f.Guest.Kernel = f.Boot.Entries[f.Boot.Default].Kernel
	}
	for i := range f.Kernels {
		k := &f.Kernels[i]
		// One that cannot be read matters only if its kernel is the one to boot.
		if k.Initrd, err = f.inspectInitrd(root, *k, indexes[k.Version]); err != nil {
			k.Initrd, k.Fault = nil, err.Error()
		}
	}
	return nil
}

// inspectKernel looks at a kernel's modules; no index: it is none that can boot.
func (f *Facts) inspectKernel(root *Root, version string) (Kernel, map[string][]string, error) {
	dir := moduleDir(version)
	k := Kernel{Version: version, Drivers: map[string]Driver{}}
	dep, err := root.ReadFile(dir+"/modules.dep", maxModule)
	if missing(err) {
		return k, nil, nil
	}
	if err != nil {
		return k, nil, err
	}
	deps := parseDep(dep)
	builtin, err := root.ReadFile(dir+"/modules.builtin", maxModule)
	if err != nil && !missing(err) {
		return k, nil, err
	}
	for _, d := range append(slices.Clone(drivers), f.stackDrivers()...) {
		k.Drivers[d] = findDriver(d, deps, builtin)
	}
	for _, p := range []string{"/boot/config-" + version, dir + "/config"} {
		if config, err := root.ReadFile(p, maxText); err == nil {
			k.NoGzip = bytes.Contains(config, []byte("# CONFIG_RD_GZIP is not set\n"))
			break
		}
	}
	return k, deps, k.inspectTimeout(root, deps)
}

// kernelVersion returns the version of the kernel in an image file: by the file's name where that
// names installed modules, else from the image itself, as for Arch Linux's vmlinuz-linux.
func (f *Facts) kernelVersion(root *Root, image string) string {
	_, version, _ := strings.Cut(path.Base(image), "-")
	if slices.Contains(f.Guest.Kernels, version) {
		return version
	}
	file, err := root.OpenFile(image)
	if err != nil {
		return version
	}
	defer func() { _ = file.Close() }()
	head := make([]byte, 64<<10)
	n, err := file.ReadAt(head, 0)
	if n == 0 && err != nil {
		return version
	}
	if v := imageVersion(head[:n]); v != "" {
		return v
	}
	return version
}

// imageVersion reads the version from the head of a kernel image (the x86 boot protocol: at 0x20e
// is where the text starts, less 0x200); empty when it is none.
func imageVersion(head []byte) string {
	if len(head) < 0x210 || string(head[0x202:0x206]) != "HdrS" {
		return ""
	}
	at := int(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
	if at >= len(head) {
		return ""
	}
	text, _, _ := strings.Cut(string(head[at:min(at+256, len(head))]), "\x00")
	version, _, _ := strings.Cut(text, " ")
	return version
}

// compareVersions orders versions as rpm does: numbers by value, letters by alphabet, numbers above letters.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeft(a, "._-+:"), strings.TrimLeft(b, "._-+:")
		switch {
		case strings.HasPrefix(a, "~") && strings.HasPrefix(b, "~"):
			a, b = a[1:], b[1:]
			continue
		case strings.HasPrefix(a, "~"):
			return -1
		case strings.HasPrefix(b, "~"):
			return 1
		case a == "" && b == "":
			return 0
		case a == "":
			return -1
		case b == "":
			return 1
		}
		var x, y string
		x, a = segment(a)
		y, b = segment(b)
		if c := compareSegments(x, y); c != 0 {
			return c
		}
	}
}

// segment cuts a run of digits, or of anything else up to a separator, off a version.
func segment(v string) (first, rest string) {
	digit := isDigit(v[0])
	i := 1
	for i < len(v) && isDigit(v[i]) == digit && !strings.ContainsRune("._-+:~", rune(v[i])) {
		i++
	}
	return v[:i], v[i:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func compareSegments(a, b string) int {
	switch {
	case isDigit(a[0]) && isDigit(b[0]):
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	case isDigit(a[0]):
		return 1
	case isDigit(b[0]):
		return -1
	}
	return strings.Compare(a, b)
}

// timeout returns the argument that makes a kernel wait for EBS.
func (k Kernel) timeout() string {
	if k.Timeout != "" {
		return k.Timeout
	}
	major, rest, _ := strings.Cut(k.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	switch {
	case err1 != nil || err2 != nil, a > 4, a == 4 && b >= 15:
		return "nvme_core.io_timeout=" + ioTimeout
	case a == 4 && b >= 6:
		return "nvme_core.io_timeout=255"
	}
	return "nvme.io_timeout=255"
}
