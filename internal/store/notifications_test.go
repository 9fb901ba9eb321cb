// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// eachNotifying runs the test on both databases, with notifications kept.
func eachNotifying(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Helper()
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s, err := store.Open(t.Context(), connection, store.Options{Notify: true})
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		must(t, s.Migrate(t.Context()))
		test(t, s)
	})
}

// told takes all notifications off and returns them in words.
func told(t *testing.T, s *store.Store) (words []string) {
	t.Helper()
	all, err := s.TakeNotifications(t.Context(), 100, lease)
	must(t, err)
	var done []string
	for _, n := range all {
		words = append(words, fmt.Sprintf("%s %s: %s", n.Kind, n.Outcome, n.Cluster.Status))
		done = append(done, n.UUID)
	}
	must(t, s.RemoveNotifications(t.Context(), done...))
	return words
}

func wantTold(t *testing.T, s *store.Store, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, told(t, s)); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
}

func TestBeginAndEndAreTold(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		wantTold(t, s) // nobody has begun
		f := claim(t, s, op, "c1")
		wantTold(t, s, "create pending: CREATE_IN_PROGRESS")
		must(t, s.Release(t.Context(), f, time.Time{}))
		f = claim(t, s, op, "c2")
		wantTold(t, s) // it had begun already
		must(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil))
		wantErr(t, s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil), store.ErrSuperseded)
		wantTold(t, s, "create success: CREATE_COMPLETE")

		always := func(model.Status) bool { return true }
		resize, err := s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 5, nil, always, store.NewOperation{})
		must(t, err)
		f = claim(t, s, resize, "c1")
		must(t, s.Finish(t.Context(), f, model.OpFailed, model.UpdateFailed, ptr("no room"), nil))
		wantTold(t, s, "update pending: UPDATE_IN_PROGRESS", "update failure: UPDATE_FAILED")

		// A delete comes while the cluster is being updated: that one is given up.
		resize, err = s.ScaleNodeGroup(t.Context(), c.UUID, groups[1].UUID, 6, nil, always, store.NewOperation{})
		must(t, err)
		f = claim(t, s, resize, "c1")
		remove, err := s.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
		must(t, err)
		must(t, s.FinishCancelled(t.Context(), f))
		must(t, s.Finish(t.Context(), claim(t, s, remove, "c1"), model.OpDone, model.DeleteComplete, nil, nil))
		wantTold(t, s, "update pending: UPDATE_IN_PROGRESS", "update failure: DELETE_IN_PROGRESS",
			"delete pending: DELETE_IN_PROGRESS", "delete success: DELETE_COMPLETE")
	})
}

// What does not happen is not told, and what is told has happened.
func TestNotificationsAreOfTheSameTransaction(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		told(t, s)
		s.Exec(t, "DROP TABLE notifications")
		if err := s.Finish(t.Context(), f, model.OpDone, model.CreateComplete, nil, nil); err == nil {
			t.Error("ended although the notification could not be written")
		}
		if now := operationNow(t, s, op.UUID); now.State != model.OpRunning {
			t.Errorf("the operation is %s", now.State)
		}
	})
}

func TestNothingIsToldUnlessAskedFor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ready(t, s, "p1")
		wantTold(t, s)
	})
}

