package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/convert"
	"rehost/protocol"
)

// findRoot finds the one filesystem that is a root by what is in it.
func (g *Guest) findRoot(ctx context.Context) (*part, error) {
	g.joinBtrfs()
	var roots []*part
	for _, p := range g.parts {
		if !slices.Contains(convert.RootTypes, p.Type) {
			continue
		}
		usable, err := g.prepare(ctx, p)
		if err != nil {
			return nil, err
		}
		if !usable {
			continue
		}
		is, err := g.holdsRoot(p)
		if err != nil {
			return nil, err
		}
		if is {
			roots = append(roots, p)
		}
	}
	switch {
	case len(roots) == 0:
		return nil, g.noRoot()
	case len(roots) > 1:
		return nil, refuse(protocol.FindingSeveralRoots, "/", "leave the disk of the other system out of the replication",
			"two root filesystems were found: UUID %s on %s and UUID %s on %s", roots[0].UUID, roots[0].device, roots[1].UUID, roots[1].device)
	}
	return roots[0], nil
}

// noRoot says what there is instead of a root.
func (g *Guest) noRoot() error {
	g.blame()
	var kinds []string
	for _, p := range g.parts {
		if p.Type != "" && !slices.Contains(kinds, p.Type) {
			kinds = append(kinds, p.Type)
		}
	}
	if slices.ContainsFunc([]string{"ntfs", "BitLocker", "ReFS"}, func(k string) bool { return slices.Contains(kinds, k) }) {
		return refuse(protocol.FindingWindows, "", "move it by AWS MGN or VM Import", "this is Windows (%s), and only Linux is converted", strings.Join(kinds, ", "))
	}
	if len(kinds) == 0 {
		kinds = []string{"nothing that is known"}
	}
	return refuse(protocol.FindingNoRoot, "/", "check which disks are replicated",
		"no root filesystem was found on %d disks (they have: %s)", len(g.Disks), strings.Join(kinds, ", "))
}

// holdsRoot looks into a filesystem without writing to it, and finds the subvolume that is the root.
func (g *Guest) holdsRoot(p *part) (bool, error) {
	is, err := g.looksLikeRoot(p, p.options)
	if err != nil || p.Type != "btrfs" {
		return is, err
	}
	return g.findSubvolume(p, is)
}

// looksLikeRoot mounts a filesystem read-only and looks at what every Linux system has.
func (g *Guest) looksLikeRoot(p *part, options string) (is bool, err error) {
	err = g.peek(p, options, func(r *convert.Root) error {
		is = convert.IsRoot(r)
		return nil
	})
	return is, err
}

// peek mounts a filesystem read-only for a moment.
func (g *Guest) peek(p *part, options string, look func(*convert.Root) error) error {
	if err := unix.Mount(p.device, g.dir, p.Type, mountFlags|unix.MS_RDONLY, options); err != nil {
		return fmt.Errorf("mount %s (%s) of the guest: %w", p.device, p.Type, err)
	}
	defer func() { _ = unix.Unmount(g.dir, unix.UMOUNT_NOFOLLOW) }()
	r, err := convert.Open(g.dir)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return look(r)
}

func exists(r *convert.Root, path string) bool {
	_, err := r.Lstat(path)
	return err == nil
}

func (g *Guest) mountRoot(root *part) error {
	if err := g.mount(root, g.dir, root.options); err != nil {
		return err
	}
	root.Mount = "/"
	g.RootDevice, g.RootUUID = root.device, root.UUID
	var err error
	g.Root, err = convert.Open(g.dir)
	g.opt.Progress(fmt.Sprintf("root is %s, %s, UUID %s", root.device, describe(root), root.UUID))
	return err
}

func describe(p *part) string {
	if v := p.Subvolume(); v != "" {
		return p.Type + " subvolume " + v
	}
	return p.Type
}

// mountRest mounts what fstab wants below the root and the conversion, or a script, looks at.
func (g *Guest) mountRest(ctx context.Context) error {
	table, err := g.Root.ReadFile("/etc/fstab", 1<<20)
	if err != nil {
		return fmt.Errorf("read the guest's fstab: %w", err)
	}
	g.list()
	for _, m := range convert.MountPoints(string(table), g.Disks, g.opt.All) {
		if err := g.mountBelow(ctx, m); err != nil {
			g.blame()
			return err
		}
	}
	// Nothing but the look at the loaders is lost without it, and the plan says so.
	if m, ok := convert.ImplicitESP(g.Root, string(table), g.Disks); ok {
		if err := g.mountBelow(ctx, m); err != nil {
			g.opt.Progress(fmt.Sprintf("the EFI system partition stays as it is: %v", err))
		}
	}
	return nil
}

