package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// result is what one benchmark found, as its file has it.
type result struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Ours   float64 `json:"ours"`   // median
	Peer   float64 `json:"peer"`   // median of the other side, or the limit where there is no other side
	Ratio  float64 `json:"ratio"`  // how good ours is: 2 is twice as fast, or half of what is allowed
	Rounds int     `json:"rounds"` // measurements of each side
	Target float64 `json:"target"` // of the ratio
	Met    bool    `json:"met"`
}

// speed is the result of a measurement of which more is better.
func speed(name, unit string, ours, peer []float64, target float64) result {
	r := result{Name: name, Unit: unit, Ours: median(ours), Peer: median(peer), Rounds: len(ours), Target: target}
	r.Ratio = r.Ours / r.Peer
	r.Met = r.Ratio >= target
	return r
}

// cost is the result of a measurement of which less is better.
func cost(name, unit string, ours, peer []float64, target float64) result {
	r := result{Name: name, Unit: unit, Ours: median(ours), Peer: median(peer), Rounds: len(ours), Target: target}
	r.Ratio = r.Peer / r.Ours
	r.Met = r.Ratio >= target
	return r
}

// within is a cost that has a limit and no other side.
func within(name, unit string, ours []float64, limit float64) result {
	return cost(name, unit, ours, []float64{limit}, 1)
}

func median(values []float64) float64 { return percentile(values, 50) }

// percentile returns the smallest value that at least p percent of the values do not exceed; the median of an even
// count is the mean of the middle two, and of nothing it is zero.
func percentile(values []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	if p == 50 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[max(0, (n*p+99)/100-1)]
}

func (r result) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result of %s: %w", r.Name, err)
	}
	return os.WriteFile(filepath.Join(dir, r.Name+".json"), append(text, '\n'), 0o644)
}

func table(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "benchmark\tunit\tours\tpeer\tratio\ttarget\trounds\t")
	for _, r := range results {
		verdict := "met"
		if !r.Met {
			verdict = "MISSED"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.4g\t%.4g\t%.3f\t>= %.3g\t%d\t%s\n", r.Name, r.Unit, r.Ours, r.Peer, r.Ratio, r.Target, r.Rounds, verdict)
	}
	_ = t.Flush()
}

// side measures one side once.
type side func(ctx context.Context, round int) (float64, error)

// pair measures two sides in turns, so that both have the same weather.
func pair(ctx context.Context, e *env, unit string, ours, peer side) (a, b []float64, err error) {
	for round := range e.rounds {
		for _, s := range []struct {
			name string
			run  side
			into *[]float64
		}{{"ours", ours, &a}, {"peer", peer, &b}} {
			v, err := s.run(ctx, round)
			if err != nil {
				return nil, nil, fmt.Errorf("round %d, %s: %w", round+1, s.name, err)
			}
			say("  round %d of %d, %s: %.4g %s", round+1, e.rounds, s.name, v, unit)
			*s.into = append(*s.into, v)
		}
	}
	return a, b, nil
}
