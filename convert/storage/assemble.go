package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rehost/convert"
	"rehost/internal/command"
	"rehost/protocol"
)

// maxRounds bounds how deep storage is stacked: LVM in LUKS on RAID takes two rounds.
const maxRounds = 8

// maxParts bounds what is looked at: a guest may nest and split without end.
const maxParts = 1024

// assemble makes all devices of the guest: arrays, then what is encrypted, then volume groups, and again
// what was found in them. It changes nothing but what RAID notes of an array that is in use.
func (g *Guest) assemble(ctx context.Context, devices []Device) error {
	for i, d := range devices {
		g.paths = append(g.paths, d.Path)
		g.Disks = append(g.Disks, convert.Disk{Volume: d.Volume, Boot: d.Boot})
		if err := g.add(d.Path, part{disk: i}); err != nil {
			if errors.Is(err, convert.ErrTruncated) {
				return refuse(protocol.FindingTruncated, d.Volume, "copy the disk again: this copy is not whole", "the disk of volume %s is truncated: %v", d.Volume, err)
			}
			return refuse(protocol.FindingDiskLayout, d.Volume, "repair it on the source", "the disk of volume %s cannot be read: %v", d.Volume, err)
		}
	}
	for range maxRounds {
		before := len(g.parts)
		for _, step := range []func(context.Context) error{g.arrays, g.unlock, g.groups} {
			if err := step(ctx); err != nil {
				return err
			}
			if len(g.parts) > maxParts {
				return fmt.Errorf("the disks have more than %d partitions and volumes", maxParts)
			}
			if len(g.parts) > before {
				break // groups may need what arrays find in what was made now
			}
		}
		if len(g.parts) == before {
			return nil
		}
	}
	return fmt.Errorf("storage is stacked more than %d deep", maxRounds)
}

// unclaimed returns the parts of a type that were not looked at yet.
func (g *Guest) unclaimed(kind string) []*part {
	var found []*part
	for _, p := range g.parts {
		if p.Type == kind && !p.claimed {
			found = append(found, p)
		}
	}
	return found
}

// tool runs one of the storage tools. Secrets go to stdin only: arguments end up in errors.
func (g *Guest) tool(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	if err := g.opt.Program(name); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", name, err)
	}
	return command.RunIn(ctx, "", stdin, name, args...)
}

// load loads drivers, each by name.
func (g *Guest) load(names ...string) error {
	for _, n := range names {
		if err := g.opt.Load(n); err != nil {
			return fmt.Errorf("load the driver %s: %w", n, err)
		}
	}
	return nil
}

// made adds the content of a device that was made of a part, under one more layer.
func (g *Guest) made(ctx context.Context, device string, from part, l convert.Layer) error {
	if err := waitDevice(ctx, device); err != nil {
		return err
	}
	base := from
	base.Stack = append(slices.Clone(from.Stack), l)
	before := len(g.parts)
	err := g.add(device, base)
	if err != nil {
		// What cannot be read is nothing to boot from; if it had to be, the root will be missing.
		g.skip(protocol.FindingDamaged, device, "check it on the source", "%s %s cannot be read: %v", l.Kind, l.Name, err)
		return nil
	}
	for _, p := range g.parts[before:] {
		if p.Type != "" {
			g.opt.Progress(fmt.Sprintf("%s %s is %s, with %s", l.Kind, nameOf(l), device, p.Type))
		}
	}
	return nil
}

func nameOf(l convert.Layer) string {
	switch {
	case l.Group != "":
		return l.Group + "/" + l.Name
	case l.Name != "":
		return l.Name
	}
	return l.UUID
}