func TestWhatIsToldOfACluster(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		c, groups := request(t, s, "p1")
		c.Keypair, c.DockerVolumeSize, c.Labels, c.CreateTimeout = ptr("key"), ptr(7), model.Labels{"a": "b"}, ptr(60)
		c.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
		op, err := s.CreateCluster(t.Context(), c, groups, 10, store.NewOperation{UserID: "u", UserDomainID: "d", RequestID: "req-1", GlobalRequestID: "req-0"})
		must(t, err)
		f := claim(t, s, op, "c1")
		told(t, s)
		h := host(t, s, "h", 9)
		for i, n := range append(nodes(t, s, f, groups[0], 1), nodes(t, s, f, groups[1], 2)...) {
			_, err := s.ClaimAddress(t.Context(), f, n.UUID, "net", addresses(9, i))
			must(t, err)
			_, err = s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
			must(t, err)
		}
		must(t, s.Finish(t.Context(), f, model.OpFailed, model.CreateFailed, ptr("why"), nil))
		all, err := s.TakeNotifications(t.Context(), 1, lease)
		must(t, err)
		n := all[0]
		if n.UserID != "u" || n.UserDomainID != "d" || n.ProjectID != "p1" || n.RequestID != "req-1" || n.GlobalRequestID != "req-0" || n.ClusterID != c.UUID || n.ClusterName != "c" {
			t.Errorf("got %+v", n)
		}
		data, err := json.Marshal(n.Cluster)
		must(t, err)
		var got map[string]any
		must(t, json.Unmarshal(data, &got))
		delete(got, "updated_at")
		want := map[string]any{
			"status": "CREATE_FAILED", "status_reason": "why", "project_id": "p1", "created_at": "2026-01-02T03:04:05.678000",
			"cluster_template_id": c.TemplateID, "keypair": "key", "docker_volume_size:": 7.0, "labels": map[string]any{"a": "b"},
			"master_flavor_id": nil, "flavor_id": nil, "stack_id": nil, "health_status": nil, "create_timeout": 60.0,
			"api_address": nil, "discovery_url": nil, "node_count": 2.0, "master_count": 1.0,
			"master_addresses": []any{"192.0.2.10"}, "node_addresses": []any{"192.0.2.11", "192.0.2.12"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Several senders: each notification is taken by one, in order, and taken again
// when that one is silent.
func TestNotificationsAreTakenByOne(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		for range 20 {
			ready(t, s, "p1")
		}
		var (
			mu   sync.Mutex
			sent []int64
			wg   sync.WaitGroup
		)
		for range 4 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for ctx.Err() == nil {
					some, err := s.TakeNotifications(ctx, 3, lease)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					done := len(sent) >= 40
					var uuids []string
					for _, n := range some {
						sent = append(sent, n.ID)
						uuids = append(uuids, n.UUID)
					}
					mu.Unlock()
					if done {
						return
					}
					if err := s.RemoveNotifications(ctx, uuids...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if len(sent) != 40 || !slices.IsSorted(sent) {
			t.Errorf("sent %d, in the order %v", len(sent), sent)
		}
	})
}

func TestNotificationsOfASilentSenderAreTakenAgain(t *testing.T) {
	eachNotifying(t, func(t *testing.T, s *store.Store) {
		ready(t, s, "p1")
		first, err := s.TakeNotifications(t.Context(), 1, lease)
		must(t, err)
		if none, err := s.TakeNotifications(t.Context(), 10, lease); err != nil || len(none) > 0 {
			t.Errorf("taken twice: %v, %v", none, err)
		}
		must(t, s.ReturnNotifications(t.Context(), first[0].UUID))
		if both, err := s.TakeNotifications(t.Context(), 10, -time.Second); err != nil || len(both) != 2 || both[0].UUID != first[0].UUID {
			t.Errorf("after they were given back: %v, %v", both, err)
		}
		both, err := s.TakeNotifications(t.Context(), 10, lease) // that lease had run out at once
		must(t, err)
		if len(both) != 2 {
			t.Errorf("after the lease: %v", both)
		}
		for range 2 {
			must(t, s.RemoveNotifications(t.Context(), both[0].UUID, both[1].UUID))
		}
		wantTold(t, s)
	})
}

func TestClaimTellsWhoseLeaseHadRunOut(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		first, err := s.Claim(t.Context(), op.UUID, "c1", -time.Second, 0)
		must(t, err)
		second, err := s.Claim(t.Context(), op.UUID, "c2", lease, 0)
		must(t, err)
		must(t, s.Release(t.Context(), store.FenceOf(second), time.Time{}))
		third, err := s.Claim(t.Context(), op.UUID, "c3", lease, 0)
		must(t, err)
		if got := strings.Join([]string{first.TakenFrom, second.TakenFrom, third.TakenFrom}, ","); got != ",c1," {
			t.Errorf("taken from %q", got)
		}
	})
}
