// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestClaim(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		got, err := s.Claim(t.Context(), op.UUID, "c1", lease, 0)
		must(t, err)
		if got.State != model.OpRunning || got.Owner != "c1" || got.Generation != 1 || got.StartedAt == nil || !got.Deadline.Equal(*op.Deadline) {
			t.Errorf("claimed: %+v", got)
		}
		if left := got.LeaseUntil.Sub(*got.StartedAt); left < lease-time.Second || left > lease+time.Second {
			t.Errorf("the lease is %v", left)
		}
		for _, owner := range []string{"c1", "c2"} {
			_, err := s.Claim(t.Context(), op.UUID, owner, lease, 0)
			wantErr(t, err, store.ErrNotClaimable)
		}
		_, err = s.Claim(t.Context(), uuid.NewString(), "c1", lease, 0)
		wantErr(t, err, store.ErrNotFound)
		if _, err := s.Claim(t.Context(), op.UUID, "", lease, 0); err == nil {
			t.Error("claimed by nobody")
		}
	})
}

// TestEachOperationIsClaimedOnce: 8 conductors race for 50 operations.
func TestEachOperationIsClaimedOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var ops []string
		for range 50 {
			_, _, op := created(t, s, "p1")
			ops = append(ops, op.UUID)
		}
		due, err := s.Claimable(t.Context(), 100, 0)
		must(t, err)
		if diff := cmp.Diff(ops, due); diff != "" {
			t.Error(diff)
		}
		if some, err := s.Claimable(t.Context(), 7, 0); err != nil || !slices.Equal(some, ops[:7]) {
			t.Errorf("the first 7: %v, %v", some, err)
		}
		var mu sync.Mutex
		claimed := map[string]int{}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for _, op := range ops {
					got, err := s.Claim(t.Context(), op, fmt.Sprint("c", i), lease, 0)
					if errors.Is(err, store.ErrNotClaimable) {
						continue
					}
					if err != nil || got.Owner != fmt.Sprint("c", i) || got.Generation != 1 {
						t.Errorf("%+v, %v", got, err)
						continue
					}
					mu.Lock()
					claimed[op]++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		for _, op := range ops {
			if claimed[op] != 1 {
				t.Errorf("%s was claimed %d times", op, claimed[op])
			}
		}
		if left, err := s.Claimable(t.Context(), 100, 0); len(left) != 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// claimableSoon waits until the operation can be claimed, by the database's
// clock.
func claimableSoon(t *testing.T, s *store.Store, uuid string) {
	t.Helper()
	for begin := time.Now(); ; {
		due, err := s.Claimable(t.Context(), 10, 0)
		must(t, err)
		if slices.Contains(due, uuid) {
			return
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the operation did not become claimable")
		}
	}
}

func TestLeaseRunsOutByTheClockOfTheDatabase(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		// The conductor's own clock is wrong by a year.
		s, err := store.Open(t.Context(), connection, store.Options{Now: func() time.Time { return time.Now().AddDate(-1, 0, 0) }})
		must(t, err)
		defer s.Close()
		must(t, s.Migrate(t.Context()))
		_, _, op := created(t, s, "p1")
		first, err := s.Claim(t.Context(), op.UUID, "c1", 200*time.Millisecond, 0)
		must(t, err)
		stale := store.FenceOf(first)
		if due, _ := s.Claimable(t.Context(), 10, 0); len(due) != 0 {
			t.Error("claimable while the lease runs")
		}
		_, err = s.Renew(t.Context(), stale, 200*time.Millisecond)
		must(t, err)
		claimableSoon(t, s, op.UUID)

		// Late, but nobody has taken over yet: writes still count.
		must(t, s.SetUndo(t.Context(), stale, "late"))
		second, err := s.Claim(t.Context(), op.UUID, "c2", lease, 0)
		must(t, err)
		if second.Generation != 2 || !second.StartedAt.Equal(*first.StartedAt) || !second.Undo {
			t.Errorf("taken over: %+v", second)
		}
		_, err = s.Renew(t.Context(), stale, lease)
		wantErr(t, err, store.ErrSuperseded)
	})
}

