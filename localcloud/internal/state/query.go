package state

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
)

// NewID returns a random id of EC2's form: the prefix, a dash and 17 hex digits.
func NewID(prefix string) string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + "-" + hex.EncodeToString(b[:])[:17]
}

// VolumesOf returns the volumes of an instance, its root first, then in the
// order they were attached.
func (s *State) VolumesOf(in *Instance) []*Volume {
	var out []*Volume
	for _, v := range s.Volumes {
		if v.Attachment != nil && v.Attachment.InstanceID == in.ID {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Volume) int {
		ra, rb := a.Attachment.Device == in.RootDevice, b.Attachment.Device == in.RootDevice
		switch {
		case ra && !rb:
			return -1
		case rb && !ra:
			return 1
		}
		return int(a.Attachment.Order - b.Attachment.Order)
	})
	return out
}

// NextOrder gives out the next number for Attachment.Order.
func (s *State) NextOrder() int64 {
	s.LastOrder++
	return s.LastOrder
}

// ImageUsing returns the id of an image that needs the snapshot, or "".
func (s *State) ImageUsing(snapshotID string) string {
	for _, im := range s.Images {
		for _, m := range im.Mappings {
			if m.SnapshotID == snapshotID {
				return im.ID
			}
		}
	}
	return ""
}

// NVMeSerial is how a guest sees a volume's id: without its dash.
func NVMeSerial(volumeID string) string { return strings.Replace(volumeID, "-", "", 1) }

// MayLeave reports whether a group of the instance lets it reach others.
func (s *State) MayLeave(in *Instance) bool {
	for _, id := range in.Groups {
		if g := s.Groups[id]; g != nil && len(g.Egress) > 0 {
			return true
		}
	}
	return false
}

// OpenPorts returns the TCP ports that the instance's groups open, sorted. Of a
// wide range only the well-known ones are opened, since each costs a listener.
func (s *State) OpenPorts(in *Instance) []int {
	const wide = 64
	known := []int64{22, 80, 443, 3389, 5985, 5986, 8080}
	set := map[int]bool{}
	for _, id := range in.Groups {
		g := s.Groups[id]
		if g == nil {
			continue
		}
		for _, r := range g.Rules {
			from, to := r.From, r.To
			switch {
			case r.CIDR == "":
				continue // between members of a group: they have no network of their own here
			case r.Protocol == "-1":
				from, to = 0, 65535
			case r.Protocol != "tcp":
				continue
			}
			if to-from < wide {
				for p := from; p <= to; p++ {
					set[int(p)] = true
				}
				continue
			}
			for _, p := range known {
				if p >= from && p <= to {
					set[int(p)] = true
				}
			}
		}
	}
	var out []int
	for p := range set {
		if p > 0 {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
