package cloud_test

import "testing"

// TestStatusChecks: an instance that runs is well, and one that has ended has no checks.
func TestStatusChecks(t *testing.T) {
	c := open(t)
	inst := launch(t, c)
	if system, own, err := c.StatusChecks(t.Context(), inst.ID); err != nil || system != "ok" || own != "ok" {
		t.Errorf("it runs: %q, %q, %v", system, own, err)
	}
	ok(t, c.TerminateInstance(t.Context(), inst.ID, nil))
	if system, own, err := c.StatusChecks(t.Context(), inst.ID); err != nil || system != "not-applicable" || own != "not-applicable" {
		t.Errorf("it has ended: %q, %q, %v", system, own, err)
	}
	if _, _, err := c.StatusChecks(t.Context(), "i-0123456789abcdef0"); err == nil {
		t.Error("an unknown instance has no error")
	}
}
