package convert

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Loader is the boot loader that starts the guest's kernel.
type Loader string

// Boot loaders that are told apart. Only GRUB 2 and systemd-boot can be converted.
const (
	LoaderGRUB       Loader = "grub"
	LoaderGRUBLegacy Loader = "grub-legacy"
	LoaderSystemd    Loader = "systemd-boot"
	LoaderExtlinux   Loader = "extlinux"
)

// Boot is how the guest starts a kernel.
type Boot struct {
	Loader  Loader      `json:"loader,omitempty"`
	ESP     string      `json:"esp"`               // where the EFI system partition is mounted, or would be
	Config  string      `json:"config,omitempty"`  // the grub.cfg with the menu, or loader.conf
	Entries []BootEntry `json:"entries,omitempty"` // those that start Linux, in the menu's order
	Default int         `json:"default"`           // index in Entries; -1: it cannot be told
	Chosen  string      `json:"chosen,omitempty"`  // what the configuration gives to GRUB's variable "default"
}

// BootEntry is an entry of the menu that starts a kernel.
type BootEntry struct {
	ID      string   `json:"id"` // what the loader's setting "default" calls it
	Title   string   `json:"title"`
	Kernel  string   `json:"kernel"`            // version
	Image   string   `json:"image"`             // its path in the guest
	Initrds []string `json:"initrds"`           // paths in the guest
	Lost    []string `json:"lost,omitempty"`    // what it loads and is not there: as the boot loader calls it
	File    string   `json:"file,omitempty"`    // of an entry that has a file of its own
	Unified bool     `json:"unified,omitempty"` // the image has initramfs and command line in it, and cannot be changed
	Rescue  bool     `json:"rescue,omitempty"`  // meant for repairs, or for finding faults of the kernel
}

// espDirs are where the EFI system partition is mounted, the usual one first.
var espDirs = []string{"/boot/efi", "/efi", "/boot"}

// savedEntry is what grub.cfg gives to "default" when grubenv decides.
const savedEntry = "${saved_entry}"

// bootFiles tell which boot loader there is, and belong to it.
var bootFiles = []string{
	"/etc/default/grub", "/etc/kernel/cmdline", "/etc/machine-id",
	"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/grubenv", "/boot/grub2/grubenv",
	"/boot/grub/device.map", "/boot/grub2/device.map", "/boot/grub/i386-pc/serial.mod", "/boot/grub2/i386-pc/serial.mod",
	"/boot/grub/i386-pc/core.img", "/boot/grub2/i386-pc/core.img",
	"/boot/grub/menu.lst", "/boot/grub/grub.conf", "/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg",
}

// entriesDir has the entries of the Boot Loader Specification.
const entriesDir = "/boot/loader/entries"

// lookAtLoaders finds the EFI system partition, and takes note of what boots from it.
func (f *Facts) lookAtLoaders(root *Root) error {
	f.Boot.ESP = espDirs[0]
	for _, dir := range slices.Backward(espDirs) {
		if s, ok := f.Holds(dir); ok && s.Mount == dir && strings.EqualFold(s.PartType, espType) {
			f.Boot.ESP = dir
		}
	}
	for _, dir := range espDirs {
		if !f.isESP(dir) {
			continue // what packages have put into a folder
		}
		found, err := f.lookAtESP(root, dir)
		if err != nil {
			return err
		}
		if found {
			f.Boot.ESP = dir
			return nil
		}
	}
	return nil
}

// isESP says whether a folder is a partition that firmware can read, as far as it is known what is mounted where.
func (f Facts) isESP(dir string) bool {
	s, known := f.Holds(dir)
	return !known || s.Mount == dir && s.Type == "vfat"
}

// lookAtESP takes note of the loaders below a folder; found is false when there are none.
func (f *Facts) lookAtESP(root *Root, esp string) (found bool, err error) {
	vendors, err := root.ReadDir(esp + "/EFI")
	if missing(err) {
		return false, nil
	}
	if err != nil || len(vendors) > maxKernels {
		return false, err
	}
	for _, v := range vendors {
		names, err := root.ReadDir(path.Join(esp, "EFI", v))
		if missing(err) {
			continue
		}
		if err != nil || len(names) > maxNames {
			return false, err
		}
		for _, n := range names {
			if lower := strings.ToLower(n); !strings.HasSuffix(lower, ".efi") && lower != "grub.cfg" && lower != "grubenv" {
				continue
			}
			found = true
			file := path.Join(esp, "EFI", v, n)
			if path.Dir(file) == esp+unifiedImages { // large, and never changed
				f.Files[file] = File{}
				continue
			}
			if err := f.look(root, file); err != nil {
				return false, err
			}
		}
	}
	if !found {
		return false, nil
	}
	return true, errors.Join(f.look(root, esp+loaderConf), f.lookInto(root, esp+loaderEntries))
}

