package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"rehost/internal/command"
)

// cleanup takes away what was made, the last first.
type cleanup struct{ steps []func() error }

func (c *cleanup) later(step func() error) { c.steps = append(c.steps, step) }

// clean runs every step once, also those after one that failed.
func (c *cleanup) clean() error {
	var errs []error
	for len(c.steps) > 0 {
		last := len(c.steps) - 1
		step := c.steps[last]
		c.steps = c.steps[:last]
		errs = append(errs, step())
	}
	return errors.Join(errs...)
}

func absolute(path *string) (err error) {
	*path, err = filepath.Abs(*path)
	return err
}

// detachLeftovers detaches the loop devices that a killed run left on files of ours.
func detachLeftovers(ctx context.Context, dir string) error {
	out, err := command.Run(ctx, "losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(strings.TrimSpace(file), dir+"/") {
			continue
		}
		say("detaching %s, which a run before left", name)
		if _, err := command.Run(ctx, "losetup", "--detach", name); err != nil {
			return fmt.Errorf("detach what a run before left: %w", err)
		}
	}
	return nil
}
