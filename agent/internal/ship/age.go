package ship

import "time"

// ages knows how old the oldest change is that is not durable. It may overstate by a drain's interval, and while the
// pipeline never catches up; it does not understate.
type ages struct {
	lastDrain time.Time
	// open is since when there are changes that no job has picked; zero when there are none.
	open time.Time
	// picked are changes that are durable when their job is; oldest first.
	picked []agedJob
	// done is the last job that is durable.
	done uint64
}

type agedJob struct {
	since time.Time
	job   uint64
}

// dirty notes changes that may be as old as since.
func (a *ages) dirty(since time.Time) {
	if a.open.IsZero() || since.Before(a.open) {
		a.open = since
	}
}

// allPicked notes that everything needed is in jobs up to this one.
func (a *ages) allPicked(job uint64) {
	if !a.open.IsZero() && job > a.done {
		a.picked = append(a.picked, agedJob{since: a.open, job: job})
	}
	a.open = time.Time{}
}

// durable notes that all jobs up to this one are durable.
func (a *ages) durable(job uint64) {
	a.done = job
	for len(a.picked) > 0 && a.picked[0].job <= job {
		a.picked = a.picked[1:]
	}
}

// revert notes that nothing picked will become durable.
func (a *ages) revert() {
	for _, p := range a.picked {
		a.dirty(p.since)
	}
	a.picked = nil
}

// oldest returns since when there is a change that is not durable; zero when there is none.
func (a *ages) oldest() time.Time {
	if len(a.picked) > 0 && (a.open.IsZero() || a.picked[0].since.Before(a.open)) {
		return a.picked[0].since
	}
	return a.open
}

// pickedLocked ends the wait of changes when nothing is needed any more.
func (g *granules) pickedLocked(job uint64) {
	if g.needBytesLocked() == 0 {
		g.age.allPicked(job)
	}
}

// jobDurable notes that all jobs up to this one are durable.
func (g *granules) jobDurable(job uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.age.durable(job)
}

// lag returns the age of the oldest change that is not durable; 0 when there is none.
func (g *granules) lag(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	since := g.age.oldest()
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since), time.Nanosecond)
}
