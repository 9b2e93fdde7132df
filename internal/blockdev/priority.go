package blockdev

import "golang.org/x/sys/unix"

// I/O priorities (ioprio_set(2)): the class is in the upper bits.
const (
	ioprioWhoThread  = 1
	ioprioClassShift = 13
	ioprioNone       = 0
	ioprioIdle       = 3 << ioprioClassShift
)

// Background makes the calling thread's reads and writes give way to everybody else's, or takes that back. The caller is
// locked to its thread. Schedulers that know no priorities ignore it, so a refusal is none of the caller's business.
func Background(on bool) {
	priority := ioprioNone
	if on {
		priority = ioprioIdle
	}
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoThread, 0, uintptr(priority))
}
