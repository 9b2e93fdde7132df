package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/convert/internal/guest"
)

// maxText bounds a configuration file: larger ones are nothing that a person wrote.
const maxText = 4 << 20

// maxInspected bounds what is read of all files together: some are kept in memory.
const maxInspected = 256 << 20

// maxNames bounds what is looked at in one folder.
const maxNames = 4096

// Inspect gathers the facts about the guest mounted at root, whose disks are given.
// It changes nothing.
func Inspect(root *Root, disks []Disk) (Facts, error) { return InspectAgain(root, disks, nil) }

// InspectAgain is [Inspect] that reads only those initramfs images that are not in scans as they are now, and puts them there.
func InspectAgain(root *Root, disks []Disk, scans Scans) (Facts, error) {
	defer root.Steady()()
	f := Facts{Disks: disks, Files: map[string]File{}, folders: map[string]bool{}, scans: scans}
	for _, list := range [][]string{lookedAt, bootFiles, assemblyFiles, networkFiles, serviceFiles(), cloudInitFiles, firstBootFiles, selinuxFiles, boundFiles} {
		for _, p := range list {
			if err := f.look(root, p); err != nil {
				return f, err
			}
		}
	}
	for _, dir := range lookedInto {
		if err := f.lookInto(root, dir); err != nil {
			return f, err
		}
	}
	if err := errors.Join(f.lookForAgent(root), f.lookAtLoaders(root), f.lookAtIdentity(root)); err != nil {
		return f, err
	}
	f.inspectArchitecture(root)
	f.Guest.OS = osName(f)
	f.Guest.Initramfs = initramfsKind(f)
	f.Guest.Network = networkKind(f)
	f.Guest.BootMode = f.bootMode()
	if err := f.inspectKernels(root); err != nil {
		return f, err
	}
	return f, errors.Join(f.inspectSpace(root), f.inspectLabels(root))
}

// lookedAt are single files that plans depend on.
var lookedAt = []string{
	"/etc/fstab", "/etc/crypttab", "/etc/os-release", "/usr/lib/os-release",
	"/etc/initramfs-tools/modules", "/etc/initramfs-tools/conf.d/resume",
	"/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs", "/usr/bin/dracut", "/usr/sbin/dracut", "/etc/dracut.conf.d/50-rehost.conf", "/usr/bin/mkinitcpio",
	"/etc/mkinitcpio.conf", "/etc/mkinitcpio.conf.d", "/etc/mkinitcpio.conf.d/50-rehost.conf", "/sbin/mkinitrd", "/etc/sysconfig/kernel",
	"/etc/systemd/system/serial-getty@ttyS0.service",
}

// lookedInto are folders whose files all matter.
var lookedInto = []string{"/etc/udev/rules.d", modprobeDir, grubDir, sshdDir, "/etc/systemd/network", "/etc/netplan", "/etc/network/interfaces.d", redhatDir, suseDir, keyfileDir, entriesDir, firstBootFolder}

func (f *Facts) hasFile(p string) bool {
	_, ok := f.Files[p]
	return ok
}

// look takes note of a file. That there is none is a fact too.
func (f *Facts) look(root *Root, p string) error {
	f.folders[path.Dir(p)] = true
	info, err := root.Lstat(p)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect %s: %w", p, err)
	}
	file := File{Mode: info.Mode(), Size: info.Size()}
	if at, err := root.Locate(p); err == nil && at != p {
		file.At = at
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if file.Link, err = root.Readlink(p); err != nil {
			return fmt.Errorf("inspect %s: %w", p, err)
		}
		// What the link leads to is what would be edited.
		to, err := root.Stat(p)
		if missing(err) || (err == nil && !to.Mode().IsRegular()) {
			f.Files[p] = file
			return nil
		}
		if err != nil {
			return fmt.Errorf("inspect %s: %w", p, err)
		}
		if file.Target, err = root.Resolve(p); err != nil {
			return fmt.Errorf("inspect %s: %w", p, err)
		}
		file.Mode, file.Size = to.Mode(), to.Size()
	}
	if file.Mode.IsRegular() {
		if f.inspected += file.Size; f.inspected > maxInspected {
			return fmt.Errorf("inspect %s: with its %d bytes the files to look at are larger than %d bytes", p, file.Size, maxInspected)
		}
	}
	if err := file.read(root, p); err != nil {
		return fmt.Errorf("inspect %s: %w", p, err)
	}
	f.Files[p] = file
	return nil
}

// isProgram says whether a file counts by being there: no plan looks into it, and an emulated processor takes a tenth of a second to hash one.
func isProgram(p string) bool {
	return slices.Contains([]string{"/bin", "/sbin", "/usr/bin", "/usr/sbin"}, path.Dir(p)) && !slices.Contains(agentBinaries, p)
}

// read takes the content of a small file and the hash of any.
func (f *File) read(root *Root, p string) (err error) {
	switch {
	case !f.Mode.IsRegular(), isProgram(p):
	case f.Size <= maxText:
		f.Data, err = root.ReadFile(p, maxText)
		f.Sum = sum(f.Data)
	default:
		f.Sum, err = fileSum(root, p)
	}
	return err
}

func (f *Facts) lookInto(root *Root, dir string) error {
	f.folders[dir] = true
	names, err := root.ReadDir(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dir, err)
	}
	if len(names) > maxNames {
		return fmt.Errorf("inspect %s: %d files", dir, len(names))
	}
	for _, name := range names {
		if guest.IsStaged(name) {
			continue // a killed conversion's, which goes when the next one begins
		}
		if err := f.look(root, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// missing says that a path leads nowhere: also where a part of it is a file, or links go in a circle.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, guest.ErrNotRegular)
}

func osName(f Facts) string {
	for _, p := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		text, ok := f.text(p)
		if !ok {
			continue
		}
		if v := shellValue(text, "PRETTY_NAME"); v != "" {
			return v
		}
	}
	return ""
}

// shellValue returns what a shell file of simple assignments gives a name.
func shellValue(text, name string) string {
	value := ""
	s := bufio.NewScanner(bytes.NewBufferString(text))
	s.Buffer(nil, maxText)
	for s.Scan() {
		if v, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), name+"="); ok {
			value = strings.Trim(v, `"'`)
		}
	}
	return value
}

func initramfsKind(f Facts) string {
	switch {
	// Ubuntu's dracut brings a program update-initramfs too, that calls it.
	case f.hasFile("/usr/sbin/update-initramfs") && (f.hasFile("/usr/sbin/mkinitramfs") || !f.hasDracut()):
		return "initramfs-tools"
	case f.hasDracut():
		return "dracut"
	case f.hasFile("/usr/bin/mkinitcpio"):
		return "mkinitcpio"
	case f.hasFile("/sbin/mkinitrd") && f.hasFile("/etc/sysconfig/kernel"):
		return "mkinitrd"
	}
	return ""
}

func (f *Facts) hasDracut() bool {
	return f.hasFile("/usr/bin/dracut") || f.hasFile("/usr/sbin/dracut")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