// uefiLoaders are the names, in lower case, of programs that boot a guest by UEFI.
var uefiLoaders = []string{"bootx64.efi", "grubx64.efi", "grub.efi", "shimx64.efi", "shim.efi", "systemd-bootx64.efi"}

// bootMode tells how the guest boots: a folder of packages alone is no loader. An EFI system partition
// that is not mounted counts when nothing else on the disk could be started.
func (f Facts) bootMode() string {
	for p := range f.Files {
		if strings.HasPrefix(p, f.Boot.ESP+"/EFI/") && slices.Contains(uefiLoaders, strings.ToLower(path.Base(p))) {
			return "uefi"
		}
	}
	if f.hasPart(espType) && !f.hasPart(biosBootType) {
		return "uefi"
	}
	return "bios"
}

// Types of partitions in a GPT: the EFI system partition, and the one in which GRUB's core image is for BIOS firmware.
const (
	espType      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	biosBootType = "21686148-6449-6e6f-744e-656564454649"
)

// hasPart says whether the boot disk has a partition of that type.
func (f Facts) hasPart(kind string) bool {
	return slices.ContainsFunc(f.Disks, func(d Disk) bool {
		return d.Boot && slices.ContainsFunc(d.Filesystems, func(s Filesystem) bool { return strings.EqualFold(s.PartType, kind) })
	})
}

// grubConfigs returns the grub.cfg files with a menu, the one in use first. On the EFI system partition
// there may be one that only leads to that in /boot.
func (f Facts) grubConfigs() []string {
	var found []string
	for _, p := range sortedKeys(f.Files) {
		text, ok := f.text(p)
		if ok && path.Base(p) == "grub.cfg" && hasMenu(text) && strings.HasPrefix(p, f.Boot.ESP+"/EFI/") && f.Guest.BootMode == "uefi" {
			found = append(found, p)
		}
	}
	for _, p := range []string{"/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"} {
		if text, ok := f.text(p); ok && hasMenu(text) {
			found = append(found, p)
		}
	}
	return found
}

func hasMenu(config string) bool {
	for line := range strings.Lines(config) {
		if words := grubWords(line); len(words) > 0 && (words[0] == "menuentry" || words[0] == "submenu" || words[0] == "blscfg") {
			return true
		}
	}
	return false
}

// Bounds for what is looked up of a menu.
const (
	maxEntries = 256
	maxImages  = 8 // of one entry
)

// inspectBoot finds the boot loader, its entries and which one it starts.
func (f *Facts) inspectBoot(root *Root) {
	f.Boot.Default = -1
	configs := f.grubConfigs()
	switch {
	case f.startsSystemd():
		f.Boot.Loader, f.Boot.Config = LoaderSystemd, f.Boot.ESP+loaderConf
		f.inspectSystemd(root)
	case len(configs) > 0:
		f.Boot.Loader, f.Boot.Config = LoaderGRUB, configs[0]
		f.inspectGRUB(root)
	case f.hasFile("/boot/extlinux/extlinux.conf"), f.hasFile("/boot/syslinux/syslinux.cfg"):
		f.Boot.Loader = LoaderExtlinux
	case f.hasFile("/boot/grub/menu.lst"), f.hasFile("/boot/grub/grub.conf"):
		f.Boot.Loader = LoaderGRUBLegacy
	}
}

func (f *Facts) inspectGRUB(root *Root) {
	config, _ := f.text(f.Boot.Config)
	entries, chosen := menu(config, f.blsEntries())
	env := parseGrubEnv(f.grubEnv())
	f.Boot.Chosen = chosen
	boots, ok := defaultEntry(entries, chosen, env, strings.Contains(config, "next_entry"))
	for _, e := range entries {
		if e.kernel == "" {
			continue
		}
		isDefault := ok && slices.Equal(e.index, boots.index)
		if len(f.Boot.Entries) >= maxEntries && !isDefault {
			continue
		}
		if isDefault {
			f.Boot.Default = len(f.Boot.Entries)
		}
		f.Boot.Entries = append(f.Boot.Entries, f.bootEntry(root, "/boot", e))
	}
}

