package controller

import (
	"context"
	"sync/atomic"
)

// mortal is a controller that is killed again and again; another one follows each time.
type mortal struct {
	current       atomic.Pointer[context.CancelFunc]
	killed        chan struct{}
	done, stopped chan struct{}
	kills         int
}

// mortal starts the first controller.
func (w *world) mortal() *mortal {
	m := &mortal{killed: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(m.stopped)
		for over := false; !over; {
			ctx, cancel := context.WithCancel(context.Background())
			m.current.Store(&cancel)
			stop := w.controller(ctx)
			select {
			case <-m.killed:
				m.kills++
			case <-m.done:
				over = true
			}
			cancel()
			stop()
		}
	}()
	return m
}

// kill ends the controller that runs now; it does not wait for its end.
func (m *mortal) kill() {
	if cancel := m.current.Load(); cancel != nil {
		(*cancel)()
	}
	select {
	case m.killed <- struct{}{}:
	default:
	}
}

// end ends the last controller and returns how many were killed before it.
func (m *mortal) end() (kills int) {
	close(m.done)
	<-m.stopped
	return m.kills
}
