package host

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint is one line of a mountinfo file.
type mountPoint struct {
	id       string
	device   device
	root     string // the part of the filesystem that is mounted
	path     string
	kind     string
	source   string
	readOnly bool // the superblock, not just this mount
	order    int
}

// block returns the block device of the filesystem; one with a number of its own, such as btrfs, names it as its source.
func (m mountPoint) block() device {
	if m.device.major != 0 || !strings.HasPrefix(m.source, "/dev/") {
		return m.device
	}
	var st unix.Stat_t
	if err := unix.Stat(m.source, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return m.device
	}
	return device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}
}

// allMounts returns the mounts of every mount namespace, our own first, whole filesystems before parts of them.
func allMounts() ([]mountPoint, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	all := parseMounts(string(text), "", 0)
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("look up the mount namespace: %w", err)
	}
	seen := map[string]bool{own: true}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", p.Name())
		space, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil || seen[space] {
			continue // it has just ended, or its mounts are known
		}
		text, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
		if err != nil {
			continue
		}
		seen[space] = true
		all = append(all, parseMounts(string(text), filepath.Join(dir, "root"), len(all))...)
	}
	slices.SortStableFunc(all, func(a, b mountPoint) int { return cmp.Compare(isPart(a), isPart(b)) })
	return all, nil
}

// isPart is 1 for a bind mount of a folder.
func isPart(m mountPoint) int {
	if m.root == "/" {
		return 0
	}
	return 1
}

// parseMounts reads a mountinfo file (proc_pid_mountinfo(5)) and puts prefix before its paths. A mount that a later one
// hides is not left out: if the path leads elsewhere, it is skipped, because what lies there is listed itself.
func parseMounts(text, prefix string, order int) []mountPoint {
	var all []mountPoint
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, more := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 6 || len(more) < 3 {
			continue
		}
		d, err := parseDevice(fields[2])
		if err != nil {
			continue
		}
		m := mountPoint{
			id: fields[0], device: d, root: unescape(fields[3]), path: prefix + unescape(fields[4]), kind: more[0], source: unescape(more[1]),
			readOnly: slices.Contains(strings.Split(more[2], ","), "ro"), order: order + len(all),
		}
		if m.leadsThere() {
			all = append(all, m)
		}
	}
	return all
}

// leadsThere tells whether the mount point's path shows this filesystem, and not another one that covers it.
func (m mountPoint) leadsThere() bool {
	if m.device.major == 0 && !strings.HasPrefix(m.source, "/dev/") {
		return true // no disk: not asked, since a network filesystem may hang
	}
	var st unix.Stat_t
	if err := unix.Stat(m.path, &st); err != nil {
		return false
	}
	// The kernel says which mount it is, from 5.8 on.
	if id, ok := mountID(m.path); ok {
		return id == m.id
	}
	// A btrfs subvolume has a number that mountinfo does not show.
	return m.device.major == 0 || device{unix.Major(st.Dev), unix.Minor(st.Dev)} == m.device
}

// mountID returns the number, as in mountinfo, of the mount on which a path lies.
func mountID(path string) (string, bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	return strconv.FormatUint(st.Mnt_id, 10), err == nil && st.Mask&unix.STATX_MNT_ID != 0
}

// unescape undoes the octal escapes of mountinfo.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
