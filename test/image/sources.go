package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehost/internal/command"
)

// suites are the parts of the Debian archive that the server is installed from.
var suites = []string{"bookworm", "bookworm-updates", "bookworm-security"}

// aptSources returns files for mmdebstrap with this machine's own entries for the
// Debian archive, so that a local mirror is used where there is one. Other
// archives are left out. With none found the list is empty and mmdebstrap takes
// its default.
func (w work) aptSources() ([]string, error) {
	var lines, stanzas strings.Builder
	paths, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return nil, err
	}
	for _, path := range append([]string{"/etc/apt/sources.list"}, paths...) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch filepath.Ext(path) {
		case ".list":
			lines.WriteString(debianLines(string(data)))
		case ".sources":
			stanzas.WriteString(debianStanzas(string(data)))
		}
	}
	var files []string
	for name, text := range map[string]string{"debian.list": lines.String(), "debian.sources": stanzas.String()} {
		if text == "" {
			continue
		}
		path := filepath.Join(w.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	return files, nil
}

// debianLines returns the one-line entries for binary packages of Debian 12's main part.
func debianLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		entry := strings.TrimSpace(line)
		rest, isDeb := strings.CutPrefix(entry, "deb ")
		if !isDeb {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		fields := strings.Fields(rest) // URI, suite, components
		if len(fields) >= 3 && slices.Contains(suites, fields[1]) && slices.Contains(fields[2:], "main") {
			out.WriteString(entry + "\n")
		}
	}
	return out.String()
}

// debianStanzas returns the deb822 stanzas for binary packages of Debian 12's main part.
func debianStanzas(text string) string {
	var out strings.Builder
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string][]string{}
		for line := range strings.Lines(stanza) {
			if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				fields[strings.ToLower(name)] = strings.Fields(value)
			}
		}
		ours := slices.ContainsFunc(fields["suites"], func(s string) bool { return slices.Contains(suites, s) })
		disabled := slices.Contains(fields["enabled"], "no")
		if ours && !disabled && slices.Contains(fields["types"], "deb") && slices.Contains(fields["components"], "main") {
			out.WriteString(strings.TrimSpace(stanza) + "\n\n")
		}
	}
	return out.String()
}

// aptOptions returns this machine's apt settings for proxies and for checks of
// the archive's age, which mmdebstrap does not take over by itself.
func (w work) aptOptions(ctx context.Context) ([]string, error) {
	dump, err := command.Run(ctx, "apt-config", "dump")
	if err != nil {
		return nil, err
	}
	var keep []byte
	for line := range bytes.Lines(dump) {
		for _, prefix := range []string{"Acquire::http::", "Acquire::https::", "Acquire::Check-"} {
			if bytes.HasPrefix(line, []byte(prefix)) {
				keep = append(keep, line...)
			}
		}
	}
	if len(keep) == 0 {
		return nil, nil
	}
	path := filepath.Join(w.dir, "apt.conf")
	if err := os.WriteFile(path, keep, 0o644); err != nil {
		return nil, err
	}
	return []string{"--aptopt=" + path}, nil
}
