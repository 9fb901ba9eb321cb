// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestCreateCluster(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := request(t, s, "p1")
		c.Labels = model.Labels{"a": "b"}
		c.CreateTimeout = ptr(60)
		op, err := s.CreateCluster(t.Context(), c, groups, 20, store.NewOperation{UserID: "u9", RequestID: "req-7", Deadline: time.Hour})
		must(t, err)

		got := clusterNow(t, s, c.UUID)
		if diff := cmp.Diff(c, got); diff != "" {
			t.Error(diff)
		}
		if got.Status != model.CreateInProgress || got.StatusReason != nil || got.HealthStatus != nil {
			t.Errorf("status %v %v %v", got.Status, got.StatusReason, got.HealthStatus)
		}
		stored, err := s.NodeGroups(t.Context(), c.UUID)
		must(t, err)
		if diff := cmp.Diff(groups, stored[c.UUID]); diff != "" {
			t.Error(diff)
		}
		for _, g := range groups {
			if g.ClusterID != c.UUID || g.ProjectID != "p1" || g.Status != model.CreateInProgress || g.UUID == "" {
				t.Errorf("group %+v", g)
			}
		}
		want := &model.Operation{
			ID: op.ID, UUID: op.UUID, ClusterID: c.UUID, ProjectID: "p1", UserID: "u9", RequestID: "req-7",
			Kind: model.OpCreate, State: model.OpPending, CreatedAt: op.CreatedAt, Deadline: ptr(op.CreatedAt.Add(time.Hour)),
		}
		if diff := cmp.Diff(want, operationNow(t, s, op.UUID)); diff != "" {
			t.Error(diff)
		}
		again := *c
		_, err = s.CreateCluster(t.Context(), &again, nil, 20, store.NewOperation{})
		wantErr(t, err, store.ErrExists)
		if ops, _ := s.Operations(t.Context(), c.UUID); len(ops) != 1 {
			t.Errorf("%d operations after the refused one", len(ops))
		}
	})
}

func TestGroupNamesAreUniqueInACluster(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := request(t, s, "p1")
		groups[1].Name = groups[0].Name
		_, err := s.CreateCluster(t.Context(), c, groups, 20, store.NewOperation{})
		wantErr(t, err, store.ErrExists)
		if c.UUID != "" {
			t.Error("a refused cluster got a uuid")
		}
		if n, _, err := s.Stats(t.Context(), ""); n != 0 || err != nil {
			t.Errorf("%d clusters, %v", n, err)
		}
	})
}

func TestClusterScopes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		a, b := cluster(t, s, "p1"), cluster(t, s, "p2")
		for _, c := range []struct {
			scope store.Scope
			sees  []string
		}{
			{everything, []string{a.UUID, b.UUID}},
			{store.Scope{ProjectID: "p1"}, []string{a.UUID}},
			{store.Scope{ProjectID: "p1", UserID: b.UserID}, []string{a.UUID}},
			{store.Scope{UserID: b.UserID}, []string{b.UUID}},
			{store.Scope{ProjectID: "p3"}, nil},
			{store.Scope{}, nil},
		} {
			list, err := s.ListClusters(t.Context(), c.scope, store.Page{})
			must(t, err)
			var listed, shown []string
			for _, row := range list {
				listed = append(listed, row.UUID)
			}
			for _, uuid := range []string{a.UUID, b.UUID} {
				if _, err := s.Cluster(t.Context(), c.scope, uuid); err == nil {
					shown = append(shown, uuid)
				} else {
					wantErr(t, err, store.ErrNotFound)
				}
			}
			if diff := cmp.Diff(c.sees, listed); diff != "" {
				t.Errorf("%+v lists:\n%s", c.scope, diff)
			}
			if diff := cmp.Diff(c.sees, shown); diff != "" {
				t.Errorf("%+v shows:\n%s", c.scope, diff)
			}
		}
		_, err := s.Cluster(t.Context(), everything, "c")
		wantErr(t, err, store.ErrAmbiguous)
		if got, err := s.Cluster(t.Context(), store.Scope{ProjectID: "p2"}, "c"); err != nil || got.UUID != b.UUID {
			t.Errorf("by name: %v, %v", got, err)
		}
	})
}

