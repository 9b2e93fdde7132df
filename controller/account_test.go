package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// try is EC2's answer to a call that is not to be done.
func (c *memoryCloud) try(action string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.denied, action) {
		return &cloud.Error{Op: "try " + action, Code: "UnauthorizedOperation", Missing: action}
	}
	if slices.Contains(c.untried, action) {
		return fmt.Errorf("%w: there is nothing", cloud.ErrUntried)
	}
	return nil
}

func (c *memoryCloud) TryInstance(context.Context, cloud.InstanceSpec) error {
	return c.try("ec2:RunInstances")
}

func (c *memoryCloud) TryVolume(context.Context, cloud.VolumeSpec, string, string) error {
	return c.try("ec2:CreateVolume")
}

func (c *memoryCloud) TryImage(context.Context, cloud.ImageSpec, string) error {
	return c.try("ec2:RegisterImage")
}

func (c *memoryCloud) TryGroup(context.Context, cloud.GroupSpec) error {
	return c.try("ec2:CreateSecurityGroup")
}

func (c *memoryCloud) TryOwn(context.Context, string) []cloud.Trial {
	return []cloud.Trial{{Action: "ec2:DeleteVolume", Err: c.try("ec2:DeleteVolume")}}
}

func (c *memoryCloud) Key(context.Context, string) error { return nil }

func (c *memoryCloud) Used(context.Context) (cloud.Used, error) { return cloud.Used{}, nil }

func (c *memoryCloud) LimitOf(_ context.Context, l cloud.Limit) (float64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.Service == "ec2" && c.cores > 0 {
		return c.cores, nil
	}
	return 1e6, nil
}

func (c *memoryCloud) deny(actions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = actions
}

// What the cloud would refuse is shown by a plan, keeps anybody from applying and from starting a test, gives way to a reason, and is forgotten when
// it is mended.
func TestWhatTheCloudWouldRefuseBlocks(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.deny("ec2:DeleteVolume")
	plan, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: w.fleet()})
	if err != nil || len(plan.Findings) != 1 || plan.Findings[0].Server != "" || len(plan.Findings[0].Findings) != 1 {
		t.Fatalf("the plan has %+v, %v", plan.Findings, err)
	}
	if f := plan.Findings[0].Findings[0]; f.Code != protocol.FindingPermission || f.Severity != protocol.SeverityCritical || f.Subject != "ec2:DeleteVolume" {
		t.Errorf("got %+v", f)
	}
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: w.fleet()}); !isProblem(err) || !strings.Contains(err.Error(), "ec2:DeleteVolume") {
		t.Errorf("applied all the same: %v", err)
	}
	w.cloud.deny()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.cloud.deny("ec2:RegisterImage")
	w.preflight(protocol.PreflightRequest{Fresh: true}) // what was well a moment ago is not asked again
	if found := w.preflight(protocol.PreflightRequest{}); found[0].Server != "" || found[0].Findings[0].Subject != "ec2:RegisterImage" {
		t.Errorf("got %+v", found)
	}
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "the cloud is not ready") {
		t.Errorf("a test that would end there: %v", err)
	}
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{}); err != nil {
		t.Errorf("what is only removed needs nothing: %v", err)
	}
	w.cloud.deny()
	w.apply(w.fleet())
}

// A plan does not pass over in silence what the cloud does not say, and applying goes on.
func TestAPlanSaysWhatTheCloudDoesNotSay(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.mu.Lock()
	w.cloud.untried = []string{"ec2:DeleteVolume", "ec2:RegisterImage"}
	w.cloud.mu.Unlock()
	plan, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: w.fleet()})
	if err != nil || len(plan.Findings) != 0 {
		t.Fatalf("the plan has %+v, %v", plan.Findings, err)
	}
	// Of the key of the volumes nobody can tell either.
	if got := strings.Join(plan.Warnings, "\n"); !strings.HasPrefix(got, "not known, because KMS says to EC2 only") || !strings.Contains(got, "; and 1 more such, which rehost server preflight shows") {
		t.Errorf("got %q", got)
	}
	w.apply(w.fleet())
}

// TestAQuotaIsShownBeforeItIsMet: too small for one, it blocks; and a gate asks for it.
func TestAQuotaIsShownBeforeItIsMet(t *testing.T) {
	for cores, want := range map[float64]protocol.Severity{3: protocol.SeverityWarning, 1: protocol.SeverityCritical} {
		t.Run(fmt.Sprintf("%v cores", cores), func(t *testing.T) {
			w := newWorld(t)
			defer w.controller(t.Context())()
			w.cloud.mu.Lock()
			w.cloud.cores = cores
			w.cloud.mu.Unlock()
			plan, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: w.fleet()})
			if err != nil || len(plan.Findings) != 1 || plan.Findings[0].Findings[0].Code != protocol.FindingQuota || plan.Findings[0].Findings[0].Severity != want {
				t.Errorf("got %+v, %v", plan.Findings, err)
			}
		})
	}
}

// TestACutoverWaitsForQuotas that have room for all of its wave.
func TestACutoverWaitsForQuotas(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	f := w.fleet()
	f.Waves[0].Gates.Quota = true
	w.apply(f)
	for cores, why := range map[float64]string{3: "of which 0 are used; what is still to be made needs 4", 1000: ""} {
		w.cloud.mu.Lock()
		w.cloud.cores = cores
		w.cloud.mu.Unlock()
		w.preflight(protocol.PreflightRequest{Fresh: true}) // what was well a moment ago is not asked again
		book, err := ask[protocol.RunbookRequest, protocol.Runbook](w, protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
		if err != nil || len(book.Gates) != 1 || book.Gates[0].Open != (why == "") || !strings.Contains(book.Gates[0].Why, why) {
			t.Errorf("%v cores: got %v, %+v", cores, err, book.Gates)
		}
	}
}
