package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"rehost/convert"
	"rehost/protocol"
)

// resyncLimits keep an array from being synchronised here, in KiB/s: a copy of a running array is never
// clean, and the guest does it itself when it boots.
var resyncLimits = []string{"/proc/sys/dev/raid/speed_limit_min", "/proc/sys/dev/raid/speed_limit_max"}

// arrays assembles RAID1 arrays of the members that are there.
func (g *Guest) arrays(ctx context.Context) error {
	members := map[string][]*part{}
	first := map[string]convert.Array{}
	var order []string
	for _, p := range g.unclaimed("linux_raid_member") {
		p.claimed = true
		a, err := readArray(*p)
		if err != nil {
			return err
		}
		if len(members[a.UUID]) == 0 {
			order = append(order, a.UUID)
			first[a.UUID] = a
		}
		members[a.UUID] = append(members[a.UUID], p)
	}
	for _, uuid := range order {
		if err := g.array(ctx, first[uuid], members[uuid]); err != nil {
			return err
		}
	}
	return nil
}

func readArray(p part) (convert.Array, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return convert.Array{}, err
	}
	defer func() { _ = f.Close() }()
	a, ok := convert.ReadArray(f, p.Filesystem)
	if !ok {
		return a, errors.New("a member of an array changed while it was read")
	}
	return a, nil
}

// array assembles one array. One that lacks members is started too: the clone of a boot disk is often the only
// one that is attached, and a mirror's half has everything.
func (g *Guest) array(ctx context.Context, a convert.Array, members []*part) error {
	if a.Level != 1 {
		g.skip(protocol.FindingRAID, a.UUID, "move the root filesystem to a RAID1, to LVM or to a plain disk",
			"array %q is RAID%d, and only RAID1 is assembled", a.Name, a.Level)
		return nil
	}
	if err := g.load("md_mod", "raid1"); err != nil {
		return err
	}
	for _, limit := range resyncLimits {
		if err := os.WriteFile(limit, []byte("1"), 0o600); err != nil {
			return fmt.Errorf("hold arrays back from synchronising: %w", err)
		}
	}
	device := fmt.Sprintf("/dev/md%d", 127-g.assembled)
	g.assembled++
	args := []string{"--assemble", device, "--config=none", "--run", "--uuid=" + a.UUID}
	for _, m := range members {
		if err := g.block(ctx, m); err != nil {
			return err
		}
		args = append(args, m.device)
	}
	if _, err := g.tool(ctx, nil, "mdadm", args...); err != nil {
		g.skip(protocol.FindingRAID, a.UUID, "check the array on the source", "array %q cannot be assembled: %v", a.Name, err)
		return nil
	}
	g.undo = append(g.undo, func() error {
		_, err := g.tool(context.WithoutCancel(ctx), nil, "mdadm", "--stop", device)
		return err
	})
	if have := activeMembers(device); have < a.Members {
		g.note(protocol.FindingDegraded, a.UUID, "replicate all its disks for a whole array in EC2",
			"array %q has %d of %d members that are there and current", a.Name, have, a.Members)
	}
	return g.made(ctx, device, *members[0], convert.Layer{Kind: convert.LayerMD, Name: a.Name, UUID: a.UUID})
}

// activeMembers counts the members of an array that the kernel uses.
func activeMembers(device string) int {
	text, err := os.ReadFile("/proc/mdstat")
	if err != nil {
		return 0
	}
	name := strings.TrimPrefix(device, "/dev/")
	lines := strings.Split(string(text), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+" :") })
	if i < 0 || i+1 >= len(lines) {
		return 0
	}
	// "1046528 blocks super 1.2 [2/1] [U_]"
	fields := strings.Fields(lines[i+1])
	return strings.Count(fields[len(fields)-1], "U")
}
