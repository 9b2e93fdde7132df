package mgn

import (
	"fmt"
	"io"
)

// Problem is what is wrong in one line of an inventory, and what to write.
type Problem struct {
	Line   int
	Column string // empty: the whole line
	Text   string
}

// Errors holds all problems of an inventory.
type Errors struct {
	Name     string // the file's
	Problems []Problem
}

// Error is one line: the first problem, and how many there are.
func (e *Errors) Error() string {
	text := e.line(e.Problems[0])
	if n := len(e.Problems); n > 1 {
		return fmt.Sprintf("%s (and %d more)", text, n-1)
	}
	return text
}

func (e *Errors) line(p Problem) string {
	if p.Column == "" {
		return fmt.Sprintf("%s:%d: %s", e.Name, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.Name, p.Line, p.Column, p.Text)
}

// Explain writes every problem on a line, and returns the line that stands for them.
func (e *Errors) Explain(w io.Writer) (string, error) {
	for _, p := range e.Problems {
		if _, err := fmt.Fprintln(w, e.line(p)); err != nil {
			return "", err
		}
	}
	if len(e.Problems) == 1 {
		return "1 problem in the inventory", nil
	}
	return fmt.Sprintf("%d problems in the inventory", len(e.Problems)), nil
}
