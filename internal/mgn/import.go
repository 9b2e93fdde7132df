package mgn

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Inventory is what a CSV file says.
type Inventory struct {
	Fleet protocol.Fleet // only what the file says: nothing has its defaults
	Notes []string       // what has no place in a configuration, each once
}

// importer collects the rows of a file.
type importer struct {
	fleet    protocol.Fleet
	problems []Problem
	notes    map[string]bool
	line     int
	first    map[string]string // account and region of the first row that tells them
	serverAt map[string]int    // line by name
	appAt    map[string]int    // index by name
	waveAt   map[string]int
	waveOf   map[string]string // an application's
	launches map[string]string // name of a launch block by what it says
}

// Import reads an inventory in UTF-8. name is the file's, for the errors. All that is wrong
// with the rows comes back as [*Errors].
func Import(name, text string) (Inventory, error) {
	i := &importer{
		notes: map[string]bool{}, first: map[string]string{}, serverAt: map[string]int{}, appAt: map[string]int{},
		waveAt: map[string]int{}, waveOf: map[string]string{}, launches: map[string]string{},
	}
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1 // told of by line below
	head, err := r.Read()
	if err != nil || !slices.ContainsFunc(head, func(c string) bool { return strings.HasPrefix(c, "mgn:") }) {
		return Inventory{}, hint.New(fmt.Sprintf("read inventory: %s does not begin with a line of mgn: columns", name),
			"export the inventory in MGN's console; its fields are separated by commas")
	}
	i.head(head)
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			i.problems = append(i.problems, Problem{Line: bad.Line, Text: bad.Err.Error() + "; put a field with quotes in it into quotes, and double those in it"})
			break
		}
		if err != nil {
			return Inventory{}, fmt.Errorf("read inventory %s: %w", name, err)
		}
		i.line, _ = r.FieldPos(0)
		if len(fields) != len(head) {
			i.fail("", "%d fields, and the first line has %d columns; put a field with a comma in it into quotes", len(fields), len(head))
			continue
		}
		i.row(values(head, fields))
	}
	if len(i.problems) > 0 {
		return Inventory{}, &Errors{Name: name, Problems: i.problems}
	}
	return Inventory{Fleet: i.fleet, Notes: slices.Sorted(maps.Keys(i.notes))}, nil
}

func values(head, fields []string) map[string]string {
	row := map[string]string{}
	for n, column := range head {
		if v := strings.TrimSpace(fields[n]); v != "" {
			row[column] = v
		}
	}
	return row
}

func (i *importer) fail(column, format string, args ...any) {
	i.problems = append(i.problems, Problem{Line: i.line, Column: column, Text: fmt.Sprintf(format, args...)})
}

func (i *importer) note(column, why string) { i.notes[column+": "+why] = true }

// head finds columns that are there twice.
func (i *importer) head(columns []string) {
	i.line = 1
	seen := map[string]bool{}
	for _, c := range columns {
		if seen[c] {
			i.fail(c, "the column is there twice; remove one")
		}
		seen[c] = true
	}
}

func (i *importer) row(row map[string]string) {
	for _, column := range []string{account, region} {
		if v := row[column]; v != "" && i.first[column] == "" {
			i.first[column] = v
		} else if v != "" && v != i.first[column] {
			i.fail(column, "%s, and %s before; a controller has one account and one region, so make a file for each", v, i.first[column])
		}
	}
	wave := i.wave(row)
	app := i.application(row, wave)
	i.server(row, app)
}

// named returns the name in a column in the form that names have here. ok is false when there is none.
func (i *importer) named(row map[string]string, column string) (name string, ok bool) {
	given := row[column]
	if given == "" {
		return "", false
	}
	name = plain(given)
	if protocol.CheckName(name) != nil {
		i.fail(column, "%q cannot be a name; it needs a letter or a digit, and at most 63 characters", given)
		return "", false
	}
	return name, true
}

// plain turns a text into a name that looks like it.
func plain(text string) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(text))
	return strings.Trim(name, "-")
}

func (i *importer) wave(row map[string]string) string {
	name, ok := i.named(row, waveName)
	if !ok {
		if row[waveText] != "" && row[waveName] == "" {
			i.fail(waveText, "a description without %s; write the wave's name", waveName)
		}
		return ""
	}
	if _, known := i.waveAt[name]; !known {
		i.waveAt[name] = len(i.fleet.Waves)
		i.fleet.Waves = append(i.fleet.Waves, protocol.WaveSettings{Name: name})
	}
	return name
}

func (i *importer) application(row map[string]string, wave string) string {
	name, ok := i.named(row, appName)
	if !ok {
		if row[appText] != "" && row[appName] == "" {
			i.fail(appText, "a description without %s; write the application's name", appName)
		}
		return ""
	}
	if _, known := i.appAt[name]; !known {
		i.appAt[name] = len(i.fleet.Applications)
		i.fleet.Applications = append(i.fleet.Applications, protocol.ApplicationSettings{Name: name})
	}
	switch other := i.waveOf[name]; {
	case wave == "" || other == wave:
	case other != "":
		i.fail(waveName, "application %q is in wave %q here, and in %q before; an application moves in one wave", name, wave, other)
	default:
		i.waveOf[name] = wave
		w := &i.fleet.Waves[i.waveAt[wave]]
		w.Applications = append(w.Applications, name)
	}
	return name
}

func (i *importer) server(row map[string]string, app string) {
	column := serverID
	if row[column] == "" {
		column = fqdn
	}
	name, ok := i.named(row, column)
	if !ok {
		if slices.ContainsFunc(slices.Collect(maps.Keys(row)), func(c string) bool {
			return strings.HasPrefix(c, "mgn:server:") || strings.HasPrefix(c, "mgn:launch:")
		}) && row[column] == "" {
			i.fail("", "a server without %s and %s; write one of them", serverID, fqdn)
		}
		return
	}
	if at, twice := i.serverAt[name]; twice {
		i.fail(column, "the server %q is in line %d already; remove or rename one of them", name, at)
		return
	}
	i.serverAt[name] = i.line
	if p := row[platform]; p != "" && !strings.EqualFold(p, "linux") {
		i.fail(platform, "%q is not moved, only Linux is; remove the line", p)
		return
	}
	i.fleet.Servers = append(i.fleet.Servers, protocol.ServerSettings{Name: name, Launch: i.launch(name, row)})
	if app != "" {
		a := &i.fleet.Applications[i.appAt[app]]
		a.Servers = append(a.Servers, name)
	}
}
