// Package revert is an undo stack for work that takes several steps: each step
// adds how to take it back, and unless the whole succeeds, all are taken back in
// reverse order. The idea is LXD's.
package revert

// Stack holds undo functions. The zero value is ready. It is not for concurrent use.
type Stack struct {
	undo []func()
}

// Add puts fn on the stack.
func (s *Stack) Add(fn func()) { s.undo = append(s.undo, fn) }

// Fail runs the undo functions, last first, and empties the stack. Defer it;
// after [Stack.Success] it does nothing.
func (s *Stack) Fail() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	s.undo = nil
}

// Success keeps everything: the stack is emptied and nothing is undone.
func (s *Stack) Success() { s.undo = nil }