func TestNodeGroupByIdent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		a, groups, _ := created(t, s, "p1")
		b := cluster(t, s, "p1")
		g := groups[1]
		for _, ident := range []string{g.UUID, g.Name, fmt.Sprint(g.ID)} {
			if got, err := s.NodeGroup(t.Context(), a.UUID, ident); err != nil || got.UUID != g.UUID {
				t.Errorf("%q: %v, %v", ident, got, err)
			}
		}
		for _, ident := range []string{g.UUID, fmt.Sprint(g.ID), "none"} {
			_, err := s.NodeGroup(t.Context(), b.UUID, ident)
			wantErr(t, err, store.ErrNotFound)
		}
	})
}

func TestQuotaHoldsUnderConcurrentCreates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		const limit = 5
		for _, stored := range []bool{false, true} {
			project := fmt.Sprintf("p-%v", stored)
			fallback := limit
			if stored {
				must(t, s.CreateQuota(t.Context(), &model.Quota{ProjectID: project, Resource: store.QuotaResource, HardLimit: limit}))
				fallback = 100
			}
			c, groups := request(t, s, project)
			var made, refused atomic.Int32
			var all sync.WaitGroup
			for i := range 16 {
				mine, ours := *c, append([]model.NodeGroup(nil), groups...)
				mine.Name = fmt.Sprint("c", i)
				all.Go(func() {
					_, err := s.CreateCluster(t.Context(), &mine, ours, fallback, store.NewOperation{})
					var quota *store.QuotaError
					switch {
					case err == nil:
						made.Add(1)
					case errors.As(err, &quota) && errors.Is(err, store.ErrQuota) && quota.Limit == limit:
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			have, _, err := s.Stats(t.Context(), project)
			must(t, err)
			if made.Load() != limit || refused.Load() != 16-limit || have != limit {
				t.Errorf("%d made, %d refused, %d stored", made.Load(), refused.Load(), have)
			}
		}
		c, groups := request(t, s, "p-none")
		_, err := s.CreateCluster(t.Context(), c, groups, 0, store.NewOperation{})
		wantErr(t, err, store.ErrQuota)
	})
}

func always(model.Status) bool { return true }

func TestScaleNodeGroup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		master, worker := groups[0].UUID, groups[1].UUID

		op, err := s.ScaleNodeGroup(t.Context(), c.UUID, worker, 2, nil, always, store.NewOperation{})
		if op != nil || err != nil {
			t.Errorf("same count: %v, %v", op, err)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.CreateComplete {
			t.Errorf("same count: %v", got.Status)
		}

		_, err = s.ScaleNodeGroup(t.Context(), c.UUID, worker, 5, nil, model.Status.InProgress, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)
		var status *store.StatusError
		if !errors.As(err, &status) || status.Status != model.CreateComplete {
			t.Errorf("refused with %v", err)
		}

		op, err = s.ScaleNodeGroup(t.Context(), c.UUID, worker, 5, []string{"n1"}, model.Status.Ready, store.NewOperation{UserID: "u", RequestID: "req-2"})
		must(t, err)
		want := model.OperationSpec{NodeGroups: []string{worker}, NodeCounts: map[string]int{worker: 2}, NodesToRemove: []string{"n1"}}
		got := operationNow(t, s, op.UUID)
		if diff := cmp.Diff(want, got.Spec); diff != "" || got.Kind != model.OpUpdate || got.Deadline != nil || got.ProjectID != "p1" {
			t.Errorf("%+v\n%s", got, diff)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress || got.UpdatedAt == nil {
			t.Errorf("cluster is %v", got.Status)
		}
		if g := groupNow(t, s, c.UUID, worker); g.NodeCount != 5 || g.Status != model.UpdateInProgress {
			t.Errorf("worker group: %d, %v", g.NodeCount, g.Status)
		}
		if g := groupNow(t, s, c.UUID, master); g.NodeCount != 1 || g.Status != model.CreateComplete {
			t.Errorf("master group: %d, %v", g.NodeCount, g.Status)
		}

		other := cluster(t, s, "p1")
		for _, ids := range [][2]string{{c.UUID, uuid.NewString()}, {uuid.NewString(), worker}, {other.UUID, worker}} {
			_, err := s.ScaleNodeGroup(t.Context(), ids[0], ids[1], 9, nil, always, store.NewOperation{})
			wantErr(t, err, store.ErrNotFound)
		}
	})
}

// TestScaleAtOnce: each of several asks for another count; each gets an
// operation that remembers the count the one before left.
func TestScaleAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				_, err := s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 10+i, nil, always, store.NewOperation{})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		ops, err := s.Operations(t.Context(), c.UUID)
		must(t, err)
		seen := map[int]bool{}
		for _, op := range ops[1:] {
			seen[op.Spec.NodeCounts[groups[1].UUID]] = true
		}
		seen[groupNow(t, s, c.UUID, groups[1].UUID).NodeCount] = true
		if len(ops) != 9 || len(seen) != 9 {
			t.Errorf("%d operations, counts %v", len(ops), seen)
		}
	})
}

