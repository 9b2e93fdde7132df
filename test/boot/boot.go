// Package boot starts a raw disk image in an emulated machine and watches its
// serial console. Tests use it to see for themselves whether a disk boots; the
// image is never changed. It emulates the processor (TCG), needs no network of the
// host's but ports on loopback addresses, and ends the machine in every case.
package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rehost/internal/command"
)

// Bus is how the machine shows its disk.
type Bus string

// NIC is the model of the machine's network card.
type NIC string

// What the machines at hand differ in: those of EC2 have an NVMe disk and a network
// card that is not virtio, those of most other hypervisors have virtio for both.
const (
	BusNVMe   Bus = "nvme"
	BusVirtio Bus = "virtio"
	NICE1000e NIC = "e1000e"
	NICVirtio NIC = "virtio"
)

// Forward is a TCP port of the guest that answers on an address of the host.
type Forward struct {
	Host  string // address and port on loopback, such as "127.0.0.1:8080"
	Guest string // address and port in the guest; the address may be empty for one given by DHCP
}

// Options describes the machine.
type Options struct {
	Disk      string   // raw image; it is opened read-only, changes go to a temporary file
	More      []string // further disks behind it, treated alike
	Bus       Bus      // empty: nvme
	NIC       NIC      // empty: e1000e
	MAC       string   // empty: QEMU's own
	MemoryMiB int      // 0: 768
	Forward   []Forward
	Reach     []Forward // what the guest may reach: an address of its network stands for one of the host
	Reboots   bool      // a reboot does not end the machine
	UEFI      bool      // Debian's OVMF instead of a BIOS, with no boot entry in its variables
}

// Machine is a machine that runs.
type Machine struct {
	log string // file with what came over the serial console
}

// Run starts the machine and calls watch. The machine is ended when watch returns,
// and watch's context when the machine ends by itself. The error is watch's, or the
// emulator's if that failed.
func Run(ctx context.Context, o Options, watch func(ctx context.Context, m *Machine) error) error {
	dir, err := os.MkdirTemp("", "rehost-boot-")
	if err != nil {
		return fmt.Errorf("boot %s: %w", o.Disk, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: nothing to do about it
	m := &Machine{log: filepath.Join(dir, "console")}
	args, err := arguments(o, m.log)
	if err != nil {
		return fmt.Errorf("boot %s: %w", o.Disk, err)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := command.Run(ctx, "qemu-system-x86_64", args...)
		if err == nil {
			err = errors.New("it switched itself off")
		}
		cancel(fmt.Errorf("the machine has ended: %w", err))
	}()
	err = watch(ctx, m)
	cancel(nil)
	<-ended
	if err != nil {
		return fmt.Errorf("boot %s: %w", o.Disk, err)
	}
	return nil
}

// Console returns all that came over the serial console so far.
func (m *Machine) Console() string {
	data, _ := os.ReadFile(m.log) // no file yet: nothing was said
	return string(data)
}

// Wait waits until the serial console shows want and returns what matched. When
// ctx ends before, the error has the console's last lines.
func (m *Machine) Wait(ctx context.Context, want *regexp.Regexp) (string, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		console := m.Console()
		if found := want.FindString(console); found != "" {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %q on the console: %w; its last lines:\n%s", want, context.Cause(ctx), tail(console, 20))
		case <-tick.C:
		}
	}
}

// arguments returns QEMU's command line for o, with the serial console in the file log.
func arguments(o Options, log string) ([]string, error) {
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 768
	}
	disk := map[Bus]string{
		"":        "nvme,serial=rehost",
		BusNVMe:   "nvme,serial=rehost",
		BusVirtio: "virtio-blk-pci",
	}[o.Bus]
	nic := map[NIC]string{"": "e1000e", NICE1000e: "e1000e", NICVirtio: "virtio-net-pci"}[o.NIC]
	if disk == "" || nic == "" {
		return nil, fmt.Errorf("no such machine: bus %q, network card %q", o.Bus, o.NIC)
	}
	// The card's slot decides its name in the guest: in slot 3 it is ens3.
	nic += ",netdev=net0,addr=3"
	if o.MAC != "" {
		nic += ",mac=" + o.MAC
	}
	var network strings.Builder
	network.WriteString("user,id=net0,restrict=on")
	for _, f := range o.Forward {
		host, hostPort, ok := strings.Cut(f.Host, ":")
		guest, guestPort, ok2 := strings.Cut(f.Guest, ":")
		if !ok || !ok2 || host == "" {
			return nil, fmt.Errorf("forward %q to %q: each needs an address and a port", f.Host, f.Guest)
		}
		_, _ = fmt.Fprintf(&network, ",hostfwd=tcp:%s:%s-%s:%s", host, hostPort, guest, guestPort)
	}
	for _, f := range o.Reach {
		// A program for each connection: without one, QEMU has a single connection and opens it at its start.
		_, _ = fmt.Fprintf(&network, ",guestfwd=tcp:%s-cmd:socat - tcp:%s", f.Guest, f.Host)
	}
	args := []string{
		"-accel", "tcg", "-machine", "pc", "-m", strconv.Itoa(o.MemoryMiB),
		"-nodefaults", "-display", "none", "-vga", "std",
		// A comma in a file name is written twice.
		"-drive", "if=none,id=disk0,format=raw,snapshot=on,file=" + strings.ReplaceAll(o.Disk, ",", ",,"),
		"-device", disk + ",drive=disk0,bootindex=1,addr=4",
		"-netdev", network.String(),
		"-device", nic,
		"-serial", "file:" + log,
	}
	for i, path := range o.More {
		id := fmt.Sprintf("disk%d", i+1)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,snapshot=on,file="+strings.ReplaceAll(path, ",", ",,"),
			"-device", fmt.Sprintf("%s,drive=%s,addr=%d", strings.Replace(disk, "serial=rehost", "serial="+id, 1), id, 5+i))
	}
	if o.UEFI {
		for i, file := range []string{"OVMF_CODE_4M.fd,readonly=on", "OVMF_VARS_4M.fd,snapshot=on"} {
			args = append(args, "-drive", fmt.Sprintf("if=pflash,format=raw,unit=%d,file=/usr/share/OVMF/%s", i, file))
		}
	}
	if !o.Reboots {
		args = append(args, "-no-reboot")
	}
	return args, nil
}

// FreeAddress returns a loopback address and a port that nobody uses.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
