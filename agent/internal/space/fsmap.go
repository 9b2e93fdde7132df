package space

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The layout of FS_IOC_GETFSMAP (include/uapi/linux/fsmap.h): a head of 64 bytes, two keys, then records, all of 64 bytes.
const (
	ioctlGetFsmap = 0xc0c0583b // _IOWR('X', 59, struct fsmap_head), whose size without records is 192
	recordBytes   = 64
	headBytes     = 64 + 2*recordBytes
	offCount      = 8
	offEntries    = 12
	offOflags     = 4
	offLowKey     = 64
	offHighKey    = 128

	flagDevices = 0x1  // fmh_oflags: fmr_device is a device number
	flagSpecial = 0x10 // fmr_flags: fmr_owner is not an inode
	flagLast    = 0x20
	ownerFree   = 1 // FMR_OWNER(0, 1)

	// perCall is how many records one call may return.
	perCall = 4096
	// maxRecords is more than a filesystem of 16 TiB with a record for each 64 KiB has.
	maxRecords = 1 << 28
)

// record is one run of a filesystem's device.
type record struct {
	device, flags           uint32
	physical, length, owner uint64
}

func (r record) free() bool { return r.flags&flagSpecial != 0 && r.owner == ownerFree }

// encodeDevice is how the kernel writes a device number in 32 bits (new_encode_dev).
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// decode reads the records that a call has returned.
func decode(buf []byte) ([]record, error) {
	if len(buf) < headBytes {
		return nil, errAnswer
	}
	n := binary.NativeEndian.Uint32(buf[offEntries:])
	if n > binary.NativeEndian.Uint32(buf[offCount:]) || int64(n) > int64(len(buf)-headBytes)/recordBytes {
		return nil, errAnswer
	}
	if n > 0 && binary.NativeEndian.Uint32(buf[offOflags:])&flagDevices == 0 {
		return nil, errAnswer // what its records speak of is not known
	}
	out := make([]record, n)
	for i := range out {
		b := buf[headBytes+i*recordBytes:]
		out[i] = record{
			device: binary.NativeEndian.Uint32(b), flags: binary.NativeEndian.Uint32(b[4:]),
			physical: binary.NativeEndian.Uint64(b[8:]), owner: binary.NativeEndian.Uint64(b[16:]), length: binary.NativeEndian.Uint64(b[32:]),
		}
	}
	return out, nil
}

// Reasons for not believing an answer.
var (
	errAnswer  = errors.New("the kernel's answer about free space has an unknown form")
	errInsane  = errors.New("the kernel's answer about free space contradicts itself; the filesystem may be damaged: run fsck when it can be unmounted")
	errEndless = errors.New("the kernel's answer about free space does not end")
)

// collector turns records into free ranges. Nothing of it may be used after an error.
type collector struct {
	device uint32
	size   int64 // of the device

	free    []Range
	freeTo  uint64 // end of the last free record
	usedTo  uint64 // largest end of a record in use
	last    uint64 // start of the last record
	pending Range  // grows while free records touch
}

// add takes the next record, in the order of their places on the device. Records in use may overlap, as those of shared
// extents do; free ones overlap nothing.
func (c *collector) add(r record) error {
	if r.device != c.device {
		return nil // of an external log or a realtime device
	}
	end := r.physical + r.length
	switch {
	case r.length == 0, end < r.physical, end > uint64(c.size), r.physical < c.last, r.physical < c.freeTo:
		return errInsane
	case r.free() && r.physical < c.usedTo:
		return errInsane
	}
	c.last = r.physical
	if !r.free() {
		c.usedTo = max(c.usedTo, end)
		return nil
	}
	c.freeTo = end
	if c.pending.Length > 0 && uint64(c.pending.Offset+c.pending.Length) == r.physical {
		c.pending.Length += int64(r.length)
		return nil
	}
	c.keep()
	c.pending = Range{Offset: int64(r.physical), Length: int64(r.length)}
	return nil
}

// keep notes the pending range if it is worth it.
func (c *collector) keep() {
	if c.pending.Length >= minRange {
		c.free = append(c.free, c.pending)
	}
	c.pending = Range{}
}

// fsmap asks the kernel for all records of a mounted filesystem.
func fsmap(ctx context.Context, dir *os.File, c *collector) error {
	buf := make([]byte, headBytes+perCall*recordBytes)
	binary.NativeEndian.PutUint32(buf[offCount:], perCall)
	for i := range 32 { // device, flags, physical, owner, offset: up to the end; the length stays zero
		buf[offHighKey+i] = 0xff
	}
	for range maxRecords / perCall {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(buf[headBytes:])
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ioctlGetFsmap, uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
			if errno == unix.ENOTTY || errno == unix.EOPNOTSUPP {
				return errKind
			}
			return fmt.Errorf("ask for free space: %w", errno)
		}
		records, err := decode(buf)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := c.add(r); err != nil {
				return err
			}
		}
		if len(records) == 0 || records[len(records)-1].flags&flagLast != 0 {
			c.keep()
			return nil
		}
		// The next call begins behind the last record.
		copy(buf[offLowKey:offLowKey+recordBytes], buf[headBytes+(len(records)-1)*recordBytes:])
	}
	return errEndless
}
