// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// added makes a further group of three nodes in a ready cluster.
func added(t testing.TB, s *store.Store, c *model.Cluster) (*model.NodeGroup, *model.Operation) {
	t.Helper()
	g := &model.NodeGroup{ClusterID: c.UUID, Name: "gpu", Role: "gpu", NodeCount: 3, MaxNodeCount: ptr(9), Labels: model.Labels{"a": "b"}}
	op, err := s.CreateNodeGroup(t.Context(), g, model.Status.Ready, store.NewOperation{UserID: "u", RequestID: "req-3", Deadline: time.Hour})
	must(t, err)
	return g, op
}

func groupIsGone(t testing.TB, s *store.Store, c *model.Cluster, uuid string) {
	t.Helper()
	_, err := s.NodeGroup(t.Context(), c.UUID, uuid)
	wantErr(t, err, store.ErrNotFound)
}

func TestCreateNodeGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		g, op := added(t, s, c)
		if diff := cmp.Diff(g, groupNow(t, s, c.UUID, "gpu")); diff != "" {
			t.Error(diff)
		}
		if g.UUID == "" || g.ID == 0 || g.ProjectID != "p1" || g.Status != model.CreateInProgress {
			t.Errorf("group %+v", g)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress {
			t.Errorf("cluster is %v", got.Status)
		}
		want := model.OperationSpec{NodeGroups: []string{g.UUID}, NodeCounts: map[string]int{g.UUID: 0}, GroupKind: model.OpCreate}
		got := operationNow(t, s, op.UUID)
		if diff := cmp.Diff(want, got.Spec); diff != "" || got.Kind != model.OpUpdate || got.RequestID != "req-3" || got.Deadline == nil {
			t.Errorf("operation %+v\n%s", got, diff)
		}

		// Refused ones change nothing.
		again := &model.NodeGroup{ClusterID: c.UUID, Name: "gpu"}
		_, err := s.CreateNodeGroup(t.Context(), again, always, store.NewOperation{})
		wantErr(t, err, store.ErrExists)
		again.Name = "other"
		_, err = s.CreateNodeGroup(t.Context(), again, model.Status.Ready, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)
		again.ClusterID = "nowhere"
		_, err = s.CreateNodeGroup(t.Context(), again, always, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
		if again.UUID != "" {
			t.Error("a refused group got a uuid")
		}
		if ops, _ := s.Operations(t.Context(), c.UUID); len(ops) != 2 {
			t.Errorf("%d operations after the refused ones", len(ops))
		}

		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		if got := groupNow(t, s, c.UUID, "gpu"); got.Status != model.CreateComplete || got.NodeCount != 3 {
			t.Errorf("group is %v with %d nodes", got.Status, got.NodeCount)
		}
		if got := groupNow(t, s, c.UUID, groups[1].UUID); got.Status != model.CreateComplete || got.UpdatedAt != nil && got.UpdatedAt.After(g.CreatedAt) {
			t.Errorf("the group that it was not about: %+v", got)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateComplete {
			t.Errorf("cluster is %v", got.Status)
		}
	})
}

func TestFailedNodeGroupStaysWithoutNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		g, op := added(t, s, c)
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpFailed, model.UpdateFailed, ptr("no room"), map[string]int{g.UUID: 0}))
		if got := groupNow(t, s, c.UUID, g.UUID); got.Status != model.CreateFailed || got.NodeCount != 0 || *got.StatusReason != "no room" {
			t.Errorf("group %+v", got)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateFailed {
			t.Errorf("cluster is %v", got.Status)
		}
		del, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, always, store.NewOperation{})
		must(t, err)
		must(t, s.Finish(t.Context(), claim(t, s, del, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		groupIsGone(t, s, c, g.UUID)
		added(t, s, c) // its name is free again
	})
}

func TestUpdateNodeGroupLimits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		worker := groups[1].UUID
		no := errors.New("no")
		_, err := s.UpdateNodeGroupLimits(t.Context(), c.UUID, worker, 1, ptr(5), func(g model.NodeGroup) error {
			if g.MinNodeCount != 1 || *g.MaxNodeCount != 5 || g.NodeCount != 2 || g.Status != model.CreateComplete {
				t.Errorf("asked about %+v", g)
			}
			return no
		}, store.NewOperation{})
		wantErr(t, err, no)
		if got := groupNow(t, s, c.UUID, worker); got.MinNodeCount != 0 || got.MaxNodeCount != nil || got.Status != model.CreateComplete {
			t.Errorf("after the refusal: %+v", got)
		}

		yes := func(model.NodeGroup) error { return nil }
		op, err := s.UpdateNodeGroupLimits(t.Context(), c.UUID, worker, 1, ptr(5), yes, store.NewOperation{})
		must(t, err)
		if got := groupNow(t, s, c.UUID, worker); got.MinNodeCount != 1 || *got.MaxNodeCount != 5 || got.NodeCount != 2 || got.Status != model.UpdateInProgress {
			t.Errorf("group %+v", got)
		}
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		if got := groupNow(t, s, c.UUID, worker); got.Status != model.UpdateComplete {
			t.Errorf("group is %v", got.Status)
		}
		op, err = s.UpdateNodeGroupLimits(t.Context(), c.UUID, worker, 0, nil, yes, store.NewOperation{})
		must(t, err)
		if got := groupNow(t, s, c.UUID, worker); got.MinNodeCount != 0 || got.MaxNodeCount != nil || op.Kind != model.OpUpdate {
			t.Errorf("group %+v", got)
		}
		_, err = s.UpdateNodeGroupLimits(t.Context(), c.UUID, "nowhere", 0, nil, yes, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
	})
}

