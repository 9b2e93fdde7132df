package track

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// kernelTiers are those with programs in the kernel, best first.
var kernelTiers = []*tier{btfTier, classicTier}

// Choose says which tier is used when wanted is asked for, and why better ones are not; it starts nothing. A tier that is
// asked for by name and cannot work here is an error with a hint.
func Choose(wanted string) (name string, reasons []string, err error) {
	for _, k := range kernelTiers {
		if wanted != "" && wanted != TierAuto && wanted != k.name {
			continue
		}
		err := k.available()
		if err == nil {
			return k.name, reasons, nil
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", k.name, err))
		if wanted == k.name {
			return "", reasons, unavailable(k.name, err)
		}
	}
	switch wanted {
	case "", TierAuto, TierScan:
		return TierScan, reasons, nil
	}
	return "", nil, hint.New(fmt.Sprintf("unknown tracker %q", wanted), `write "auto", "btf", "classic" or "scan"`)
}

func unavailable(name string, err error) error {
	return hint.Wrap(fmt.Errorf("tracker %q cannot work here: %w", name, err),
		`write tracker = "auto" in agent.hcl, which takes the best that the kernel offers; btf needs a kernel as of Debian 12, Ubuntu 22.04, RHEL 9 or newer, classic one from 4.14 with tracefs`)
}

// Open starts to track the disks, or goes on where an earlier process with the same disks, granules and PinDir left it.
// It returns when every write that completes from now on is marked. With the choice left to it, it takes the best tier
// that the kernel loads; the reasons against better ones are in the status.
func Open(ctx context.Context, o Options) (Tracker, error) {
	o, err := o.normalize()
	if err != nil {
		return nil, err
	}
	name, reasons, err := Choose(o.Tier)
	if err != nil {
		return nil, err
	}
	// Needed before 5.11 only, and harmless where it fails: the load then says so.
	_ = rlimit.RemoveMemlock()
	for begin := false; ; {
		if name == TierScan {
			return newScan(o, reasons), nil
		}
		for _, k := range kernelTiers {
			if begin = begin || k.name == name; !begin {
				continue
			}
			t, err := openTier(ctx, o, k)
			if err == nil {
				t.reasons = append(reasons, t.reasons...)
				return t, nil
			}
			if o.Tier == k.name || ctx.Err() != nil || k.available() != nil {
				return nil, err
			}
			reasons = append(reasons, fmt.Sprintf("%s: %v", k.name, err))
		}
		name = TierScan
	}
}

// openTier resumes or starts one tier.
func openTier(ctx context.Context, o Options, k *tier) (*kernelTracker, error) {
	if o.PinDir != "" {
		if err := makePinDir(o.PinDir); err != nil {
			return nil, err
		}
		if t, err := resume(o, k); err == nil {
			return t, nil
		}
		if err := Remove(o.PinDir); err != nil {
			return nil, err
		}
		if err := makePinDir(o.PinDir); err != nil {
			return nil, err
		}
	}
	t, err := start(o, k)
	if err != nil {
		if o.PinDir != "" {
			err = errors.Join(err, Remove(o.PinDir))
		}
		return nil, explain(err)
	}
	if err := t.settle(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// explain attaches a hint to a load that the kernel refused.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return hint.Wrap(err, "run it as root (or with CAP_BPF and CAP_PERFMON), and without kernel lockdown in confidentiality mode")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return hint.Wrap(err, `run a kernel from 4.14 (btf: 5.12) with CONFIG_BPF_EVENTS and CONFIG_BPF_JIT, or write tracker = "auto" in agent.hcl`)
	}
	return err
}
