package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

var update = flag.Bool("update", false, "write the golden files anew")

// schema lists the paths of a value's JSON with their kinds, as its type says.
func schema(t reflect.Type, path string, inside []reflect.Type, out map[string]string) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		out[path] = "time"
	case t == reflect.TypeFor[json.RawMessage]():
		out[path] = "any"
	case t.Kind() == reflect.Pointer:
		schema(t.Elem(), path, inside, out)
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		schema(t.Elem(), path+"[]", inside, out)
	case t.Kind() == reflect.Map:
		schema(t.Elem(), path+".*", inside, out)
	case t.Kind() == reflect.Struct && !slices.Contains(inside, t):
		for f := range t.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported():
			case f.Anonymous && name == "":
				schema(f.Type, path, append(inside, t), out)
			default:
				at := strings.TrimPrefix(path+"."+name, ".")
				schema(f.Type, at, append(inside, t), out)
				if strings.Contains(options, "omit") && out[at] != "" {
					out[at] += ", may be absent"
				}
			}
		}
	default:
		out[path] = t.Kind().String()
	}
}

func schemaText(v any) string {
	found := map[string]string{}
	schema(reflect.TypeOf(v), "", nil, found)
	var lines []string
	for path, kind := range found {
		lines = append(lines, strings.TrimPrefix(path, ".")+": "+kind)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func heads[T any](t *testing.T, columns []column[T]) string {
	t.Helper()
	var b bytes.Buffer
	if err := writeCSV(&b, columns, nil); err != nil {
		t.Fatal(err)
	}
	return "CSV: " + b.String()
}

// What programs read changes only on purpose: -update writes the new one, for the eyes of who reads the commit.
func TestSchemasAreAsTheyWere(t *testing.T) {
	for name, text := range map[string]string{
		"status":    heads(t, serverColumns(Env{}, time.Time{})) + schemaText(protocol.Status{}),
		"wave":      heads(t, waveColumns()) + schemaText([]protocol.WaveStatus{}),
		"job":       heads(t, jobColumns()) + schemaText([]protocol.Job{}),
		"point":     heads(t, pointColumns()) + schemaText([]protocol.Point{}),
		"leftover":  heads(t, leftoverColumns()) + schemaText([]protocol.Leftover{}),
		"approval":  heads(t, approvalColumns()) + schemaText(protocol.Approvals{}),
		"preflight": heads(t, preflightColumns()) + schemaText([]protocol.Preflight{}),
		"report":    schemaText(protocol.Report{}),
		"event":     schemaText(protocol.Event{}) + schemaText(protocol.Transition{}) + schemaText(protocol.JobEventData{}),
		"plan":      schemaText(protocol.Plan{}),
		"planfile":  schemaText(planFile{}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "schema", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("(-want +got; -update writes it)\n%s", diff)
			}
		})
	}
}

// rows are n long-named things.
func rows[T any](n int, item T) []T { return slices.Repeat([]T{item}, n) }

func TestTablesFit80Columns(t *testing.T) {
	env := Env{Width: 80}
	long := strings.Repeat("a-rather-long-name-", 4)[:63]
	at := time.Now().Add(-50 * time.Hour)
	status := protocol.ServerStatus{Record: protocol.Server{Name: long, Lifecycle: protocol.ReadyForCutover, Since: at}, Replication: protocol.ReplicationSnapshot}
	for name, print := range map[string]func(*printer){
		"status": func(p *printer) { tabulate(p, env, serverColumns(env, time.Now()), rows(2, status)) },
		"wave": func(p *printer) {
			tabulate(p, env, waveColumns(), rows(2, protocol.WaveStatus{Name: "a-wave", Counts: map[protocol.Lifecycle]int{protocol.NotReady: 1000, protocol.ReadyForTest: 1000, protocol.Testing: 10, protocol.Cutover: 100}}))
		},
		"job": func(p *printer) {
			job := protocol.Job{ID: "terminate-20260301-120000-0a1b2c", Status: protocol.JobCompleted, Created: at, Ended: time.Now()}
			job.Of.Wave = long
			tabulate(p, env, jobColumns(), rows(2, job))
		},
		"point": func(p *printer) {
			tabulate(p, env, pointColumns(), rows(2, protocol.Point{ID: "p20260301-120000-0a1b2c", State: protocol.PointSnapshotting, Grade: protocol.GradeFilesystem, Group: long, Taken: at, Frozen: time.Minute}))
		},
		"leftover": func(p *printer) {
			tabulate(p, env, leftoverColumns(), rows(2, protocol.Leftover{Kind: protocol.LeftoverSnapshot, ID: "snap-0123456789abcdef0", Role: "point-snapshot", Server: long, Created: at}))
		},
		"preflight": func(p *printer) {
			tabulate(p, env, preflightColumns(), rows(2, protocol.Preflight{Server: long, Surveyed: at, Pending: true}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p printer
			print(&p)
			if n := strings.Count(p.b.String(), "\n"); n != 3 {
				t.Errorf("%d lines, want 3", n)
			}
			for line := range strings.Lines(p.b.String()) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestColoursDoNotMoveColumns(t *testing.T) {
	var plain, colored printer
	items := []protocol.ServerStatus{{Record: protocol.Server{Name: "web-1", Problem: &protocol.Problem{}}}, {Record: protocol.Server{Name: "web-2"}, LastSeen: time.Unix(1, 0)}}
	for p, env := range map[*printer]Env{&plain: {Width: 80}, &colored: {Width: 80, Color: true}} {
		tabulate(p, env, serverColumns(env, time.Unix(2, 0)), items)
	}
	if !strings.Contains(colored.b.String(), "\x1b[31mproblem\x1b[0m") {
		t.Errorf("no colour: %q", colored.b.String())
	}
	if diff := cmp.Diff(plain.b.String(), colors.ReplaceAllString(colored.b.String(), "")); diff != "" {
		t.Error(diff)
	}
}

// Colours are for a terminal, and not when somebody says no to them.
func TestWhenThereAreColours(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		vars     map[string]string
		want     bool
	}{
		{true, nil, true}, {false, nil, false}, {true, map[string]string{"NO_COLOR": "1"}, false}, {true, map[string]string{"TERM": "dumb"}, false},
	} {
		env := Env{Terminal: c.terminal, Getenv: func(name string) string { return c.vars[name] }}
		if got := env.colored(); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestCSVIsQuoted(t *testing.T) {
	env, out, _ := testEnv("", "")
	points := []protocol.Point{{ID: "p-1", State: protocol.PointLost, Problem: &protocol.Problem{Message: `too "slow", really`}, Frozen: 52 * time.Millisecond}}
	if err := listing(env, formatCSV, points, pointColumns(), points, nil); err != nil {
		t.Fatal(err)
	}
	want := "point,state,origin,application,grade,age,taken,frozen,fenced,pin,problem\n" + `p-1,failed,,,,-,,0.052,no,no,"too ""slow"", really"` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
