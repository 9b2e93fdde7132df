package convert

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Where systemd-boot has its settings and its entries, from the top of the EFI system partition. More entries are in
// /boot when that is a partition for them (XBOOTLDR), and images with all in one below EFI/Linux.
const (
	loaderConf    = "/loader/loader.conf"
	loaderEntries = "/loader/entries"
	unifiedImages = "/EFI/Linux"
)

// startsSystemd says whether firmware that remembers no loader starts systemd-boot, or will after the conversion.
func (f Facts) startsSystemd() bool {
	programs := f.Boot.ESP + "/EFI/systemd"
	if has := f.fallback(); has != "" {
		return bytes.Contains(f.Files[has].Data, []byte("LoaderInfo: systemd-boot"))
	}
	vendor, _ := f.loaderFolder()
	return f.loaderIn(programs, systemdLoader) != "" && (vendor == "" || vendor == programs)
}

// systemdLoader is systemd-boot's program.
const systemdLoader = "systemd-bootx64.efi"

// systemdEntry is an entry of systemd-boot, with what it is sorted by.
type systemdEntry struct {
	blsEntry
	top       string // where its filesystem is mounted
	unified   bool   // one image that has kernel, initramfs and command line
	exhausted bool   // no tries are left
}

// counter is what boot counting adds to an entry's name: tries left, and tries done.
var counter = regexp.MustCompile(`\+(\d+)(?:-\d+)?$`)

// systemdEntries returns the entries as systemd-boot orders them.
func (f Facts) systemdEntries() []systemdEntry {
	var found []systemdEntry
	add := func(e systemdEntry, name, suffix string) {
		e.id = strings.TrimSuffix(name, suffix)
		if m := counter.FindStringSubmatch(e.id); m != nil {
			left, err := strconv.Atoi(m[1])
			e.exhausted = err == nil && left == 0
			e.id = strings.TrimSuffix(e.id, m[0])
		}
		e.id += suffix
		found = append(found, e)
	}
	tops := []string{f.Boot.ESP}
	if f.Boot.ESP != "/boot" {
		tops = append(tops, "/boot")
	}
	for _, top := range tops {
		for _, file := range f.below(top+loaderEntries, ".conf") {
			if text, ok := f.text(file); ok {
				add(systemdEntry{blsEntry: parseBLS(file, text), top: top}, path.Base(file), ".conf")
			}
		}
		for _, file := range f.below(top+unifiedImages, ".efi") {
			add(systemdEntry{blsEntry: blsEntry{title: path.Base(file), kernel: strings.TrimPrefix(file, top)}, top: top, unified: true}, path.Base(file), ".efi")
		}
	}
	slices.SortStableFunc(found, compareSystemd)
	return found
}

// compareSystemd orders entries: those with tries left, those with a key by that, by machine and newest version, others by their id.
func compareSystemd(a, b systemdEntry) int {
	yes := func(x, y bool) int { // what is true comes first
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	order := []int{yes(!a.exhausted, !b.exhausted), yes(a.sortKey != "", b.sortKey != "")}
	if a.sortKey != "" && b.sortKey != "" {
		order = append(order, strings.Compare(a.sortKey, b.sortKey), strings.Compare(a.machine, b.machine), compareVersions(b.version, a.version))
	}
	for _, c := range append(order, compareVersions(b.id, a.id)) {
		if c != 0 {
			return c
		}
	}
	return 0
}

// inspectSystemd finds the entries of systemd-boot and which one it starts. What it remembers in the old firmware does not travel.
func (f *Facts) inspectSystemd(root *Root) {
	config, _ := f.text(f.Boot.Config)
	for line := range strings.Lines(config) {
		if key, value := cutBLS(line); key == "default" {
			f.Boot.Chosen = value
		}
	}
	first := -1
	for _, e := range f.systemdEntries() {
		if e.kernel == "" || len(f.Boot.Entries) >= maxEntries { // such as one that starts another program
			continue
		}
		b := f.bootEntry(root, e.top, menuEntry{path: []string{e.title}, ids: []string{e.id}, kernel: e.kernel, initrds: e.initrds, file: e.file})
		b.Unified = e.unified
		if b.Kernel == "" {
			b.Kernel = e.version
		}
		if first < 0 && !e.exhausted {
			first = len(f.Boot.Entries)
		}
		if fits, err := path.Match(strings.ToLower(f.Boot.Chosen), strings.ToLower(e.id)); err == nil && fits && f.Boot.Default < 0 {
			f.Boot.Default = len(f.Boot.Entries)
		}
		f.Boot.Entries = append(f.Boot.Entries, b)
	}
	if f.Boot.Default < 0 {
		f.Boot.Default = first
	}
}

// systemdBoot plans the settings of systemd-boot and the command lines of its entries.
func (p *planner) systemdBoot() error {
	if p.facts.Boot.Loader != LoaderSystemd {
		return nil
	}
	p.bls(bootReason, p.facts.Boot.ESP+loaderEntries)
	if p.facts.Boot.ESP != "/boot" {
		p.bls(bootReason, entriesDir)
	}
	p.kernelCmdline()
	text, _ := p.facts.text(p.facts.Boot.Config)
	p.write(p.facts.Boot.Config, p.loaderConf(text), 0o644, bootReason)
	return nil
}

// loaderConf returns a loader.conf without a long wait at the menu, and with the chosen entry as the default.
func (p *planner) loaderConf(text string) string {
	var out strings.Builder
	chosen := false
	for line := range strings.Lines(text) {
		key, value := cutBLS(line)
		n, err := strconv.Atoi(value)
		switch {
		case key == "timeout" && (value == "menu-force" || err == nil && n > 1):
			line = "timeout 1\n"
		case key == "default" && p.chosen != nil:
			line, chosen = "default "+p.chosen.ID+"\n", true
		}
		out.WriteString(line)
	}
	if now := out.String(); chosen || p.chosen == nil {
		return now
	}
	now := out.String()
	if now != "" && !strings.HasSuffix(now, "\n") {
		now += "\n"
	}
	return now + "default " + p.chosen.ID + "\n"
}
