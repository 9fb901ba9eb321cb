// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// looked are statuses in which clusters of these tests are looked at.
var looked = []model.Status{model.CreateComplete, model.UpdateFailed}

func TestDueClustersGoToOneConductorEach(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var want []string
		for range 12 {
			c, _ := ready(t, s, "p1")
			want = append(want, c.UUID)
		}
		cluster(t, s, "p1") // in progress: nobody looks at it

		var mu sync.Mutex
		var got []string
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					due, err := s.DueClusters(t.Context(), looked, time.Hour, 3)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, c := range due {
						got = append(got, c.UUID)
					}
					enough := len(got) >= len(want)
					mu.Unlock()
					if enough {
						return
					}
				}
			})
		}
		all.Wait()
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("claimed:\n%s", diff)
		}
		if due, err := s.DueClusters(t.Context(), looked, time.Hour, 3); len(due) != 0 || err != nil {
			t.Errorf("due again at once: %v, %v", due, err)
		}
		s.Exec(t, "UPDATE clusters SET next_check = '2001-01-01 00:00:00.000' WHERE uuid = ?", want[5])
		due, err := s.DueClusters(t.Context(), looked, time.Hour, 3)
		must(t, err)
		if len(due) != 1 || due[0].UUID != want[5] || due[0].TemplateID == "" {
			t.Errorf("after its time has come: %+v", due)
		}
	})
}

// Checks are spread by a tenth, so that what began together does not stay
// together.
func TestNextChecksAreSpread(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for range 20 {
			ready(t, s, "p1")
		}
		before := time.Now()
		due, err := s.DueClusters(t.Context(), looked, time.Hour, 100)
		must(t, err)
		if len(due) != 20 {
			t.Fatalf("%d are due", len(due))
		}
		var next []time.Time
		s.Query(t, &next, "SELECT next_check FROM clusters")
		different := map[time.Time]bool{}
		for _, at := range next {
			different[at] = true
			if in := at.Sub(before); in < 53*time.Minute || in > 67*time.Minute {
				t.Errorf("due again in %s", in)
			}
		}
		if len(different) < 10 {
			t.Errorf("20 clusters are due at %d times", len(different))
		}
	})
}

// onHost makes a ready cluster with one ready node on a new host.
func onHost(t *testing.T, s *store.Store) (*model.Cluster, *model.Host, model.Node) {
	t.Helper()
	c, groups, op := created(t, s, "p1")
	f := claim(t, s, op, "setup")
	h := host(t, s, "h-"+c.UUID, 4)
	n := nodes(t, s, f, groups[0], 1)[0]
	_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
	must(t, err)
	must(t, s.NodeState(t.Context(), f, n.UUID, model.NodeReady, nil))
	must(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil))
	return c, h, n
}

func TestHostsInUseAreDue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, h, n := onHost(t, s)
		empty, coming := host(t, s, "empty", 4), host(t, s, "coming", 4)
		_, err := s.UpdateHost(t.Context(), coming.UUID, nil, map[string]any{"state": model.HostPreparing})
		must(t, err)
		due, err := s.DueHosts(t.Context(), time.Hour, 10)
		must(t, err)
		if len(due) != 2 || due[0].UUID != h.UUID || due[1].UUID != empty.UUID {
			t.Errorf("due: %+v", due)
		}
		on, err := s.NodesOn(t.Context(), h.UUID)
		must(t, err)
		if h := due[0]; h.Name == "" {
			t.Errorf("host without its name: %+v", h)
		}
		if got := on[h.UUID]; len(got) != 1 || got[0].UUID != n.UUID || got[0].State != model.NodeReady {
			t.Errorf("nodes on the host: %+v", on)
		}
	})
}

func machineOf(t *testing.T, s *store.Store, c *model.Cluster) model.MachineState {
	t.Helper()
	all, err := s.Nodes(t.Context(), c.UUID)
	must(t, err)
	return all[c.UUID][0].Machine
}

