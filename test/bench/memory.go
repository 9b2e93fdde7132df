package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"rehost/protocol"
)

const (
	hugeDisk    = 1 << 40
	memoryTime  = 2 * time.Minute
	memoryLimit = 128.0 // MiB
)

// agentMemory measures the peak of the agent's resident memory, in MiB, while it copies a sparse disk of 1 TiB at full
// speed for some minutes, and tells its CPU time.
func agentMemory(ctx context.Context, e *env, name string) (result, error) {
	image := filepath.Join(e.work, "huge.img")
	if err := sparseFile(image, hugeDisk); err != nil {
		return result{}, err
	}
	path, err := attach(ctx, e, image)
	if err != nil {
		return result{}, err
	}
	r, err := newRig(ctx, e, loopback(), path, hugeDisk)
	if err != nil {
		return result{}, err
	}
	e.later(r.clean)
	if err := r.startAgent(ctx); err != nil {
		return result{}, err
	}
	until := time.Now().Add(memoryTime)
	var last protocol.AgentReport
	err = r.await(ctx, "measurement", 2*memoryTime, func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		last = a
		return time.Now().After(until) || a.Replication == protocol.ReplicationContinuous
	})
	if err != nil {
		return result{}, err
	}
	used, err := processUsage(r.agent.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	if len(last.Disks) == 0 || last.Disks[0].Replicated == 0 {
		return result{}, fmt.Errorf("nothing was replicated: %+v", last)
	}
	gb := float64(last.Disks[0].Replicated) / 1e9
	say("  %.1f MiB, %.1f GB of disk, %.0f MB/s, %.4f CPU seconds per GB, %.1f GB read", used.peak, gb, gb*1000/memoryTime.Seconds(), used.cpu/gb, float64(last.Read)/1e9)
	return within(name, "MiB", []float64{used.peak}, memoryLimit), nil
}

// linear measures the seconds per GB of a first copy at 1, 4 and 16 GiB, in turns.
func linear(ctx context.Context, e *env, name string) (result, error) {
	sizes := []int64{gib, 4 * gib, 16 * gib}
	perGB := make([][]float64, len(sizes))
	for round := range e.rounds {
		for i, size := range sizes {
			v, err := secondsPerGB(ctx, e, size)
			if err != nil {
				return result{}, fmt.Errorf("%d GiB: %w", size/gib, err)
			}
			say("  round %d of %d, %2d GiB: %.3f s/GB", round+1, e.rounds, size/gib, v)
			perGB[i] = append(perGB[i], v)
		}
	}
	say("  medians: %.3f, %.3f, %.3f s/GB", median(perGB[0]), median(perGB[1]), median(perGB[2]))
	const most = 1.25 // times as much at 16 GiB as at 1 GiB
	return cost(name, "s/GB", perGB[2], perGB[0], 1/most), nil
}

func secondsPerGB(ctx context.Context, e *env, size int64) (v float64, err error) {
	one := &env{rounds: 1, bin: e.bin, dir: e.dir, work: e.work}
	defer func() {
		if errClean := one.clean(); err == nil {
			err = errClean
		}
	}()
	d, err := openDisk(ctx, one, size)
	if err != nil {
		return 0, err
	}
	took, err := syncOnce(ctx, one, loopback(), d, 4*syncLimit)
	return took.Seconds() / (float64(size) / 1e9), err
}