func TestRelease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		must(t, s.MarkPublished(t.Context(), op.UUID))

		must(t, s.Release(t.Context(), claim(t, s, op, "c1"), time.Time{}))
		got := operationNow(t, s, op.UUID)
		if got.State != model.OpPending || got.Owner != "" || got.LeaseUntil != nil || got.StartedAt == nil || got.PublishedAt != nil {
			t.Errorf("given back: %+v", got)
		}

		must(t, s.MarkPublished(t.Context(), op.UUID))
		fence := claim(t, s, op, "c2")
		must(t, s.Release(t.Context(), fence, time.Now().Add(time.Hour)))
		if got := operationNow(t, s, op.UUID); got.NotBefore == nil || got.PublishedAt == nil {
			t.Errorf("given back for later: %+v", got)
		}
		_, err := s.Claim(t.Context(), op.UUID, "c3", lease, 0)
		wantErr(t, err, store.ErrNotClaimable)
		if due, _ := s.Claimable(t.Context(), 10, 0); len(due) != 0 {
			t.Error("claimable before its time")
		}
		wantErr(t, s.Release(t.Context(), fence, time.Time{}), store.ErrSuperseded)
	})
}

func TestNotBeforePasses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		must(t, s.Release(t.Context(), claim(t, s, op, "c1"), time.Now().Add(200*time.Millisecond)))
		if due, _ := s.Claimable(t.Context(), 10, 0); len(due) != 0 {
			t.Error("claimable before its time")
		}
		claimableSoon(t, s, op.UUID)
		if claim(t, s, op, "c2"); operationNow(t, s, op.UUID).NotBefore != nil {
			t.Error("not_before outlives the claim")
		}
	})
}

func TestOperationsOfAClusterRunOneAfterTheOther(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, first := created(t, s, "p1")
		second, err := s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 7, nil, always, store.NewOperation{})
		must(t, err)
		_, _, other := created(t, s, "p1")
		expect := func(want ...string) {
			t.Helper()
			due, err := s.Claimable(t.Context(), 10, 0)
			if diff := cmp.Diff(want, due); diff != "" || err != nil {
				t.Errorf("claimable: %v\n%s", err, diff)
			}
		}
		expect(first.UUID, other.UUID)
		_, err = s.Claim(t.Context(), second.UUID, "c1", lease, 0)
		wantErr(t, err, store.ErrNotClaimable)
		fence := claim(t, s, first, "c1")
		expect(other.UUID)
		_, err = s.Claim(t.Context(), second.UUID, "c1", lease, 0)
		wantErr(t, err, store.ErrNotClaimable)
		must(t, s.Finish(t.Context(), fence, model.OpDone, model.CreateComplete, nil, nil))
		expect(second.UUID, other.UUID)
		claim(t, s, second, "c1")
	})
}

func TestOutbox(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, a := created(t, s, "p1")
		_, _, b := created(t, s, "p1")
		_, _, done := created(t, s, "p1")
		must(t, s.FinishCancelled(t.Context(), claim(t, s, done, "c1")))
		expect := func(limit int, want ...string) {
			t.Helper()
			got, err := s.Unpublished(t.Context(), limit)
			if !slices.Equal(got, want) || err != nil {
				t.Errorf("unpublished: %v, %v, want %v", got, err, want)
			}
		}
		expect(10, a.UUID, b.UUID)
		expect(1, a.UUID)
		must(t, s.MarkPublished(t.Context(), a.UUID, uuid.NewString()))
		first := operationNow(t, s, a.UUID).PublishedAt
		must(t, s.MarkPublished(t.Context(), a.UUID))
		must(t, s.MarkPublished(t.Context()))
		if again := operationNow(t, s, a.UUID).PublishedAt; !again.Equal(*first) {
			t.Errorf("published at %v, then %v", first, again)
		}
		expect(10, b.UUID)
	})
}

