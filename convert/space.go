package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"rehost/protocol"
)

// Space is what is free in a mounted filesystem of the guest.
type Space struct {
	Mount string `json:"mount"`
	Free  int64  `json:"free"`  // bytes
	Files int64  `json:"files"` // that can still be made; -1: as many as there is room for
	Used  int64  `json:"used"`  // files that are there; 0: not counted
}

// written are the folders below which a conversion writes, if they are mounted by themselves.
var written = append([]string{"/", "/usr", "/var", "/var/lib", "/etc"}, espDirs...)

// inspectSpace finds out what is free where a conversion writes.
func (f *Facts) inspectSpace(root *Root) error {
	devices := map[uint64]bool{}
	for _, dir := range written {
		usage, err := root.Usage(dir)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("free space of %s: %w", dir, err)
		}
		if devices[usage.Device] {
			continue
		}
		devices[usage.Device] = true
		f.Spaces = append(f.Spaces, Space{Mount: dir, Free: usage.Free, Files: usage.Files, Used: usage.Used})
	}
	if len(f.Spaces) == 0 {
		return errors.Join(errors.New("free space of the guest"), fs.ErrNotExist)
	}
	return nil
}

// spaceOf returns the index of the filesystem that holds a path.
func (f Facts) spaceOf(name string) int {
	name = f.target(name)
	best := -1
	for i, s := range f.Spaces {
		at := strings.TrimSuffix(s.Mount, "/")
		if (name == s.Mount || strings.HasPrefix(name, at+"/")) && (best < 0 || len(s.Mount) > len(f.Spaces[best].Mount)) {
			best = i
		}
	}
	return best
}

// target returns where a write to a path ends up: links were followed when the guest was inspected.
func (f Facts) target(name string) string {
	file := f.Files[name]
	switch {
	case file.Target != "":
		return file.Target
	case file.At != "":
		return file.At
	}
	return name
}

// Slack that a conversion leaves in each filesystem: other programs write there as well, and folders grow.
const (
	spaceSlack = 4 << 20
	filesSlack = 100
)

// checkSpace refuses a plan that does not fit: what is replaced is there twice for a moment,
// and the originals are kept.
func (p *planner) checkSpace() error {
	need, files := make([]int64, len(p.facts.Spaces)), make([]int64, len(p.facts.Spaces))
	add := func(name string, size, count int64) {
		if i := p.facts.spaceOf(name); i >= 0 {
			need[i] += size
			files[i] += count
		}
	}
	image := make([]int64, len(p.facts.Spaces)) // the largest one: one is replaced after the other
	for _, e := range p.edits {
		switch e.Action {
		case ActionAppend:
			add(e.Path, int64(len(e.Data)), 1)
			if i := p.facts.spaceOf(e.Path); i >= 0 {
				image[i] = max(image[i], e.OldSize)
			}
		case ActionRemove:
		default:
			add(e.Path, int64(len(e.Data)), 1)
		}
		if old, ok := p.facts.Files[e.Path]; ok && e.Action != ActionAppend {
			add(path.Join(recordDir, "x"), old.Size, 1)
		}
	}
	for i, s := range p.facts.Spaces {
		need[i] += image[i]
		if files[i] == 0 {
			continue
		}
		subject := s.Mount
		if need[i]+spaceSlack > s.Free {
			p.refuse(protocol.FindingSpace, subject, "free some space in "+subject+" on the source",
				"%s has %d MiB free and the conversion needs %d MiB", subject, s.Free>>20, (need[i]+spaceSlack)>>20)
		}
		if s.Files >= 0 && files[i]+filesSlack > s.Files {
			p.refuse(protocol.FindingSpace, subject, "remove some files in "+subject+" on the source",
				"%s has room for %d more files and the conversion needs %d", subject, s.Files, files[i]+filesSlack)
		}
	}
	return nil
}
