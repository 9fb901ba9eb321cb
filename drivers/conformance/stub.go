// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"errors"
	"testing"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// runStub tries what a driver must keep that validates and plans but makes no
// clusters: New and Template of the suite are enough.
func runStub(t *testing.T, s Suite) {
	s.Machines = func(testing.TB) Machines { return NewMemory() }
	t.Run("Info", side(s.info))
	t.Run("Plans", side(s.stubPlans))
	t.Run("Refuses", side(s.refuses))
	t.Run("UnknownStep", side(s.unknownStep))
}

// stubPlans are plans that could be taken: for few nodes and for many, growing
// and shrinking, forward and back.
func (s Suite) stubPlans(t *testing.T) {
	for _, size := range [][2]int{{1, 0}, {1, 1}, {3, 2}, {5, 40}} {
		c := s.begin(t)
		c.cloud.Resize(size[0], size[1])
		for _, kind := range []string{drivers.Create, drivers.Delete} {
			c.checkBothWays(kind)
		}
		for _, n := range c.cloud.Nodes() { // as if they had been made
			if err := c.cloud.Job(drivers.Operation{}).Services.Records.Joined(t.Context(), n.ID, "coe-"+n.ID); err != nil {
				t.Fatal(err)
			}
		}
		c.cloud.Resize(size[0], size[1]+2)
		c.checkBothWays(drivers.Update)
		c.cloud.Resize(1, 0)
		c.checkBothWays(drivers.Update)
		for _, kind := range s.renewals() {
			c.cloud.Renew(kind)
			c.checkBothWays(kind)
		}
		c.checkBothWays(drivers.Delete)
	}
	c := s.begin(t)
	if _, err := s.New().Plan(t.Context(), c.cloud.Job(c.cloud.Operation("no-such-operation"))); !fault.IsPermanent(err) {
		t.Errorf("an unknown operation is planned: %v, want a permanent error", err)
	}
}

// checkBothWays checks the plan of an operation and of its undo. Each node
// that the operation is about must be in it.
func (t *trial) checkBothWays(kind string) {
	t.Helper()
	for _, undo := range []bool{false, true} {
		op := t.cloud.Operation(kind)
		op.Undo = undo
		planned := map[string]bool{}
		for _, step := range t.checkPlan(op) {
			planned[step.NodeID] = true
		}
		for _, n := range t.cloud.Nodes() {
			if !planned[n.ID] && (kind != drivers.Update || n.State != drivers.NodeReady) {
				t.Errorf("the plan of %s (undo %v) has no step for %s, which is %s", kind, undo, n.Name, n.State)
			}
		}
	}
}

// refuses: no step pretends to have done something, no cluster is healthy, and
// what is said is that the kind of cluster is not supported.
func (s Suite) refuses(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	for _, kind := range []string{drivers.Create, drivers.Delete} {
		op := c.cloud.Operation(kind)
		for _, step := range c.checkPlan(op) {
			outcome, err := s.New().Run(t.Context(), c.cloud.Job(op), step)
			if !fault.IsPermanent(err) {
				t.Errorf("step %s of %s: %+v, %v; want a permanent error", step.Name, kind, outcome, err)
			}
			wantUnsupported(t, "step "+step.Name, err)
		}
	}
	health, err := s.New().Health(t.Context(), c.cloud.Look())
	if err == nil || health.Status == drivers.Healthy {
		t.Errorf("health of what is not there: %+v, %v", health, err)
	}
}

func wantUnsupported(t *testing.T, what string, err error) {
	t.Helper()
	var unsupported *drivers.UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Errorf("a stub answers %s with %v, not with an UnsupportedError", what, err)
	}
}
