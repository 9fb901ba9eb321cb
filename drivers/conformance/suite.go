// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Suite says how to try a driver.
type Suite struct {
	// New returns a driver. It is called before each step: what one driver
	// keeps in memory, the next one does not know.
	New func() drivers.Driver
	// Machines returns machines with nothing on them; what is left on them at
	// the end of the test must go with tb.Cleanup.
	Machines func(tb testing.TB) Machines
	// Template is one that the driver accepts.
	Template drivers.Template
	// Members asks the COE itself for the names of its nodes.
	Members func(ctx context.Context, job *drivers.Job) ([]string, error)
	// Managers is the larger number of managers to try, 0 when the driver
	// makes clusters of one manager only.
	Managers int
}

// Run tries a driver against all rules of the contract, several at once. With
// machines that are real it takes some minutes. Of a driver that says it is a
// stub, what needs no COE is tried.
func Run(t *testing.T, s Suite) {
	if s.New().Info().Stub {
		runStub(t, s)
		return
	}
	t.Run("Info", side(s.info))
	t.Run("Plans", side(s.plans))
	t.Run("Life", side(s.life))
	t.Run("SideBySide", side(s.sideBySide))
	t.Run("Managers", side(s.managers))
	t.Run("UndoCreate", side(s.undoCreate))
	t.Run("UndoGrow", side(s.undoGrow))
	t.Run("UndoShrink", side(s.undoShrink))
	t.Run("Renew", side(s.renew))
	t.Run("UndoRenew", side(s.undoRenew))
	t.Run("DeleteHalfMade", side(s.deleteHalfMade))
	t.Run("DeleteDead", side(s.deleteDead))
	t.Run("FailingServices", side(s.failingServices))
	t.Run("UnknownStep", side(s.unknownStep))
}

// side makes a test run beside others.
func side(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		test(t)
	}
}

// trial is one cluster under trial.
type trial struct {
	*testing.T
	suite    Suite
	cloud    *Cloud
	machines Machines
}

func (s Suite) begin(t *testing.T) *trial {
	t.Helper()
	m := s.Machines(t)
	return &trial{T: t, suite: s, cloud: NewCloud(t, m, s.Template), machines: m}
}

func (t *trial) runner() *Runner {
	return &Runner{Driver: t.suite.New, Cloud: t.cloud}
}

// run takes an operation to its end, one step after the other.
func (t *trial) run(kind string) {
	t.Helper()
	t.runWith(t.runner(), t.cloud.Operation(kind))
}

func (t *trial) runWith(r *Runner, op drivers.Operation) {
	t.Helper()
	r.After = func(step drivers.Step, message string, took time.Duration) {
		name := ""
		if n := t.cloud.Job(op).Node(step.NodeID); n != nil {
			name = n.Name
		}
		t.Logf("%-14s %-15s %6d ms  %s", step.Name, name, took.Milliseconds(), message)
	}
	if err := r.Run(t.Context(), op); err != nil {
		t.Fatalf("%s (undo %v): %v", op.Kind, op.Undo, err)
	}
}

// stopAt runs the operation and stops before its n-th step (from 0). It tells
// whether there was an n-th step.
func (t *trial) stopAt(kind string, n int) bool {
	t.Helper()
	r := t.runner()
	r.Stop = func(drivers.Step) bool { n--; return n < 0 }
	err := r.Run(t.Context(), t.cloud.Operation(kind))
	if err != nil && !errors.Is(err, ErrStopped) {
		t.Fatalf("%s: %v", kind, err)
	}
	return err != nil
}

func (t *trial) undo(kind string) {
	t.Helper()
	op := t.cloud.Operation(kind)
	op.Undo = true
	r := t.runner()
	r.Twice = true
	t.runWith(r, op)
}

