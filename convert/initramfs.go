package convert

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"rehost/internal/cpio"
	"rehost/protocol"
)

// initramfs plans an archive at the end of each initramfs that lacks a driver. The
// kernel unpacks archives one after the other, so what comes last is added, and
// the guest's own image stays as it is. No program of the guest has to run.
func (p *planner) initramfs() error {
	for _, k := range p.facts.Kernels {
		in := k.Initrd
		if in == nil || (len(in.Modules) == 0 && len(p.resumeConf(in)) == 0) {
			continue
		}
		archive, err := p.archive(k)
		if err != nil {
			return fmt.Errorf("build the initramfs archive of kernel %s: %w", k.Version, err)
		}
		// An archive starts at a multiple of four; after an lz4 part four zero bytes mark its end.
		pad := (4 - in.Size%4) % 4
		if in.Compression == string(cpio.LZ4) {
			pad += 4
		}
		e := Edit{Data: append(make([]byte, pad), archive...), OldSize: in.Size}
		after, err := in.sumWith(e.Data)
		if err != nil {
			return err
		}
		e.Change = protocol.Change{
			Path: in.Path, Action: ActionAppend, Before: in.Sum, After: after,
			Reason: "the initramfs must reach the root disk over NVMe",
			Detail: fmt.Sprintf("%d bytes, at offset %d: %s and the module index", len(archive), in.Size+pad, strings.Join(in.Names, ", ")),
		}
		p.edits = append(p.edits, e)
	}
	return nil
}

// archive builds the compressed archive for one kernel's initramfs.
func (p *planner) archive(k Kernel) ([]byte, error) {
	in := k.Initrd
	files := map[string][]byte{}
	lib := "lib/modules/"
	if in.Merged {
		lib = "usr/lib/modules/"
	}
	for _, m := range in.Modules {
		files[path.Join(lib, k.Version, m.Name)] = m.Data
	}
	if p.facts.Guest.Initramfs == "initramfs-tools" && len(in.Modules) > 0 {
		files["conf/modules"] = []byte(withModules(in.Conf["conf/modules"]))
	}
	for name, text := range p.resumeConf(in) {
		files[name] = []byte(text)
	}
	var out bytes.Buffer
	// Speed matters more than size here: this runs while a server is waiting.
	zw, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := cpio.NewWriter(zw)
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
				return nil, err
			}
		}
		if err := w.Write(name, cpio.ModeFile|0o644, files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// parents returns the folders above name, the topmost first.
func parents(name string) []string {
	var dirs []string
	for d := path.Dir(name); d != "."; d = path.Dir(d) {
		dirs = append([]string{d}, dirs...)
	}
	return dirs
}

// withModules adds the drivers to a list of modules, one a line.
func withModules(text string) string {
	have := map[string]bool{}
	for line := range strings.Lines(text) {
		have[strings.ReplaceAll(strings.TrimSpace(line), "-", "_")] = true
	}
	var add []string
	for _, d := range drivers {
		if !have[d] {
			add = append(add, d)
		}
	}
	if len(add) == 0 {
		return text
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + strings.Join(add, "\n") + "\n"
}

// initramfsConfig makes later kernel updates keep the drivers.
func (p *planner) initramfsConfig() error {
	const reason = "later updates of the kernel keep the drivers in the initramfs"
	switch p.facts.Guest.Initramfs {
	case "initramfs-tools":
		old, _ := p.facts.text("/etc/initramfs-tools/modules")
		p.write("/etc/initramfs-tools/modules", withModules(old), 0o644, reason)
	case "dracut":
		p.write("/etc/dracut.conf.d/50-rehost.conf", "# Written by rehost: EC2 needs these in each initramfs.\nadd_drivers+=\" "+
			strings.Join(drivers, " ")+" \"\n", 0o644, reason)
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

// resumeConf returns the configuration files inside an initramfs that name a
// device to resume from which will not be there, with what they should say.
func (p *planner) resumeConf(in *Initrd) map[string]string {
	fixed := map[string]string{}
	for name, text := range in.Conf {
		if now := p.fixResume(text); strings.HasPrefix(name, "conf/conf.d/") && now != text {
			fixed[name] = now
		}
	}
	return fixed
}

func (p *planner) fixResume(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "RESUME=")
		if !ok || !strings.HasPrefix(strings.Trim(value, `"'`), "/dev/") {
			out.WriteString(line)
			continue
		}
		to := "none"
		if s, ok := p.facts.byName(strings.Trim(value, `"'`)); ok && s.Type == "swap" && s.UUID != "" {
			to = "UUID=" + s.UUID
		}
		out.WriteString("RESUME=" + to + "\n")
	}
	return out.String()
}
