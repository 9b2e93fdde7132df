package webhook

import (
	"cmp"
	"slices"
	"time"

	"rehost/protocol"
)

const (
	// An event is given up when it was tried so often and is so old: a receiver that is away for a night misses nothing.
	minAttempts = 8
	giveUpAfter = 24 * time.Hour
	maxPause    = 5 * time.Minute // between two attempts
)

// letter is an event on its way.
type letter struct {
	place uint64 // in the stream
	event protocol.Event
	body  []byte // as it is sent
}

// line is the letters about one server, or about one job as a whole. Each waits for the one before it.
type line struct {
	letters  []letter
	sending  bool // the first one
	attempts int  // that failed, of the first one
	next     time.Time
}

// queue is all letters that are read and not delivered. It is a value: what it decides depends on its calls only.
type queue struct {
	retry   time.Duration // first pause after a failure; doubled
	lines   map[string]*line
	size    int
	sending int
}

func newQueue(retry time.Duration) *queue { return &queue{retry: retry, lines: map[string]*line{}} }

// add puts a letter at the end of its line. Letters are added in the order of their places.
func (q *queue) add(l letter) {
	about := l.event.About()
	if q.lines[about] == nil {
		q.lines[about] = &line{}
	}
	q.lines[about].letters = append(q.lines[about].letters, l)
	q.size++
}

// due takes the letters that are to be sent now, the oldest first, such that at most atOnce are under way.
func (q *queue) due(now time.Time, atOnce int) []letter {
	var ready []letter
	for _, l := range q.lines {
		if !l.sending && !l.next.After(now) {
			ready = append(ready, l.letters[0])
		}
	}
	slices.SortFunc(ready, func(a, b letter) int { return cmp.Compare(a.place, b.place) })
	ready = ready[:min(len(ready), max(0, atOnce-q.sending))]
	for _, l := range ready {
		q.lines[l.event.About()].sending = true
		q.sending++
	}
	return ready
}

// delivered takes a letter out.
func (q *queue) delivered(l letter) { q.remove(l) }

func (q *queue) remove(l letter) {
	about := l.event.About()
	of := q.lines[about]
	q.size--
	q.sending--
	if of.letters = of.letters[1:]; len(of.letters) == 0 {
		delete(q.lines, about)
		return
	}
	of.sending, of.attempts, of.next = false, 0, time.Time{}
}

// failed makes a letter's line wait, or gives the letter up. It says how often the letter was tried.
func (q *queue) failed(l letter, now time.Time) (attempts int, dead bool) {
	of := q.lines[l.event.About()]
	of.attempts++
	attempts = of.attempts
	if attempts >= minAttempts && now.Sub(l.event.Time) >= giveUpAfter {
		q.remove(l)
		return attempts, true
	}
	of.sending = false
	q.sending--
	of.next = now.Add(pause(q.retry, attempts))
	return attempts, false
}

// pause is how long is waited after so many failed attempts.
func pause(first time.Duration, attempts int) time.Duration {
	p := first
	for range attempts - 1 {
		if p *= 2; p >= maxPause {
			return maxPause
		}
	}
	return p
}

// wake is when the next letter that waits for its time becomes due; zero: none does.
func (q *queue) wake() time.Time {
	var out time.Time
	for _, l := range q.lines {
		if !l.sending && (out.IsZero() || l.next.Before(out)) {
			out = l.next
		}
	}
	return out
}

// held lists the places of all letters.
func (q *queue) held() []uint64 {
	var out []uint64
	for _, l := range q.lines {
		for _, m := range l.letters {
			out = append(out, m.place)
		}
	}
	slices.Sort(out)
	return out
}
