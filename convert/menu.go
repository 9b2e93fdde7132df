package convert

import (
	"slices"
	"strings"
)

// menuEntry is an entry of GRUB's menu.
type menuEntry struct {
	index   []int // position in the menu and the submenus, the outermost first
	path    []string
	ids     []string
	kernel  string
	initrds []string
	file    string // of a BLS entry
}

// isLinux says whether a word of grub.cfg is the command that loads a kernel.
func isLinux(word string) bool { return word == "linux" || word == "linux16" || word == "linuxefi" }

// isInitrd says whether a word of grub.cfg is the command that loads an initramfs.
func isInitrd(word string) bool {
	return word == "initrd" || word == "initrd16" || word == "initrdefi"
}

// menu returns the entries of a grub.cfg and the value that its header gives to
// "default". It understands what grub-mkconfig writes, not all of GRUB's language. The entries
// of bls are where the configuration has the command blscfg.
func menu(config string, bls []blsEntry) (entries []menuEntry, chosen string) {
	m := menuReader{levels: []menuLevel{{}}, bls: bls}
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
	bls     []blsEntry  // not in the menu yet
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
	case len(words) > 1 && isInitrd(first) && m.current != nil:
		m.current.initrds = append(m.current.initrds, words[1:]...)
	case first == "}" && len(m.levels) > 1:
		m.levels = m.levels[:len(m.levels)-1]
		if m.current != nil {
			m.entries = append(m.entries, *m.current)
			m.current = nil
		}
	case first == "blscfg" && len(m.levels) == 1:
		m.addBLS()
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

func (m *menuReader) addBLS() {
	top := &m.levels[0]
	for _, b := range m.bls {
		m.entries = append(m.entries, menuEntry{
			index: []int{top.next}, path: []string{b.title}, ids: []string{b.id}, kernel: b.kernel, initrds: b.initrds, file: b.file,
		})
		top.next++
	}
	m.bls = nil
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
