package convert

import (
	"slices"
	"strconv"
	"strings"
)

// consoleArgs are on each kernel's command line: both consoles, the serial one
// last because it then is /dev/console, and the timeout that AWS asks for, since
// EBS may make a request wait longer than any local disk.
var consoleArgs = []string{"console=tty0", "console=ttyS0,115200n8", "nvme_core.io_timeout=4294967295"}

// nameArgs keep the kernel's name for the network card, because nobody knows its slot in advance.
var nameArgs = []string{"net.ifnames=0", "biosdevname=0"}

// dropped are arguments that hide what the console should show.
var dropped = []string{"quiet", "splash", "rhgb"}

// menuEntry is an entry of GRUB's menu.
type menuEntry struct {
	index  []int // position in the menu and the submenus, the outermost first
	path   []string
	ids    []string
	kernel string
}

func (f Facts) grubConfig() (path, text string, ok bool) {
	for _, path := range []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"} {
		if text, ok := f.text(path); ok {
			return path, text, true
		}
	}
	return "", "", false
}

func (f Facts) grubEnv() map[string]string {
	env := map[string]string{}
	for _, path := range []string{"/boot/grub/grubenv", "/boot/grub2/grubenv"} {
		text, _ := f.text(path)
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
				env[name] = value
			}
		}
	}
	return env
}

// isLinux says whether a word of grub.cfg is the command that loads a kernel.
func isLinux(word string) bool { return word == "linux" || word == "linux16" || word == "linuxefi" }

// menu returns the entries of a grub.cfg and the value that its header gives to
// "default". It understands what grub-mkconfig writes, not all of GRUB's language.
func menu(config string) (entries []menuEntry, chosen string) {
	m := menuReader{levels: []menuLevel{{}}}
	for line := range strings.Lines(config) {
		if words := grubWords(line); len(words) > 0 {
			m.line(words)
		}
	}
	return m.entries, m.chosen
}

// menuReader reads a grub.cfg line by line.
type menuReader struct {
	entries []menuEntry
	chosen  string
	levels  []menuLevel // the outermost first
	current *menuEntry  // being read
}

// menuLevel is the menu, a submenu or an entry.
type menuLevel struct {
	title, id string
	index     int // in the level above
	next      int // index of the next entry in it
}

// maxLevels bounds the nesting of submenus.
const maxLevels = 16

func (m *menuReader) line(words []string) {
	first := words[0]
	switch {
	case len(words) > 1 && first == "submenu" && m.current == nil && len(m.levels) < maxLevels:
		m.open(words)
	case len(words) > 1 && first == "menuentry" && m.current == nil && len(m.levels) < maxLevels:
		m.open(words)
		m.current = &menuEntry{}
		for _, l := range m.levels[1:] {
			m.current.index = append(m.current.index, l.index)
			m.current.path = append(m.current.path, l.title)
			m.current.ids = append(m.current.ids, l.id)
		}
	case len(words) > 1 && isLinux(first) && m.current != nil && m.current.kernel == "":
		m.current.kernel = words[1]
	case first == "}" && len(m.levels) > 1:
		m.levels = m.levels[:len(m.levels)-1]
		if m.current != nil {
			m.entries = append(m.entries, *m.current)
			m.current = nil
		}
	case len(words) > 1 && first == "set" && m.current == nil:
		if v, ok := strings.CutPrefix(words[1], "default="); ok && v != "${next_entry}" {
			m.chosen = v
		}
	}
}

func (m *menuReader) open(words []string) {
	above := &m.levels[len(m.levels)-1]
	m.levels = append(m.levels, menuLevel{
		title: words[1], id: optionValue(words, "$menuentry_id_option", "--id"), index: above.next,
	})
	m.levels[len(m.levels)-2].next++
}

