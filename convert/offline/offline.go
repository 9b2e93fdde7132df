// Package offline converts image files and disks on the machine of a person who has nothing else: in the appliance,
// in a virtual machine of its own, so that this machine's kernel never mounts a filesystem of the guest. It
// needs QEMU and the right to write the images, and no root. It knows no cloud.
package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehost/convert/machine"
	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// memory is that of a small instance: opening LUKS may take most of it.
	memoryMiB = 2048
	// limit is above the machine's own; scripts come on top of both.
	limit = 15 * time.Minute
	// kvmPatience is how long a machine on /dev/kvm may take until its first process says something. On hosts where
	// it is there and hangs, that never comes.
	kvmPatience = 8 * time.Second
	look        = 50 * time.Millisecond
)

// Job is one conversion.
type Job struct {
	Appliance string   // its disk image
	Disks     []string // raw image files or block devices, the boot disk first
	Action    protocol.ConversionAction
	Settings  protocol.ConversionSettings
	KVM       bool         // try /dev/kvm first
	Progress  func(string) // one line for people; may be nil
}

// errSilent says that a machine did not even start.
var errSilent = errors.New("the virtual machine says nothing")

// Run converts, and returns the machine's report. An error means that there is none. The machine may be killed
// at any moment; then the same job can be run again. A plan changes no byte of the disks.
func Run(ctx context.Context, job Job) (protocol.ConversionReport, error) {
	if job.Progress == nil {
		job.Progress = func(string) {}
	}
	ctx, cancel := context.WithTimeout(ctx, limit+protocol.ScriptTime(job.Settings.Scripts))
	defer cancel()
	if job.KVM {
		r, err := run(ctx, job, "kvm", kvmPatience)
		if !errors.Is(err, errSilent) {
			return r, err
		}
		job.Progress("/dev/kvm does not work here: emulating a processor instead")
	}
	return run(ctx, job, "tcg", limit)
}

func run(ctx context.Context, job Job, accel string, patience time.Duration) (protocol.ConversionReport, error) {
	var none protocol.ConversionReport
	dir, err := os.MkdirTemp("", "rehost-convert-")
	if err != nil {
		return none, fmt.Errorf("create a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	order, err := json.Marshal(job.order())
	if err != nil {
		return none, fmt.Errorf("encode the order: %w", err)
	}
	console := filepath.Join(dir, "console")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	follower := follow(ctx, console, job.Progress)
	timer := time.AfterFunc(patience, func() {
		if !follower.spoke.Load() {
			cancel(errSilent)
		}
	})
	defer timer.Stop()
	// The order goes in through stdin: it may have a passphrase, which neither a file nor an argument may.
	_, err = command.RunIn(ctx, "", order, program, arguments(job, accel, console)...)
	cancelled := context.Cause(ctx)
	cancel(nil)
	text := follower.wait()
	if cancelled != nil {
		return none, cancelled
	}
	if err != nil {
		return none, explain(err, job)
	}
	r, ok, err := protocol.ParseConsole(text)
	if err == nil && !ok {
		err = hint.New("the virtual machine ended without a report; its console ends with: "+lastLines(text), "run it again: a conversion that was cut off goes on")
	}
	return r, err
}

const program = "qemu-system-x86_64"

// arguments returns those of QEMU: no network, no display, nothing but disks and a console.
func arguments(job Job, accel, console string) []string {
	cpu := "max"
	if accel == "kvm" {
		cpu = "host"
	}
	args := []string{
		"-accel", accel, "-cpu", cpu, "-machine", "pc", "-m", fmt.Sprint(memoryMiB), "-nodefaults", "-no-user-config", "-nic", "none",
		"-display", "none", "-vga", "std", "-no-reboot", "-serial", "file:" + console,
		"-fw_cfg", "name=" + machine.OrderName + ",file=/dev/stdin",
		"-drive", "if=none,id=boot,format=raw,snapshot=on,file=" + escape(job.Appliance), "-device", "nvme,drive=boot,serial=appliance,bootindex=1",
	}
	for i, d := range job.Disks {
		drive := fmt.Sprintf("if=none,id=disk%d,format=raw,discard=unmap,file=%s", i, escape(d))
		if job.Action == protocol.ActionPlan {
			drive += ",snapshot=on" // journals are replayed: that must not reach the image
		}
		args = append(args, "-drive", drive, "-device", fmt.Sprintf("nvme,drive=disk%d,serial=%s", i, serial(i)))
	}
	return args
}

// escape doubles commas, as QEMU wants them in the value of an option.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func serial(i int) string { return fmt.Sprintf("disk%d", i) }

func (j Job) order() protocol.ConversionOrder {
	o := protocol.ConversionOrder{Job: "image", Server: filepath.Base(j.Disks[0]), Purpose: string(j.Action), Options: j.Settings, Action: j.Action}
	for i := range j.Disks {
		o.Disks = append(o.Disks, protocol.ConversionDisk{Volume: serial(i), Boot: i == 0})
	}
	return o
}

// explain adds what to do to an error of QEMU.
func explain(err error, job Job) error {
	switch text := err.Error(); {
	case hint.Of(err) != "":
		return hint.Wrap(errors.New(program+" is not installed"), "apt-get install qemu-system-x86 seabios, dnf install qemu-kvm, or your system's package of QEMU for x86")
	case strings.Contains(text, "lock"):
		return hint.Wrap(fmt.Errorf("another program uses one of %s: %w", strings.Join(job.Disks, ", "), err), "stop the virtual machine or the conversion that has it open")
	case strings.Contains(text, "Permission denied"):
		return hint.Wrap(err, "make the images writable for you, or run it as the user who owns them")
	}
	return err
}

func lastLines(text string) string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