// wantNodes checks that records, machines and the COE agree on the nodes, that
// all are ready, and that the driver finds the cluster healthy.
func (t *trial) wantNodes(names ...string) {
	t.Helper()
	job := t.cloud.Job(t.cloud.Operation(drivers.Update))
	var recorded, ids []string
	for _, n := range job.Nodes {
		recorded = append(recorded, n.Name)
		ids = append(ids, n.ID)
		if n.State != drivers.NodeReady || n.COEID == "" {
			t.Errorf("%s is %s, COE id %q", n.Name, n.State, n.COEID)
		}
	}
	slices.Sort(names)
	slices.Sort(ids)
	t.same("records", names, recorded)
	left, err := t.machines.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(left)
	t.same("machines", ids, left)
	if len(names) == 0 {
		return
	}
	members, err := t.suite.Members(t.Context(), job)
	if err != nil {
		t.Fatalf("ask the COE for its nodes: %v", err)
	}
	slices.Sort(members)
	t.same("the COE", names, members)
	t.wantHealthy(t.cloud.Look())
}

func (t *trial) same(who string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Fatalf("nodes in %s (-want +got):\n%s", who, diff)
	}
}

func (t *trial) wantHealthy(job *drivers.Job) {
	t.Helper()
	health, err := t.suite.New().Health(t.Context(), job)
	if err != nil || health.Status != drivers.Healthy {
		t.Fatalf("health %+v, %v", health, err)
	}
	for _, n := range job.Nodes {
		if health.Reasons[n.Name+".Ready"] != "True" {
			t.Errorf("health of %s: %q", n.Name, health.Reasons[n.Name+".Ready"])
		}
	}
	if health.Reasons["api"] != "ok" {
		t.Errorf("health of the API: %q", health.Reasons["api"])
	}
}

// names returns those of the first masters and workers.
func (t *trial) names(masters, workers int) []string {
	var names []string
	for i := range masters {
		names = append(names, fmt.Sprintf("blue-master-%d", i))
	}
	for i := range workers {
		names = append(names, fmt.Sprintf("blue-worker-%d", i))
	}
	return names
}

func (s Suite) info(t *testing.T) {
	info := s.New().Info()
	if info.Name == "" || info.Name != strings.ToLower(info.Name) || info.Version == "" || len(info.COEs) == 0 || len(info.ServerTypes) == 0 {
		t.Errorf("info is not complete: %+v", info)
	}
	if diff := cmp.Diff(info, s.New().Info()); diff != "" {
		t.Errorf("info changes:\n%s", diff)
	}
	if !info.Serves(&s.Template) {
		t.Errorf("the driver does not serve its own template %+v", s.Template)
	}
	if err := s.New().ValidateTemplate(&s.Template); err != nil {
		t.Errorf("a good template was refused: %v", err)
	}
	groups := []drivers.NodeGroup{{Name: "default-master", Role: "master", NodeCount: 1}, {Name: "default-worker", Role: "worker", NodeCount: 2}}
	err := s.New().ValidateCluster(&s.Template, &drivers.Cluster{Name: "blue"}, groups)
	if info.Stub {
		wantUnsupported(t, "a cluster", err)
	} else if err != nil {
		t.Errorf("a good cluster was refused: %v", err)
	}
	if err := s.New().ValidateCluster(&s.Template, &drivers.Cluster{Name: "blue"}, groups[1:]); err == nil {
		t.Error("a cluster without a manager was accepted")
	}
}

// A plan has unique keys, no circles, names that fit the journal, and is the
// same each time; once steps are done it may lose them, but gains none.
func (s Suite) plans(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 2)
	for _, kind := range []string{drivers.Create, drivers.Update, drivers.Delete} {
		for _, undo := range []bool{false, true} {
			op := c.cloud.Operation(kind)
			op.Undo = undo
			c.checkPlan(op)
		}
	}
	c.stablePlan(drivers.Create)
	c.cloud.Resize(1, 1)
	c.stablePlan(drivers.Update)
	c.cloud.Resize(1, 2)
	c.stablePlan(drivers.Update)
	c.stablePlan(drivers.Delete)
}

