// Package uptime is the clock that starts with the machine: it goes on while the machine is suspended, and nobody can set it.
package uptime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is how long the machine has run.
func Now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // there since Linux 2.6.39
	return time.Duration(t.Nano())
}
