package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

// counters are what the kernel counts of each device: the sectors that were written and discarded. A nil one is not known, as that
// of a file.
type counters []*string

// count reads the counters of devices (Documentation/block/stat.rst of the kernel). They tell also of what no mount of ours
// explains: journals, and superblocks of LVM and RAID.
func count(devices []Device) counters {
	c := make(counters, len(devices))
	for i, d := range devices {
		if text, err := written(d.Path); err == nil {
			c[i] = &text
		}
	}
	return c
}

func written(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no block device", path)
	}
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(unix.Major(st.Rdev), unix.Minor(st.Rdev)), "stat"))
	if err != nil {
		return "", err
	}
	const sectorsWritten, sectorsDiscarded = 6, 13
	f := strings.Fields(string(text))
	if len(f) <= sectorsDiscarded { // discards are counted from 4.19 on
		return "", fmt.Errorf("the kernel counts %d things of %s", len(f), path)
	}
	return f[sectorsWritten] + " " + f[sectorsDiscarded], nil
}

// since returns the volumes that were written to, or may have been.
func (c counters) since(devices []Device) []string {
	var volumes []string
	for i, now := range count(devices) {
		if now == nil || c[i] == nil || *now != *c[i] {
			volumes = append(volumes, devices[i].Volume)
		}
	}
	return volumes
}
