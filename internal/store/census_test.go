// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

func TestCensus(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		census := func() *store.Census {
			t.Helper()
			c, err := s.Census(t.Context())
			must(t, err)
			return c
		}
		empty := &store.Census{Clusters: map[model.Status]int{}, Nodes: map[model.NodeState]int{}}
		if diff := cmp.Diff(empty, census(), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}

		ready(t, s, "p1")                    // two notifications
		_, _, waiting := created(t, s, "p1") // claimable
		_, groups, op := created(t, s, "p1") // running
		_, _, expired := created(t, s, "p1") // claimable again
		gone, _, _ := created(t, s, "p1")    // waits behind its create
		host(t, s, "h1", 3)
		h := host(t, s, "h2", 2)
		f := claim(t, s, op, "c1")
		n := nodes(t, s, f, groups[0], 1)[0]
		_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
		must(t, err)
		_, err = s.Claim(t.Context(), expired.UUID, "c2", -time.Second, 0)
		must(t, err)
		_, err = s.DeleteCluster(t.Context(), gone.UUID, store.NewOperation{})
		must(t, err)
		must(t, s.MarkPublished(t.Context(), waiting.UUID))
		s.Exec(t, "UPDATE operations SET created_at = ? WHERE uuid = ?", time.Now().UTC().Add(-time.Hour), waiting.UUID)

		got := census()
		if got.OldestPending < 59*time.Minute || got.OldestPending > 61*time.Minute {
			t.Errorf("oldest is %v", got.OldestPending)
		}
		got.OldestPending = 0
		want := &store.Census{
			Operations: []store.OperationCount{
				{Kind: model.OpCreate, State: model.OpPending, Count: 2},
				{Kind: model.OpCreate, State: model.OpRunning, Count: 2},
				{Kind: model.OpDelete, State: model.OpPending, Count: 1},
			},
			Unpublished: 4, Claimable: 3, Expired: 1, Notifications: 4,
			Clusters: map[model.Status]int{model.CreateComplete: 1, model.CreateInProgress: 3, model.DeleteInProgress: 1},
			Nodes:    map[model.NodeState]int{model.NodePlaced: 1},
			Hosts: []store.HostCount{{
				State: model.HostReady, Count: 2, TotalVCPUs: 10, TotalMemoryMiB: 5 * 4096, TotalDiskGiB: 100, UsedVCPUs: 2, UsedMemoryMiB: 4096, UsedDiskGiB: 20,
			}},
		}
		byKind := cmpopts.SortSlices(func(a, b store.OperationCount) bool {
			return string(a.Kind)+string(a.State) < string(b.Kind)+string(b.State)
		})
		if diff := cmp.Diff(want, got, byKind); diff != "" {
			t.Error(diff)
		}
		if n := s.CountStatements(t, func() { census() }); n > 12 {
			t.Errorf("%d statements", n)
		}
	})
}
