package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/hint"
	"rehost/localcloud"
)

func TestFaultsOfALocalCloud(t *testing.T) {
	o := cloudOptions{pool: "1GiB", program: "/bin/true", faults: []string{"throttle=0.3", "fail=0.1", "lose=CreateSnapshot", "lose=RunInstances", "delay=1s", "seed=7"}}
	cfg, err := o.config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := localcloud.Faults{Seed: 7, Throttle: 0.3, Fail: 0.1, Lose: []string{"CreateSnapshot", "RunInstances"}, Delay: time.Second}
	if diff := cmp.Diff(want, cfg.Faults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o.faults = []string{"throttle=3"}
	if _, err := o.config(t.TempDir()); err == nil || !strings.Contains(err.Error(), "--fault throttle=3") || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}
