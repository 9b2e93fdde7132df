package ship

// since notes what was written since a point: all the rest of the disks is what the point's snapshots must hold.
type since struct {
	point string
	words [][]uint64 // by disk
}

func newSince(point string, disks []*diskGranules) *since {
	s := &since{point: point}
	for _, d := range disks {
		s.words = append(s.words, make([]uint64, len(d.need)))
	}
	return s
}

func (s *since) touch(disk, word int, bits uint64) {
	if s != nil {
		s.words[disk][word] |= bits
	}
}

// beginSince begins to note, while nobody writes and all marks have been drained. What is noted for the point
// before goes on until this one has been sent.
func (g *granules) beginSince(s *since) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taking = s
}

// endSince says whether the point was sent: then it is the one that is noted for.
func (g *granules) endSince(sent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sent && g.taking != nil {
		g.since = g.taking
	}
	g.taking = nil
}

// beginComparison goes on noting for the newest point until [granules.endComparison], whatever points are sent meanwhile. It
// returns false when the newest one is another, or none.
func (g *granules) beginComparison(point string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since == nil || g.since.point != point {
		return false
	}
	g.against = g.since
	return true
}

func (g *granules) endComparison() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.against = nil
}

// writtenSince says whether a granule was written to since the point that is being compared; without one, none was.
func (g *granules) writtenSince(disk int, granule int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.against != nil && g.against.words[disk][granule/64]>>(granule%64)&1 != 0
}
