package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	Downtime  downtime          `json:"downtime"`
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

// downtime is that of the cutover, in seconds: from the fence to the end of the checks.
type downtime struct {
	Predicted    float64 `json:"predicted"` // when the cutover was started, from the times of the test
	Actual       float64 `json:"actual"`
	ErrorPercent float64 `json:"error_percent"`
	ToLaunch     float64 `json:"to_launch"`  // from the fence until the target's launch is asked for
	Conversion   float64 `json:"conversion"` // of that
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

// downtime takes the server's of a wave's report.
func (r *report) downtime(evidence protocol.Report) error {
	i := slices.IndexFunc(evidence.Downtimes, func(d protocol.ReportDowntime) bool { return d.Of == "server "+migration.Server })
	if i < 0 || len(evidence.Servers) != 1 || evidence.Downtimes[i].Error == nil {
		return fmt.Errorf("the report of the wave has no downtime of %s, predicted and actual: %+v", migration.Server, evidence.Downtimes)
	}
	steps := map[string]protocol.JobStep{}
	for _, s := range evidence.Servers[0].Steps {
		steps[s.Name] = s
	}
	d, fence, convert, launch := evidence.Downtimes[i], steps[protocol.JobStepFence], steps[protocol.JobStepConvert], steps[protocol.JobStepLaunch]
	r.Downtime = downtime{
		Predicted: d.Predicted.Seconds(), Actual: d.Actual.Seconds(), ErrorPercent: *d.Error,
		ToLaunch: launch.Started.Sub(fence.Started).Seconds(), Conversion: convert.Ended.Sub(convert.Started).Seconds(),
	}
	return nil
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
	printf(out, "  downtime  %.0f s, predicted were %.0f s (%+.0f %%); %.1f s from the fence to the launch, of which %.1f s the conversion\n",
		r.Downtime.Actual, r.Downtime.Predicted, r.Downtime.ErrorPercent, r.Downtime.ToLaunch, r.Downtime.Conversion)
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
