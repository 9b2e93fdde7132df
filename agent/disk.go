package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"rehost/agent/internal/space"
	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

// checkTracked says whether the disks are still those that are tracked: one that went away, was swapped for another one
// under the same number, or changed its size is not what the replica is of.
func checkTracked(disks []track.Disk, identities []string) error {
	var errs []error
	for i, d := range disks {
		if err := checkOne(d, identities[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// freeSpace asks for what no filesystem on the disks uses.
func freeSpace(ctx context.Context, disks []string, log hclog.Logger) ([][]Range, error) {
	var all [][]Range
	for _, disk := range disks {
		free, findings, err := space.Free(ctx, disk)
		if err != nil {
			return nil, err
		}
		for _, f := range findings {
			log.Info("free space is read, too", "disk", disk, "reason", f.Message)
		}
		ranges := make([]Range, 0, len(free))
		for _, r := range free {
			ranges = append(ranges, Range(r))
		}
		all = append(all, ranges)
	}
	return all, nil
}

func checkOne(d track.Disk, id string) error {
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(d.Major, d.Minor), "size"))
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(fmt.Sprintf("disk %s is gone", d.Path), "attach it again, or take it out of disks in agent.hcl and restart the agent")
	}
	if err != nil {
		return fmt.Errorf("look at disk %s: %w", d.Path, err)
	}
	const sysSector = 512 // whatever the disk's own sectors are
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return fmt.Errorf("look at the size of disk %s: %w", d.Path, err)
	}
	if now := sectors * sysSector; now != d.SizeBytes {
		return hint.New(fmt.Sprintf("disk %s has %d bytes now, and %d when its replication began", d.Path, now, d.SizeBytes),
			"remove the server from the fleet and add it again: its volumes need the new size; replication of the rest goes on meanwhile, points do not")
	}
	if identity(d) != id {
		return hint.New(fmt.Sprintf("another disk has become %s", d.Path), "restart the agent: everything is compared with the replica then")
	}
	return nil
}
