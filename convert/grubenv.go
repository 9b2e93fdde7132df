package convert

import (
	"strings"
)

// GRUB's environment block is a text of names and values, filled up with # to a multiple of its size, because GRUB
// writes into its sectors and cannot make a file longer.
const (
	envBlock = 1024
	envHead  = "# GRUB Environment Block\n"
)

func parseGrubEnv(text string) map[string]string {
	env := map[string]string{}
	for line := range envLines(text) {
		if name, value, ok := strings.Cut(line, "="); ok {
			env[name] = unescapeEnv(value)
		}
	}
	return env
}

// envLines yields the lines of a block; a backslash keeps a line end in a value.
func envLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '\n':
				if line := text[start:i]; line != "" && line[0] != '#' && !yield(line) {
					return
				}
				start = i + 1
			}
		}
	}
}

// envComments returns the lines before the first value.
func envComments(text string) string {
	end := 0
	for line := range strings.Lines(text) {
		if line[0] != '#' || !strings.HasSuffix(line, "\n") {
			break
		}
		end += len(line)
	}
	if !strings.HasPrefix(text[:end], envHead) {
		return envHead
	}
	return text[:end]
}

func unescapeEnv(v string) string {
	var out strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		out.WriteByte(v[i])
	}
	return out.String()
}

var escapeEnv = strings.NewReplacer(`\`, `\\`, "\n", "\\\n")

// setGrubEnv returns a block with other values; an empty one takes a name out. What is not named stays.
func setGrubEnv(text string, values map[string]string) string {
	current := parseGrubEnv(text)
	changed := false
	for name, v := range values {
		changed = changed || current[name] != v
	}
	if !changed {
		return text
	}
	var out strings.Builder
	out.WriteString(envComments(text))
	done := map[string]bool{}
	for line := range envLines(text) {
		name, _, ok := strings.Cut(line, "=")
		v, set := values[name]
		switch {
		case !ok || done[name]:
			continue
		case !set: // also when it is there twice: for GRUB the last one counts
			out.WriteString(line + "\n")
			continue
		case v != "":
			out.WriteString(name + "=" + escapeEnv.Replace(v) + "\n")
		}
		done[name] = true
	}
	for _, name := range sortedKeys(values) {
		if v := values[name]; !done[name] && v != "" {
			out.WriteString(name + "=" + escapeEnv.Replace(v) + "\n")
		}
	}
	size := (out.Len() + envBlock - 1) / envBlock * envBlock
	out.WriteString(strings.Repeat("#", max(size, len(text)/envBlock*envBlock)-out.Len()))
	return out.String()
}
