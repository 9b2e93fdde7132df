package agent

import (
	"bytes"
	"io"
	"os"
	"slices"

	"rehost/agent/internal/host"
)

// bootSigns are what a disk has of what a machine starts from.
type bootSigns struct {
	loader bool // a boot record with a program, or the EFI system partition
	kernel bool // /boot, or the root filesystem, or a part of one of them
}

// markBoot marks the disk that the machine starts from. In a mirror both halves could be it, and a root volume group lies on several
// disks: the first one that has most of it is taken, since an instance starts from one.
func markBoot(disks []SourceDisk) {
	signs := make([]bootSigns, len(disks))
	for i, d := range disks {
		signs[i] = signsOf(d.Name)
	}
	if i := bootDisk(signs); i >= 0 {
		disks[i].Boot = true
	}
}

// bootDisk returns the index of the boot disk; -1 when none has any sign of being it.
func bootDisk(signs []bootSigns) int {
	best, most := -1, 0
	for i, s := range signs {
		weight := 0
		if s.loader {
			weight += 2
		}
		if s.kernel {
			weight++
		}
		if weight > most {
			best, most = i, weight
		}
	}
	return best
}

func signsOf(path string) bootSigns {
	s := bootSigns{loader: hasBootRecord(path)}
	filesystems, err := host.Filesystems([]string{path})
	if err != nil {
		return s // the boot record is all that is known
	}
	mounted := func(points ...string) bool {
		return slices.ContainsFunc(filesystems, func(f host.Filesystem) bool { return slices.Contains(points, f.Mount) })
	}
	s.loader = s.loader || mounted("/boot/efi", "/efi")
	s.kernel = mounted("/", "/boot")
	return s
}

func hasBootRecord(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // nothing was written
	sector := make([]byte, 512)
	if _, err := io.ReadFull(f, sector); err != nil {
		return false
	}
	const code = 440 // bytes of a boot record that are a program
	return sector[510] == 0x55 && sector[511] == 0xaa && !bytes.Equal(sector[:code], make([]byte, code))
}
