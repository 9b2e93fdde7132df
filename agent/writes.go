package agent

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

// writesOver is the time over which the rate of writes is averaged, and rateEvery how often it is looked at.
const (
	writesOver = 15 * time.Minute
	rateEvery  = 10 * time.Second
)

// writeRates knows how much is written to each disk, by the kernel's own count: that is there before anything is tracked.
type writeRates struct {
	rates []writeRate
	next  time.Time
}

// writeRate averages a count of bytes, with a weight that fades.
type writeRate struct {
	bytes  uint64
	at     time.Time
	rate   float64 // bytes per second
	primed bool
}

// look takes what the kernel has counted up to now. The first look has the average since the boot, since nothing else is known.
func (r *writeRate) look(bytes uint64, now time.Time, uptime time.Duration) {
	switch {
	case !r.primed || bytes < r.bytes: // another disk, under the same name
		r.rate, r.primed = float64(bytes)/max(uptime.Seconds(), 1), true
	case now.After(r.at):
		elapsed := now.Sub(r.at)
		current := float64(bytes-r.bytes) / elapsed.Seconds()
		r.rate += (current - r.rate) * (1 - math.Exp(-elapsed.Seconds()/writesOver.Seconds()))
	}
	r.bytes, r.at = bytes, now
}

// rate returns how many bytes are written to a disk per second; 0 when the kernel does not say.
func (w *writeRates) rate(disk int) int64 {
	if disk >= len(w.rates) {
		return 0
	}
	return int64(w.rates[disk].rate)
}

// look looks at all disks, unless it has just done so.
func (w *writeRates) look(disks []SourceDisk, now time.Time) {
	if now.Before(w.next) {
		return
	}
	w.next = now.Add(rateEvery)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return
	}
	if len(w.rates) != len(disks) {
		w.rates = make([]writeRate, len(disks))
	}
	for i, d := range disks {
		if bytes, err := writtenBytes(d.Name); err == nil { // else it is not known, and nothing hangs on it
			w.rates[i].look(bytes, now, time.Duration(info.Uptime)*time.Second)
		}
	}
}

// writtenBytes is what was written to a disk since the boot.
func writtenBytes(path string) (uint64, error) {
	major, minor, err := blockdev.DevNumber(path)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(major, minor), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read the counters of %s: %w", path, err)
	}
	const writeSectors, sector = 6, 512 // the field of the kernel's Documentation/block/stat.rst, and its unit
	fields := strings.Fields(string(text))
	if len(fields) <= writeSectors {
		return 0, fmt.Errorf("read the counters of %s: unknown form %q", path, text)
	}
	n, err := strconv.ParseUint(fields[writeSectors], 10, 64)
	return n * sector, err
}
