package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
)

// Formats of output.
const (
	formatText = "text"
	formatJSON = "json"
	formatCSV  = "csv"
)

// outputFlag adds -o to a command; a listing has CSV besides text and JSON.
func outputFlag(cmd *cobra.Command, to *string, more ...string) {
	formats := append([]string{formatText, formatJSON}, more...)
	cmd.Flags().StringVarP(to, "output", "o", formatText, "output `format`: "+strings.Join(formats[:len(formats)-1], ", ")+" or "+formats[len(formats)-1])
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("internal error: " + err.Error())
	}
	pre := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(formats, *to) {
			return usage(hint.New(fmt.Sprintf("unknown output format %q", *to), "use -o "+strings.Join(formats, " or -o ")))
		}
		if pre != nil {
			return pre(cmd, args)
		}
		return nil
	}
}

// writeJSON prints a value for programs.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// printer collects lines and writes them at once, so that a repaint does not flicker and one error is checked.
type printer struct{ b strings.Builder }

func (p *printer) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// folded prints words in lines of at most width columns, as far as single words allow; the lines after the first are indented by four more.
func (p *printer) folded(width int, indent string, words []string) {
	line := indent + words[0]
	for _, w := range words[1:] {
		if visible(line)+1+visible(w) > width {
			p.line("%s", line)
			line = indent + "    " + w
			continue
		}
		line += " " + w
	}
	p.line("%s", line)
}

func (p *printer) flush(w io.Writer) error {
	if _, err := io.WriteString(w, p.b.String()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	p.b.Reset()
	return nil
}

// table prints aligned columns. The columns wide are cut with a "~", one after the other, where the whole would not fit into width.
func (p *printer) table(width int, wide []int, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	columns := make([]int, len(rows[0]))
	total := 2 * (len(columns) - 1)
	for i := range columns {
		for _, row := range rows {
			columns[i] = max(columns[i], visible(row[i]))
		}
		total += columns[i]
	}
	for _, i := range wide {
		less := min(max(0, total-width), max(0, columns[i]-4))
		columns[i], total = columns[i]-less, total-less
	}
	for _, row := range rows {
		cells := slices.Clone(row)
		for _, i := range wide {
			cells[i] = cut(cells[i], columns[i])
		}
		for i := range cells {
			cells[i] += strings.Repeat(" ", max(0, columns[i]-visible(cells[i])))
		}
		p.line("%s", strings.Join(cells, "  "))
	}
}

// visible is how many columns a text takes, whatever its colour.
func visible(s string) int { return utf8.RuneCountInString(colors.ReplaceAllString(s, "")) }

// cut shortens a text to at most n columns and marks it.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "~"
}
