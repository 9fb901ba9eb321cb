// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestFinishCreate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		for range 2 {
			must(t, s.ObserveCluster(t.Context(), f, "stack", "tcp://192.0.2.7:2376", "", "27.1"))
		}
		must(t, s.ObserveCluster(t.Context(), f, "", "", "swarm 27", ""))
		must(t, s.ObserveCluster(t.Context(), f, "", "", "", ""))
		state := bytes.Repeat([]byte{0, 255}, 33<<10) // 64 KiB and what sealing adds
		must(t, s.SaveDriverState(t.Context(), f, state))
		must(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil))

		got := clusterNow(t, s, c.UUID)
		if *got.StackID != "stack" || *got.APIAddress != "tcp://192.0.2.7:2376" || *got.COEVersion != "swarm 27" || *got.ContainerVersion != "27.1" {
			t.Errorf("observed: %+v", got)
		}
		if !bytes.Equal(got.DriverState, state) {
			t.Errorf("the driver's state has %d bytes", len(got.DriverState))
		}
		if got.Status != model.CreateComplete || got.UpdatedAt == nil {
			t.Errorf("cluster is %v", got.Status)
		}
		if g := groupNow(t, s, c.UUID, groups[0].UUID); g.Status != model.CreateComplete || g.NodeCount != 1 {
			t.Errorf("group is %v", g.Status)
		}
		if got := operationNow(t, s, op.UUID); got.State != model.OpDone || got.FinishedAt == nil || got.Owner != "" || got.LeaseUntil != nil {
			t.Errorf("operation: %+v", got)
		}
		list, err := s.ListClusters(t.Context(), everything, store.Page{})
		if err != nil || list[0].DriverState != nil {
			t.Error("the list carries the driver's state")
		}
		wantErr(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil), store.ErrSuperseded)
	})
}

func TestFinishNeedsAFinalState(t *testing.T) {
	s := storetest.New(t)
	_, _, op := created(t, s, "p1")
	f := claim(t, s, op, "c1")
	if err := s.Finish(t.Context(), f, model.OpRunning, model.CreateComplete, nil, nil); err == nil {
		t.Error("finished as running")
	}
}

func TestFinishFailedScalePutsTheCountBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		worker := groups[1].UUID
		op, err := s.ScaleNodeGroup(t.Context(), c.UUID, worker, 9, nil, always, store.NewOperation{})
		must(t, err)
		f := claim(t, s, op, "c1")
		reason := "no host has room\xff" + strings.Repeat("!", 100<<10)
		must(t, s.SetUndo(t.Context(), f, "undoing"))
		must(t, s.Finish(t.Context(), f, model.OpFailed, model.UpdateFailed, &reason, op.Spec.NodeCounts))
		got := clusterNow(t, s, c.UUID)
		if got.Status != model.UpdateFailed || !strings.HasPrefix(*got.StatusReason, "no host has room!") {
			t.Errorf("cluster is %v", got.Status)
		}
		if g := groupNow(t, s, c.UUID, worker); g.NodeCount != 2 || g.Status != model.UpdateFailed || g.StatusReason == nil {
			t.Errorf("worker: %+v", g)
		}
		if g := groupNow(t, s, c.UUID, groups[0].UUID); g.Status != model.CreateComplete {
			t.Errorf("master group is %v", g.Status)
		}
		if got := operationNow(t, s, op.UUID); got.State != model.OpFailed || got.Reason == nil || !got.Undo {
			t.Errorf("operation %+v", got)
		}
	})
}

// TestLaterScaleKeepsItsWord: while 2 → 4 is under way the user asks for 6.
// The first one fails: the cluster stays in progress and the count 6. When the
// second one fails too, the count is what the cluster really has, 2.
func TestLaterScaleKeepsItsWord(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		worker := groups[1].UUID
		scale := func(n int) *model.Operation {
			op, err := s.ScaleNodeGroup(t.Context(), c.UUID, worker, n, nil, always, store.NewOperation{})
			must(t, err)
			return op
		}
		first, second := scale(4), scale(6)
		fail := func(uuid string) {
			op := operationNow(t, s, uuid)
			must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpFailed, model.UpdateFailed, ptr("no room"), op.Spec.NodeCounts))
		}
		fail(first.UUID)
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress || got.StatusReason != nil {
			t.Errorf("cluster is %v: %v", got.Status, got.StatusReason)
		}
		if g := groupNow(t, s, c.UUID, worker); g.NodeCount != 6 || g.Status != model.UpdateInProgress {
			t.Errorf("worker: %d, %v", g.NodeCount, g.Status)
		}
		fail(second.UUID)
		if g := groupNow(t, s, c.UUID, worker); g.NodeCount != 2 || g.Status != model.UpdateFailed {
			t.Errorf("worker: %d, %v", g.NodeCount, g.Status)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateFailed {
			t.Errorf("cluster is %v", got.Status)
		}
	})
}