func (g *Guest) mountBelow(ctx context.Context, m convert.MountPoint) error {
	if !m.Found {
		return g.missing(m)
	}
	p := g.parts[slices.IndexFunc(g.parts, func(p *part) bool {
		return p.Type == m.Filesystem.Type && p.UUID == m.Filesystem.UUID && p.Offset == m.Filesystem.Offset
	})]
	if p.Mount == "/" && p.Type != "btrfs" {
		return nil
	}
	if usable, err := g.prepare(ctx, p); err != nil || !usable {
		return orElse(err, refuse(protocol.FindingFstabMissing, m.Path, "see the other findings", "%s of the guest cannot be mounted", m.Path))
	}
	return g.mountPoint(p, m)
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// missing refuses a guest that lacks what it boots from. The plan says of all others what becomes of them.
func (g *Guest) missing(m convert.MountPoint) error {
	if m.Extra {
		g.note(protocol.FindingFstabMissing, m.Path, "a script must not write there", "fstab mounts %s from %s, which is on none of the disks: scripts see an empty folder", m.Path, m.Spec)
	}
	if m.Path != "/boot" && m.Path != "/usr" {
		return nil
	}
	return refuse(protocol.FindingFstabMissing, m.Path, "replicate the disk that has it, or mend /etc/fstab on the source",
		"fstab mounts %s from %s, which is on none of the disks", m.Path, m.Spec)
}

func (g *Guest) mountPoint(p *part, m convert.MountPoint) error {
	point, err := g.Root.Handle(m.Path)
	lacking := errors.Is(err, fs.ErrNotExist)
	if m.Extra && lacking {
		g.note(protocol.FindingFstabMissing, m.Path, "a script must not write there", "the guest has no folder %s, where fstab mounts %s: scripts do not see it", m.Path, m.Spec)
		return nil
	}
	if lacking { // systemd makes it at each boot
		if err = g.Root.Mkdir(m.Path, 0o755); err == nil {
			point, err = g.Root.Handle(m.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("mount %s of the guest: %w", m.Path, err)
	}
	defer func() { _ = point.Close() }()
	options := p.options
	if p.Type == "btrfs" {
		options = join(g.joined(p), m.Options)
	}
	// Through the handle, so that no link of the guest can move the mount.
	if err := g.mount(p, fmt.Sprintf("/proc/self/fd/%d", point.Fd()), options); err != nil {
		if lacking {
			err = errors.Join(err, g.Root.RemoveEmpty(m.Path))
		}
		return err
	}
	// To be unmounted by its name: the handle is closed by then.
	resolved, err := g.Root.Resolve(m.Path)
	g.mounts[len(g.mounts)-1] = mounted{path: filepath.Join(g.dir, resolved), made: lacking}
	if p.Mount == "" {
		p.Mount = m.Path
		if m.Subvolume != "" {
			p.Stack = append(slices.Clone(p.Stack), convert.Layer{Kind: convert.LayerSubvolume, Name: m.Subvolume})
		}
	}
	g.opt.Progress(strings.TrimSpace(fmt.Sprintf("%s is %s, %s %s", m.Path, p.device, p.Type, m.Options)))
	return err
}

func (g *Guest) mount(p *part, path, options string) error {
	if err := unix.Mount(p.device, path, p.Type, mountFlags, options); err != nil {
		return refuse(protocol.FindingDamaged, p.UUID, "check the filesystem on the source", "mount %s (%s) of the guest: %v", p.device, p.Type, err)
	}
	g.mounts = append(g.mounts, mounted{path: path})
	return nil
}

// nameEncrypted gives LUKS layers the names that the guest's crypttab gives them.
func (g *Guest) nameEncrypted() error {
	if !exists(g.Root, "/etc/crypttab") {
		return nil
	}
	table, err := g.Root.ReadFile("/etc/crypttab", 1<<20)
	if err != nil {
		return fmt.Errorf("read the guest's crypttab: %w", err)
	}
	g.list()
	names := convert.EncryptedNames(string(table), g.Disks)
	for _, p := range g.parts {
		for i, l := range p.Stack {
			if l.Kind == convert.LayerLUKS {
				p.Stack[i].Name = names[l.UUID]
			}
		}
	}
	return nil
}
