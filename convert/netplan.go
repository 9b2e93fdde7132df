package convert

import (
	"regexp"
	"strings"
)

// netplanLine is a line of a netplan file: which ethernet it belongs to, and whether to the part that matches the card.
// The files are read by their lines, not as YAML: a file in another style than people and installers write is left alone.
type netplanLine struct {
	text     string
	ethernet int  // counted from 1; 0: none
	head     bool // it begins the ethernet
	match    bool
}

// netplanEthernet is one of the ethernets.
type netplanEthernet struct {
	id, name string // name: set by set-name
	match    bool   // the id is not the card's name
	gateway  bool
}

// parseNetplan reads a file; one that is not laid out by lines has no ethernets.
func parseNetplan(text string) (lines []netplanLine, ethernets []netplanEthernet) {
	section, child, match := -1, -1, -1 // indentations; -1: not in one
	deepest := 0                        // indentation that the next line may have
	for line := range strings.Lines(text) {
		body := strings.TrimLeft(line, " ")
		words := strings.TrimSpace(body)
		if words == "" || strings.HasPrefix(words, "#") {
			lines = append(lines, netplanLine{text: line})
			continue
		}
		indent := len(line) - len(body)
		if indent > deepest {
			return []netplanLine{{text: text}}, nil
		}
		deepest = indent
		if strings.HasSuffix(words, ":") || strings.HasPrefix(words, "- ") {
			deepest = len(line)
		}
		key, value, _ := strings.Cut(words, ":")
		if indent <= section {
			section = -1
		}
		if indent <= match {
			match = -1
		}
		l := netplanLine{text: line}
		switch {
		case section < 0:
			if words == "ethernets:" {
				section, child = indent, -1
			}
		case child < 0 || indent <= child:
			child = indent
			ethernets = append(ethernets, netplanEthernet{id: strings.Trim(key, `"'`)})
			l.ethernet, l.head = len(ethernets), true
		default:
			l.ethernet = len(ethernets)
		}
		if l.ethernet > 0 && !l.head {
			if key == "match" {
				match = indent
			}
			l.match = match >= 0
			ethernets[l.ethernet-1].take(key, value, l.match)
		}
		lines = append(lines, l)
	}
	return lines, ethernets
}

// take takes what a line says of an ethernet.
func (e *netplanEthernet) take(key, value string, match bool) {
	switch {
	case match:
		e.match = true
	case key == "set-name":
		e.name = strings.Trim(strings.TrimSpace(value), `"'`)
	case key == "gateway4", key == "- to" && (strings.Contains(value, "default") || strings.Contains(value, "0.0.0.0/0")):
		e.gateway = true
	}
}

// netplanCards returns the cards that a netplan file names.
func netplanCards(text string) []card {
	var found []card
	_, ethernets := parseNetplan(text)
	for _, e := range ethernets {
		switch {
		case e.name != "":
			found = append(found, card{e.name, e.gateway})
		case !e.match:
			found = append(found, card{e.id, e.gateway})
		}
	}
	return found
}

var netplanMAC = regexp.MustCompile(`macaddress:\s*["']?[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}["']?`)

// withoutNetplanMAC returns a netplan file that matches cards by name instead of by address, and sets no address of a card that is gone.
func withoutNetplanMAC(text string) string {
	var out strings.Builder
	lines, ethernets := parseNetplan(text)
	for _, l := range lines {
		if l.ethernet == 0 || !netplanMAC.MatchString(l.text) {
			out.WriteString(l.text)
			continue
		}
		if !l.match {
			if l.head || !strings.HasPrefix(strings.TrimSpace(l.text), "macaddress:") {
				out.WriteString(l.text)
			}
			continue
		}
		name := "e*"
		if set := ethernets[l.ethernet-1].name; cardName.MatchString(set) {
			name = set
		}
		out.WriteString(netplanMAC.ReplaceAllLiteralString(l.text, `name: "`+name+`"`))
	}
	return out.String()
}
