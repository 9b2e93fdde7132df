package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"rehost/appliance"
	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/image"
)

// guestBytes is the size of the disk that is converted.
const guestBytes = 4 << 30

// attached ends the last line of the machine before it looks at the guest.
const attached = "volumes are attached"

// fetchGuest builds, outside of the namespaces, what needs the network: a server's disk and the appliance.
func fetchGuest(ctx context.Context, args []string) error {
	named := func(b benchmark) bool { return slices.Contains(args, b.name) }
	if slices.ContainsFunc(benchmarks, named) && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "convert") }) {
		return nil
	}
	if _, err := image.Build(ctx, image.Options{Progress: func(s string) { say("%s", s) }}); err != nil {
		return err
	}
	bin := "bin"
	if i := slices.Index(args, "-bin"); i >= 0 && i+1 < len(args) {
		bin = args[i+1]
	}
	_, err := appliance.Build(ctx, appliance.Options{Convert: bin + "/rehost-convert", Progress: func(s string) { say("%s", s) }})
	return err
}

// conversion measures "rehost convert apply" of a server's disk: all of it, or what is left without the machine's own start.
func conversion(whole bool, limit float64) func(context.Context, *env, string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		source, err := image.Build(ctx, image.Options{})
		if err != nil {
			return result{}, err
		}
		var times []float64
		for round := range e.rounds {
			total, itself, err := convertOnce(ctx, e, source)
			if err != nil {
				return result{}, fmt.Errorf("round %d: %w", round+1, err)
			}
			say("  round %d of %d: %.1f s, %.1f s of it with the guest", round+1, e.rounds, total, itself)
			if !whole {
				total = itself
			}
			times = append(times, total)
		}
		return within(name, "s", times, limit), nil
	}
}

// guestDisk makes a copy of the server's disk, enlarged.
func guestDisk(ctx context.Context, e *env, source string) (string, error) {
	disk := e.work + "/guest.raw"
	if err := image.Copy(ctx, source, disk); err != nil {
		return "", err
	}
	if err := os.Truncate(disk, guestBytes); err != nil {
		return "", err
	}
	_, err := command.Run(ctx, "sync", disk)
	return disk, err
}

func convertOnce(ctx context.Context, e *env, source string) (total, itself float64, err error) {
	disk, err := guestDisk(ctx, e, source)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(disk)) }()
	start := time.Now()
	r, progress, err := ours(ctx, e, "apply", disk)
	total = time.Since(start).Seconds()
	if err == nil && len(r.Changes) == 0 {
		err = errors.New("rehost convert found nothing to change")
	}
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(progress) {
		var at float64
		if _, err := fmt.Sscanf(line, "%f s", &at); err == nil && strings.HasSuffix(strings.TrimSpace(line), attached) {
			return total, r.Seconds - at, nil
		}
	}
	return 0, 0, fmt.Errorf("no line %q in the progress: %s", attached, progress)
}

// ours runs "rehost convert" on a disk.
func ours(ctx context.Context, e *env, action, disk string) (r protocol.ConversionReport, progress string, err error) {
	cmd := exec.CommandContext(ctx, e.bin+"/rehost", "convert", action, "--disk", disk, "-o", "json")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return r, "", fmt.Errorf("rehost convert: %w: %s", err, said.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, "", err
	}
	if !r.OK && r.Problem != nil {
		return r, "", fmt.Errorf("rehost convert: %w", r.Problem)
	}
	return r, said.String(), nil
}
