package protocol

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func report(n int) *ConversionReport {
	r := &ConversionReport{Job: "job-1", OK: true, Changes: []Change{}}
	for i := range n {
		r.Changes = append(r.Changes, Change{Path: fmt.Sprintf("/etc/file-%d", i), Action: "edit", Before: fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i)}))})
	}
	return r
}

func TestAReportComesBackThroughANoisyConsole(t *testing.T) {
	want := report(60)
	lines, err := ConsoleReport(want)
	if err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	console.WriteString("[    0.0] Linux version\r\n")
	for i, line := range lines {
		fmt.Fprintf(&console, "[%8.3f] %s\r\n", float64(i), line)
		console.WriteString("[    9.9] e1000e: link is up\r\n")
	}
	got, ok, err := ParseConsole(console.String())
	if err != nil || !ok {
		t.Fatalf("got ok %v, %v", ok, err)
	}
	if diff := cmp.Diff(*want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAReportWithAMissingLineIsNoReport(t *testing.T) {
	lines, err := ConsoleReport(report(60))
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < 3 {
		t.Fatalf("got %d lines, want a report of several", len(lines))
	}
	for i := range lines {
		broken := strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "\n")
		if _, ok, _ := ParseConsole(broken); ok {
			t.Errorf("a report without line %d was taken", i+1)
		}
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"web-1": true, "a": true, "0": true, "": false, "-a": false, "a-": false, "A": false, "a.b": false, "a*": false, "a>": false,
		"a b": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "../x": false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("CheckName(%q) = %v, want good %v", name, err, good)
		}
	}
}
