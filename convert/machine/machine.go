// Package machine is the conversion instance: the first process of a tiny virtual
// machine. It brings up what it needs, reads its order from the metadata service,
// waits for the volumes, converts, prints the report on the serial console, and
// powers the machine off, whatever happens. It has no credentials and talks to
// nobody but the metadata service.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/convert/storage"
	"rehost/internal/uptime"
	"rehost/protocol"
)

const (
	// hardLimit is how long the machine may run at most, without the time that scripts may take: a wedged one costs money.
	hardLimit = 10 * time.Minute
	// volumeWait is how long volumes may take to be attached after the start.
	volumeWait = 4 * time.Minute
	poll       = 50 * time.Millisecond
	// readAhead in KiB is for files of some megabytes, read once and whole: a request takes an emulated disk a millisecond, and one of EBS too.
	readAhead = "2048"
	// grace is what is left for the report once the work was called off.
	grace = 10 * time.Second
)

// Run is the whole life of the machine. It returns only if the power cannot be switched off.
func Run() error {
	console := Console()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	end := time.AfterFunc(hardLimit, func() { cancel(errors.New("the conversion took too long")) })
	// Should something hang in the kernel, the context helps nobody.
	off := time.AfterFunc(hardLimit+grace, func() { _ = PowerOff(console) })
	prolong := func(by time.Duration) {
		end.Reset(hardLimit + by)
		off.Reset(hardLimit + by + grace)
	}
	say := sayTo(console)
	// There is memory enough for one conversion, and collecting costs an emulated processor seconds.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
	say("starting")
	report := work(ctx, say, prolong)
	report.Seconds = uptime.Now().Seconds()
	printReport(console, report, say)
	return PowerOff(console)
}

// sayTo returns a function that writes a line on the console.
func sayTo(console io.Writer) func(string) {
	return func(text string) {
		_, _ = fmt.Fprintf(console, "%s%6.2f s  %s\r\n", Prefix, uptime.Now().Seconds(), text)
	}
}

// Console returns the machine's console.
func Console() io.Writer {
	if err := mountKernel(); err == nil {
		if f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
			return f
		}
	}
	return os.Stdout
}

// work does the job; a panic becomes a report like any other failure.
func work(ctx context.Context, say func(string), prolong func(time.Duration)) (r protocol.ConversionReport) {
	defer func() {
		if p := recover(); p != nil {
			r = failed(r.Job, fmt.Errorf("internal error: %v", p))
		}
	}()
	t, err := Prepare(say)
	if err != nil {
		return failed("", err)
	}
	order, err := readOrder(ctx, t)
	if err != nil {
		return failed("", fmt.Errorf("read the order: %w", err))
	}
	t.guests(order)
	prolong(protocol.ScriptTime(order.Options.Scripts))
	return carryOut(ctx, order, storage.Options{Progress: say, Load: t.Load, Program: t.Program, Script: t.script})
}

func failed(job string, err error) protocol.ConversionReport {
	return protocol.ConversionReport{Job: job, Problem: storage.AsProblem(err), Changes: []protocol.Change{}}
}

// mountKernel mounts what the kernel shows of itself.
func mountKernel() error {
	var err error
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
	} {
		if e := os.MkdirAll(m.path, 0o755); e != nil {
			err = errors.Join(err, e)
		}
		if e := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); e != nil && !errors.Is(e, unix.EBUSY) {
			err = errors.Join(err, fmt.Errorf("mount %s: %w", m.path, e))
		}
	}
	// Programs of ours, none of the guest's, are found here. There is no udev that RAID could wait for.
	return errors.Join(err, os.MkdirAll("/run/lock", 0o755), os.MkdirAll("/run/cryptsetup", 0o700),
		os.Setenv("PATH", "/sbin:/usr/sbin:/bin:/usr/bin"), os.Setenv("MDADM_NO_UDEV", "1"))
}

// waitVolumes returns the devices of the ordered volumes, the boot disk first.
func waitVolumes(ctx context.Context, disks []protocol.ConversionDisk) ([]storage.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, volumeWait)
	defer cancel()
	for {
		var found []storage.Device
		var lacking []string
		have := volumes("/sys")
		for _, d := range disks {
			name, ok := have[serialOf(d.Volume)]
			if !ok {
				lacking = append(lacking, d.Volume)
				continue
			}
			found = append(found, storage.Device{Volume: d.Volume, Boot: d.Boot, Path: "/dev/" + name})
			_ = os.WriteFile(filepath.Join("/sys/block", name, "queue/read_ahead_kb"), []byte(readAhead), 0) // only faster with it
		}
		if len(lacking) == 0 {
			slices.SortStableFunc(found, func(a, b storage.Device) int {
				if a.Boot == b.Boot {
					return 0
				} else if a.Boot {
					return -1
				}
				return 1
			})
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, &protocol.Problem{
				Code: protocol.ProblemConversion, Step: "convert",
				Message: "volumes were not attached in time: " + strings.Join(lacking, ", "),
				Hint:    "look at the attachments of the conversion instance, then repeat the launch",
			}
		case <-time.After(poll):
		}
	}
}

// serialOf returns the serial number that EC2 gives the disk of a volume.
func serialOf(volume string) string { return strings.ReplaceAll(volume, "-", "") }

// volumes returns the NVMe disks by their serial number.
func volumes(sys string) map[string]string {
	found := map[string]string{}
	paths, _ := filepath.Glob(filepath.Join(sys, "block/nvme*")) // the pattern is good
	for _, p := range paths {
		if serial, err := os.ReadFile(filepath.Join(p, "device/serial")); err == nil {
			found[strings.TrimSpace(string(serial))] = filepath.Base(p)
		}
	}
	return found
}

// Prefix begins each line of the machine on the console, beside the kernel's.
const Prefix = "rehost-convert: "

// Outcome is the last line on the console before the outcome is told, for those who follow the work.
const Outcome = "the outcome:"

// printReport prints the outcome for people and, between the kernel's silence, for the controller.
func printReport(console io.Writer, r protocol.ConversionReport, say func(string)) {
	say(Outcome)
	for _, c := range r.Changes {
		say(fmt.Sprintf("%s %s: %s", c.Action, c.Path, c.Reason))
	}
	if r.Problem != nil {
		say("error: " + r.Problem.Message)
		say("hint: " + r.Problem.Hint)
	} else {
		say("done")
	}
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("1"), 0o600) // only for the looks of the report
	lines, err := protocol.ConsoleReport(&r)
	if err != nil {
		say("error: " + err.Error())
	}
	for _, l := range lines {
		_, _ = fmt.Fprintf(console, "%s\r\n", l)
	}
}

// PowerOff ends the machine, once the console has said all.
func PowerOff(console io.Writer) error {
	unix.Sync()
	if f, ok := console.(*os.File); ok {
		// Wait until the serial port has sent all: tcdrain.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
