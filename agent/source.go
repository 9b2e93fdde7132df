package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

// openSource opens the host's disks and begins to track them, or goes on where an earlier process stopped.
func openSource(ctx context.Context, cfg Config, _ hclog.Logger) (*Source, error) {
	if os.Geteuid() != 0 {
		return nil, hint.New("tracking disks needs root", "run the agent as root, as its systemd unit does")
	}
	if len(cfg.Disks) == 0 {
		return nil, hint.New("no disk is configured", "name whole disks in disks; `lsblk -d` lists them")
	}
	s := &Source{Tier: "btf"}
	options := track.Options{PinDir: filepath.Join(cfg.PinDir, cfg.Server)}
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
	tracker, err := track.Open(ctx, options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("track the disks: %w", err), closeAll())
	}
	status := tracker.Status()
	s.Tier, s.Resumed, s.Tracker = status.Tier, status.Resumed, marks{tracker}
	s.Close = func(forget bool) error {
		err := errors.Join(tracker.Close(), closeAll())
		if forget {
			err = errors.Join(err, track.Remove(options.PinDir))
		}
		return err
	}
	return s, nil
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
	text := fmt.Sprintf("%d:%d", d.Major, d.Minor)
	for _, name := range []string{"diskseq", "device/serial", "device/wwid", "loop/backing_file"} {
		if b, err := os.ReadFile(filepath.Join(sys, name)); err == nil {
			text += " " + string(b)
		}
	}
	return text
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

// forgetPins removes what tracks a server's disks in the kernel.
func forgetPins(cfg Config) error { return track.Remove(filepath.Join(cfg.PinDir, cfg.Server)) }

// Remove ends the tracking and removes the agent's state and identity from this host. It needs no bus.
func Remove(cfg Config) error {
	cfg = cfg.WithDefaults()
	return errors.Join(forgetPins(cfg), os.RemoveAll(cfg.serverRunDir()), removeAll(cfg.identityPath(), filepath.Join(cfg.StateDir, cfg.Server+".fenced")))
}

func removeAll(paths ...string) error {
	errs := make([]error, 0, len(paths))
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
	}
	return errors.Join(slices.Clone(errs)...)
}
