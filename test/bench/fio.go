package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rehost/internal/command"
	"rehost/protocol"
)

const (
	ramDisk  = 512 << 20 // bytes
	fioTime  = 8 * time.Second
	loadDisk = 2 * gib
	loadFile = gib // bytes that the random writes go to
	// defaultTier is what an agent takes without a setting.
	defaultTier = "btf"
	lagWarmUp   = 3 * time.Second
	lagTime     = 30 * time.Second
)

// trackerCost measures random writes to a disk in memory, in writes per second, with and without a tracker of a tier.
func trackerCost(tier string) func(ctx context.Context, e *env, name string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		image, err := ramFile(e, ramDisk)
		if err != nil {
			return result{}, err
		}
		path, err := attach(ctx, e, image)
		if err != nil {
			return result{}, err
		}
		const unit = "writes/s"
		if _, err := randomWrites(ctx, path); err != nil { // the memory is there from now on
			return result{}, err
		}
		ours, theirs, err := pair(ctx, e, unit,
			func(ctx context.Context, _ int) (v float64, err error) {
				r, err := newRig(ctx, e, loopback(), path, ramDisk)
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, r.clean()) }()
				r.wanted = protocol.WantNothing
				if tier != defaultTier {
					r.tier = tier
				}
				if err := r.startAgent(ctx); err != nil {
					return 0, err
				}
				if err := r.await(ctx, "tracker of tier "+tier, soonLimit, func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Tier == tier }); err != nil {
					return 0, err
				}
				return randomWrites(ctx, path)
			},
			func(ctx context.Context, _ int) (v float64, err error) {
				// The same processes but the agent, so that only the tracker differs.
				r, err := newRig(ctx, e, loopback(), path, ramDisk)
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, r.clean()) }()
				return randomWrites(ctx, path)
			})
		return speed(name, unit, ours, theirs, 0.98), err
	}
}

// ramFile makes a file in memory that goes with our mount namespace.
func ramFile(e *env, size int64) (string, error) {
	dir := filepath.Join(e.work, "ram")
	if err := mountRAM(&e.cleanup, dir); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "disk.img")
	return file, sparseFile(file, size)
}

