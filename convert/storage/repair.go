package storage

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"rehost/convert"
	"rehost/protocol"
)

// prepare gives a filesystem a device, its driver, and a check. It is not usable when it needs a
// person's decision; a finding says so.
func (g *Guest) prepare(ctx context.Context, p *part) (usable bool, err error) {
	if p.checked {
		return !p.broken, nil
	}
	p.checked = true
	if err := g.load(driver(p.Type)...); err != nil {
		return false, err
	}
	if err := g.block(ctx, p); err != nil {
		return false, err
	}
	for _, m := range g.parts {
		if p.Type == "btrfs" && m.Type == memberType && m.UUID == p.UUID {
			if err := g.block(ctx, m); err != nil {
				return false, err
			}
		}
	}
	if p.Type == "btrfs" {
		p.options = g.joined(p)
	}
	text, state := g.check(ctx, p)
	switch state {
	case clean:
		return true, nil
	case repaired:
		g.note(protocol.FindingRepaired, p.UUID, "check it on the source", "the filesystem with UUID %s (%s) was damaged and has been repaired on the clone: %s", p.UUID, p.Type, text)
		return true, nil
	case broken:
	}
	p.broken = true
	g.skip(protocol.FindingDamaged, p.UUID, "check it on the source in a maintenance window, then take a new point",
		"the filesystem with UUID %s (%s) needs a repair that only a person may decide: %s", p.UUID, p.Type, text)
	return false, nil
}

func driver(kind string) []string {
	switch kind {
	case "ext2", "ext3":
		return []string{"ext4"}
	case "vfat":
		return []string{"vfat", "nls_cp437", "nls_ascii"}
	}
	return []string{kind}
}

// state is how a check went.
type state int

const (
	clean state = iota
	repaired
	broken
)

// check looks at a filesystem and repairs it where its own tool asks nobody. ext is checked before it is
// mounted; the others are checked when they do not mount, since mounting replays their log.
func (g *Guest) check(ctx context.Context, p *part) (text string, s state) {
	if strings.HasPrefix(p.Type, "ext") {
		start := time.Now()
		out, code := g.exit(g.tool(ctx, nil, "e2fsck", "-p", p.device))
		g.opt.Progress(fmt.Sprintf("checked %s in %.1f s: %s", p.device, time.Since(start).Seconds(), lastLine(out)))
		switch code {
		case 0:
			return "", clean
		case 1, 2:
			return lastLine(out), repaired
		}
		return lastLine(out), broken
	}
	err := g.tryMount(p)
	if err == nil {
		return "", clean
	}
	var tool []string
	switch p.Type {
	case "xfs": // without -L: a log that cannot be replayed is a person's decision
		tool = []string{"xfs_repair", p.device}
	case "vfat":
		tool = []string{"fsck.fat", "-a", p.device}
	default:
		return err.Error(), broken
	}
	out, code := g.exit(g.tool(ctx, nil, tool[0], tool[1:]...))
	if code > 1 || g.tryMount(p) != nil {
		return fmt.Sprintf("%v; %s: %s", err, tool[0], lastLine(out)), broken
	}
	return tool[0] + ": " + lastLine(out), repaired
}

// tryMount mounts a filesystem read-only, which replays its log.
func (g *Guest) tryMount(p *part) error {
	return g.peek(p, p.options, func(*convert.Root) error { return nil })
}

// exit turns the outcome of a tool into its last words and exit code; one that did not run has -1 made 255.
func (g *Guest) exit(out []byte, err error) (text string, code int) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(out), 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		if len(out) == 0 {
			out = []byte(err.Error())
		}
		return string(out), exit.ExitCode()
	}
	return err.Error(), 255
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
