package wave

import (
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/protocol"
)

// Rehearsed digests what a rehearsal of a wave is of: what an approval is for, but for the wave's own block, which has the gates.
func Rehearsed(approved map[string]string, wave string) map[string]string {
	out := maps.Clone(approved)
	delete(out, waveGroup(wave))
	return out
}

// NewestRehearsal is the newest one of a wave that has ended and was not cancelled, or nil.
func NewestRehearsal(jobs []protocol.Job, wave string) *protocol.Job {
	var out *protocol.Job
	for i, j := range jobs {
		if j.Rehearsal != nil && j.Of.Wave == wave && j.Status == protocol.JobCompleted && (out == nil || j.Ended.After(out.Ended)) {
			out = &jobs[i]
		}
	}
	return out
}

// rehearsed judges the newest rehearsal, for the servers that are still to be cut over.
func (e Evidence) rehearsed(limit time.Duration, servers []Facts, now time.Time) protocol.Gate {
	g := protocol.Gate{Name: "rehearsed", Want: "the wave was rehearsed within " + short(limit) + ", as it is now, and passed"}
	job := e.Rehearsal
	switch {
	case job == nil:
		g.Why = "the wave was never rehearsed to its end"
	case failedIn(*job, servers) != "":
		g.Why = "its newest rehearsal, " + job.ID + ", failed: " + failedIn(*job, servers)
	case changed(job.Rehearsal.Of, Rehearsed(e.Of, e.Wave)) != "":
		g.Why = "changed since its newest rehearsal, " + job.ID + ": " + changed(job.Rehearsal.Of, Rehearsed(e.Of, e.Wave))
	case now.Sub(job.Ended) > limit:
		g.Why = "its newest rehearsal, " + job.ID + ", is " + short(now.Sub(job.Ended)) + " old"
	}
	if g.Open = g.Why == ""; !g.Open {
		g.Hint = "rehearse it: rehost wave rehearse " + e.Wave
	}
	return g
}

// failedIn tells of the applications of servers that did not pass a rehearsal, or is "".
func failedIn(job protocol.Job, servers []Facts) string {
	var why []string
	for _, a := range job.Applications {
		wanted := slices.ContainsFunc(servers, func(f Facts) bool { return slices.Contains(a.Servers, f.Server) })
		if wanted && a.Outcome != protocol.OutcomePassed {
			why = append(why, strings.TrimSuffix(a.String()+": "+a.Why, ": "))
		}
	}
	if len(why) > toldOf {
		why = append(why[:toldOf], "and more")
	}
	return strings.Join(why, "; ")
}
