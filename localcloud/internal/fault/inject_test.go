package fault_test

import (
	"errors"
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/localcloud/internal/fault"
)

// play makes n calls and counts the troubles.
func play(p fault.Plan, n int) map[string]int {
	got := map[string]int{}
	i := fault.NewInjector(p, func(_, kind string) { got[kind]++ })
	for range n {
		if i.Before("CreateVolume", false) == nil {
			_, _ = i.After("CreateVolume", url.Values{"Action": {"CreateVolume"}})
		}
	}
	return got
}

func TestTroublesComeAsOftenAsPlanned(t *testing.T) {
	const n = 10000
	got := play(fault.Plan{Seed: 1, Throttle: 0.3, Fail: 0.1}, n)
	for kind, want := range map[string]float64{fault.KindThrottle: 0.3, fault.KindFail: 0.7 * 0.05, fault.KindFailDone: 0.7 * 0.95 * 0.05} {
		if share := float64(got[kind]) / n; math.Abs(share-want) > 0.01 {
			t.Errorf("%s: %.3f of the calls, want %.3f", kind, share, want)
		}
	}
	if diff := cmp.Diff(got, play(fault.Plan{Seed: 1, Throttle: 0.3, Fail: 0.1}, n)); diff != "" {
		t.Errorf("the same seed gave other troubles:\n%s", diff)
	}
	if got := play(fault.Plan{}, n); len(got) > 0 {
		t.Errorf("no plan gave troubles: %v", got)
	}
	var none *fault.Injector
	if lost, err := none.After("CreateVolume", nil); lost || err != nil || none.Before("CreateVolume", false) != nil || none.Delay() != 0 {
		t.Error("no injector gave troubles")
	}
}

func TestEachRequestLosesOneAnswer(t *testing.T) {
	i := fault.NewInjector(fault.Plan{Lose: []string{"CreateVolume"}}, nil)
	for _, step := range []struct {
		action, token string
		want          bool
	}{
		{"CreateVolume", "a", true},
		{"CreateVolume", "a", false},
		{"CreateVolume", "b", true},
		{"DeleteVolume", "a", false},
		{"CreateVolume", "b", false},
	} {
		lost, err := i.After(step.action, url.Values{"ClientToken": {step.token}})
		if lost != step.want || err != nil {
			t.Errorf("%s %s: lost %v, %v", step.action, step.token, lost, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	i := fault.NewInjector(fault.Plan{Refuse: []fault.Refusal{{Action: "RunInstances", Code: "X", Times: 2}, {Action: "CreateVolume", Code: "Y"}}}, nil)
	for n, c := range []struct{ action, want string }{
		{"RunInstances", "X"}, {"CreateVolume", "Y"}, {"RunInstances", "X"}, {"RunInstances", ""}, {"CreateVolume", "Y"}, {"DeleteVolume", ""},
	} {
		err := i.Before(c.action, false)
		if e, ok := errors.AsType[*fault.Error](err); ok != (c.want != "") || ok && e.Code != c.want {
			t.Errorf("call %d, %s: got %v, want %q", n, c.action, err, c.want)
		}
	}
}

func TestSettings(t *testing.T) {
	var p fault.Plan
	for _, s := range []string{"seed=7", "throttle=0.3", "fail=0.1", "lose=CreateVolume", "lose=RunInstances", "delay=200ms", "refuse=RunInstances:InsufficientInstanceCapacity:2"} {
		if err := p.Set(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	want := fault.Plan{Seed: 7, Throttle: 0.3, Fail: 0.1, Lose: []string{"CreateVolume", "RunInstances"}, Delay: 200 * time.Millisecond, Refuse: []fault.Refusal{{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Times: 2}}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, s := range []string{"", "throttle=2", "fail=x", "lose=", "delay=-1s", "seed=-1", "slow=1s", "refuse=RunInstances", "refuse=A:B:0", "refuse=A:B:x"} {
		if err := new(fault.Plan).Set(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
