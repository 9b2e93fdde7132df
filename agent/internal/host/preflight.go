package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

// swapSignature stands at the end of the first page of a swap area.
var swapSignature = []byte("SWAPSPACE2")

// CheckDisks returns what keeps each of these disks from being replicated, all at once, with hints.
func CheckDisks(paths []string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, CheckDisk(path))
	}
	return errors.Join(errs...)
}

// CheckDisk returns what keeps one disk from being replicated.
func CheckDisk(path string) error {
	if err := blockdev.CheckWhole(path); err != nil {
		return err
	}
	d, err := blockdev.Open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if d.ReadOnly {
		return hint.New(path+" is read-only", "replicate disks that change; copy this one once, or make it writable with `blockdev --setrw "+path+"`")
	}
	mounted, err := Filesystems([]string{path})
	if err != nil {
		return err
	}
	if len(mounted) == 0 {
		return checkSwap(d)
	}
	for _, f := range mounted {
		if !f.ReadOnly {
			return nil
		}
	}
	m := mounted[len(mounted)-1].Mount
	return hint.New(path+" is mounted read-only on "+m, "run `mount -o remount,rw "+m+"`; if the kernel refuses, the filesystem has errors: see `dmesg`")
}

// checkSwap refuses a disk that is one swap area: the target gets an empty one.
func checkSwap(d *blockdev.Device) error {
	page := make([]byte, os.Getpagesize())
	if int64(len(page)) > d.SizeBytes {
		return nil
	}
	if _, err := d.ReadAt(page, 0); err != nil {
		return fmt.Errorf("read the start of %s: %w", d.Name(), err)
	}
	if bytes.HasSuffix(page, swapSignature) {
		return hint.New(d.Name()+" carries only swap", "leave it out of the server's disks, and let the launch make a swap volume")
	}
	return nil
}
