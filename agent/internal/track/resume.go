package track

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// errOther says that what is pinned tracks something else than what is asked for.
var errOther = errors.New("the pins belong to other disks, granules or another version")

// resume opens what an earlier process pinned. It fails when a pin is missing or when the disks, their
// granules or the layout differ; then nothing of it can be used.
func resume(o Options, kind *tier) (*kernelTracker, error) {
	t := &kernelTracker{tier: kind, disks: o.Disks, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, resumed: true}
	if err := t.loadPins(o); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *kernelTracker) loadPins(o Options) error {
	for _, name := range []string{trackMapMarks, trackMapDisks, trackMapCounters, trackMapNotes, mapBaselines} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(o.PinDir, name), nil)
		if err != nil {
			return fmt.Errorf("open the pinned map %s: %w", name, err)
		}
		t.maps[name] = m
	}
	if t.tier.slots {
		m, err := ebpf.LoadPinnedMap(filepath.Join(o.PinDir, trackMapSlots), nil)
		if err != nil {
			return fmt.Errorf("open the pinned map %s: %w", trackMapSlots, err)
		}
		t.maps[trackMapSlots] = m
	}
	pinned := map[uint32]trackDisk{}
	var key uint32
	var entry trackDisk
	for entries := t.maps[trackMapDisks].Iterate(); entries.Next(&key, &entry); {
		pinned[key] = entry
	}
	if !maps.Equal(pinned, t.tier.entries(o)) || int(t.maps[trackMapMarks].MaxEntries()) != t.tier.values(o) {
		return errOther
	}
	for _, name := range t.tier.programs {
		if err := t.loadLink(o, name); err != nil {
			return err
		}
	}
	if t.maps[trackMapMarks].Flags()&unix.BPF_F_MMAPABLE == 0 {
		p, err := ebpf.LoadPinnedProgram(linkPath(o.PinDir, classicProgRehostClear), nil)
		if err != nil {
			return fmt.Errorf("open the pinned program %s: %w", classicProgRehostClear, err)
		}
		t.programs[classicProgRehostClear] = p
	}
	return t.openMarks()
}

// loadLink opens one pinned attachment and the program behind it.
func (t *kernelTracker) loadLink(o Options, name string) error {
	l, err := link.LoadPinnedLink(linkPath(o.PinDir, name), nil)
	if err != nil {
		return fmt.Errorf("open a pinned link: %w", err)
	}
	t.links = append(t.links, l)
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("ask for the program of a link: %w", err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return fmt.Errorf("open the program of a link: %w", err)
	}
	t.programs[name] = p
	return nil
}
