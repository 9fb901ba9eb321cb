// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func (w *world) host() *simhost.Host { return simhost.Open(simhost.Scheme + "://" + w.hostDir) }

// node returns the record of the cluster's node.
func (w *world) node(cluster, name string) *model.Node {
	w.Helper()
	nodes, err := w.store.Nodes(w.Context(), cluster)
	w.must(err)
	for _, n := range nodes[cluster] {
		if n.Name == name {
			return &n
		}
	}
	w.Fatalf("there is no node %s", name)
	return nil
}

// runs tells whether the node runs on the host.
func (w *world) runs(node string) bool {
	w.Helper()
	list, err := w.host().List(w.Context())
	w.must(err)
	return slices.Contains(list, lxc.Info{UUID: node, State: lxc.StateRunning})
}

// repairs are the repairs of the cluster so far.
func (w *world) repairs(cluster string) (found []model.Operation) {
	w.Helper()
	ops, err := w.store.Operations(w.Context(), cluster)
	w.must(err)
	for _, op := range ops {
		if op.Kind == model.OpRepair {
			found = append(found, op)
		}
	}
	return found
}

func TestNodeThatStandsStillIsStarted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.options.MachinesEvery, w.options.HealthEvery = 50*time.Millisecond, 50*time.Millisecond
		w.conduct()
		w.conduct()
		cluster, create := w.create("demo", 1, 2)
		w.ended(create.UUID)
		worker := w.node(cluster.UUID, "demo-worker-1").UUID
		w.must(w.host().Stop(worker))
		w.eventually("the node runs again", func() bool { return w.runs(worker) })
		w.eventually("the repair has ended", func() bool { return w.repairs(cluster.UUID)[0].State.Terminal() })
		repairs := w.repairs(cluster.UUID)
		if len(repairs) != 1 || repairs[0].State != model.OpDone || repairs[0].RequestID == "" {
			t.Errorf("repairs: %+v", repairs)
		}
		if diff := cmp.Diff([]string{"machine.start demo-worker-1 done"}, w.story(repairs[0].UUID)); diff != "" {
			t.Error(diff)
		}
		if got := w.cluster(cluster.UUID); got.Status != model.CreateComplete {
			t.Errorf("the repair made the cluster %s", got.Status)
		}
		if got := w.node(cluster.UUID, "demo-worker-1").Machine; got != model.MachineFine {
			t.Errorf("the machine still is noted as %q", got)
		}
		w.health(cluster.UUID, "HEALTHY")
	})
}

func TestMachineThatIsGoneIsTold(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.MachinesEvery, w.options.HealthEvery = 50*time.Millisecond, 50*time.Millisecond
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	w.health(cluster.UUID, "HEALTHY")
	worker := w.node(cluster.UUID, "demo-worker-0").UUID
	file := filepath.Join(w.hostDir, worker+".json")
	w.must(os.Rename(file, file+".away"))
	if got := w.health(cluster.UUID, "UNHEALTHY")["demo-worker-0.Ready"]; got != "False: its machine is not on its host any more" {
		t.Errorf("the reason is %q", got)
	}
	if repairs := w.repairs(cluster.UUID); len(repairs) > 0 {
		t.Errorf("repairs of what can not be repaired: %+v", repairs)
	}
	w.must(os.Rename(file+".away", file))
	w.health(cluster.UUID, "HEALTHY")

	// Of a host that does not answer nothing is known.
	w.must(os.Rename(w.hostDir, w.hostDir+"-away"))
	w.looks(5)
	w.health(cluster.UUID, "HEALTHY")
	w.must(os.Rename(w.hostDir+"-away", w.hostDir))
}

// A node that an operation has stopped, or is about to remove, is left to it.
func TestMachinesAreLeftToTheOperationUnderWay(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.MachinesEvery, w.options.CallTimeout = 20*time.Millisecond, time.Second
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	w.coe.Inject(fake.StepJoin, "", fake.Fault{Hang: true})
	_, err := w.store.ScaleNodeGroup(t.Context(), cluster.UUID, w.group(cluster.UUID, "default-worker").UUID, 2, nil, anyStatus, store.NewOperation{})
	w.must(err)
	w.eventually("the new node hangs", func() bool { return w.coe.Taken(fake.StepJoin, "demo-worker-1") > 0 })
	worker := w.node(cluster.UUID, "demo-worker-0").UUID
	w.must(w.host().Stop(worker))
	asked := time.Now()
	w.eventually("the host was asked a few times", func() bool { return time.Since(asked) > 300*time.Millisecond })
	if got := w.node(cluster.UUID, "demo-worker-0").Machine; got != model.MachineFine || len(w.repairs(cluster.UUID)) > 0 || w.runs(worker) {
		t.Errorf("during the update: machine %q, repairs %v", got, w.repairs(cluster.UUID))
	}
	w.coe.Heal()
	w.eventually("after the update the node is started", func() bool { return w.runs(worker) })
}

// A repair that fails says why, and the next one is not tried at once. A delete
// does not wait for it.
func TestRepairThatFails(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.MachinesEvery = 20 * time.Millisecond
	hangs := make(chan struct{}, 100)
	mode := make(chan string, 1)
	mode <- "refuse"
	w.fault = func(ctx context.Context, call, _ string) error {
		if call != "start" {
			return nil
		}
		now := <-mode
		mode <- now
		if now == "refuse" {
			return fault.Permanent(errors.New("hook failed"), "its root is broken")
		}
		hangs <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	w.conduct()
	cluster, create := w.create("demo", 1, 0)
	w.ended(create.UUID)
	w.must(w.host().Stop(w.node(cluster.UUID, "demo-master-0").UUID))
	w.eventually("the repair has failed", func() bool {
		repairs := w.repairs(cluster.UUID)
		return len(repairs) > 0 && repairs[0].State == model.OpFailed
	})
	if reason := *w.repairs(cluster.UUID)[0].Reason; !strings.Contains(reason, "its root is broken") || !strings.Contains(reason, "demo-master-0") {
		t.Errorf("reason %q", reason)
	}
	asked := time.Now()
	w.eventually("the host was asked a few times", func() bool { return time.Since(asked) > 300*time.Millisecond })
	if n := len(w.repairs(cluster.UUID)); n != 1 {
		t.Errorf("%d repairs", n)
	}
	if got := w.cluster(cluster.UUID); got.Status != model.CreateComplete || got.StatusReason != nil {
		t.Errorf("cluster is %s, %v", got.Status, got.StatusReason)
	}

	<-mode
	mode <- "hang"
	other, create := w.create("other", 1, 0)
	w.ended(create.UUID)
	w.must(w.host().Stop(w.node(other.UUID, "other-master-0").UUID))
	<-hangs
	remove, err := w.store.DeleteCluster(t.Context(), other.UUID, store.NewOperation{})
	w.must(err)
	if op := w.ended(remove.UUID); op.State != model.OpDone {
		t.Errorf("delete ended %s", op.State)
	}
	if got := w.repairs(other.UUID)[0].State; got != model.OpCancelled {
		t.Errorf("the repair ended %s", got)
	}
}
