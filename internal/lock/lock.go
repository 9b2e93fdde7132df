// Package lock makes sure that one process at a time does what must not be done by two. The kernel releases a lock with
// its process, however that ends. It is for processes of one host only, and never removes the file: whoever waits for a
// file that is removed and made again waits for another lock.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

const retryEvery = 50 * time.Millisecond

// ErrHeld is wrapped by the error of whoever finds a lock taken.
var ErrHeld = errors.New("another process has it")

// File takes the lock of an open file, for as long as it is open, or returns an error that wraps [ErrHeld].
func File(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			err = ErrHeld
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil
	}
}

// Take makes the file at path if there is none and takes its lock. It waits, for patience at most, for a predecessor that
// is about to end.
func Take(ctx context.Context, path string, patience time.Duration) (release func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of a lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := File(f)
		if err == nil {
			return f.Close, nil
		}
		if errors.Is(err, ErrHeld) {
			select {
			case <-time.After(retryEvery):
				continue
			case <-ctx.Done():
			}
		}
		return nil, errors.Join(hint.Wrap(err, "stop the other process first; `fuser "+path+"` names it"), f.Close())
	}
}