// TestLimitsDoNotKeepAFailedCount: the count that a failed scale puts back is
// not lost in an operation that is about something else of the group.
func TestLimitsDoNotKeepAFailedCount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		worker := groups[1].UUID
		scale, err := s.ScaleNodeGroup(t.Context(), c.UUID, worker, 9, nil, always, store.NewOperation{})
		must(t, err)
		_, err = s.UpdateNodeGroupLimits(t.Context(), c.UUID, worker, 1, nil, func(model.NodeGroup) error { return nil }, store.NewOperation{})
		must(t, err)
		must(t, s.Finish(t.Context(), claim(t, s, scale, "c1"), model.OpFailed, model.UpdateFailed, ptr("x"), scale.Spec.NodeCounts))
		if got := groupNow(t, s, c.UUID, worker); got.NodeCount != 2 || got.Status != model.UpdateInProgress {
			t.Errorf("worker: %d, %v", got.NodeCount, got.Status)
		}
	})
}

func TestDeleteNodeGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		g, op := added(t, s, c)
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, *g, 2)
		must(t, s.Finish(t.Context(), f, model.OpDone, model.UpdateComplete, nil, nil))

		_, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, model.Status.InProgress, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)
		_, err = s.DeleteNodeGroup(t.Context(), c.UUID, "nowhere", always, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
		del, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, always, store.NewOperation{})
		must(t, err)
		want := model.OperationSpec{NodeGroups: []string{g.UUID}, NodeCounts: map[string]int{g.UUID: 3}, GroupKind: model.OpDelete}
		if diff := cmp.Diff(want, operationNow(t, s, del.UUID).Spec); diff != "" {
			t.Error(diff)
		}
		if got := groupNow(t, s, c.UUID, g.UUID); got.Status != model.DeleteInProgress || got.NodeCount != 0 {
			t.Errorf("group is %v with %d nodes", got.Status, got.NodeCount)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress {
			t.Errorf("cluster is %v", got.Status)
		}
		// Asked again nothing changes, and nobody can fill the group anew.
		if again, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, always, store.NewOperation{}); again != nil || err != nil {
			t.Errorf("deleted twice: %v, %v", again, err)
		}
		_, err = s.ScaleNodeGroup(t.Context(), c.UUID, g.UUID, 5, nil, always, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)

		// While it has nodes it can not be gone.
		df := claim(t, s, del, "c1")
		if err := s.Finish(t.Context(), df, model.OpDone, model.UpdateComplete, nil, nil); err == nil {
			t.Fatal("a group with nodes was removed")
		}
		if got := operationNow(t, s, del.UUID); got.State != model.OpRunning {
			t.Errorf("operation is %v", got.State)
		}
		for _, n := range rows {
			must(t, s.RemoveNode(t.Context(), df, n.UUID))
		}
		must(t, s.Finish(t.Context(), df, model.OpDone, model.UpdateComplete, nil, nil))
		groupIsGone(t, s, c, g.UUID)
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateComplete {
			t.Errorf("cluster is %v", got.Status)
		}
		if left, _ := s.NodeGroups(t.Context(), c.UUID); len(left[c.UUID]) != len(groups) {
			t.Errorf("%d groups are left", len(left[c.UUID]))
		}
	})
}

// TestFailedDeleteOfNodeGroup: the group says so, has what is really there and
// can be deleted again. A delete of the cluster in the meantime takes it along.
func TestFailedDeleteOfNodeGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		g, op := added(t, s, c)
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		del, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, always, store.NewOperation{})
		must(t, err)
		must(t, s.Finish(t.Context(), claim(t, s, del, "c1"), model.OpFailed, model.UpdateFailed, ptr("x"), map[string]int{g.UUID: 2}))
		if got := groupNow(t, s, c.UUID, g.UUID); got.Status != model.DeleteFailed || got.NodeCount != 2 || *got.StatusReason != "x" {
			t.Errorf("group %+v", got)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateFailed {
			t.Errorf("cluster is %v", got.Status)
		}
		again, err := s.DeleteNodeGroup(t.Context(), c.UUID, g.UUID, always, store.NewOperation{})
		must(t, err)
		all, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		must(t, err)
		must(t, s.Finish(t.Context(), claim(t, s, again, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		if got := groupNow(t, s, c.UUID, g.UUID); got.Status != model.DeleteInProgress {
			t.Errorf("group is %v", got.Status)
		}
		must(t, s.Finish(t.Context(), claim(t, s, all, "c1"), model.OpDone, model.DeleteComplete, nil, nil))
		groupIsGone(t, s, c, g.UUID)
	})
}
