// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// queued makes n operations of the project and names them p1, p2, …
func queued(t *testing.T, s *store.Store, names map[string]string, project string, n int) []*model.Operation {
	t.Helper()
	var ops []*model.Operation
	for i := range n {
		_, _, op := created(t, s, project)
		names[op.UUID] = fmt.Sprint(project, i+1)
		ops = append(ops, op)
	}
	return ops
}

func TestProjectsTakeTurns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		names := map[string]string{}
		a := queued(t, s, names, "a", 4)
		b := queued(t, s, names, "b", 2)
		queued(t, s, names, "c", 1)
		turns := func(limit, perProject int) string {
			t.Helper()
			due, err := s.Claimable(t.Context(), limit, perProject)
			must(t, err)
			for i := range due {
				due[i] = names[due[i]]
			}
			return strings.Join(due, " ")
		}
		for _, c := range []struct {
			limit, perProject int
			want              string
		}{
			{100, 0, "a1 b1 c1 a2 b2 a3 a4"},
			{4, 0, "a1 b1 c1 a2"},
			{100, 2, "a1 b1 c1 a2 b2"},
			{100, 1, "a1 b1 c1"},
		} {
			if diff := cmp.Diff(c.want, turns(c.limit, c.perProject)); diff != "" {
				t.Errorf("%d, %d of each project: %s", c.limit, c.perProject, diff)
			}
		}
		// What a project has in hand are turns that it has had.
		f := claim(t, s, a[0], "c1")
		claim(t, s, a[1], "c1")
		claim(t, s, b[0], "c2")
		if diff := cmp.Diff("c1 b2 a3 a4", turns(100, 0)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff("c1 b2", turns(100, 2)); diff != "" {
			t.Error(diff)
		}
		must(t, s.FinishCancelled(t.Context(), f))
		if diff := cmp.Diff("c1 a3 b2", turns(100, 2)); diff != "" {
			t.Error(diff)
		}
		// A dead conductor has nothing in hand, and its work goes on first.
		s.Exec(t, "UPDATE operations SET lease_until = '2001-01-01 00:00:00.000' WHERE owner = 'c1'")
		if diff := cmp.Diff("a2 c1 a3 b2 a4", turns(100, 0)); diff != "" {
			t.Error(diff)
		}
	})
}

// Eight conductors together never have more of a project in hand than allowed.
func TestBoundOfAProjectHolds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		names := map[string]string{}
		ops := queued(t, s, names, "a", 12)
		other := queued(t, s, names, "b", 1)[0]
		var mu sync.Mutex
		var held []store.Fence
		race := func() {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for k := range ops { // each begins with another one
						op := ops[(i+k)%len(ops)]
						got, err := s.Claim(t.Context(), op.UUID, fmt.Sprint("c", i), lease, 5)
						if errors.Is(err, store.ErrNotClaimable) {
							continue
						}
						if err != nil {
							t.Error(err)
							continue
						}
						mu.Lock()
						held = append(held, store.FenceOf(got))
						mu.Unlock()
					}
				})
			}
			all.Wait()
		}
		race()
		if len(held) != 5 {
			t.Errorf("%d operations of the project are in hand, want 5", len(held))
		}
		if _, err := s.Claim(t.Context(), other.UUID, "c9", lease, 5); err != nil {
			t.Errorf("another project's: %v", err)
		}
		must(t, s.FinishCancelled(t.Context(), held[0]))
		race()
		if len(held) != 6 {
			t.Errorf("after one has ended %d more could be claimed, want 1", len(held)-5)
		}
	})
}

func TestTooManyPendingOperationsAreRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		full := store.NewOperation{MaxQueue: 3}
		done, groups := ready(t, s, "p0")
		c, g := request(t, s, "p1")
		ask := func() error {
			row, rows := *c, slices.Clone(g)
			_, err := s.CreateCluster(t.Context(), &row, rows, 1000, full)
			return err
		}
		for range 3 {
			must(t, ask())
		}
		wantErr(t, ask(), store.ErrBusy)
		_, err := s.ScaleNodeGroup(t.Context(), done.UUID, groups[1].UUID, 7, nil, func(model.Status) bool { return true }, full)
		wantErr(t, err, store.ErrBusy)
		if clusters, _, err := s.Stats(t.Context(), "p1"); clusters != 3 || err != nil {
			t.Errorf("%d clusters are there, %v", clusters, err)
		}
		if now, err := s.Cluster(t.Context(), everything, done.UUID); err != nil || now.Status != model.CreateComplete {
			t.Errorf("the refused resize left %+v, %v", now, err)
		}
		if _, err := s.DeleteCluster(t.Context(), done.UUID, full); err != nil {
			t.Errorf("a delete is refused: %v", err)
		}
		// What a conductor has in hand does not wait.
		due, err := s.Claimable(t.Context(), 2, 0)
		must(t, err)
		for _, id := range due {
			_, err := s.Claim(t.Context(), id, "c1", lease, 0)
			must(t, err)
		}
		must(t, ask())
	})
}