func TestJournal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		write := func(steps ...model.Step) {
			t.Helper()
			var changes []store.StepChange
			for _, step := range steps {
				changes = append(changes, store.StepChange{Step: step})
			}
			must(t, s.WriteSteps(t.Context(), f, changes...))
		}
		began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		place := model.Step{Name: "place", NodeID: uuid.NewString(), NodeName: "n", State: model.StepRunning, Attempts: 1, StartedAt: began}
		forCluster, undone := place, place
		forCluster.NodeID, undone.Undo = "", true
		write()
		write(place)
		place.Message = "no host is free yet"
		write(place)
		place.Attempts, place.StartedAt = 2, began.Add(time.Hour)
		write(place, forCluster, undone)
		undone.State, undone.Message = model.StepFailed, strings.Repeat("é", 40<<10)
		write(undone)
		steps, err := s.Steps(t.Context(), op.UUID)
		must(t, err)
		if len(steps) != 3 {
			t.Fatalf("%d steps", len(steps))
		}
		if got := steps[0]; got.Attempts != 2 || got.State != model.StepRunning || got.Message != "no host is free yet" || got.FinishedAt != nil || got.NodeName != "n" || !got.StartedAt.Equal(began) {
			t.Errorf("tried twice: %+v", got)
		}
		if got := steps[2]; got.State != model.StepFailed || got.FinishedAt == nil || !got.Undo || len(got.Message) != 16<<10 {
			t.Errorf("failed: %+v", got)
		}
		// What came of a step twice at once is what came last.
		done := place
		done.State, done.Message = model.StepDone, "on h1"
		for range 2 {
			write(place, done)
		}
		steps, _ = s.Steps(t.Context(), op.UUID)
		if got := steps[0]; got.State != model.StepDone || got.FinishedAt == nil || got.Message != "on h1" {
			t.Errorf("done: %+v", got)
		}
	})
}

// fencedMethods are all methods that take a fence; a test makes sure of it.
func fencedMethods(t *testing.T, s *store.Store, group, node, host string) map[string]func(store.Fence) error {
	ctx := t.Context()
	one := slices.Values([]netip.Addr{netip.MustParseAddr("192.0.2.10")})
	return map[string]func(store.Fence) error{
		"Renew":   func(f store.Fence) error { _, err := s.Renew(ctx, f, lease); return err },
		"Release": func(f store.Fence) error { return s.Release(ctx, f, time.Time{}) },
		"SetUndo": func(f store.Fence) error { return s.SetUndo(ctx, f, "stale") },
		"WriteSteps": func(f store.Fence) error {
			return s.WriteSteps(ctx, f, store.StepChange{Step: model.Step{Name: "stale", Attempts: 1, State: model.StepRunning}, Event: model.EventStepStart})
		},
		"AddNodes": func(f store.Fence) error {
			return s.AddNodes(ctx, f, []model.Node{{UUID: uuid.NewString(), NodeGroupID: group, Name: "stale"}})
		},
		"MarkLeaving": func(f store.Fence) error { return s.MarkLeaving(ctx, f, []string{node}) },
		"NodeState":   func(f store.Fence) error { return s.NodeState(ctx, f, node, model.NodeReady, ptr("stale")) },
		"MachineRuns": func(f store.Fence) error { return s.MachineRuns(ctx, f, node) },
		"NodeBuilt":   func(f store.Fence) error { return s.NodeBuilt(ctx, f, node, "stale") },
		"SetNodeImages": func(f store.Fence) error {
			return s.SetNodeImages(ctx, f, map[string]string{node: "stale"})
		},
		"ForgetOtherAuthorities": func(f store.Fence) error { return s.ForgetOtherAuthorities(ctx, f) },
		"ClaimHost":              func(f store.Fence) error { _, err := s.ClaimHost(ctx, f, node, host); return err },
		"ClaimAddress": func(f store.Fence) error {
			_, err := s.ClaimAddress(ctx, f, node, "net", one)
			return err
		},
		"RemoveNode":      func(f store.Fence) error { return s.RemoveNode(ctx, f, node) },
		"RemoveLostNode":  func(f store.Fence) error { return s.RemoveLostNode(ctx, f, node, 0) },
		"MoveLostNode":    func(f store.Fence) error { return s.MoveLostNode(ctx, f, node, "net", one, 0) },
		"ObserveCluster":  func(f store.Fence) error { return s.ObserveCluster(ctx, f, "stale", "stale", "stale", "stale") },
		"SaveDriverState": func(f store.Fence) error { return s.SaveDriverState(ctx, f, []byte("stale")) },
		"Finish": func(f store.Fence) error {
			return s.Finish(ctx, f, model.OpFailed, model.CreateFailed, ptr("stale"), map[string]int{group: 99})
		},
		"FinishCancelled": func(f store.Fence) error { return s.FinishCancelled(ctx, f) },
	}
}