func (t *trial) checkPlan(op drivers.Operation) []drivers.Step {
	t.Helper()
	plan, err := t.suite.New().Plan(t.Context(), t.cloud.Job(op))
	if err != nil {
		t.Fatalf("plan %s (undo %v): %v", op.Kind, op.Undo, err)
	}
	again, err := t.suite.New().Plan(t.Context(), t.cloud.Job(op))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plan, again); diff != "" {
		t.Errorf("two plans of %s (undo %v) differ:\n%s", op.Kind, op.Undo, diff)
	}
	if _, err := Order(plan); err != nil {
		t.Fatalf("plan %s (undo %v): %v", op.Kind, op.Undo, err)
	}
	for _, step := range plan {
		if step.Name == "" || len(step.Name) > 64 || strings.Trim(step.Name, "abcdefghijklmnopqrstuvwxyz.") != "" {
			t.Errorf("step name %q", step.Name)
		}
		if step.NodeID != "" && t.cloud.Job(op).Node(step.NodeID) == nil {
			t.Errorf("step %v is about a node that does not exist", step.Key())
		}
	}
	return plan
}

// stablePlan runs the operation and plans anew after each step, as a
// conductor that takes over does.
func (t *trial) stablePlan(kind string) {
	t.Helper()
	op := t.cloud.Operation(kind)
	open := map[drivers.StepKey]bool{}
	for _, step := range t.checkPlan(op) {
		open[step.Key()] = true
	}
	first := len(open)
	r := t.runner()
	r.After = func(step drivers.Step, _ string, _ time.Duration) {
		delete(open, step.Key())
		plan := t.checkPlan(op)
		now := map[drivers.StepKey]bool{}
		for _, s := range plan {
			now[s.Key()] = true
		}
		for key := range open {
			if !now[key] {
				t.Errorf("%s: after %v the plan has lost %v, which is not done", kind, step.Key(), key)
			}
		}
		if len(plan) > first {
			t.Errorf("%s: after %v the plan has grown to %d steps", kind, step.Key(), len(plan))
		}
	}
	if err := r.Run(t.Context(), op); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
}

// A cluster is made, grown, shrunk and deleted, each step taken twice by
// drivers that know nothing of each other.
func (s Suite) life(t *testing.T) {
	c := s.begin(t)
	twice := func(kind string) {
		t.Helper()
		r := c.runner()
		r.Twice = true
		c.runWith(r, c.cloud.Operation(kind))
	}
	c.cloud.Resize(1, 1)
	twice(drivers.Create)
	c.wantNodes(c.names(1, 1)...)
	if o := c.cloud.Observed(); o.StackID == "" || o.APIAddress == "" || o.COEVersion == "" || o.ContainerVersion == "" {
		t.Errorf("observed %+v", o)
	}
	c.cloud.Resize(1, 3)
	twice(drivers.Update)
	c.wantNodes(c.names(1, 3)...)
	c.cloud.Resize(1, 0)
	twice(drivers.Update)
	c.wantNodes(c.names(1, 0)...)
	twice(drivers.Update) // nothing to do
	c.wantNodes(c.names(1, 0)...)
	twice(drivers.Delete)
	c.wantNodes()
	twice(drivers.Delete)
	c.wantNodes()
}

// The same, with all steps at once that the plan allows.
func (s Suite) sideBySide(t *testing.T) {
	c := s.begin(t)
	run := func(kind string) {
		t.Helper()
		begun := time.Now()
		r := c.runner()
		r.SideBySide = true
		c.runWith(r, c.cloud.Operation(kind))
		t.Logf("%s took %d ms", kind, time.Since(begun).Milliseconds())
	}
	c.cloud.Resize(1, 2)
	run(drivers.Create)
	c.wantNodes(c.names(1, 2)...)
	c.cloud.Resize(1, 3)
	run(drivers.Update)
	c.wantNodes(c.names(1, 3)...)
	c.cloud.Resize(1, 1)
	run(drivers.Update)
	c.wantNodes(c.names(1, 1)...)
	run(drivers.Delete)
	c.wantNodes()
}