func TestMachinesAreNotedWhileNoOperationIsUnfinished(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _, n := onHost(t, s)
		_, err := s.DueClusters(t.Context(), looked, time.Hour, 10)
		must(t, err)
		stopped := map[string]model.MachineState{n.UUID: model.MachineStopped, "no-such-node": model.MachineGone}
		for range 2 {
			must(t, s.SetMachines(t.Context(), stopped))
			if got := machineOf(t, s, c); got != model.MachineStopped {
				t.Errorf("machine is %q", got)
			}
		}
		if due, err := s.DueClusters(t.Context(), looked, time.Hour, 10); len(due) != 1 || err != nil {
			t.Errorf("the cluster's health is not due: %v, %v", due, err)
		}

		op, err := s.RepairCluster(t.Context(), c.UUID, looked, time.Hour, store.NewOperation{})
		must(t, err)
		must(t, s.SetMachines(t.Context(), map[string]model.MachineState{n.UUID: model.MachineGone}))
		if got := machineOf(t, s, c); got != model.MachineStopped {
			t.Errorf("while an operation is unfinished the machine becomes %q", got)
		}
		f := claim(t, s, op, "c1")
		must(t, s.MachineRuns(t.Context(), f, n.UUID))
		if got := machineOf(t, s, c); got != model.MachineFine {
			t.Errorf("after the repair the machine is %q", got)
		}
		f.Generation++
		wantErr(t, s.MachineRuns(t.Context(), f, n.UUID), store.ErrSuperseded)
	})
}

func TestRepairsLeaveTheStatusAlone(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		ask := func() *model.Operation {
			t.Helper()
			op, err := s.RepairCluster(t.Context(), c.UUID, looked, time.Hour, store.NewOperation{RequestID: "req-7"})
			must(t, err)
			return op
		}
		op := ask()
		if op == nil || op.Kind != model.OpRepair || op.ProjectID != "p1" {
			t.Fatalf("operation %+v", op)
		}
		if again := ask(); again != nil {
			t.Error("a second repair is asked for while the first is unfinished")
		}
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		now, err := s.Cluster(t.Context(), everything, c.UUID)
		must(t, err)
		if now.Status != model.CreateComplete {
			t.Errorf("the repair made the cluster %s", now.Status)
		}
		op = ask()
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpFailed, model.UpdateFailed, ptr("no"), nil))
		if again := ask(); again != nil {
			t.Error("after a failed repair the next one does not rest")
		}
		if now, err = s.Cluster(t.Context(), everything, c.UUID); err != nil || now.Status != model.CreateComplete || now.StatusReason != nil {
			t.Errorf("the failed repair left %s, %v; %v", now.Status, now.StatusReason, err)
		}
		_, err = s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		must(t, err)
		if again := ask(); again != nil {
			t.Error("a cluster that is being deleted is repaired")
		}
		if op, err := s.RepairCluster(t.Context(), "none", looked, time.Hour, store.NewOperation{}); op != nil || err != nil {
			t.Errorf("a cluster that is gone: %v, %v", op, err)
		}
	})
}

func TestJobIsDoneByOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var mine sync.Map
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				got, err := s.ClaimJob(t.Context(), "sweep", time.Hour)
				if err != nil {
					t.Error(err)
				}
				if got {
					mine.Store(i, true)
				}
			})
		}
		all.Wait()
		n := 0
		mine.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d do the job", n)
		}
		if other, err := s.ClaimJob(t.Context(), "prune", time.Hour); !other || err != nil {
			t.Errorf("another job: %v, %v", other, err)
		}
		s.Exec(t, "UPDATE periodic_jobs SET next_run = '2001-01-01 00:00:00.000'")
		if again, err := s.ClaimJob(t.Context(), "sweep", time.Hour); !again || err != nil {
			t.Errorf("when it is due again: %v, %v", again, err)
		}
	})
}
