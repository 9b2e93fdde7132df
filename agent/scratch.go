package agent

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/agent/internal/host"
	"rehost/agent/internal/ship"
	"rehost/internal/blockdev"
)

const (
	scratchBytes = 4096

	// FS_IOC_FIEMAP (include/uapi/linux/fiemap.h): a head of 32 bytes, then extents of 56.
	ioctlFiemap      = 0xc020660b
	fiemapSync       = 0x1
	fiemapHead       = 32
	fiemapExtent     = 56
	fiemapUnknown    = 0x2
	fiemapDelalloc   = 0x4
	fiemapEncoded    = 0x8
	fiemapNotAligned = 0x100
	fiemapInline     = 0x200
	fiemapShared     = 0x2000
	fiemapUnusable   = fiemapUnknown | fiemapDelalloc | fiemapEncoded | fiemapNotAligned | fiemapInline | fiemapShared
)

// scratch is a file of the agent's own, through which the tracker is shown a write whose place is known.
type scratch struct {
	path  string
	disks []string
}

// errNoScratch says that there is nowhere to write for a self-test.
var errNoScratch = errors.New("the state folder does not lie on a replicated disk in one piece")

// write writes the file past the page cache, and says where on the disks it lies.
func (s scratch) write() (ship.Place, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return ship.Place{}, fmt.Errorf("make the state folder: %w", err)
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0o600)
	if err != nil {
		return ship.Place{}, fmt.Errorf("%w: %w", errNoScratch, err) // such as on a tmpfs
	}
	defer f.Close() //nolint:errcheck // the write below was synced
	b, err := blockdev.AlignedBuffer(scratchBytes)
	if err != nil {
		return ship.Place{}, err
	}
	defer blockdev.FreeBuffer(b) //nolint:errcheck // it is ours and whole
	_, _ = rand.Read(b)          // never fails
	// Twice: the first write may have to find a place, the second one is to where the file lies.
	for range 2 {
		if _, err := f.WriteAt(b, 0); err != nil {
			return ship.Place{}, fmt.Errorf("write the tracker's scratch file: %w", err)
		}
	}
	return s.place(f)
}

// place finds the file's block on a replicated disk.
func (s scratch) place(f *os.File) (ship.Place, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ship.Place{}, fmt.Errorf("look at the scratch file: %w", err)
	}
	physical, err := fiemap(f)
	if err != nil {
		return ship.Place{}, err
	}
	for i, disk := range s.disks {
		if offset, ok := host.OffsetOn(disk, unix.Major(st.Dev), unix.Minor(st.Dev)); ok {
			return ship.Place{Disk: i, Offset: offset + physical, Length: scratchBytes}, nil
		}
	}
	return ship.Place{}, errNoScratch
}

// fiemap returns where on its filesystem's device a file's first block lies.
func fiemap(f *os.File) (int64, error) {
	b := make([]byte, fiemapHead+fiemapExtent)
	binary.NativeEndian.PutUint64(b[8:], scratchBytes)
	binary.NativeEndian.PutUint32(b[16:], fiemapSync)
	binary.NativeEndian.PutUint32(b[24:], 1)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlFiemap, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return 0, fmt.Errorf("%w: its filesystem does not tell where files lie: %w", errNoScratch, errno)
	}
	e := b[fiemapHead:]
	if binary.NativeEndian.Uint32(b[20:]) != 1 || binary.NativeEndian.Uint64(e) != 0 || binary.NativeEndian.Uint64(e[16:]) < scratchBytes ||
		binary.NativeEndian.Uint32(e[40:])&fiemapUnusable != 0 {
		return 0, errNoScratch
	}
	return int64(binary.NativeEndian.Uint64(e[8:])), nil
}