func TestDeleteSupersedes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		first, err := s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 4, nil, always, store.NewOperation{})
		must(t, err)
		second, err := s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 5, nil, always, store.NewOperation{})
		must(t, err)
		fence := claim(t, s, first, "c1")

		op, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{RequestID: "req-d"})
		must(t, err)
		for range 2 {
			again, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
			if err != nil || again.UUID != op.UUID || again.CancelRequested {
				t.Errorf("asked again: %+v, %v", again, err)
			}
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.DeleteInProgress {
			t.Errorf("cluster is %v", got.Status)
		}
		if g := groupNow(t, s, c.UUID, groups[0].UUID); g.Status != model.DeleteInProgress {
			t.Errorf("group is %v", g.Status)
		}
		cancelled, err := s.Renew(t.Context(), fence, lease)
		if !cancelled || err != nil {
			t.Errorf("the running one is told %v, %v", cancelled, err)
		}
		if !operationNow(t, s, second.UUID).CancelRequested {
			t.Error("the waiting one is not asked to stop")
		}

		// The superseded ones end; the cluster stays as the delete wants it.
		must(t, s.Finish(t.Context(), fence, model.OpFailed, model.UpdateFailed, ptr("too late"), map[string]int{groups[1].UUID: 2}))
		must(t, s.FinishCancelled(t.Context(), claim(t, s, second, "c1")))
		if got := clusterNow(t, s, c.UUID); got.Status != model.DeleteInProgress || got.StatusReason != nil {
			t.Errorf("cluster is %v: %v", got.Status, got.StatusReason)
		}
		if g := groupNow(t, s, c.UUID, groups[1].UUID); g.Status != model.DeleteInProgress || g.NodeCount != 5 {
			t.Errorf("group is %v with %d", g.Status, g.NodeCount)
		}
		if got := operationNow(t, s, second.UUID); got.State != model.OpCancelled || got.FinishedAt == nil || got.Owner != "" {
			t.Errorf("cancelled one: %+v", got)
		}
		claim(t, s, op, "c2")

		_, err = s.DeleteCluster(t.Context(), uuid.NewString(), store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestDeleteAtOnceMakesOneOperation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		var uuids sync.Map
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				op, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
				if err != nil {
					t.Error(err)
					return
				}
				uuids.Store(op.UUID, true)
			})
		}
		all.Wait()
		n := 0
		uuids.Range(func(any, any) bool { n++; return true })
		if ops, _ := s.Operations(t.Context(), c.UUID); n != 1 || len(ops) != 2 {
			t.Errorf("%d deletes returned, %d operations stored", n, len(ops))
		}
	})
}

func TestDeleteAfterAFailedDelete(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		first, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		must(t, err)
		must(t, s.Finish(t.Context(), claim(t, s, first, "c1"), model.OpFailed, model.DeleteFailed, ptr("host h1 does not answer"), nil))
		got := clusterNow(t, s, c.UUID)
		if got.Status != model.DeleteFailed || *got.StatusReason != "host h1 does not answer" {
			t.Errorf("cluster is %v", got.Status)
		}
		if g := groupNow(t, s, c.UUID, groups[0].UUID); g.Status != model.DeleteFailed {
			t.Errorf("group is %v", g.Status)
		}
		second, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		if err != nil || second.UUID == first.UUID {
			t.Errorf("second delete: %v, %v", second, err)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.DeleteInProgress || got.StatusReason != nil {
			t.Errorf("cluster is %v: %v", got.Status, got.StatusReason)
		}
	})
}

func TestSetHealth(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		for range 2 {
			must(t, s.SetHealth(t.Context(), c.UUID, ptr("UNHEALTHY"), model.Labels{"n1": "down"}))
		}
		got := clusterNow(t, s, c.UUID)
		if *got.HealthStatus != "UNHEALTHY" || got.HealthStatusReason["n1"] != "down" || got.Status != model.CreateComplete {
			t.Errorf("%+v", got)
		}
		must(t, s.SetHealth(t.Context(), c.UUID, nil, nil))
		if got := clusterNow(t, s, c.UUID); got.HealthStatus != nil || got.HealthStatusReason != nil {
			t.Errorf("%+v", got)
		}
		wantErr(t, s.SetHealth(t.Context(), uuid.NewString(), nil, nil), store.ErrNotFound)
	})
}
