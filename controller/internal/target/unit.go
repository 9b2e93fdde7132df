package target

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"rehost/protocol"
)

// askUnit wants a unit of systemd that is active.
func (t Target) askUnit(ctx context.Context, c protocol.CheckSettings) error {
	r, err := t.run(ctx, Quote([]string{"systemctl", "is-active", "--", c.Unit}))
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(r.Output); r.Code != 0 || state != "active" {
		return fmt.Errorf("unit %s is %s", c.Unit, state)
	}
	return nil
}

// maxProcessName is how much of its name the kernel keeps of a process.
const maxProcessName = 15

// askProcess wants a process of a name. It asks the kernel, since by no means every server has pgrep.
func (t Target) askProcess(ctx context.Context, c protocol.CheckSettings) error {
	r, err := t.run(ctx, "cat /proc/[0-9]*/stat 2>/dev/null") // some have ended before they are read
	if err != nil {
		return err
	}
	want := c.Process[:min(len(c.Process), maxProcessName)]
	others, dead := 0, 0
	lines := bufio.NewScanner(strings.NewReader(r.Output))
	for lines.Scan() {
		name, state := processStat(lines.Text())
		switch {
		case name == want && state != "Z" && state != "X":
			return nil
		case name == want:
			dead++
		default:
			others++
		}
	}
	if dead > 0 {
		return fmt.Errorf("process %s has ended, and nobody has taken note of it (%d times)", c.Process, dead)
	}
	return fmt.Errorf("no process %s among %d", c.Process, others)
}

// processStat takes a line of /proc/PID/stat apart: the name is in brackets, and may have some itself.
func processStat(line string) (name, state string) {
	open, closed := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || closed < open {
		return "", ""
	}
	if rest := strings.Fields(line[closed+1:]); len(rest) > 0 {
		state = rest[0]
	}
	return line[open+1 : closed], state
}