// randomWrites returns the writes per second of 4 KiB at random places, past the page cache.
func randomWrites(ctx context.Context, path string) (float64, error) {
	out, err := command.Run(ctx, "fio", "--name=writes", "--filename="+path, "--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=32",
		"--time_based", fmt.Sprintf("--runtime=%d", int(fioTime.Seconds())), fmt.Sprintf("--randseed=%d", seed), "--output-format=json")
	if err != nil {
		return 0, err
	}
	var report struct {
		Jobs []struct {
			Write struct {
				IOPS float64 `json:"iops"`
			} `json:"write"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	if len(report.Jobs) != 1 || report.Jobs[0].Write.IOPS == 0 {
		return 0, fmt.Errorf("fio reports no writes: %s", out)
	}
	return report.Jobs[0].Write.IOPS, nil
}

// load is a rig that replicates a disk while fio writes to a filesystem on it.
type load struct {
	*rig
	fio *process
}

// newLoad replicates a fresh ext4 disk until that is continuous, then lets fio write 8 KiB at random places of a file, at a
// rate in MB/s: through the page cache, which reaches the disk in bursts of up to half a minute's writes, or directly.
func newLoad(ctx context.Context, e *env, rate, direct int) (l *load, err error) {
	image := filepath.Join(e.work, "load.img")
	if err := formatted(ctx, image, loadDisk); err != nil {
		return nil, err
	}
	path, err := attach(ctx, e, image)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(e.work, "load")
	if err := mount(ctx, &e.cleanup, path, dir); err != nil {
		return nil, err
	}
	common := []string{"fio", "--name=load", "--filename=" + filepath.Join(dir, "file"), fmt.Sprintf("--size=%d", loadFile), "--ioengine=psync", "--bs=8k", fmt.Sprintf("--direct=%d", direct)}
	if _, err := command.Run(ctx, "fio", append(common[1:], "--rw=write", "--end_fsync=1")...); err != nil {
		return nil, err
	}
	r, err := newRig(ctx, e, loopback(), path, loadDisk)
	if err != nil {
		return nil, err
	}
	e.later(r.clean)
	if err := r.startAgent(ctx); err != nil {
		return nil, err
	}
	if err := r.awaitContinuous(ctx, syncLimit); err != nil {
		return nil, err
	}
	fio, err := start("fio", e.work+"/fio.log", nil, nil, nil, append(common, "--rw=randwrite", "--time_based", "--runtime=3600",
		fmt.Sprintf("--rate=%d", rate*1_000_000), fmt.Sprintf("--randseed=%d", seed))...)
	if err != nil {
		return nil, err
	}
	e.later(func() error { // fio tells a signal as a failure
		_ = fio.cmd.Process.Signal(os.Interrupt)
		<-fio.ended
		return nil
	})
	return &load{rig: r, fio: fio}, pause(ctx, lagWarmUp)
}

// lag measures the 95th percentile of the lag that the agent reports, in seconds.
func lag(rate, direct int, limit time.Duration) func(ctx context.Context, e *env, name string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		l, err := newLoad(ctx, e, rate, direct)
		if err != nil {
			return result{}, err
		}
		var ours []float64
		for round := range e.rounds {
			lags, err := l.lags(ctx)
			if err != nil {
				return result{}, err
			}
			p := percentile(lags, 95)
			say("  round %d of %d: %.3f s, worst %.3f s, of %d reports", round+1, e.rounds, p, percentile(lags, 100), len(lags))
			ours = append(ours, p)
		}
		return within(name, "s", ours, limit.Seconds()), nil
	}
}

// lags collects the lag of each report for a while.
func (l *load) lags(ctx context.Context) ([]float64, error) {
	var all []float64
	l.mu.Lock()
	l.onReport = func(a protocol.AgentReport) { all = append(all, a.Lag.Seconds()) }
	l.mu.Unlock()
	for until := time.Now().Add(lagTime); time.Now().Before(until); {
		// Reports beside those that come each second, so that the percentile has enough to choose from.
		if err := errors.Join(l.poke(), pause(ctx, 250*time.Millisecond), l.fio.alive()); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onReport = nil
	if len(all) < 20 {
		return nil, fmt.Errorf("only %d reports in %s", len(all), lagTime)
	}
	return all, nil
}

const (
	freezePoints = 20
	freezeLimit  = 100 // ms
)

// freeze measures how long the filesystem stands still for a point, in ms.
func freeze(rate int) func(ctx context.Context, e *env, name string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		l, err := newLoad(ctx, e, rate, 0)
		if err != nil {
			return result{}, err
		}
		var frozen []float64
		var failed []string
		for i := range freezePoints {
			p, err := l.takePoint(ctx, fmt.Sprintf("p%d", i))
			if err != nil {
				return result{}, err
			}
			ms := p.Frozen.Seconds() * 1000
			if p.State == protocol.PointFailed {
				failed = append(failed, p.Problem.Message)
			}
			if ms > 0 {
				frozen = append(frozen, ms)
			}
			say("  point %d of %d: %s, %.1f ms", i+1, freezePoints, p.State, ms)
			if err := errors.Join(pause(ctx, time.Second), l.fio.alive()); err != nil {
				return result{}, err
			}
		}
		if len(failed) > 0 {
			say("  %d of %d points failed; they count by their freezes: %s", len(failed), freezePoints, strings.Join(failed, "; "))
		}
		if len(frozen) < freezePoints/2 {
			return result{}, fmt.Errorf("only %d of %d points froze anything", len(frozen), freezePoints)
		}
		r := within(name, "ms", []float64{percentile(frozen, 99)}, freezeLimit)
		r.Rounds = len(frozen)
		r.Met = r.Met && len(failed) == 0
		return r, nil
	}
}

// takePoint orders a point and lets the replica go on when it holds it.
func (r *rig) takePoint(ctx context.Context, id string) (p protocol.PointReport, err error) {
	r.mu.Lock()
	r.point = &protocol.PointOrder{ID: id}
	r.mu.Unlock()
	if err := r.poke(); err != nil {
		return p, err
	}
	err = r.await(ctx, "point "+id, time.Minute, func(a protocol.AgentReport, s protocol.ReplicaStatus) bool {
		for _, p = range a.Points {
			if p.ID == id && (p.State == protocol.PointFailed || p.State == protocol.PointSent && s.Held != nil && s.Held.ID == id) {
				return true
			}
		}
		return false
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.point = nil
	r.released = append(r.released, id)
	return p, err
}
