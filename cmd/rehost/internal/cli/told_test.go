package cli

import "testing"

// TestANoteIsSaidOnce, whatever figures in it grow, and again when it had gone.
func TestANoteIsSaidOnce(t *testing.T) {
	var said told
	for _, look := range []struct{ text, want string }{
		{"a waits: x\na is tracked by scan:\n  no BTF\n  no perf\n", "a waits: x\na is tracked by scan:\n  no BTF\n  no perf\n"},
		{"a is tracked by scan:\n  no BTF\n  no perf\na slowest part: disk (12.0 MiB/s, 70%, for 9s)\n", "a slowest part: disk (12.0 MiB/s, 70%, for 9s)\n"},
		{"a is tracked by scan:\n  no BTF\n  no perf\na slowest part: disk (13.5 GiB/s, 9%, for 3m20s)\n", ""},
		{"a is tracked by scan:\n  no BTF\na slowest part: network (1 MiB/s)\n", "a is tracked by scan:\n  no BTF\na slowest part: network (1 MiB/s)\n"},
		{"", ""},
		{"a is tracked by scan:\n  no BTF\n", "a is tracked by scan:\n  no BTF\n"},
	} {
		if got := said.fresh(look.text); got != look.want {
			t.Errorf("of %q: got %q, want %q", look.text, got, look.want)
		}
	}
}