// Managers come and go without the cluster losing its quorum.
func (s Suite) managers(t *testing.T) {
	if s.Managers == 0 {
		t.Skip("the driver makes clusters of one manager only")
	}
	c := s.begin(t)
	side := func(kind string) {
		t.Helper()
		r := c.runner()
		r.SideBySide = true
		c.runWith(r, c.cloud.Operation(kind))
	}
	c.cloud.Resize(s.Managers, 0)
	side(drivers.Create)
	c.wantNodes(c.names(s.Managers, 0)...)
	c.cloud.Resize(1, 1)
	side(drivers.Update)
	c.wantNodes(c.names(1, 1)...)
	c.cloud.Resize(s.Managers, 1)
	side(drivers.Update)
	c.wantNodes(c.names(s.Managers, 1)...)
	side(drivers.Delete)
	c.wantNodes()
}

// Wherever a create fails, undoing it leaves nothing.
func (s Suite) undoCreate(t *testing.T) {
	c := s.begin(t)
	for n := 0; ; n++ {
		c.cloud.Resize(1, 1)
		more := c.stopAt(drivers.Create, n)
		c.undo(drivers.Create)
		c.wantNodes()
		if !more {
			return
		}
	}
}

// Wherever growing fails, undoing it leaves the nodes that were there.
func (s Suite) undoGrow(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	c.run(drivers.Create)
	for n := 0; ; n++ {
		c.cloud.Resize(max(1, s.Managers), 2)
		if !c.stopAt(drivers.Update, n) {
			break // it came to its end: there is nothing to undo
		}
		c.undo(drivers.Update)
		c.wantNodes(c.names(1, 1)...)
	}
	c.run(drivers.Delete)
	c.wantNodes()
}

// Wherever shrinking fails, undoing it leaves a healthy cluster: nodes that
// were to leave are back or gone. Shrinking again then comes to its end.
func (s Suite) undoShrink(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	c.run(drivers.Create)
	for n := 0; ; n++ {
		c.cloud.Resize(1, 2)
		c.run(drivers.Update)
		c.cloud.Resize(1, 1)
		if !c.stopAt(drivers.Update, n) {
			break
		}
		c.undo(drivers.Update)
		c.wantNodes(c.recorded()...)
		c.cloud.Resize(1, 1)
		c.run(drivers.Update)
		c.wantNodes(c.names(1, 1)...)
	}
	c.run(drivers.Delete)
	c.wantNodes()
}

func (t *trial) recorded() []string {
	var names []string
	for _, n := range t.cloud.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// renewals are the operations of the driver that rebuild nodes.
func (s Suite) renewals() []string {
	return slices.DeleteFunc([]string{drivers.Upgrade, drivers.RotateCA, drivers.Rebuild}, func(kind string) bool {
		return !slices.Contains(s.New().Info().Operations, kind)
	})
}

// Upgrades and rotations rebuild each node where it stands, one worker after
// the other, each step taken twice; a second run finds nothing to do.
func (s Suite) renew(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 2)
	c.run(drivers.Create)
	before := c.cloud.Nodes()
	for _, kind := range s.renewals() {
		c.cloud.Renew(kind)
		c.checkPlan(c.cloud.Operation(kind))
		r := c.runner()
		r.Twice = true
		c.runWith(r, c.cloud.Operation(kind))
		c.wantRenewed(kind, before)
		c.run(kind)
		c.wantRenewed(kind, before)
	}
	c.run(drivers.Delete)
	c.wantNodes()
}