// bootEntry looks at what an entry loads. The loader's paths start at the filesystem that is mounted at top.
func (f *Facts) bootEntry(root *Root, top string, e menuEntry) BootEntry {
	b := BootEntry{ID: e.id(), Title: strings.Join(e.path, ">"), File: e.file}
	there := func(name string) string {
		p, ok := f.locate(root, top, name)
		if !ok && !strings.Contains(name, "$") { // in a variable of GRUB there may be anything
			b.Lost = append(b.Lost, name)
		}
		return p
	}
	b.Image = there(e.kernel)
	b.Kernel = f.kernelVersion(root, b.Image)
	for _, i := range e.initrds[:min(len(e.initrds), maxImages)] {
		if !strings.HasPrefix(i, "$") {
			b.Initrds = append(b.Initrds, there(i))
		}
	}
	text := strings.ToLower(b.ID + " " + b.Title)
	for _, mark := range []string{"rescue", "recovery", "debug", "single", "xen", "failsafe", "memtest", "fallback", "snapshot"} {
		b.Rescue = b.Rescue || strings.Contains(text, mark)
	}
	return b
}

// locate returns where in the guest a path of the boot loader is, and whether there is a file. Paths of GRUB may start at the top
// of a btrfs with subvolumes.
func (f *Facts) locate(root *Root, top, name string) (string, bool) {
	_, name = cutDevice(name)
	for _, p := range []string{path.Join(top, name), name, path.Join("/boot", path.Base(name))} {
		resolved, err := root.Resolve(p)
		if err != nil {
			continue
		}
		if info, err := root.Stat(resolved); err == nil && info.Mode().IsRegular() {
			return resolved, true
		}
	}
	return name, false
}

// cutDevice cuts GRUB's name of a device, as in ($root)/vmlinuz, off a path.
func cutDevice(name string) (device, rest string) {
	if i := strings.Index(name, ")"); strings.HasPrefix(name, "(") && i > 0 {
		return name[:i+1], name[i+1:]
	}
	return "", name
}

// grubEnv returns the content of the environment block that the grub.cfg in use loads.
func (f Facts) grubEnv() string {
	text, _ := f.text(f.grubEnvFile())
	return text
}

func (f Facts) grubEnvFile() string { return path.Join(path.Dir(f.Boot.Config), "grubenv") }

// defaultEntry returns the entry that boots when nobody touches a key.
func defaultEntry(entries []menuEntry, chosen string, env map[string]string, usesNext bool) (menuEntry, bool) {
	if chosen == savedEntry {
		chosen = env["saved_entry"]
	}
	if env["next_entry"] != "" && usesNext {
		chosen = env["next_entry"]
	}
	if chosen == "" {
		chosen = "0"
	}
	want := strings.Split(chosen, ">")
	for _, e := range entries {
		if e.kernel != "" && (e.is(want) || (len(e.path) == 1 && e.path[0] == chosen)) {
			return e, true
		}
	}
	// GRUB falls back to the first entry, and opens a submenu at its first one.
	for _, e := range entries {
		if e.kernel != "" {
			return e, true
		}
	}
	return menuEntry{}, false
}

func (e menuEntry) is(want []string) bool {
	if len(want) > len(e.index) {
		return false
	}
	for i, w := range want {
		n, err := strconv.Atoi(w)
		if (err != nil || n != e.index[i]) && w != e.path[i] && (w != e.ids[i] || w == "") {
			return false
		}
	}
	// "1" may be a submenu: then its first entry is meant.
	for _, rest := range e.index[len(want):] {
		if rest != 0 {
			return false
		}
	}
	return true
}

// id returns what GRUB's variable "default" has to be for this entry.
func (e menuEntry) id() string {
	parts := make([]string, len(e.path))
	for i := range parts {
		if parts[i] = e.ids[i]; parts[i] == "" {
			parts[i] = e.path[i]
		}
	}
	return strings.Join(parts, ">")
}
