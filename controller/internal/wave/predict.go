package wave

import (
	"slices"
	"strings"
	"time"

	"rehost/protocol"
)

// remembered is how many of the newest durations of a step a prediction rests on.
const remembered = 5

// guesses are what steps take where nothing has been seen yet: rough figures of a small server in EC2, good for an order of magnitude.
var guesses = map[string]time.Duration{
	"fence": 10 * time.Second, "point": 20 * time.Second, "snapshot": 2 * time.Minute, "clone": 30 * time.Second, "convert": 2 * time.Minute,
	"image": time.Minute, "launch": time.Minute, "actions": time.Minute, "check": 2 * time.Minute, "cleanup": time.Minute,
}

// The steps that divide a cutover.
const (
	lastTogether  = protocol.JobStepPoint  // at whose end the servers of an application do not wait for each other any more
	firstLaunched = protocol.JobStepLaunch // before which those that a server comes after are checked
	lastDown      = protocol.JobStepCheck  // at whose end a cut-over server serves again
)

// What a prediction rests on, from the best to the worst.
const (
	basisOwn    = "its own jobs"
	basisOthers = "jobs of other servers"
	basisGuess  = "a guess: no job has done this yet"
)

// History is how long steps took.
type History struct {
	own map[string][]time.Duration // by server and step, oldest first
	all map[string][]time.Duration // by step
}

// NewHistory reads the steps that succeeded in jobs that launched something.
func NewHistory(jobs []protocol.Job) History {
	h := History{map[string][]time.Duration{}, map[string][]time.Duration{}}
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b protocol.Job) int { return a.Created.Compare(b.Created) })
	for _, j := range jobs {
		if j.Kind != protocol.JobTest && j.Kind != protocol.JobCutover {
			continue
		}
		for _, s := range j.Servers {
			for _, st := range s.Steps {
				if took := st.Ended.Sub(st.Started); st.Status == protocol.StepSucceeded && !st.Started.IsZero() && took >= 0 {
					key := s.Server + " " + st.Name
					h.own[key] = append(h.own[key], took)
					h.all[st.Name] = append(h.all[st.Name], took)
				}
			}
		}
	}
	return h
}

// Prediction is how long the cutover of a server will take.
type Prediction struct {
	Point time.Duration // from the fence to the end of the point
	Ready time.Duration // until its target can be launched
	Down  time.Duration // until the end of the checks
	Whole time.Duration // and what is cleaned up behind it
	Basis string
}

// Predict adds up the steps of a cutover. The backlog is sent behind the fence.
func (h History) Predict(steps []string, f Facts) Prediction {
	p := Prediction{Down: f.Backlog, Whole: f.Backlog, Basis: basisGuess}
	var guessed []string
	down := true
	for _, step := range steps {
		if step == protocol.JobStepActions && len(f.Actions) == 0 { // what those of others took says nothing of it
			continue
		}
		took, basis := h.step(f.Server, step)
		switch {
		case basis == basisGuess:
			guessed = append(guessed, step)
		case basis != "" && p.Basis != basisOthers:
			p.Basis = basis
		}
		if p.Ready == 0 && (step == firstLaunched || step == lastDown) {
			p.Ready = p.Whole
		}
		p.Whole += took
		if step == lastTogether {
			p.Point = p.Whole
		}
		if down {
			p.Down += took
		}
		down = down && step != lastDown
	}
	if len(guessed) > 0 && p.Basis != basisGuess { // nobody fences in a test or a rehearsal, say
		p.Basis += ", and a guess of: " + strings.Join(guessed, ", ")
	}
	return p
}

// Took is how long a step of a server takes, as far as it was seen; 0: never.
func (h History) Took(server, step string) time.Duration {
	took, basis := h.step(server, step)
	if basis == basisGuess {
		return 0
	}
	return took
}

// step is how long a step takes, and what that rests on; "": on nothing that counts.
func (h History) step(server, step string) (time.Duration, string) {
	if seen := h.own[server+" "+step]; len(seen) > 0 {
		return median(seen), basisOwn
	}
	if seen := h.all[step]; len(seen) > 0 {
		return median(seen), basisOthers
	}
	if guess, ok := guesses[step]; ok {
		return guess, basisGuess
	}
	return 0, "" // a step of moments, that is no reason to doubt the rest
}

func median(seen []time.Duration) time.Duration {
	newest := slices.Clone(seen[max(0, len(seen)-remembered):])
	slices.Sort(newest)
	return newest[len(newest)/2]
}