// An upgrade or rotation that was stopped half way can be undone, and tried
// again.
func (s Suite) undoRenew(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	c.run(drivers.Create)
	before := c.cloud.Nodes()
	for _, kind := range s.renewals() {
		c.cloud.Renew(kind)
		c.stopAt(kind, len(c.checkPlan(c.cloud.Operation(kind)))/2)
		c.cloud.Revert(kind)
		c.undo(kind)
		c.wantRenewed(kind, before)
		c.cloud.Renew(kind)
		c.run(kind)
		c.wantRenewed(kind, before)
	}
}

// wantRenewed ends an upgrade or rotation as the conductor does, and checks
// that the cluster has the same nodes as before and that none is stale.
func (t *trial) wantRenewed(kind string, before []drivers.Node) {
	t.Helper()
	if kind == drivers.RotateCA {
		t.cloud.Settle()
	}
	if diff := cmp.Diff(before, t.cloud.Nodes()); diff != "" {
		t.Errorf("%s has changed the nodes:\n%s", kind, diff)
	}
	for _, n := range t.cloud.Job(t.cloud.Operation(kind)).Nodes {
		if n.Stale {
			t.Errorf("after the %s %s is stale", kind, n.Name)
		}
	}
	t.wantNodes(t.recorded()...)
}

// A create that was stopped anywhere can be deleted without an undo.
func (s Suite) deleteHalfMade(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	steps := len(c.checkPlan(c.cloud.Operation(drivers.Create)))
	for _, n := range []int{0, steps / 2, steps - 1} {
		c.cloud.Resize(1, 1)
		c.stopAt(drivers.Create, n)
		c.run(drivers.Delete)
		c.wantNodes()
	}
}

// A cluster whose machines are dead can be deleted.
func (s Suite) deleteDead(t *testing.T) {
	c := s.begin(t)
	c.cloud.Resize(1, 1)
	c.run(drivers.Create)
	for _, n := range c.cloud.Nodes() {
		if err := c.machines.Delete(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	health, err := s.New().Health(t.Context(), c.cloud.Look())
	if err == nil && health.Status == drivers.Healthy {
		t.Errorf("a dead cluster is called healthy: %+v", health)
	}
	c.run(drivers.Delete)
	c.wantNodes()
}

// When a service fails, each step says so and keeps the kind of failure:
// temporary, permanent or superseded. Afterwards it still comes to its end.
func (s Suite) failingServices(t *testing.T) {
	c := s.begin(t)
	temporary := fault.Temporary(nil, "the database does not answer")
	permanent := fault.Permanent(nil, "no capacity")
	r := c.runner()
	r.Stop = func(step drivers.Step) bool {
		for _, cause := range []error{temporary, permanent, drivers.ErrSuperseded} {
			c.cloud.Break(cause)
			outcome, err := r.call(t.Context(), c.cloud.Operation(drivers.Create), step)
			if c.cloud.Repair() == 0 {
				continue // it needs no service
			}
			switch {
			case err == nil:
				t.Errorf("step %s hides the failure %q: %+v", step.Name, cause, outcome)
			case !errors.Is(err, cause):
				t.Errorf("step %s turned the failure %q into %q", step.Name, cause, err)
			case fault.IsPermanent(err) != fault.IsPermanent(cause):
				t.Errorf("step %s: is %q permanent? %v", step.Name, err, fault.IsPermanent(err))
			}
		}
		return false
	}
	c.cloud.Resize(1, 1)
	c.runWith(r, c.cloud.Operation(drivers.Create))
	c.wantNodes(c.names(1, 1)...)
	c.run(drivers.Delete)
	c.wantNodes()
}

// A step of another version's plan is an error for good.
func (s Suite) unknownStep(t *testing.T) {
	c := s.begin(t)
	_, err := s.New().Run(t.Context(), c.cloud.Job(c.cloud.Operation(drivers.Create)), drivers.Step{Name: "no.such.step"})
	if !fault.IsPermanent(err) {
		t.Errorf("got %v, want a permanent error", err)
	}
}
