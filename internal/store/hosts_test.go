// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/placement"
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
		must(t, s.RemoveHost(t.Context(), h.UUID, model.HostEnrolled, model.HostError))
		if _, err = s.Host(t.Context(), h.UUID); err != nil {
			t.Errorf("removed, though it is in another state: %v", err)
		}
		for range 2 {
			must(t, s.RemoveHost(t.Context(), h.UUID))
		}
		_, err = s.Host(t.Context(), h.UUID)
		wantErr(t, err, store.ErrNotFound)
	})
}

// Whatever hosts there are, the ones found are those that package placement
// would choose first.
func TestHostsWithRoomAreTheBest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		random := rand.New(rand.NewPCG(1, 2))
		siblings := map[string]int{}
		for i := range 60 {
			h := &model.Host{
				Name: fmt.Sprint("h", i), State: model.HostReady, ResourceClass: []string{"", "baremetal", "gpu"}[random.IntN(3)],
				TotalVCPUs: random.IntN(8), TotalMemoryMiB: 1024 * random.IntN(9), TotalDiskGiB: 10 * random.IntN(8),
				Traits: [][]string{nil, {"CUSTOM_A"}, {"CUSTOM_A", "CUSTOM_B"}, {"CUSTOM_AB"}}[random.IntN(4)],
			}
			if random.IntN(6) == 0 {
				h.State = model.HostDraining
			}
			must(t, s.AddHost(t.Context(), h))
			s.Exec(t, "UPDATE hosts SET used_memory_mib = ?, failures = ? WHERE uuid = ?", random.IntN(3)*1024, max(0, random.IntN(8)-3), h.UUID)
			if random.IntN(3) == 0 {
				siblings[h.UUID] = 1 + random.IntN(2)
			}
		}
		all, err := s.Hosts(t.Context())
		must(t, err)
		found := 0
		for range 100 {
			r := placement.Request{
				Room:          placement.Room{VCPUs: random.IntN(6), MemoryMiB: 1024 * random.IntN(7), DiskGiB: 10 * random.IntN(6)},
				ResourceClass: []string{"baremetal", "gpu"}[random.IntN(2)], OrNoClass: random.IntN(2) == 0,
				Traits: [][]string{nil, {"CUSTOM_A"}, {"CUSTOM_A", "CUSTOM_B"}}[random.IntN(3)],
			}
			wish := store.HostWish{VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB, ResourceClass: r.ResourceClass, OrNoClass: r.OrNoClass, Traits: r.Traits}
			hosts, err := s.HostsWithRoom(t.Context(), wish, slices.Collect(maps.Keys(siblings)), 60)
			must(t, err)
			want := placement.Choose(placement.Candidates(all, siblings), r)
			got := placement.Choose(placement.Candidates(hosts, siblings), r)
			if len(got) != len(hosts) || len(got) > len(want) || !slices.Equal(want[:len(got)], got) || len(got) == 0 && len(want) > 0 {
				t.Fatalf("%+v: found %d, of which %v will do; the best are %v", r, len(hosts), got, want)
			}
			found += len(got)
			few, err := s.HostsWithRoom(t.Context(), wish, nil, 2)
			if must(t, err); len(few) > 2 {
				t.Errorf("%d hosts, want at most 2", len(few))
			}
		}
		if found < 100 {
			t.Errorf("only %d hosts found in all", found)
		}
	})
}

