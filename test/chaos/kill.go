package chaos

import (
	"math/rand/v2"
	"syscall"
	"time"

	"rehost/test/stamp"
)

// victims are the processes that are killed, by name.
var victims = []struct {
	name string
	kill func(w *stamp.World) bool
}{
	{"agent", func(w *stamp.World) bool { return w.Agent.Kill() }},
	{"freeze helper", func(w *stamp.World) bool {
		pid := w.Agent.Child("freeze-helper")
		return pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
	}},
	{"replication server", func(w *stamp.World) bool { return w.Replica.Kill() }},
	{"broker", func(w *stamp.World) bool { return w.Broker.Kill() }},
}

// killer kills processes at random moments.
type killer struct {
	w     *stamp.World
	rng   *rand.Rand
	only  string // kill no other; empty: all
	kills map[string]int
}

// total is how many processes were killed so far.
func (k *killer) total() (n int) {
	for _, each := range k.kills {
		n += each
	}
	return n
}

// burst kills n times, up to a second and a half apart. A process that does not run just now is waited for.
func (k *killer) burst(n int) (names []string) {
	for deadline := time.Now().Add(30 * time.Second); n > 0 && time.Now().Before(deadline); {
		v := victims[k.rng.IntN(len(victims))]
		if k.only != "" && v.name != k.only {
			continue
		}
		<-time.After(time.Duration(k.rng.Int64N(int64(1500 * time.Millisecond))))
		if v.kill(k.w) {
			k.kills[v.name]++
			names = append(names, v.name)
			n--
		}
	}
	return names
}