// TestScalesOfTwoGroups: each ends with its own group's status; the cluster's
// is that of the last.
func TestScalesOfTwoGroups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		var ops []*model.Operation
		for _, g := range groups {
			op, err := s.ScaleNodeGroup(t.Context(), c.UUID, g.UUID, 3, nil, always, store.NewOperation{})
			must(t, err)
			ops = append(ops, op)
		}
		must(t, s.Finish(t.Context(), claim(t, s, ops[0], "c1"), model.OpFailed, model.UpdateFailed, ptr("x"), ops[0].Spec.NodeCounts))
		if g := groupNow(t, s, c.UUID, groups[0].UUID); g.NodeCount != 1 || g.Status != model.UpdateFailed {
			t.Errorf("first group: %d, %v", g.NodeCount, g.Status)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress {
			t.Errorf("cluster is %v", got.Status)
		}
		must(t, s.Finish(t.Context(), claim(t, s, ops[1], "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		if g := groupNow(t, s, c.UUID, groups[1].UUID); g.NodeCount != 3 || g.Status != model.UpdateComplete {
			t.Errorf("second group: %d, %v", g.NodeCount, g.Status)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateComplete {
			t.Errorf("cluster is %v", got.Status)
		}
	})
}

func TestFinishedDeleteLeavesOnlyTheJournal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		other := cluster(t, s, "p1")
		h := host(t, s, "h1", 4)
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 2)
		_, err := s.ClaimHost(t.Context(), f, rows[0].UUID, h.UUID)
		must(t, err)
		for _, cert := range []model.Certificate{
			{Kind: model.CertCA}, {Kind: model.CertService}, {Kind: model.CertNode, NodeID: rows[0].UUID},
		} {
			cert.ClusterID, cert.PEM, cert.SealedKey, cert.NotAfter = c.UUID, "pem", []byte{1}, time.Now()
			_, err := s.PutCertificates(t.Context(), cert)
			must(t, err)
		}
		begun(t, s, f, model.Step{Name: "place", NodeID: rows[0].UUID})
		must(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil))

		del, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		must(t, err)
		df := claim(t, s, del, "c2")
		begun(t, s, df, model.Step{Name: "delete"})
		must(t, s.Finish(t.Context(), df, model.OpDone, model.DeleteComplete, nil, nil))

		for table, found := range everyRow(t, s) {
			for _, row := range found {
				for column, value := range row {
					if raw, ok := value.([]byte); ok {
						value = string(raw)
					}
					if value == c.UUID && table != "operations" && table != "steps" {
						t.Errorf("%s.%s still names the cluster", table, column)
					}
				}
			}
		}
		usedIsWhatNodesHold(t, s)
		if got, _ := s.Host(t.Context(), h.UUID); got.UsedVCPUs != 0 || got.EmptySince == nil {
			t.Errorf("the host still carries something: %+v", got)
		}
		_, err = s.Cluster(t.Context(), everything, c.UUID)
		wantErr(t, err, store.ErrNotFound)
		clusterNow(t, s, other.UUID)
		ops, err := s.Operations(t.Context(), c.UUID)
		if err != nil || len(ops) != 2 {
			t.Errorf("%d operations left, %v", len(ops), err)
		}
		for _, uuid := range []string{op.UUID, del.UUID} {
			if steps, err := s.Steps(t.Context(), uuid); len(steps) != 1 || err != nil {
				t.Errorf("%d steps left, %v", len(steps), err)
			}
		}
		_, err = s.PutCertificates(t.Context(), model.Certificate{ClusterID: c.UUID, Kind: model.CertCA, NotAfter: time.Now()})
		wantErr(t, err, store.ErrNotFound)
	})
}
