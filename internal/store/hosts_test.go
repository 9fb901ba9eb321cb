// SPDX-License-Identifier: Apache-2.0

package store_test

import (
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

func TestHosts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ironic := uuid.NewString()
		b := &model.Host{Name: "b", IronicNodeID: &ironic, TotalVCPUs: 8, UsedVCPUs: 5}
		must(t, s.AddHost(t.Context(), b))
		a := host(t, s, "a", 1)
		if b.State != model.HostEnrolled || b.UUID == "" || b.UsedVCPUs != 0 {
			t.Errorf("%+v", b)
		}
		for _, twin := range []model.Host{{Name: "b"}, {Name: "c", IronicNodeID: &ironic}, {Name: "d", UUID: b.UUID}} {
			wantErr(t, s.AddHost(t.Context(), &twin), store.ErrExists)
		}
		hosts, err := s.Hosts(t.Context())
		must(t, err)
		if diff := cmp.Diff([]model.Host{*a, *b}, hosts); diff != "" {
			t.Error(diff)
		}
		got, err := s.Host(t.Context(), b.UUID)
		if diff := cmp.Diff(b, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		_, err = s.Host(t.Context(), uuid.NewString())
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestUpdateHost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := host(t, s, "h1", 1)
		since := time.Date(2026, 5, 1, 12, 0, 0, 123456789, time.FixedZone("east", 7200))
		change := map[string]any{
			"state": model.HostDraining, "reason": "because", "libvirt_uri": ptr("lxc:///system"),
			"empty_since": &since, "failures": 3, "total_vcpus": 64, "allocation_id": nil,
		}
		moved, err := s.UpdateHost(t.Context(), h.UUID, []model.HostState{model.HostReady, model.HostError}, change)
		if !moved || err != nil {
			t.Fatalf("%v, %v", moved, err)
		}
		got, err := s.Host(t.Context(), h.UUID)
		must(t, err)
		want := *h
		want.State, want.Reason, want.LibvirtURI = model.HostDraining, ptr("because"), ptr("lxc:///system")
		want.EmptySince, want.Failures, want.TotalVCPUs = ptr(since.UTC().Truncate(time.Millisecond)), 3, 64
		want.UpdatedAt = got.UpdatedAt
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Error(diff)
		}
		moved, err = s.UpdateHost(t.Context(), h.UUID, []model.HostState{model.HostReady}, change)
		if moved || err != nil {
			t.Errorf("from a state it is not in: %v, %v", moved, err)
		}
		moved, err = s.UpdateHost(t.Context(), h.UUID, nil, map[string]any{"reason": nil})
		if !moved || err != nil {
			t.Errorf("from any state: %v, %v", moved, err)
		}
		moved, err = s.UpdateHost(t.Context(), uuid.NewString(), nil, change)
		if moved || err != nil {
			t.Errorf("no such host: %v, %v", moved, err)
		}
		for _, column := range []string{"id", "uuid", "used_vcpus", "used_memory_mib", "used_disk_gib", "no_such", "state = 'x', name"} {
			if _, err := s.UpdateHost(t.Context(), h.UUID, nil, map[string]any{column: 1}); err == nil {
				t.Errorf("%s was changed", column)
			}
		}
	})
}

func TestOneOfManyMovesTheHost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := host(t, s, "h1", 1)
		var winners atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				moved, err := s.UpdateHost(t.Context(), h.UUID, []model.HostState{model.HostReady}, map[string]any{"state": model.HostReleasing})
				if err != nil {
					t.Error(err)
				}
				if moved {
					winners.Add(1)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Errorf("%d moved it", winners.Load())
		}
	})
}

func TestRemoveHost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := host(t, s, "h1", 1)
		_, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		n := nodes(t, s, f, groups[1], 1)[0]
		_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
		must(t, err)
		wantErr(t, s.RemoveHost(t.Context(), h.UUID), store.ErrInUse)
		must(t, s.RemoveNode(t.Context(), f, n.UUID))
		for range 2 {
			must(t, s.RemoveHost(t.Context(), h.UUID))
		}
		_, err = s.Host(t.Context(), h.UUID)
		wantErr(t, err, store.ErrNotFound)
	})
}
