package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// syncLimit bounds one full sync of the standard disk.
const syncLimit = 4 * time.Minute

// peer copies a disk to a new file over a link and returns how long it took until the copy was durable.
type peer func(ctx context.Context, e *env, l *link, d *disk, target string) (time.Duration, error)

// fullSync measures the first copy of the standard disk, in MB of disk per second: ours until all is durable and the
// agent says CONTINUOUS, with TLS, hashes and checkpoints; the peer until its target is flushed.
func fullSync(other peer, overLink bool, target float64) func(ctx context.Context, e *env, name string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		d, err := openDisk(ctx, e, standard)
		if err != nil {
			return result{}, err
		}
		l := loopback()
		if overLink {
			if l, err = shaped(ctx, e); err != nil {
				return result{}, err
			}
		}
		const unit = "MB/s"
		ours, theirs, err := pair(ctx, e, unit,
			func(ctx context.Context, _ int) (float64, error) {
				took, err := syncOnce(ctx, e, l, d, syncLimit)
				return perSecond(d.size, took), err
			},
			func(ctx context.Context, _ int) (float64, error) {
				if err := d.settle(); err != nil {
					return 0, err
				}
				took, err := other(ctx, e, l, d, e.work+"/copy.img")
				return perSecond(d.size, took), err
			})
		return speed(name, unit, ours, theirs, target), err
	}
}

// perSecond returns MB/s.
func perSecond(bytes int64, took time.Duration) float64 { return float64(bytes) / 1e6 / took.Seconds() }

// syncOnce replicates a disk to an empty volume and returns the time from the agent's start to the end.
func syncOnce(ctx context.Context, e *env, l *link, d *disk, limit time.Duration) (took time.Duration, err error) {
	r, err := newRig(ctx, e, l, d.path, d.size)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.clean()) }()
	if err := d.settle(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := r.startAgent(ctx); err != nil {
		return 0, err
	}
	if err := r.awaitContinuous(ctx, limit); err != nil {
		return 0, err
	}
	took = time.Since(began)
	return took, r.sayUsage(took)
}

// sayUsage tells the CPU time of our processes and the peaks of their memory: what is near one core per second, or
// all together near all cores, is what limits.
func (r *rig) sayUsage(took time.Duration) error {
	var parts []string
	for _, p := range []*process{r.agent, r.broker, r.replica} {
		u, err := processUsage(p.cmd.Process.Pid)
		if err != nil {
			return err
		}
		parts = append(parts, fmt.Sprintf("%s %.1f s, %.0f MiB", p.name, u.cpu, u.peak))
	}
	say("  %.1f s; CPU seconds and peak memory: %s", took.Seconds(), strings.Join(parts, "; "))
	return nil
}
