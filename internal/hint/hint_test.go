package hint

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestWrapKeepsTextAndIdentity(t *testing.T) {
	err := fmt.Errorf("open disk: %w", Wrap(io.EOF, "attach the disk"))
	if got, want := err.Error(), "open disk: EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the wrapped error lost its identity")
	}
	if got, want := Of(err), "attach the disk"; got != want {
		t.Errorf("got hint %q, want %q", got, want)
	}
}

func TestOfReturnsTheOutermostHint(t *testing.T) {
	err := Wrap(fmt.Errorf("a: %w", Wrap(io.EOF, "inner")), "outer")
	if got := Of(err); got != "outer" {
		t.Errorf("got %q, want outer", got)
	}
	if Of(io.EOF) != "" || Wrap(nil, "x") != nil {
		t.Error("an error without a hint has one, or nil became an error")
	}
}
