// Package program is what every main of ours does in the same way: how a signal ends
// the work, how an error is told, and which exit code it gives. It starts no work
// itself, and never exits the process.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"rehost/internal/hint"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// sameMoment is how long after a first signal others are taken for the same one: a hasty second Ctrl-C, or a
// supervisor that signals a process and then its group, must not cut the clean-up short.
const sameMoment = time.Second

// Context returns a context that ends with SIGINT or SIGTERM. A second signal kills, but not one of the same moment.
func Context() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(sameMoment, stop) })
	return ctx, stop
}

// Run does the work of a program until a signal comes, tells its error on stderr, and returns the exit code: 0 done,
// 1 failed, 2 wrong usage (see [Usage]).
func Run(stderr io.Writer, work func(ctx context.Context) error) int {
	ctx, stop := Context()
	defer stop()
	err := work(ctx)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = hint.New("interrupted", "run it again when it shall be done")
	}
	Report(stderr, err)
	if IsUsage(err) {
		return exitUsage
	}
	return exitFailure
}

// usageError is a wrong command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Usage marks an error as the caller's: a wrong command line.
func Usage(err error) error { return &usageError{err} }

// IsUsage says whether an error was marked by [Usage].
func IsUsage(err error) bool {
	_, ok := errors.AsType[*usageError](err)
	return ok
}

// explained is an error that has more to show than fits on its line, such as a place in a file.
type explained interface {
	error
	// Explain writes it all, and returns the line that stands for it.
	Explain(w io.Writer) (line string, err error)
}

// Report writes one line of error and, when the error has a next step, one line of hint.
func Report(w io.Writer, err error) {
	line, next := OneLine(err.Error()), hint.Of(err)
	if e, ok := errors.AsType[explained](err); ok {
		short, err := e.Explain(w)
		if err != nil {
			return // the terminal is gone: there is nobody to tell
		}
		line = short
	}
	text := "error: " + line + "\n"
	if next != "" {
		text += "hint: " + OneLine(next) + "\n"
	}
	_, _ = io.WriteString(w, text) // as above
}

// OneLine puts a text on one line: the lines of joined errors are separated by semicolons. Control characters, which would
// steer a terminal, separate words: some of what is told was written by a guest.
func OneLine(text string) string {
	var line strings.Builder
	for part := range strings.Lines(text) {
		part = strings.Join(strings.FieldsFunc(part, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
		switch {
		case part == "":
			continue
		case line.Len() == 0:
		case strings.HasSuffix(line.String(), ":"), strings.HasSuffix(line.String(), ";"):
			line.WriteByte(' ')
		default:
			line.WriteString("; ")
		}
		line.WriteString(part)
	}
	return line.String()
}

// TooMuch is the error for an argument that a command does not take.
func TooMuch(command, argument string) error {
	return Usage(hint.New(fmt.Sprintf("%s takes no argument, and %q is one", command, argument), "see "+command+" --help"))
}
