package convert

import (
	"path"
	"slices"
	"strings"
)

// blsEntry is a file of the Boot Loader Specification.
type blsEntry struct {
	file, id, title string
	kernel          string
	initrds         []string
	version         string // these three: what systemd-boot orders them by
	sortKey         string
	machine         string
}

// blsEntries returns the entries in /boot in the order in which GRUB's blscfg shows them: the newest version
// first, by the file's name read as NAME-VERSION-RELEASE.
func (f Facts) blsEntries() []blsEntry {
	var found []blsEntry
	for _, p := range f.below(entriesDir, ".conf") {
		if text, ok := f.text(p); ok && !strings.HasPrefix(path.Base(p), ".") {
			found = append(found, parseBLS(p, text))
		}
	}
	slices.SortStableFunc(found, func(a, b blsEntry) int { return compareIDs(b.id, a.id) })
	return found
}

func parseBLS(file, text string) blsEntry {
	e := blsEntry{file: file, id: strings.TrimSuffix(path.Base(file), ".conf")}
	for line := range strings.Lines(text) {
		key, value := cutBLS(line)
		switch key {
		case "title":
			e.title = value
		case "linux":
			e.kernel = value
		case "version":
			e.version = value
		case "sort-key":
			e.sortKey = value
		case "machine-id":
			e.machine = value
		case "initrd":
			e.initrds = append(e.initrds, strings.Fields(value)...)
		}
	}
	return e
}

// cutBLS splits a line into its key and its value; no key: a comment or an empty line.
func cutBLS(line string) (key, value string) {
	line = strings.TrimSpace(line)
	i := strings.IndexAny(line, " \t")
	if i < 0 || line[0] == '#' {
		return "", ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

func compareIDs(a, b string) int {
	x, y := splitID(a), splitID(b)
	for i := range x {
		if c := compareVersions(x[i], y[i]); c != 0 {
			return c
		}
	}
	return 0
}

// splitID returns name, version and release of an entry's id.
func splitID(id string) [3]string {
	var parts [3]string
	rest := id
	for n := 2; n > 0; n-- {
		i := strings.LastIndexByte(rest, '-')
		if i < 0 {
			break
		}
		parts[n], rest = rest[i+1:], rest[:i]
	}
	if parts[2] == "" || parts[1] == "" { // fewer parts: they count as version and release
		return [3]string{"", rest, parts[2]}
	}
	parts[0] = rest
	return parts
}

// bls plans the command lines of the entries in a folder. One that takes it from grubenv stays as it is.
func (p *planner) bls(reason, dir string) {
	for _, file := range p.facts.below(dir, ".conf") {
		text, ok := p.facts.text(file)
		if !ok {
			continue
		}
		version := ""
		for _, e := range p.facts.Boot.Entries {
			if e.File == file {
				version = e.Kernel
			}
		}
		p.write(file, p.blsText(text, version), 0o644, reason)
	}
}

func (p *planner) blsText(text, version string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		key, value := cutBLS(line)
		args := strings.Fields(value)
		if key != "options" || slices.Contains(args, "$kernelopts") {
			out.WriteString(line)
			continue
		}
		if now := p.commandLine(args, version); !slices.Equal(now, args) {
			line = "options " + strings.Join(now, " ") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
