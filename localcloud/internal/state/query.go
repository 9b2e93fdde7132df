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

// Reserved returns the instances that one call launched, in its order.
func (s *State) Reserved(reservation string) []*Instance {
	var out []*Instance
	for _, in := range s.Instances {
		if in.ReservationID == reservation {
			out = append(out, in)
		}
	}
	slices.SortFunc(out, func(a, b *Instance) int { return a.LaunchIndex - b.LaunchIndex })
	return out
}

// MayLeave reports whether one of the groups lets its members reach others.
func (s *State) MayLeave(groups []string) bool {
	for _, id := range groups {
		if g := s.Groups[id]; g != nil && len(g.Egress) > 0 {
			return true
		}
	}
	return false
}

// knownPorts stand for a wide range, since each open port costs a listener.
var knownPorts = []int64{22, 80, 443, 3389, 5985, 5986, 8080}

// widest is the number of ports up to which a range is opened as a whole.
const widest = 64

// ports returns the TCP ports that a rule opens to everybody. Of a wide range
// these are the well-known ones only. Rules between members of a group open
// nothing: instances have no network of their own here.
func (r Rule) ports() []int64 {
	from, to := r.From, r.To
	switch {
	case r.CIDR == "":
		return nil
	case r.Protocol == "-1":
		from, to = 0, 65535
	case r.Protocol != "tcp":
		return nil
	}
	var out []int64
	if to-from < widest {
		for p := max(from, 1); p <= to; p++ {
			out = append(out, p)
		}
		return out
	}
	for _, p := range knownPorts {
		if p >= from && p <= to {
			out = append(out, p)
		}
	}
	return out
}

// OpenPorts returns the TCP ports that the groups open, sorted.
func (s *State) OpenPorts(groups []string) []int {
	var out []int
	for _, id := range groups {
		if g := s.Groups[id]; g != nil {
			for _, r := range g.Rules {
				for _, p := range r.ports() {
					out = append(out, int(p))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