// defaultEntry returns the entry that boots when nobody touches a key.
func defaultEntry(config string, env map[string]string) (menuEntry, bool) {
	entries, chosen := menu(config)
	if chosen == "${saved_entry}" {
		chosen = env["saved_entry"]
	}
	if env["next_entry"] != "" && strings.Contains(config, "next_entry") {
		chosen = env["next_entry"]
	}
	if chosen == "" {
		chosen = "0"
	}
	want := strings.Split(chosen, ">")
	for _, e := range entries {
		if e.kernel != "" && e.is(want) {
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

// grubWords splits a line into words; quotes group and vanish.
func grubWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, started := rune(0), false
	for _, c := range strings.TrimSpace(line) {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, started = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		case quote == 0 && c == '#' && !started:
			return words
		default:
			word.WriteRune(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words
}

func optionValue(words []string, names ...string) string {
	for i, w := range words[:len(words)-1] {
		if slices.Contains(names, w) {
			return words[i+1]
		}
	}
	return ""
}

// commandLine returns kernel arguments as EC2 needs them.
func (p *planner) commandLine(args []string) []string {
	add := slices.Clone(consoleArgs)
	if p.set.Network == "dhcp" {
		add = append(add, nameArgs...)
	}
	var out []string
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		if slices.Contains(dropped, a) || name == "console" || slices.Contains(add, a) || name == "nvme_core.io_timeout" ||
			(p.set.Network == "dhcp" && (name == "net.ifnames" || name == "biosdevname")) {
			continue
		}
		if name == "root" || name == "resume" {
			s, ok := p.facts.byName(value)
			switch {
			case ok && s.UUID != "":
				a = name + "=UUID=" + s.UUID
			case name == "root" && oldName.MatchString(value) && p.facts.Guest.RootUUID != "":
				a = "root=UUID=" + p.facts.Guest.RootUUID
			case name == "resume" && !p.isThere(value):
				continue
			}
		}
		out = append(out, a)
	}
	return append(out, add...)
}

func (p *planner) isThere(spec string) bool {
	_, found, known := p.facts.bySpec(spec)
	return found || !known
}

// grub plans GRUB's configuration: the one in use, and the one that later updates are made from.
func (p *planner) grub() error {
	const reason = "boot on EC2: serial console, NVMe timeout, root by UUID, names of network cards, no long wait at the menu"
	if path, text, ok := p.facts.grubConfig(); ok {
		p.write(path, p.grubCfg(text), 0o600, reason)
	}
	if text, ok := p.facts.text("/etc/default/grub"); ok {
		p.write("/etc/default/grub", p.grubDefault(text), 0o644, "later updates of GRUB's configuration keep these settings")
	}
	for _, path := range []string{"/boot/grub/device.map", "/boot/grub2/device.map"} {
		p.remove(path, "it names disks of the old hypervisor")
	}
	return nil
}

// serialMark is in the line that makes GRUB itself use the serial port.
const serialMark = "# rehost: the menu on the serial console too"

func (p *planner) grubCfg(text string) string {
	var out strings.Builder
	marked := strings.Contains(text, serialMark)
	serial := p.facts.hasFile("/boot/grub/i386-pc/serial.mod") || p.facts.hasFile("/boot/grub2/i386-pc/serial.mod")
	for line := range strings.Lines(text) {
		body := strings.TrimSuffix(line, "\n")
		indent := body[:len(body)-len(strings.TrimLeft(body, " \t"))]
		words := strings.Fields(body)
		switch {
		case len(words) > 1 && isLinux(words[0]):
			args := p.commandLine(words[2:])
			out.WriteString(indent + words[0] + "\t" + words[1] + " " + strings.Join(args, " ") + "\n")
		case len(words) == 2 && words[0] == "set" && isLongTimeout(words[1]):
			out.WriteString(indent + "set timeout=1\n")
		case len(words) == 2 && words[0] == "terminal_output" && words[1] == "gfxterm":
			out.WriteString(indent + "terminal_output console\n")
		case strings.HasPrefix(body, "### END /etc/grub.d/00_header") && serial && !marked:
			out.WriteString(serialMark + "\nif serial --unit=0 --speed=115200; then\n  terminal_input --append serial\n" +
				"  terminal_output --append serial\nfi\n" + line)
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

func isLongTimeout(assignment string) bool {
	v, ok := strings.CutPrefix(assignment, "timeout=")
	n, err := strconv.Atoi(v)
	return ok && err == nil && (n > 1 || n < 0)
}

func (p *planner) grubDefault(text string) string {
	set := map[string]string{
		"GRUB_TIMEOUT":        "1",
		"GRUB_TERMINAL":       `"console serial"`,
		"GRUB_SERIAL_COMMAND": `"serial --unit=0 --speed=115200"`,
	}
	var out strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			out.WriteString(line)
			continue
		}
		switch name {
		case "GRUB_CMDLINE_LINUX_DEFAULT":
			// All arguments that we add go to GRUB_CMDLINE_LINUX, which recovery entries use too.
			var keep []string
			for a := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
				key, _, _ := strings.Cut(a, "=")
				if !slices.Contains(dropped, a) && key != "console" {
					keep = append(keep, a)
				}
			}
			line = name + `="` + strings.Join(keep, " ") + "\"\n"
		case "GRUB_CMDLINE_LINUX":
			line = name + `="` + strings.Join(p.commandLine(strings.Fields(strings.Trim(value, `"'`))), " ") + "\"\n"
		default:
			if v, ok := set[name]; ok {
				line = name + "=" + v + "\n"
			}
		}
		seen[name] = true
		out.WriteString(line)
	}
	result := out.String()
	if result != "" && !strings.HasSuffix(result, "\n") {
		result += "\n"
	}
	if !seen["GRUB_CMDLINE_LINUX"] {
		result += `GRUB_CMDLINE_LINUX="` + strings.Join(p.commandLine(nil), " ") + "\"\n"
	}
	for _, name := range sortedKeys(set) {
		if !seen[name] {
			result += name + "=" + set[name] + "\n"
		}
	}
	return result
}
