package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"rehost/protocol"
	"rehost/test/migration"
)

// report is what the demo leaves in build/demo/report.json.
type report struct {
	Result    string            `json:"result"` // PASS or FAIL
	Steps     []reportStep      `json:"steps"`
	Bytes     reportBytes       `json:"bytes"`
	FreezeMS  int64             `json:"freeze_ms"` // longest of the points used
	LagMS     int64             `json:"lag_ms"`    // after the initial sync, with the source being written to
	Hash      migration.Hashes  `json:"hash"`
	Target    migration.Target  `json:"target"` // of the cutover
	Changes   []protocol.Change `json:"changes"`
	Leftovers []string          `json:"leftovers"`
}

type reportStep struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Result  string    `json:"result"`
}

// reportBytes counts the initial sync: read from the source's disk, sent to the bus, written to the volumes.
type reportBytes struct {
	Read   int64 `json:"read"`
	Sent   int64 `json:"sent"`
	Stored int64 `json:"stored"`
}

func newReport() *report {
	return &report{Result: "FAIL", Steps: []reportStep{}, Changes: []protocol.Change{}, Leftovers: []string{}}
}

func (r *report) step(name string, began time.Time, result string) {
	r.Steps = append(r.Steps, reportStep{Name: name, Started: began, Seconds: time.Since(began).Seconds(), Result: result})
}

func (r *report) transfer(s protocol.ServerStatus) {
	if s.Agent != nil {
		r.Bytes.Read, r.Bytes.Sent, r.LagMS = s.Agent.Read, s.Agent.Sent, s.Agent.Lag.Milliseconds()
	}
	if s.Replica != nil {
		r.Bytes.Stored = s.Replica.Written
	}
}

func (r *report) job(j protocol.Job, p protocol.Point) {
	r.FreezeMS = max(r.FreezeMS, p.Frozen.Milliseconds())
	for _, s := range j.Servers {
		r.Changes = s.Changes
	}
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func (r *report) summary(out io.Writer, took time.Duration) {
	mib := func(n int64) int64 { return n >> 20 }
	printf(out, "\nPASS in %s\n", took.Round(time.Second))
	printf(out, "  bytes     %d MiB read, %d MiB sent, %d MiB stored\n", mib(r.Bytes.Read), mib(r.Bytes.Sent), mib(r.Bytes.Stored))
	printf(out, "  freeze    %d ms, lag %d ms\n", r.FreezeMS, r.LagMS)
	printf(out, "  hash      source and snapshot are equal\n")
	printf(out, "  target    root on %s, data on %s, HTTP %d, %d of %d records\n",
		r.Target.RootDevice, r.Target.DataDevice, r.Target.HTTPStatus, r.Target.RecordsFound, r.Target.RecordsExpected)
	printf(out, "  changes   %d by the conversion\n", len(r.Changes))
	printf(out, "  leftovers none\n  report    %s\n", reportFile)
}

// commandOutput is where the commands' own output goes: a terminal gets it as it is, so that
// progress bars repaint; anything else gets it indented below the steps.
func commandOutput(out io.Writer) io.Writer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return &indented{to: out}
}

// indented shows the output of the commands below the steps.
type indented struct {
	to     io.Writer
	inLine bool
}

func (w *indented) Write(p []byte) (int, error) {
	for part := range strings.Lines(string(p)) {
		if !w.inLine {
			part = "       | " + part
		}
		w.inLine = !strings.HasSuffix(part, "\n")
		part = strings.ReplaceAll(part, "\r", "\r       | ")
		if _, err := io.WriteString(w.to, part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
