package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Errors holds all problems of a set of files. Print it with [WriteDiagnostics].
type Errors struct {
	Diagnostics hcl.Diagnostics // sorted by file and byte
	files       map[string]*hcl.File
}

// Error is one line: the first problem, and how many there are.
func (e *Errors) Error() string {
	first := e.Diagnostics[0]
	text := first.Summary + ": " + strings.TrimSuffix(first.Detail, ".")
	if first.Subject != nil {
		text = fmt.Sprintf("%s:%d: %s", first.Subject.Filename, first.Subject.Start.Line, text)
	}
	if n := len(e.Diagnostics); n > 1 {
		return fmt.Sprintf("%s (and %d more)", text, n-1)
	}
	return text
}

// Explain writes every problem with its place, and returns the line that stands for them.
func (e *Errors) Explain(w io.Writer) (string, error) {
	_, err := WriteDiagnostics(w, e, 0, false)
	if len(e.Diagnostics) == 1 {
		return "1 problem in the configuration", err
	}
	return fmt.Sprintf("%d problems in the configuration", len(e.Diagnostics)), err
}

// WriteDiagnostics prints every problem that err carries, with its place, its text
// and what to write instead. width wraps the explanations; 0 does not wrap. It says
// false and prints nothing when err carries no diagnostics.
func WriteDiagnostics(w io.Writer, err error, width uint, color bool) (bool, error) {
	e, ok := errors.AsType[*Errors](err)
	if !ok {
		return false, nil
	}
	if err := hcl.NewDiagnosticTextWriter(w, e.files, width, color).WriteDiagnostics(e.Diagnostics); err != nil {
		return true, fmt.Errorf("write diagnostics: %w", err)
	}
	return true, nil
}

// asError returns the errors among diags, or nil. The decoder iterates over maps, so
// the order is made here.
func asError(diags hcl.Diagnostics, files map[string]*hcl.File) error {
	if !diags.HasErrors() {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(diags), func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
	slices.SortStableFunc(kept, func(a, b *hcl.Diagnostic) int {
		ra, rb := place(a), place(b)
		return cmp.Or(cmp.Compare(ra.Filename, rb.Filename), cmp.Compare(ra.Start.Byte, rb.Start.Byte),
			cmp.Compare(a.Summary, b.Summary), cmp.Compare(a.Detail, b.Detail))
	})
	kept = slices.CompactFunc(kept, func(a, b *hcl.Diagnostic) bool {
		return place(a) == place(b) && a.Summary == b.Summary && a.Detail == b.Detail
	})
	return &Errors{Diagnostics: kept, files: files}
}

func place(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

// problem makes one error that points at subject.
func problem(subject hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &subject}
}
