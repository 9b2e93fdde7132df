package ship

import (
	"context"
	"fmt"

	"rehost/protocol"
)

// Place is a run of bytes of one of the disks.
type Place struct {
	Disk           int
	Offset, Length int64
}

// selfTest writes to a file of the agent's own and sees whether the tracker marks the place where it lies. A tracker that
// does not has missed others, too: everything is compared then.
func (s *Shipper) selfTest(context.Context) {
	if s.deps.Scratch == nil || s.cfg.Periodic {
		return
	}
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	place, err := s.deps.Scratch()
	if err != nil {
		s.status.untest(err.Error())
		return
	}
	s.status.untest("")
	size := s.cfg.Disks[place.Disk].GranuleBytes
	missing := map[int64]bool{}
	for g := place.Offset / size; g <= (place.Offset+place.Length-1)/size; g++ {
		missing[g] = true
	}
	s.drainedLocked(func(disk, word int, bits uint64) {
		for g := range missing {
			if disk == place.Disk && int64(word) == g/64 && bits>>(g%64)&1 != 0 {
				delete(missing, g)
			}
		}
	})
	if len(missing) == 0 {
		return
	}
	message := fmt.Sprintf("the tracker did not see a write of the agent's own, %d bytes at %d of %s", place.Length, place.Offset, s.cfg.Disks[place.Disk].Name)
	s.status.problem(protocol.ProblemTracker, message, "everything is compared with the replica; if it comes back, choose another tracker in agent.hcl")
	s.log.Error("self-test of the tracker failed", "disk", s.cfg.Disks[place.Disk].Name, "offset", place.Offset)
	s.granules.needAll()
}
