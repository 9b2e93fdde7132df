// Package hint attaches to an error what a person should do next. It changes
// neither the error's text nor its identity; printing is the caller's job.
package hint

import "errors"

// hinted is an error with a next step.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Wrap returns err with a hint: one imperative sentence that names a command, a
// setting or a file. It returns nil when err is nil. Attach the hint where the
// remedy is known, not at the top.
func Wrap(err error, text string) error {
	if err == nil {
		return nil
	}
	return &hinted{err: err, hint: text}
}

// New returns an error with a message and a hint.
func New(message, text string) error {
	return Wrap(errors.New(message), text)
}

// Of returns the outermost hint in err's chain, or "" when there is none.
func Of(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}
