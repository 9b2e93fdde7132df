package storage

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"rehost/convert"
	"rehost/protocol"
)

// memberType is what a further device of a btrfs over several devices is listed as.
const memberType = "btrfs_member"

// subvolumeInode is the inode number of a subvolume's top folder, and of nothing else.
const subvolumeInode = 256

// maxSubvolumes bounds how many are looked into.
const maxSubvolumes = 64

// joinBtrfs makes one of the devices that a btrfs is spread over.
func (g *Guest) joinBtrfs() {
	seen := map[string]bool{}
	for _, p := range g.parts {
		if p.Type != "btrfs" {
			continue
		}
		if seen[p.UUID] {
			p.Type = memberType
		}
		seen[p.UUID] = true
	}
}

// joined returns the mount option that names the further devices.
func (g *Guest) joined(p *part) string {
	var options []string
	for _, m := range g.parts {
		if m.Type == memberType && m.UUID == p.UUID && m.device != "" {
			options = append(options, "device="+m.device)
		}
	}
	return strings.Join(options, ",")
}

func join(options ...string) string {
	options = slices.DeleteFunc(options, func(o string) bool { return o == "" })
	return strings.Join(options, ",")
}

// findSubvolume finds the subvolume with the root. That of the default is known by being mounted
// without a name; else the ones at the top are looked into.
func (g *Guest) findSubvolume(p *part, byDefault bool) (bool, error) {
	var names []string
	if byDefault {
		name, err := g.defaultSubvolume(p)
		if err != nil || name == "" {
			return err == nil, err
		}
		names = []string{name}
	} else {
		all, err := g.subvolumes(p)
		if err != nil {
			return false, err
		}
		for _, name := range all {
			is, err := g.looksLikeRoot(p, join(p.options, "subvol=/"+name))
			if err != nil {
				return false, err
			}
			if is {
				names = append(names, name)
			}
		}
		if names, err = g.own(p, names); err != nil {
			return false, err
		}
	}
	switch len(names) {
	case 0:
		return false, nil
	case 1:
		p.options = join(p.options, "subvol=/"+names[0])
		p.Stack = append(slices.Clone(p.Stack), convert.Layer{Kind: convert.LayerSubvolume, Name: names[0]})
		return true, nil
	}
	return false, refuse(protocol.FindingSeveralRoots, "/", "delete the other one on the source, or make the right one the default: btrfs subvolume set-default",
		"the btrfs with UUID %s has %d root subvolumes: %s", p.UUID, len(names), strings.Join(names, ", "))
}

// own keeps those of several subvolumes with a root whose fstab mounts themselves: the others are
// snapshots.
func (g *Guest) own(p *part, names []string) ([]string, error) {
	if len(names) < 2 {
		return names, nil
	}
	var own []string
	for _, name := range names {
		err := g.peek(p, join(p.options, "subvol=/"+name), func(r *convert.Root) error {
			table, err := r.ReadFile("/etc/fstab", 1<<20)
			if err == nil && convert.RootSubvolume(string(table)) == name {
				own = append(own, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return own, nil
}

// defaultSubvolume returns the path of the subvolume that is mounted when none is named.
func (g *Guest) defaultSubvolume(p *part) (name string, err error) {
	err = g.peek(p, p.options, func(*convert.Root) error {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			// 36 35 98:0 /@ /mnt rw,noatime - btrfs /dev/sda rw
			if f := strings.Fields(line); len(f) > 4 && f[4] == g.dir {
				name = strings.TrimPrefix(f[3], "/")
			}
		}
		return nil
	})
	return name, err
}

// subvolumes lists those at the top of the filesystem.
func (g *Guest) subvolumes(p *part) (found []string, err error) {
	err = g.peek(p, join(p.options, "subvolid=5"), func(r *convert.Root) error {
		names, err := r.ReadDir("/")
		if err != nil {
			return err
		}
		for _, name := range names {
			info, err := r.Lstat("/" + name)
			if err != nil || !isSubvolume(info) || strings.ContainsAny(name, ",\\") {
				continue
			}
			if found = append(found, name); len(found) > maxSubvolumes {
				return fmt.Errorf("the btrfs with UUID %s has more than %d subvolumes at its top", p.UUID, maxSubvolumes)
			}
		}
		return nil
	})
	return found, err
}

func isSubvolume(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && st.Ino == subvolumeInode
}
