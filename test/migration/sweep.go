package migration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

// CloudLeftovers lists what the cloud still holds of a finished migration, apart from the target itself: it must be empty.
func (m *Migration) CloudLeftovers(ctx context.Context, target *protocol.Launched) ([]string, error) {
	if target == nil {
		return nil, errors.New("list leftovers: no target was launched")
	}
	left, err := m.inventory(ctx, target.Instance)
	return slices.DeleteFunc(left, func(thing string) bool { return slices.Contains(m.base, thing) }), err
}

// inventory lists what the cloud holds, without one instance and its volumes.
func (m *Migration) inventory(ctx context.Context, without string) ([]string, error) {
	driver, err := m.Driver(ctx)
	if err != nil {
		return nil, err
	}
	all := []string{}
	instances, err := driver.Instances(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, i := range instances {
		if i.Alive() && i.ID != without {
			all = append(all, "instance "+i.ID)
		}
	}
	volumes, err := driver.Volumes(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if without == "" || v.Instance != without {
			all = append(all, "volume "+v.ID)
		}
	}
	snapshots, err := driver.Snapshots(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, s := range snapshots {
		all = append(all, "snapshot "+s.ID)
	}
	images, err := driver.Images(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		all = append(all, "image "+i.ID)
	}
	return all, nil
}

// HostLeftovers lists what is left on this machine of what runs in dir: processes, mounts, loop devices.
func HostLeftovers(ctx context.Context, dir string) ([]string, error) {
	left := []string{}
	pids, err := processes(dir)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	mounts, err := mounts(dir)
	if err != nil {
		return nil, err
	}
	for _, path := range mounts {
		left = append(left, "mount "+path)
	}
	loops, err := loops(ctx, dir)
	for _, path := range loops {
		left = append(left, "loop device "+path)
	}
	return left, err
}

// Sweep ends the processes, mounts and loop devices that belong to dir, and removes dir. It is for what a run left that was killed.
func Sweep(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := killAll(ctx, dir); err != nil {
		return err
	}
	for range 3 { // a filesystem on a loop device of a file on a filesystem
		if err := sweepDevices(ctx, dir); err != nil {
			return err
		}
	}
	left, err := HostLeftovers(ctx, dir)
	if err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("still there: %s", strings.Join(left, ", ")))
	}
	return os.RemoveAll(dir)
}

// killAll kills until nobody is left: one that is killed may just have started another, and to end takes a moment.
func killAll(ctx context.Context, dir string) error {
	for range 100 {
		pids, err := processes(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d of %s: %w", pid, dir, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil // what is still there is told as left over
}

func sweepDevices(ctx context.Context, dir string) error {
	paths, err := mounts(dir)
	if err != nil {
		return err
	}
	slices.Reverse(paths)
	for _, path := range paths {
		if err := unmount(ctx, path); err != nil {
			return err
		}
	}
	devices, err := loops(ctx, dir)
	for _, device := range devices {
		_, errDetach := command.Run(ctx, "losetup", "--detach", device)
		err = errors.Join(err, errDetach)
	}
	return err
}

// unmount retries for a moment: a process that was just killed may still hold the filesystem.
func unmount(ctx context.Context, path string) error {
	thaw(path)
	for range 50 {
		err := unix.Unmount(path, 0)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return hint.New("unmount "+path+": it is in use", "leave that folder in every shell (fuser -vm "+path+" names them), and try again")
}

// fithaw is the ioctl FITHAW: a freeze ends with it, and not with the process that made it.
const fithaw = 0xc0045878

// thaw ends the freeze of a filesystem whose agent was killed at the wrong moment. Most are not frozen: that is no error.
func thaw(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), fithaw, 0)
	_ = f.Close()
}

// processes lists the processes, but us, that were started in dir. What reads from a terminal is somebody's who looks at the logs.
func processes(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil {
			continue // ended meanwhile
		}
		if input, err := os.Readlink(filepath.Join("/proc", e.Name(), "fd", "0")); err == nil && (strings.HasPrefix(input, "/dev/pts/") || strings.HasPrefix(input, "/dev/tty")) {
			continue
		}
		if cwd == dir || strings.HasPrefix(cwd, dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// mounts lists the mount points below dir and those of devices of files below it, in mount order.
func mounts(dir string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	devices, err := loops(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		source := fields[slices.Index(fields, "-")+2]
		if strings.HasPrefix(fields[4], dir+"/") || slices.Contains(devices, source) {
			paths = append(paths, fields[4])
		}
	}
	return paths, nil
}

// loops lists the loop devices on files below dir, and those on such devices, topmost first.
func loops(_ context.Context, dir string) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	backing := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // detached meanwhile
		}
		backing["/dev/"+filepath.Base(filepath.Dir(filepath.Dir(f)))] = strings.TrimSuffix(strings.TrimSpace(string(text)), " (deleted)")
	}
	var found []string
	for changed := true; changed; {
		changed = false
		for device, file := range backing {
			if slices.Contains(found, device) {
				continue
			}
			if strings.HasPrefix(file, dir+"/") || slices.Contains(found, file) {
				found = append([]string{device}, found...)
				changed = true
			}
		}
	}
	return found, nil
}
