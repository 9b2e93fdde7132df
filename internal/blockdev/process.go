package blockdev

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// BackgroundProcess makes the whole process give way to everybody else, on disks and processors. It is for a process that does
// nothing else: there is no way back. Threads that start later inherit it from those that there are.
func BackgroundProcess() {
	const lowest = 19
	for range 2 { // a thread may have started while the first look was under way
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoThread, uintptr(id), ioprioIdle)
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, lowest)
		}
	}
}
