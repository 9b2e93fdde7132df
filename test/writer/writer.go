// Package writer is the application on the source server: it keeps a ledger, one
// numbered and checksummed record after the other, each flushed before the next,
// and works with files beside it. Whoever has a copy of the ledger can prove which
// records it holds. The package writes below the given root only.
package writer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Where the writer works below the root.
const (
	// LedgerPath is the file of records; Apache serves it at /ledger/records.txt.
	LedgerPath = "var/www/html/ledger/records.txt"
	churnPath  = "srv/churn"
)

// Options says where and how fast the writer works.
type Options struct {
	Root            string // the server's root filesystem
	Rate            int    // records a second; 0: 20
	ChurnBytes      int64  // bytes a second written to other files; 0: 1.5 MiB; negative: none
	ChurnTotalBytes int64  // bound on the size of all those files; 0: 48 MiB
}

// Run writes until ctx ends and returns the number of the last record, which is on
// the disk by then. A ledger that is already there is continued; a torn last record,
// left by a writer that was killed, is cut off first.
func Run(ctx context.Context, o Options) (last int64, err error) {
	if o.Rate <= 0 {
		o.Rate = 20
	}
	l, err := openLedger(filepath.Join(o.Root, LedgerPath))
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	churned := make(chan error, 1)
	go func() {
		defer cancel() // without churn the load is not what was asked for
		churned <- churn(ctx, o)
	}()
	err = l.run(ctx, time.Second/time.Duration(o.Rate))
	cancel()
	return l.last, errors.Join(err, <-churned, l.file.Close())
}

// ledger is the open records file.
type ledger struct {
	file *os.File
	last int64 // number of the last record that was flushed
}

// openLedger opens or creates the file at path and finds its last record.
func openLedger(path string) (*ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create the ledger's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &ledger{file: f}
	if err := l.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("continue the ledger %s: %w", path, err), f.Close())
	}
	return l, nil
}

// recover reads the records that are there and cuts off a torn one.
func (l *ledger) recover() error {
	c := &counter{}
	last, _, err := Verify(io.TeeReader(bufio.NewReader(l.file), c), AllowTorn)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(c.whole); err != nil {
		return err
	}
	_, err = l.file.Seek(c.whole, io.SeekStart)
	l.last = last
	return err
}

// run appends one record every interval until ctx ends. The current record is
// always finished and flushed.
func (l *ledger) run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := l.file.WriteString(record(l.last + 1)); err != nil {
			return fmt.Errorf("append record %d: %w", l.last+1, err)
		}
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("flush record %d: %w", l.last+1, err)
		}
		l.last++
	}
}

// counter counts the bytes of whole lines that pass through it.
type counter struct {
	seen, whole int64
}

func (c *counter) Write(p []byte) (int, error) {
	for i, b := range p {
		if b == '\n' {
			c.whole = c.seen + int64(i) + 1
		}
	}
	c.seen += int64(len(p))
	return len(p), nil
}
