package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/agent/internal/host"
	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
	"rehost/internal/hint"
	"rehost/internal/lock"
	"rehost/protocol"
)

// standardBPFFS is where distributions mount the filesystem that pins live in.
const standardBPFFS = "/sys/fs/bpf"

// openSource opens the host's disks and begins to track them, or goes on where an earlier process stopped.
func openSource(ctx context.Context, cfg Config, log hclog.Logger) (*Source, error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	if len(cfg.Disks) == 0 {
		return nil, hint.New("no disk is configured", "name whole disks in disks; `lsblk -d` lists them")
	}
	if err := host.CheckDisks(cfg.Disks); err != nil {
		return nil, err
	}
	facts, err := host.ReadFacts()
	if err != nil {
		return nil, err
	}
	s := &Source{Host: protocol.Host{
		Hostname: facts.Hostname, BootID: facts.BootID, Kernel: facts.Kernel, OS: facts.OS, BootMode: facts.BootMode,
		Cores: facts.Cores, MemoryBytes: facts.MemoryBytes, Address: facts.Address,
	}}
	options := track.Options{PinDir: filepath.Join(cfg.PinDir, cfg.Server), Tier: cfg.Tracker}
	var devices []*blockdev.Device
	closeAll := func() error {
		var errs []error
		for _, d := range devices {
			errs = append(errs, d.Close())
		}
		return errors.Join(errs...)
	}
	for _, path := range cfg.Disks {
		d, dev, disk, err := openDisk(path)
		if err != nil {
			return nil, errors.Join(err, closeAll())
		}
		devices = append(devices, dev)
		s.Disks = append(s.Disks, disk)
		options.Disks = append(options.Disks, d)
	}
	markBoot(s.Disks)
	if strings.HasPrefix(options.PinDir, standardBPFFS+"/") {
		// Where no service manager has mounted it, as in a container.
		if err := track.MountBPFFS(standardBPFFS); err != nil {
			return nil, errors.Join(err, closeAll())
		}
	}
	tracker, err := track.Open(ctx, options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("track the disks: %w", err), closeAll())
	}
	status := tracker.Status()
	// Marks that cannot be told from others are not resumed.
	s.Tier, s.Resumed, s.Instance = status.Tier, status.Resumed && status.Instance != 0, strconv.FormatUint(status.Instance, 10)
	s.Tracker = marks{tracker}
	if s.Periodic = status.Periodic; s.Periodic {
		s.Writes = func() (uint64, error) { return writes(tracker) }
	}
	s.Notes = status.Reasons
	if len(status.Reasons) > 0 {
		log.Warn("a better tracker is not available", "tier", status.Tier, "reasons", strings.Join(status.Reasons, "; "))
	}
	if cfg.FreeSpace != FreeSpaceCopy {
		s.Free = func(ctx context.Context) ([][]Range, error) { return freeSpace(ctx, cfg.Disks, log) }
	}
	own := scratch{path: filepath.Join(cfg.StateDir, cfg.Server+".scratch"), disks: cfg.Disks}
	s.Scratch = own.write
	var identities []string
	for _, d := range s.Disks {
		identities = append(identities, d.Identity)
	}
	s.Survey = hostSurvey(cfg.Disks)
	s.Check = func() error { return checkTracked(options.Disks, identities) }
	freezer := newHostFreezer(cfg.Disks, log.Named("freeze"))
	s.Freezer = freezer
	s.Close = func(forget bool) error {
		err := errors.Join(freezer.close(), tracker.Close(), closeAll())
		if forget {
			err = errors.Join(err, track.Remove(options.PinDir))
		}
		return err
	}
	return s, nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return hint.New("tracking disks needs root", "run the agent as root, as its systemd unit does")
	}
	return nil
}

