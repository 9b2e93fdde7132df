package stamp

import (
	"sync"
	"time"
)

// quietLimit is how long a gate stays shut when nobody opens it: an agent that was killed does not run its second hook.
const quietLimit = 8 * time.Second

// Gate keeps the writers of the raw disks from writing while a point is taken, as a database does that the owner's hooks
// stop: no freeze reaches them.
type Gate struct {
	writers sync.RWMutex
	mu      sync.Mutex // guards timer
	timer   *time.Timer
}

// Pass runs fn while the gate is open.
func (g *Gate) Pass(fn func() error) error {
	g.writers.RLock()
	defer g.writers.RUnlock()
	return fn()
}

// Shut waits until no writer is inside, and lets none in until Open.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		return
	}
	g.writers.Lock()
	g.timer = time.AfterFunc(quietLimit, g.Open)
}

// Open lets the writers in again. A gate that is open stays so.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer == nil {
		return
	}
	g.timer.Stop()
	g.timer = nil
	g.writers.Unlock()
}
