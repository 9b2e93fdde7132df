package cli

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"
)

// column is one column of a listing: what people see of an item, and what programs read.
type column[T any] struct {
	head string         // of the table; in lower case, of the CSV
	text func(T) string // nil: only programs read it
	raw  func(T) string // nil: as text
	wide bool           // it is cut where the table would not fit; the first such column first
}

// listing prints items in the chosen format: value as JSON, the columns as CSV, or the page for people.
func listing[T any](env Env, output string, value any, columns []column[T], items []T, page func(*printer)) error {
	switch output {
	case formatJSON:
		return writeJSON(env.Stdout, value)
	case formatCSV:
		return writeCSV(env.Stdout, columns, items)
	}
	var p printer
	page(&p)
	return p.flush(env.Stdout)
}

// tabulate prints the columns of items for people, as wide as the terminal at most (80 columns in a log).
func tabulate[T any](p *printer, env Env, columns []column[T], items []T) {
	rows, wide := make([][]string, len(items)+1), []int{}
	for _, c := range columns {
		if c.text == nil {
			continue
		}
		if c.wide {
			wide = append(wide, len(rows[0]))
		}
		rows[0] = append(rows[0], c.head)
		for i, item := range items {
			rows[i+1] = append(rows[i+1], c.text(item))
		}
	}
	p.table(env.Width, wide, rows)
}

// writeCSV prints a line of names, and one for each item.
func writeCSV[T any](w io.Writer, columns []column[T], items []T) error {
	out := csv.NewWriter(w)
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = strings.ReplaceAll(strings.ToLower(c.head), " ", "_")
	}
	err := out.Write(row)
	for _, item := range items {
		for i, c := range columns {
			read := c.raw
			if read == nil {
				read = c.text
			}
			row[i] = read(item)
		}
		if err == nil {
			err = out.Write(row)
		}
	}
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// instant is a time for programs; empty when it is none.
func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// seconds is a duration for programs.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