// openDisk opens one disk for reading past the page cache: what is read must be what is on the disk.
func openDisk(path string) (track.Disk, *blockdev.Device, SourceDisk, error) {
	d, err := track.FindDisk(path)
	if err != nil {
		return d, nil, SourceDisk{}, err
	}
	dev, err := blockdev.Open(path, os.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		return d, nil, SourceDisk{}, err
	}
	return d, dev, SourceDisk{
		Name: path, Identity: identity(d), SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes, Reader: dev,
	}, nil
}

// identity tells a disk from another one that gets its name or number within the same boot.
func identity(d track.Disk) string {
	sys := blockdev.SysPath(d.Major, d.Minor)
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%d:%d", d.Major, d.Minor)
	for _, name := range []string{"diskseq", "device/serial", "device/wwid", "loop/backing_file"} {
		if b, err := os.ReadFile(filepath.Join(sys, name)); err == nil {
			text.WriteString(" " + string(b))
		}
	}
	return text.String()
}

// marks adapts a tracker to what package ship asks of it.
type marks struct{ track.Tracker }

// Taint implements [Tracker].
func (m marks) Taint() (count uint64, why string) {
	for _, d := range m.Status().Disks {
		count += d.Unmarked + d.Passthrough + d.MissedSectors
		if t := d.Taint(); t != "" {
			why = d.Path + ": " + t
		}
	}
	return count, why
}

// writes sums up what the kernel wrote, where nothing is tracked.
func writes(t track.Tracker) (sectors uint64, err error) {
	for _, d := range t.Status().Disks {
		if d.Problem != "" {
			err = errors.Join(err, fmt.Errorf("disk %s: %s", d.Path, d.Problem))
		}
		sectors += d.WrittenSectors
	}
	return sectors, err
}

// Prove implements [Tracker]. What was missed is counted by Taint, which tells what is new from what was sent again since.
func (m marks) Prove(ctx context.Context) error {
	_ = m.Tracker.Prove(ctx)
	var errs []error
	for _, d := range m.Status().Disks {
		if d.Problem != "" {
			errs = append(errs, fmt.Errorf("disk %s: %s", d.Path, d.Problem))
		}
	}
	if len(errs) > 0 {
		return hint.Wrap(errors.Join(errs...), "correct what the message says, such as `echo 1 > /sys/block/sda/queue/iostats`; no point is taken until then")
	}
	return nil
}

// forgetPins removes what tracks a server's disks in the kernel.
func forgetPins(cfg Config) error { return track.Remove(filepath.Join(cfg.PinDir, cfg.Server)) }

// Remove ends the tracking and removes the agent's state and identity from this host. It needs no bus.
func Remove(ctx context.Context, cfg Config) (err error) {
	if err := needRoot(); err != nil {
		return err
	}
	cfg = cfg.WithDefaults()
	// An agent that runs would find its marks gone and say nothing.
	release, err := lock.Take(ctx, cfg.lockPath(), removePatience)
	if errors.Is(err, lock.ErrHeld) {
		return hint.Wrap(fmt.Errorf("remove the agent of %s: it runs", cfg.Server), "stop it first: systemctl stop rehost-agent")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	return errors.Join(forgetPins(cfg), os.RemoveAll(cfg.serverRunDir()), removeAll(cfg.identityPath(), filepath.Join(cfg.StateDir, cfg.Server+".fenced"), filepath.Join(cfg.StateDir, cfg.Server+".scratch")))
}

// removePatience is how long an agent that was just stopped may take to end.
const removePatience = 2 * time.Second

func removeAll(paths ...string) (err error) {
	for _, p := range paths {
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

// Check says whether an agent could run here: the disks, and the tracker's needs. It leaves nothing behind.
func Check(cfg Config) error {
	if err := needRoot(); err != nil {
		return err
	}
	if len(cfg.Disks) == 0 {
		return hint.New("no disk is configured", "name whole disks in disks; `lsblk -d` lists them")
	}
	if _, _, err := track.Choose(cfg.Tracker); err != nil {
		return err
	}
	return host.CheckDisks(cfg.Disks)
}
