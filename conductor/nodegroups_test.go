// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func anyStatus(model.Status) bool { return true }

// addGroup asks for a further group, as the API does.
func (w *world) addGroup(cluster *model.Cluster, name, flavor string, count int) (*model.NodeGroup, *model.Operation) {
	w.Helper()
	g := &model.NodeGroup{ClusterID: cluster.UUID, Name: name, Role: name, FlavorID: &flavor, NodeCount: count}
	op, err := w.store.CreateNodeGroup(w.Context(), g, anyStatus, store.NewOperation{})
	w.must(err)
	return g, op
}

func (w *world) group(cluster, ident string) *model.NodeGroup {
	w.Helper()
	g, err := w.store.NodeGroup(w.Context(), cluster, ident)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	w.must(err)
	return g
}

func TestNodeGroupIsCreatedScaledAndDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		g, add := w.addGroup(cluster, "gpu", "small", 2)
		if op := w.ended(add.UUID); op.State != model.OpDone {
			t.Fatalf("creating the group ended %s: %v", op.State, op.Reason)
		}
		if got := w.group(cluster.UUID, "gpu").Status; got != model.CreateComplete {
			t.Errorf("group is %s", got)
		}
		if got := w.group(cluster.UUID, "default-worker").Status; got != model.CreateComplete {
			t.Errorf("the group that was there before is %s", got)
		}
		if got := w.coe.Members(cluster.UUID); !slices.Equal(got, []string{"demo-gpu-0", "demo-gpu-1", "demo-master-0", "demo-worker-0"}) {
			t.Errorf("members: %v", got)
		}
		scale, err := s.ScaleNodeGroup(t.Context(), cluster.UUID, g.UUID, 1, nil, anyStatus, store.NewOperation{})
		w.must(err)
		w.ended(scale.UUID)

		remove, err := s.DeleteNodeGroup(t.Context(), cluster.UUID, g.UUID, anyStatus, store.NewOperation{})
		w.must(err)
		if op := w.ended(remove.UUID); op.State != model.OpDone {
			t.Fatalf("deleting the group ended %s: %v", op.State, op.Reason)
		}
		if w.group(cluster.UUID, g.UUID) != nil {
			t.Error("the deleted group is still there")
		}
		if got := w.coe.Members(cluster.UUID); !slices.Equal(got, []string{"demo-master-0", "demo-worker-0"}) || w.onHost() != 2 {
			t.Errorf("members %v, %d on the host", got, w.onHost())
		}
		if got := w.cluster(cluster.UUID).Status; got != model.UpdateComplete {
			t.Errorf("cluster is %s", got)
		}
	})
}

// A group that can not be made says why; groups that are asked for at the same
// time are made all the same.
func TestFailedNodeGroupLeavesTheOthersAlone(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	stop := w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	stop()
	good, first := w.addGroup(cluster, "good", "small", 1)
	bad, second := w.addGroup(cluster, "bad", "no-such-flavor", 2)
	w.conduct()
	if op := w.ended(first.UUID); op.State != model.OpDone {
		t.Errorf("the good group ended %s: %v", op.State, op.Reason)
	}
	if op := w.ended(second.UUID); op.State != model.OpFailed {
		t.Errorf("the bad group ended %s", op.State)
	}
	if got := w.group(cluster.UUID, good.UUID); got.Status != model.CreateComplete || got.NodeCount != 1 {
		t.Errorf("good group: %s, %d nodes", got.Status, got.NodeCount)
	}
	if got := w.group(cluster.UUID, bad.UUID); got.Status != model.CreateFailed || got.NodeCount != 0 || got.StatusReason == nil {
		t.Errorf("bad group: %s, %d nodes, %v", got.Status, got.NodeCount, got.StatusReason)
	}
	remove, err := w.store.DeleteNodeGroup(t.Context(), cluster.UUID, bad.UUID, anyStatus, store.NewOperation{})
	w.must(err)
	w.ended(remove.UUID)
	if w.group(cluster.UUID, bad.UUID) != nil {
		t.Error("the failed group can not be deleted")
	}
	if got := w.cluster(cluster.UUID).Status; got != model.UpdateComplete {
		t.Errorf("cluster is %s", got)
	}
}

// A conductor that stops while it deletes a group leaves the rest to the next.
func TestDeleteOfNodeGroupIsHandedOver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		stop := w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		g, add := w.addGroup(cluster, "gpu", "small", 2)
		w.ended(add.UUID)
		w.coe.Inject(fake.StepLeave, "demo-gpu-1", fake.Fault{Hang: true})
		remove, err := s.DeleteNodeGroup(t.Context(), cluster.UUID, g.UUID, anyStatus, store.NewOperation{})
		w.must(err)
		w.eventually("the step hangs", func() bool { return w.coe.Taken(fake.StepLeave, "demo-gpu-1") > 0 })
		stop()
		if got := w.group(cluster.UUID, g.UUID); got == nil || got.Status != model.DeleteInProgress {
			t.Errorf("half way through the group is %+v", got)
		}
		w.coe.Heal()
		w.conduct()
		if op := w.ended(remove.UUID); op.State != model.OpDone {
			t.Fatalf("deleting the group ended %s: %v", op.State, op.Reason)
		}
		if w.group(cluster.UUID, g.UUID) != nil || w.onHost() != 2 {
			t.Errorf("the group or its nodes are left: %d on the host", w.onHost())
		}
	})
}

func TestFailedDeleteOfNodeGroupKeepsWhatIsThere(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	g, add := w.addGroup(cluster, "gpu", "small", 1)
	w.ended(add.UUID)
	w.coe.Inject(fake.StepLeave, "demo-gpu-0", fake.Fault{Permanent: "it will not go"})
	for range 2 {
		remove, err := w.store.DeleteNodeGroup(t.Context(), cluster.UUID, g.UUID, anyStatus, store.NewOperation{})
		w.must(err)
		w.ended(remove.UUID)
		if got := w.group(cluster.UUID, g.UUID); got.Status != model.DeleteFailed || got.NodeCount != 1 || *got.StatusReason != "it will not go" {
			t.Errorf("group: %s, %d nodes, %v", got.Status, got.NodeCount, got.StatusReason)
		}
	}
	w.coe.Heal()
	remove, err := w.store.DeleteNodeGroup(t.Context(), cluster.UUID, g.UUID, anyStatus, store.NewOperation{})
	w.must(err)
	w.ended(remove.UUID)
	if w.group(cluster.UUID, g.UUID) != nil || w.onHost() != 2 {
		t.Error("the group can not be deleted any more")
	}
}
