package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// boot runs a guest until it switches itself off, and reads its console; failures go to out. The tests must have ended
// well. It returns how many passed, and which were skipped.
func boot(ctx context.Context, out io.Writer, kernel, initramfs string) (passed int, skipped []string, err error) {
	disk := filepath.Join(filepath.Dir(initramfs), "disk.img")
	f, err := os.Create(disk)
	if err != nil {
		return 0, nil, err
	}
	if err := f.Truncate(64 << 20); err != nil {
		return 0, nil, err
	}
	if err := f.Close(); err != nil {
		return 0, nil, err
	}
	defer os.Remove(disk) //nolint:errcheck // it is written anew each time
	// A short queue whose descriptors hold one segment each: it is full at times, and the driver then gives requests back.
	// One thread for both processors: with two, the emulator now and then runs a breakpoint that one processor has put into
	// the kernel's code while it patches it, and the kernel panics for it (seen with 6.12: "Oops: int3").
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048", "-nodefaults", "-display", "none",
		"-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 panic=-1 quiet",
		"-drive", "if=none,id=d,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=d,queue-size=64,num-queues=1,indirect_desc=off")
	qemu.Stderr = os.Stderr
	console, err := qemu.StdoutPipe()
	if err != nil {
		return 0, nil, err
	}
	if err := qemu.Start(); err != nil {
		return 0, nil, err
	}
	log, err := os.Create(filepath.Join(filepath.Dir(initramfs), "console.log"))
	if err != nil {
		return 0, nil, err
	}
	defer log.Close() //nolint:errcheck // only for people
	good := false
	for lines := bufio.NewScanner(console); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		_, _ = fmt.Fprintln(log, line)
		switch {
		case strings.HasPrefix(line, "--- PASS"):
			passed++
		case strings.HasPrefix(line, "--- SKIP: "):
			skipped = append(skipped, strings.Fields(line)[2])
		case line == "rehost: exit 0":
			good = true
		}
		if strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "rehost: exit") {
			_, _ = fmt.Fprintln(out, " ", line)
		}
	}
	if err := qemu.Wait(); err != nil {
		return passed, skipped, err
	}
	if !good || passed == 0 {
		return passed, skipped, fmt.Errorf("the tests were not good; the console is in %s", log.Name())
	}
	return passed, skipped, nil
}
