package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"rehost/internal/cpio"
	"rehost/protocol"
)

// initramfs plans an archive at the end of each initramfs that lacks a driver or names disks that will be gone. The
// kernel unpacks archives one after the other, so what comes last is added, and
// the guest's own image stays as it is. No program of the guest has to run.
func (p *planner) initramfs() error {
	done := map[string]bool{}
	for _, k := range p.facts.Kernels {
		in := k.Initrd
		if in == nil || done[in.Path] {
			continue
		}
		done[in.Path] = true
		conf := p.fixedConf(in)
		if len(in.Modules)+len(conf) == 0 {
			continue
		}
		archive, err := p.archive(k, conf)
		if err != nil {
			return fmt.Errorf("build the initramfs archive of kernel %s: %w", k.Version, err)
		}
		// An archive starts at a multiple of four; after an lz4 part four zero bytes mark its end.
		pad := (4 - in.Size%4) % 4
		if in.Compression == string(cpio.LZ4) {
			pad += 4
		}
		e := Edit{Data: append(make([]byte, pad), archive...), OldSize: in.Size, stamp: in.stamp}
		after, err := in.sumWith(e.Data)
		if err != nil {
			return err
		}
		what, reason := append(slices.Clone(in.Names), sortedKeys(conf)...), "the initramfs must reach the root disk over NVMe"
		if len(in.Names) == 0 {
			reason = "the initramfs must not wait for disks that are gone"
		}
		e.Change = protocol.Change{
			Path: in.Path, Action: ActionAppend, Before: in.Sum, After: after, Reason: reason,
			Detail: fmt.Sprintf("%d bytes, at offset %d: %s", len(archive), in.Size+pad, strings.Join(what, ", ")),
		}
		p.edits = append(p.edits, e)
	}
	return nil
}

// archive builds the archive for one kernel's initramfs.
func (p *planner) archive(k Kernel, conf map[string]string) ([]byte, error) {
	lib := "lib/modules/"
	if k.Initrd.Merged {
		lib = "usr/lib/modules/"
	}
	files := map[string][]byte{}
	for _, m := range k.Initrd.Modules {
		files[path.Join(lib, k.Version, m.Name)] = m.Data
	}
	for name, text := range conf {
		files[name] = []byte(text)
	}
	var out bytes.Buffer
	if k.NoGzip {
		err := writeArchive(&out, files)
		return out.Bytes(), err
	}
	// Speed matters more than size here: this runs while a server is waiting.
	zw, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeArchive(zw, files), zw.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeArchive(to io.Writer, files map[string][]byte) error {
	w := cpio.NewWriter(to)
	var dirs []string
	for _, name := range sortedKeys(files) {
		for _, dir := range parents(name) {
			if slices.Contains(dirs, dir) {
				continue
			}
			dirs = append(dirs, dir)
			// A folder that is there already stays; "lib" may be a link there, and must not be replaced.
			if dir == "lib" || dir == "usr" || dir == "usr/lib" {
				continue
			}
			if err := w.Write(dir, cpio.ModeDir|0o755, nil); err != nil {
				return err
			}
		}
		if err := w.Write(name, cpio.ModeFile|0o644, files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

// parents returns the folders above name, the topmost first.
func parents(name string) []string {
	var dirs []string
	for d := path.Dir(name); d != "."; d = path.Dir(d) {
		dirs = append([]string{d}, dirs...)
	}
	return dirs
}

// missingDrivers returns the drivers that are not in a list of modules.
func missingDrivers(list []string) []string {
	var add []string
	for _, d := range drivers {
		if !slices.ContainsFunc(list, func(m string) bool { return strings.ReplaceAll(m, "-", "_") == d }) {
			add = append(add, d)
		}
	}
	return add
}

// withModules adds the drivers to a list of modules, one a line.
func withModules(text string) string {
	var have []string
	for line := range strings.Lines(text) {
		have = append(have, strings.TrimSpace(line))
	}
	add := missingDrivers(have)
	if len(add) == 0 {
		return text
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + strings.Join(add, "\n") + "\n"
}

// withShellModules adds the drivers to the list that a shell file gives to a variable, between the given marks.
func withShellModules(text, variable, open, end string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		list, ok := strings.CutPrefix(line, variable+"="+open)
		list, rest, closed := strings.Cut(list, end)
		if add := missingDrivers(strings.Fields(list)); ok && closed && len(add) > 0 {
			line = variable + "=" + open + strings.TrimSpace(list+" "+strings.Join(add, " ")) + end + rest
		}
		out.WriteString(line)
	}
	return out.String()
}

// initramfsConfig makes later kernel updates keep the drivers.
func (p *planner) initramfsConfig() error {
	const reason = "later updates of the kernel keep the drivers in the initramfs"
	const head = "# Written by rehost: EC2 needs these in each initramfs.\n"
	switch p.facts.Guest.Initramfs {
	case "initramfs-tools":
		old, _ := p.facts.text("/etc/initramfs-tools/modules")
		p.write("/etc/initramfs-tools/modules", withModules(old), 0o644, reason)
	case "dracut":
		p.write("/etc/dracut.conf.d/50-rehost.conf", head+"add_drivers+=\" "+strings.Join(drivers, " ")+" \"\n", 0o644, reason)
	case "mkinitcpio":
		if p.facts.hasFile("/etc/mkinitcpio.conf.d") { // since mkinitcpio 36
			p.write("/etc/mkinitcpio.conf.d/50-rehost.conf", head+"MODULES+=("+strings.Join(drivers, " ")+")\n", 0o644, reason)
			return nil
		}
		const file = "/etc/mkinitcpio.conf"
		if text, ok := p.facts.text(file); ok {
			p.write(file, withShellModules(text, "MODULES", "(", ")"), 0o644, reason)
		}
	case "mkinitrd":
		const file = "/etc/sysconfig/kernel"
		if text, ok := p.facts.text(file); ok {
			p.write(file, withShellModules(text, "INITRD_MODULES", `"`, `"`), 0o644, reason)
		}
	}
	return nil
}

const resumeFile = "/etc/initramfs-tools/conf.d/resume"

// resume plans the device to resume from: by UUID, or none.
func (p *planner) resume() error {
	if text, ok := p.facts.text(resumeFile); ok {
		p.write(resumeFile, p.fixResume(text), 0o644, "device names change in EC2; waiting for a device that is not there delays the boot")
	}
	return nil
}

func (p *planner) fixResume(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "RESUME=")
		value = strings.Trim(value, `"'`)
		s, found, known := p.facts.bySpec(value)
		usable := found && s.Type == "swap"
		if !ok || !known && !p.facts.lost(value) || usable && !isOldDevice(value) {
			out.WriteString(line)
			continue
		}
		to := "none"
		if usable && s.UUID != "" {
			to = "UUID=" + s.UUID
		}
		out.WriteString("RESUME=" + to + "\n")
	}
	return out.String()
}
