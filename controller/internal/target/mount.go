package target

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"rehost/internal/progress"
	"rehost/protocol"
)

// mountTables prints what is to be mounted, what is, and how full it is. A df that meets a dead NFS server hangs, and the check's deadline ends it.
const mountTables = "cat /etc/fstab; echo; echo " + divider + "; cat /proc/self/mounts; echo " + divider + "; df -P -k"

const divider = "=rehost="

// askMounts wants all that fstab mounts at each boot to be mounted, with so much free space on what has a disk.
func (t Target) askMounts(ctx context.Context, c protocol.CheckSettings) error {
	r, err := t.run(ctx, mountTables)
	if err != nil {
		return err
	}
	tables := strings.Split(r.Output, divider+"\n")
	if len(tables) != 3 {
		return fmt.Errorf("fstab and mounts cannot be read; it says:\n%s", Tail(r.Output, consoleLines))
	}
	return judgeMounts(tables[0], tables[1], tables[2], c.Free)
}

func judgeMounts(fstab, mounts, space string, free int64) error {
	mounted := map[string]bool{}
	for _, f := range fields(mounts) {
		if len(f) > 1 {
			mounted[f[1]] = true
		}
	}
	available := freeSpace(space)
	var wrong []string
	for _, f := range fields(fstab) {
		if !atBoot(f) {
			continue
		}
		at := path.Clean(f[1])
		left, known := available[unescape(at)]
		switch {
		case !mounted[at]:
			wrong = append(wrong, fmt.Sprintf("%s (%s) is not mounted", unescape(at), f[0]))
		case free > 0 && known && left < free:
			wrong = append(wrong, fmt.Sprintf("%s has %s free, wanted %s", unescape(at), progress.Bytes(left), progress.Bytes(free)))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}

// fields are those of each line that is no comment.
func fields(table string) [][]string {
	var out [][]string
	for line := range strings.SplitSeq(table, "\n") {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			out = append(out, f)
		}
	}
	return out
}

// atBoot says that an entry of fstab is mounted at each boot. One with nofail may be missing, and that is what the check is for; one that waits for
// its first use is mounted too, as autofs.
func atBoot(f []string) bool {
	if len(f) < 3 || !strings.HasPrefix(f[1], "/") || f[2] == "swap" || f[2] == "ignore" {
		return false
	}
	return len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), "noauto")
}

// freeSpace reads df's table: bytes by mount point, of what is a device of its own.
func freeSpace(table string) map[string]int64 {
	out := map[string]int64{}
	for _, f := range fields(table) {
		if len(f) < 6 || !strings.HasPrefix(f[0], "/") {
			continue
		}
		if kib, err := strconv.ParseInt(f[3], 10, 64); err == nil {
			out[strings.Join(f[5:], " ")] = kib << 10
		}
	}
	return out
}

// unescape turns the escapes of fstab into what they stand for.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(s)
}