func TestEveryFencedMethodIsInTheTable(t *testing.T) {
	table := fencedMethods(t, nil, "", "", "")
	methods := reflect.TypeFor[*store.Store]()
	n := 0
	for m := range methods.Methods() {
		for in := range m.Type.Ins() {
			if in == reflect.TypeFor[store.Fence]() {
				n++
				if table[m.Name] == nil {
					t.Errorf("%s is missing", m.Name)
				}
			}
		}
	}
	if n != len(table) {
		t.Errorf("%d methods take a fence, %d are in the table", n, len(table))
	}
}

// everyRow reads the whole database.
func everyRow(t *testing.T, s *store.Store) map[string][]map[string]any {
	t.Helper()
	rows := make(map[string][]map[string]any)
	for _, table := range []string{
		"cluster_templates", "clusters", "node_groups", "nodes", "hosts", "lost_nodes", "avoided_machines", "operations",
		"steps", "certificates", "quotas", "service_records", "project_locks",
	} {
		var found []map[string]any
		s.Query(t, &found, "SELECT * FROM "+table)
		rows[table] = found
	}
	return rows
}

func TestStaleFenceWritesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, groups, op := created(t, s, "p1")
		mine := claim(t, s, op, "c1")
		begun(t, s, mine, model.Step{Name: "begun"})
		node := nodes(t, s, mine, groups[1], 1)[0]
		h := host(t, s, "h1", 4)

		_, _, endedOp := created(t, s, "p1")
		done := claim(t, s, endedOp, "c1")
		must(t, s.Finish(t.Context(), done, model.OpDone, model.CreateComplete, nil, nil))
		_, _, pending := created(t, s, "p1")

		before := everyRow(t, s)
		for why, stale := range map[string]store.Fence{
			"an earlier claim":      {Operation: op.UUID, Owner: "c1", Generation: mine.Generation - 1},
			"a later claim":         {Operation: op.UUID, Owner: "c1", Generation: mine.Generation + 1},
			"another owner":         {Operation: op.UUID, Owner: "c2", Generation: mine.Generation},
			"no such operation":     {Operation: uuid.NewString(), Owner: "c1", Generation: mine.Generation},
			"ended":                 done,
			"never claimed":         {Operation: pending.UUID, Owner: "", Generation: 0},
			"the fence of no claim": {},
		} {
			for name, method := range fencedMethods(t, s, groups[1].UUID, node.UUID, h.UUID) {
				if err := method(stale); !errors.Is(err, store.ErrSuperseded) {
					t.Errorf("%s, %s: %v", name, why, err)
				}
			}
		}
		if diff := cmp.Diff(before, everyRow(t, s)); diff != "" {
			t.Errorf("stale fences wrote:\n%s", diff)
		}
	})
}

// TestFenceOfAnotherCluster: a valid claim gives no right to the nodes of
// other clusters.
func TestFenceOfAnotherCluster(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		theirs := nodes(t, s, claim(t, s, op, "c1"), groups[1], 1)[0]
		h := host(t, s, "h1", 4)
		_, _, myOp := created(t, s, "p2")
		mine := claim(t, s, myOp, "c1")
		before := everyRow(t, s)["nodes"]
		methods := fencedMethods(t, s, groups[1].UUID, theirs.UUID, h.UUID)
		for name, want := range map[string]error{
			"NodeState": store.ErrNotFound, "ClaimHost": store.ErrNotFound, "ClaimAddress": store.ErrNotFound,
			"MarkLeaving": nil, "RemoveNode": nil, // not there is not there
		} {
			if err := methods[name](mine); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := s.AddNodes(t.Context(), mine, []model.Node{{ClusterID: c.UUID, Name: "x"}}); err == nil {
			t.Error("a node was added to another cluster")
		}
		if diff := cmp.Diff(before, everyRow(t, s)["nodes"]); diff != "" {
			t.Error(diff)
		}
	})
}
