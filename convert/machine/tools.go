package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehost/internal/cpio"
	"rehost/protocol"
)

// toolsFile is in the initramfs and says where on the machine's own disk the tools are: offset and length in bytes.
const toolsFile = "/lib/rehost/tools"

// diskMark is the signature in the boot sector of the machine's own disk.
const (
	diskMark   = "rhst"
	diskMarkAt = 440
)

// maxTools bounds the archive.
const maxTools = 64 << 20

// Tools are the machine's drivers and programs, in its initramfs or beside it.
type Tools struct {
	say     func(string)
	mods    *modules
	ordered []string // serial numbers of the guest's disks: nothing is taken from those, whatever is on them
	here    bool

	confined bool // scripts are
}

// Prepare makes a machine that has just started usable for its first process.
func Prepare(say func(string)) (*Tools, error) {
	if err := mountKernel(); err != nil {
		return nil, err
	}
	mods, err := readModules("/lib/rehost/modules")
	return &Tools{say: say, mods: mods}, err
}

// guests takes note of the guest's disks.
func (t *Tools) guests(order protocol.ConversionOrder) {
	for _, d := range order.Disks {
		t.ordered = append(t.ordered, serialOf(d.Volume))
	}
}

// Load loads a driver, from the tools if the initramfs has none.
func (t *Tools) Load(name string) error {
	if _, ok := t.mods.known[name]; !ok {
		if err := t.fetch(); err != nil {
			return err
		}
	}
	return t.mods.load(name)
}

// Program makes a program available.
func (t *Tools) Program(name string) error {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return nil
		}
	}
	return t.fetch()
}

// fetch unpacks the tools, once. A machine whose initramfs has no toolsFile has all it needs.
func (t *Tools) fetch() error {
	if t.here {
		return nil
	}
	t.here = true
	start := time.Now()
	text, err := os.ReadFile(toolsFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the tools: %w", err)
	}
	var offset, length int64
	if _, err := fmt.Sscan(string(text), &offset, &length); err != nil || offset <= 0 || length <= 0 || length > maxTools {
		return fmt.Errorf("find the tools: %q says nothing", text)
	}
	disk, err := t.ownDisk("/sys")
	if err != nil {
		return fmt.Errorf("find the tools: %w", err)
	}
	f, err := os.Open(disk)
	if err != nil {
		return fmt.Errorf("read the tools: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := unpack(io.NewSectionReader(f, offset, length), "/"); err != nil {
		return fmt.Errorf("unpack the tools: %w", err)
	}
	more, err := readModules(t.mods.dir)
	if err != nil {
		return err
	}
	t.mods.known = more.known
	t.say(fmt.Sprintf("fetched further drivers and tools in %.1f s", time.Since(start).Seconds()))
	return nil
}

// ownDisk returns the disk that the machine was started from.
func (t *Tools) ownDisk(sys string) (string, error) {
	paths, _ := filepath.Glob(filepath.Join(sys, "block/nvme*")) // the pattern is good
	for _, p := range paths {
		device := "/dev/" + filepath.Base(p)
		serial, err := os.ReadFile(filepath.Join(p, "device/serial"))
		if err != nil || slices.Contains(t.ordered, strings.TrimSpace(string(serial))) {
			continue
		}
		if is, err := marked(device); err == nil && is {
			return device, nil
		}
	}
	return "", errors.New("the machine's own disk is not there")
}

func marked(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	mark := make([]byte, len(diskMark))
	_, err = f.ReadAt(mark, diskMarkAt)
	return bytes.Equal(mark, []byte(diskMark)), err
}

// unpack writes the files of an archive of ours below dir.
func unpack(archive io.Reader, dir string) error {
	_, err := cpio.Walk(archive, func(e cpio.Entry, data io.Reader) error {
		path := filepath.Join(dir, filepath.Clean("/"+strings.TrimPrefix(e.Name, "/")))
		if e.Mode&cpio.ModeFile != cpio.ModeFile {
			return os.MkdirAll(path, 0o755)
		}
		content, err := io.ReadAll(data)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o755)
	})
	return err
}
