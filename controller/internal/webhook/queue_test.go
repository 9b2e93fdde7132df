package webhook

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rehost/protocol"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func about(place uint64, server string) letter {
	return letter{place: place, event: protocol.Event{ID: fmt.Sprintf("e-%d", place), Subject: server, Time: noon}}
}

// TestTheOrderOfEachServerIsKept plays random successes and failures over five servers: what is delivered of each is in its order, no more
// is under way than may be, nothing is lost, and what is held is what was not delivered.
func TestTheOrderOfEachServerIsKept(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	const events, atOnce = 500, 3
	q, now := newQueue(time.Second), noon
	var sending []letter
	got := map[string][]uint64{}
	place, done := uint64(0), 0
	for done < events {
		for place < events && random.IntN(3) > 0 {
			place++
			q.add(about(place, fmt.Sprintf("web-%d", random.IntN(5))))
		}
		sending = append(sending, q.due(now, atOnce)...)
		if len(sending) > atOnce || len(q.held()) != int(place)-done || q.size != int(place)-done {
			t.Fatalf("%d are under way, %d held of %d", len(sending), len(q.held()), int(place)-done)
		}
		if len(sending) == 0 {
			now = now.Add(time.Second)
			continue
		}
		i := random.IntN(len(sending))
		l := sending[i]
		sending = slices.Delete(sending, i, i+1)
		if random.IntN(3) == 0 {
			if _, dead := q.failed(l, now); dead {
				t.Fatalf("%s was given up after minutes", l.event.ID)
			}
			continue
		}
		q.delivered(l)
		done++
		got[l.event.Subject] = append(got[l.event.Subject], l.place)
	}
	for server, places := range got {
		if !slices.IsSorted(places) {
			t.Errorf("%s: %v", server, places)
		}
	}
	if len(q.lines) != 0 || q.sending != 0 || !q.wake().IsZero() {
		t.Errorf("left over: %+v", q)
	}
}

// TestAFailureHoldsItsServerOnly refuses one server for a day: the others go on, the pauses grow, and then it is given up.
func TestAFailureHoldsItsServerOnly(t *testing.T) {
	q, now := newQueue(time.Second), noon
	q.add(about(1, "bad"))
	q.add(about(2, "bad"))
	q.add(about(3, "good"))
	var pauses []time.Duration
	for dead := false; !dead; {
		for _, l := range q.due(now, 8) {
			if l.event.Subject == "good" {
				q.delivered(l)
				continue
			}
			if l.place != 1 {
				t.Fatalf("place %d overtook", l.place)
			}
			var attempts int
			if attempts, dead = q.failed(l, now); attempts > 10000 {
				t.Fatal("it is never given up")
			}
		}
		if next := q.wake(); !dead {
			pauses = append(pauses, next.Sub(now))
			now = next
		}
	}
	if !slices.IsSorted(pauses) || pauses[0] != time.Second || pauses[len(pauses)-1] != maxPause {
		t.Errorf("the pauses are %v", pauses)
	}
	if gone := now.Sub(noon); gone < giveUpAfter || gone > giveUpAfter+maxPause {
		t.Errorf("it was given up after %s", gone)
	}
	if next := q.due(now, 8); len(next) != 1 || next[0].place != 2 {
		t.Errorf("then comes %v", next)
	}
}
