package revert

import (
	"slices"
	"testing"
)

func TestFailUndoesInReverseOrderOnce(t *testing.T) {
	var got []int
	var s Stack
	s.Add(func() { got = append(got, 1) })
	s.Add(func() { got = append(got, 2) })
	s.Fail()
	s.Fail()
	if !slices.Equal(got, []int{2, 1}) {
		t.Errorf("got %v, want [2 1]", got)
	}
}

func TestSuccessKeepsEverything(t *testing.T) {
	var s Stack
	s.Add(func() { t.Error("undone after success") })
	s.Success()
	s.Fail()
}