func TestGiveUpMachine(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		machine, other := uuid.NewString(), uuid.NewString()
		h := &model.Host{Name: "h1", State: model.HostDeploying, IronicNodeID: &machine}
		must(t, s.AddHost(t.Context(), h))
		now := time.Now()
		bad := model.AvoidedMachine{IronicNodeID: machine, Name: "bm1", Host: "h1", Reason: "no DHCP answer", Until: now.Add(time.Hour)}
		instead := &model.Host{UUID: uuid.NewString(), Name: "h1", State: model.HostEnrolled, Attempts: 1, Traits: []string{"CUSTOM_A"}}
		before := everyRow(t, s)
		_, err := s.GiveUpMachine(t.Context(), h.UUID, model.HostDeploying, bad, instead)
		wantErr(t, err, store.ErrExists)
		for why, wrong := range map[string]model.AvoidedMachine{"another machine": {IronicNodeID: other}, "none": {}} {
			if gaveUp, err := s.GiveUpMachine(t.Context(), h.UUID, model.HostDeploying, wrong, nil); gaveUp || err != nil {
				t.Errorf("%s: %v, %v", why, gaveUp, err)
			}
		}
		if gaveUp, err := s.GiveUpMachine(t.Context(), h.UUID, model.HostPreparing, bad, nil); gaveUp || err != nil {
			t.Errorf("in another state: %v, %v", gaveUp, err)
		}
		if diff := cmp.Diff(before, everyRow(t, s)); diff != "" {
			t.Fatalf("nothing was given up, and yet:\n%s", diff)
		}

		instead.Name = "h2"
		var times atomic.Int32
		var all sync.WaitGroup
		for range 4 { // conductors
			all.Go(func() {
				gaveUp, err := s.GiveUpMachine(t.Context(), h.UUID, model.HostDeploying, bad, instead)
				if err != nil {
					t.Error(err)
				}
				if gaveUp {
					times.Add(1)
				}
			})
		}
		all.Wait()
		if times.Load() != 1 {
			t.Errorf("given up %d times", times.Load())
		}
		got, err := s.Host(t.Context(), h.UUID)
		must(t, err)
		if got.State != model.HostReleasing || got.Reason == nil || *got.Reason != bad.Reason {
			t.Errorf("host is %+v", got)
		}
		next, err := s.Host(t.Context(), instead.UUID)
		must(t, err)
		if next.Attempts != 1 || next.UpdatedAt == nil || !slices.Equal(next.Traits, instead.Traits) {
			t.Errorf("the one in its place is %+v", next)
		}
		expect := func(at time.Time, want ...string) {
			t.Helper()
			machines, err := s.AvoidedMachines(t.Context(), at)
			must(t, err)
			var ids []string
			for _, m := range machines {
				ids = append(ids, m.IronicNodeID)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("avoided: %v, want %v", ids, want)
			}
		}
		expect(now, machine)
		expect(now.Add(61 * time.Minute))

		// It fails again, and so does another one.
		for _, id := range []string{machine, other} {
			again := &model.Host{Name: "again-" + id, State: model.HostPreparing, IronicNodeID: &id}
			must(t, s.RemoveHost(t.Context(), h.UUID))
			must(t, s.AddHost(t.Context(), again))
			bad.IronicNodeID, bad.Until = id, now.Add(2*time.Hour)
			if gaveUp, err := s.GiveUpMachine(t.Context(), again.UUID, model.HostPreparing, bad, nil); !gaveUp || err != nil {
				t.Fatalf("%v, %v", gaveUp, err)
			}
		}
		expect(now.Add(time.Hour), other, machine)
		for range 2 {
			must(t, s.ForgiveMachine(t.Context(), other))
		}
		expect(now, machine)
	})
}

func TestWhatIsCountedOfHosts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		machine := uuid.NewString()
		must(t, s.AddHost(t.Context(), &model.Host{Name: "host-2", State: model.HostReady, IronicNodeID: &machine}))
		must(t, s.AddHost(t.Context(), &model.Host{Name: "Host-3", State: model.HostEnrolled}))
		h := host(t, s, "host-10", 4)
		all, fromIronic, err := s.CountHosts(t.Context())
		must(t, err)
		if all[model.HostReady] != 2 || all[model.HostEnrolled] != 1 || fromIronic[model.HostReady] != 1 || fromIronic[model.HostEnrolled] != 0 {
			t.Errorf("counted %v, of Ironic's %v", all, fromIronic)
		}
		names, err := s.HostNames(t.Context(), "host-")
		must(t, err)
		if slices.Sort(names); !slices.Equal(names, []string{"host-10", "host-2"}) {
			t.Errorf("names: %v", names)
		}
		some, err := s.HostsIn(t.Context(), model.HostEnrolled, model.HostError)
		if must(t, err); len(some) != 1 || some[0].Name != "Host-3" {
			t.Errorf("enrolled or in error: %+v", some)
		}
		for i, well := range []bool{false, false, true, false} {
			must(t, s.NodeStarted(t.Context(), h.UUID, well))
			got, err := s.Host(t.Context(), h.UUID)
			if must(t, err); got.Failures != []int{1, 2, 0, 1}[i] {
				t.Errorf("after %d starts: %d failures", i+1, got.Failures)
			}
		}

		cluster, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		for _, n := range nodes(t, s, f, groups[1], 3)[:2] {
			_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
			must(t, err)
			_, err = s.ClaimAddress(t.Context(), f, n.UUID, "net", slices.Values([]netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")}))
			must(t, err)
		}
		siblings, err := s.Siblings(t.Context(), cluster.UUID)
		if must(t, err); !maps.Equal(siblings, map[string]int{h.UUID: 2}) {
			t.Errorf("siblings: %v", siblings)
		}
		held, err := s.AddressesHeld(t.Context())
		if must(t, err); !maps.Equal(held, map[string]int{"net": 2}) {
			t.Errorf("addresses held: %v", held)
		}
	})
}
