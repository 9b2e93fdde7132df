package offline

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"rehost/convert/machine"
)

// maxConsole bounds what is kept of a console: the rest of a talkative one is of no use.
const maxConsole = 16 << 20

// follower reads a console while it is written.
type follower struct {
	spoke atomic.Bool // the machine's first process has started
	done  chan struct{}
	text  strings.Builder
	lines func(string)
	told  bool // the outcome has begun: from there on the report says more
	rest  string
}

// follow tells the lines of the machine's first process, until ctx ends and what is left is read.
func follow(ctx context.Context, path string, lines func(string)) *follower {
	f := &follower{done: make(chan struct{}), lines: lines}
	go func() {
		defer close(f.done)
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			f.read(path)
			select {
			case <-ctx.Done():
				f.read(path)
				return
			case <-tick.C:
			}
		}
	}()
	return f
}

// wait returns the whole text once the follower has ended.
func (f *follower) wait() string {
	<-f.done
	return f.text.String()
}

func (f *follower) read(path string) {
	file, err := os.Open(path)
	if err != nil {
		return // not there yet
	}
	defer func() { _ = file.Close() }()
	buffer := make([]byte, 64<<10)
	for f.text.Len() < maxConsole {
		n, err := file.ReadAt(buffer, int64(f.text.Len()))
		f.text.Write(buffer[:n])
		f.tell(string(buffer[:n]))
		if err != nil || n == 0 {
			return
		}
	}
}

// tell passes on whole lines.
func (f *follower) tell(text string) {
	f.rest += text
	for {
		line, rest, ok := strings.Cut(f.rest, "\n")
		if !ok {
			return
		}
		f.rest = rest
		_, said, ok := strings.Cut(line, machine.Prefix)
		if !ok {
			continue
		}
		f.spoke.Store(true)
		said = strings.TrimSpace(said)
		f.told = f.told || strings.HasSuffix(said, machine.Outcome)
		if !f.told {
			f.lines(said)
		}
	}
}
