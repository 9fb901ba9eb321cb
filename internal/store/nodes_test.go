// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestAddNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		workers := nodes(t, s, f, groups[1], 3)
		managers := nodes(t, s, f, groups[0], 1)
		must(t, s.AddNodes(t.Context(), f, workers)) // again: nothing new
		must(t, s.AddNodes(t.Context(), f, nil))
		by, err := s.Nodes(t.Context(), c.UUID, uuid.NewString())
		must(t, err)
		var got []string
		for _, n := range by[c.UUID] {
			got = append(got, n.Name)
			if n.State != model.NodeWanted || n.ClusterID != c.UUID || n.MemoryMiB != 4096 {
				t.Errorf("%+v", n)
			}
		}
		want := []string{managers[0].Name, workers[0].Name, workers[1].Name, workers[2].Name}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		twin := workers[0]
		twin.UUID = uuid.NewString()
		wantErr(t, s.AddNodes(t.Context(), f, []model.Node{twin}), store.ErrExists)
	})
}

func TestNodeStates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 2)
		for range 2 {
			must(t, s.NodeState(t.Context(), f, rows[0].UUID, model.NodeReady, ptr("swarm-id")))
			must(t, s.MarkLeaving(t.Context(), f, []string{rows[1].UUID, uuid.NewString()}))
		}
		must(t, s.NodeState(t.Context(), f, rows[0].UUID, model.NodeRunning, nil))
		must(t, s.MarkLeaving(t.Context(), f, nil))
		by, err := s.Nodes(t.Context(), c.UUID)
		must(t, err)
		if n := by[c.UUID][0]; n.State != model.NodeRunning || *n.COEID != "swarm-id" {
			t.Errorf("%+v", n)
		}
		if n := by[c.UUID][1]; n.State != model.NodeLeaving || n.COEID != nil {
			t.Errorf("%+v", n)
		}
		wantErr(t, s.NodeState(t.Context(), f, uuid.NewString(), model.NodeReady, nil), store.ErrNotFound)
	})
}

func TestClaimHost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 4)
		h, other := host(t, s, "h1", 2), host(t, s, "h2", 2)
		place := func(i int, h *model.Host) (*model.Node, error) {
			return s.ClaimHost(t.Context(), f, rows[i].UUID, h.UUID)
		}
		for range 2 {
			n, err := place(0, h)
			must(t, err)
			if n.State != model.NodePlaced || *n.HostID != h.UUID || *n.Slot != 0 {
				t.Errorf("placed: %+v", n)
			}
		}
		if n, err := place(0, other); err != nil || *n.HostID != h.UUID {
			t.Errorf("placed before, asked for another host: %+v, %v", n, err)
		}
		if n, err := place(1, h); err != nil || *n.Slot != 1 {
			t.Errorf("second: %+v, %v", n, err)
		}
		_, err := place(2, h)
		wantErr(t, err, store.ErrNoRoom)

		// A slot is taken again once its node is gone.
		must(t, s.RemoveNode(t.Context(), f, rows[0].UUID))
		if n, err := place(2, h); err != nil || *n.Slot != 0 {
			t.Errorf("in the freed room: %+v, %v", n, err)
		}
		for _, state := range []model.HostState{model.HostDraining, model.HostError, model.HostPreparing} {
			_, err := s.UpdateHost(t.Context(), other.UUID, nil, map[string]any{"state": state})
			must(t, err)
			_, err = place(3, other)
			wantErr(t, err, store.ErrNoRoom)
		}
		_, err = s.ClaimHost(t.Context(), f, rows[3].UUID, uuid.NewString())
		wantErr(t, err, store.ErrNoRoom)
		_, err = s.ClaimHost(t.Context(), f, uuid.NewString(), h.UUID)
		wantErr(t, err, store.ErrNotFound)
		must(t, s.MarkLeaving(t.Context(), f, []string{rows[3].UUID}))
		if _, err := place(3, h); err == nil {
			t.Error("a leaving node was placed")
		}
	})
}

// usedIsWhatNodesHold compares each host's used sums with its nodes.
func usedIsWhatNodesHold(t *testing.T, s *store.Store) {
	t.Helper()
	hosts, err := s.Hosts(t.Context())
	must(t, err)
	for _, h := range hosts {
		var sum struct{ N, Slots, VCPUs, Memory, Disk int }
		s.Query(t, &sum, `SELECT COUNT(*) n, COUNT(DISTINCT slot) slots, COALESCE(SUM(vcpus), 0) v_cpus,
			COALESCE(SUM(memory_mib), 0) memory, COALESCE(SUM(disk_gib), 0) disk FROM nodes WHERE host_id = ?`, h.UUID)
		if sum.VCPUs != h.UsedVCPUs || sum.Memory != h.UsedMemoryMiB || sum.Disk != h.UsedDiskGiB || sum.Slots != sum.N {
			t.Errorf("%s uses %d/%d/%d, its nodes hold %+v", h.Name, h.UsedVCPUs, h.UsedMemoryMiB, h.UsedDiskGiB, sum)
		}
		if h.UsedVCPUs > h.TotalVCPUs || h.UsedMemoryMiB > h.TotalMemoryMiB || h.UsedDiskGiB > h.TotalDiskGiB {
			t.Errorf("%s is oversubscribed: %+v", h.Name, h)
		}
		if empty := h.EmptySince != nil; empty && sum.N > 0 {
			t.Errorf("%s has %d nodes and is called empty", h.Name, sum.N)
		}
	}
}

// TestHostsAreNeverOversubscribed: 8 conductors place 100 nodes each on hosts
// that have room for 60 in all, then remove every other of their own while
// the rest still tries.
func TestHostsAreNeverOversubscribed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		const conductors, each = 8, 100
		var hosts []string
		for i, room := range []int{10, 20, 30} {
			hosts = append(hosts, host(t, s, fmt.Sprint("h", i), room).UUID)
		}
		type share struct {
			fence store.Fence
			nodes []model.Node
		}
		var shares []share
		for i := range conductors {
			_, groups, op := created(t, s, fmt.Sprint("p", i))
			f := claim(t, s, op, fmt.Sprint("c", i))
			shares = append(shares, share{f, nodes(t, s, f, groups[1], each)})
		}
		placed := make([][]string, conductors)
		var all sync.WaitGroup
		for i, mine := range shares {
			all.Go(func() {
				for j, n := range mine.nodes {
					_, err := s.ClaimHost(t.Context(), mine.fence, n.UUID, hosts[(i+j)%len(hosts)])
					switch {
					case err == nil:
						placed[i] = append(placed[i], n.UUID)
					case !errors.Is(err, store.ErrNoRoom):
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		total := 0
		for _, p := range placed {
			total += len(p)
		}
		if total != 60 {
			t.Errorf("%d nodes placed, room was for 60", total)
		}
		usedIsWhatNodesHold(t, s)

		for i, mine := range shares {
			all.Go(func() {
				for j, n := range placed[i] {
					if j%2 == 0 {
						if err := s.RemoveNode(t.Context(), mine.fence, n); err != nil {
							t.Error(err)
							return
						}
					}
					_, err := s.ClaimHost(t.Context(), mine.fence, mine.nodes[each-1-j].UUID, hosts[j%len(hosts)])
					if err != nil && !errors.Is(err, store.ErrNoRoom) && !errors.Is(err, store.ErrNotFound) {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		usedIsWhatNodesHold(t, s)
	})
}

// addresses are n addresses of a network, beginning at some offset.
func addresses(n, offset int) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for i := range n {
			if !yield(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + (i+offset)%n)})) {
				return
			}
		}
	}
}

func TestClaimAddress(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 4)
		take := func(i int, network string) (*model.Node, error) {
			return s.ClaimAddress(t.Context(), f, rows[i].UUID, network, addresses(2, 0))
		}
		for range 2 {
			n, err := take(0, "net")
			must(t, err)
			mac, err := netipMAC(*n.MAC)
			if *n.Address != "192.0.2.10" || *n.Network != "net" || err != nil || mac[0]&3 != 2 {
				t.Errorf("%+v, %v", n, err)
			}
		}
		if n, err := take(1, "net"); err != nil || *n.Address != "192.0.2.11" {
			t.Errorf("second: %+v, %v", n, err)
		}
		_, err := take(2, "net")
		wantErr(t, err, store.ErrNoAddress)
		if n, err := take(2, "other"); err != nil || *n.Address != "192.0.2.10" {
			t.Errorf("in another network: %+v, %v", n, err)
		}
		must(t, s.RemoveNode(t.Context(), f, rows[0].UUID))
		if n, err := take(3, "net"); err != nil || *n.Address != "192.0.2.10" {
			t.Errorf("the freed one: %+v, %v", n, err)
		}
		_, err = s.ClaimAddress(t.Context(), f, uuid.NewString(), "net", addresses(2, 0))
		wantErr(t, err, store.ErrNotFound)
	})
}

// By its MAC address a node is known to be of its cluster, wherever it is.
func TestMACAddressesTellClusters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		families := make(map[string]bool)
		for i := range 3 {
			_, groups, op := created(t, s, fmt.Sprint("p", i))
			f := claim(t, s, op, "c")
			var macs []string
			for j, n := range nodes(t, s, f, groups[1], 3) {
				got, err := s.ClaimAddress(t.Context(), f, n.UUID, "net", addresses(99, 10*i+j))
				must(t, err)
				macs = append(macs, *got.MAC)
			}
			family := macs[0][:len("02:00:00:01")]
			if want := []string{family + ":00:00", family + ":00:01", family + ":00:02"}; !slices.Equal(macs, want) {
				t.Errorf("%v, want %v", macs, want)
			}
			if b, err := netipMAC(macs[0]); err != nil || b[0]&3 != 2 || families[family] {
				t.Errorf("%s is not a local address of one machine, or another cluster's: %v", macs[0], err)
			}
			families[family] = true
		}
	})
}

func netipMAC(s string) (b [6]byte, err error) {
	_, err = fmt.Sscanf(s, "%02x:%02x:%02x:%02x:%02x:%02x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5])
	return b, err
}

// TestNoAddressIsGivenTwice: 8 conductors give addresses to 10 nodes each at
// once, from a network that has 60; some begin at the same one.
func TestNoAddressIsGivenTwice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		const conductors, each, have = 8, 10, 60
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range conductors {
			_, groups, op := created(t, s, fmt.Sprint("p", i))
			f := claim(t, s, op, fmt.Sprint("c", i))
			mine := nodes(t, s, f, groups[1], each)
			all.Go(func() {
				<-start
				for j, n := range mine {
					got, err := s.ClaimAddress(t.Context(), f, n.UUID, "net", addresses(have, i/2*20+j))
					if err != nil && !errors.Is(err, store.ErrNoAddress) {
						t.Error(err)
					} else if err == nil && got.Address == nil {
						t.Error("no error and no address")
					}
				}
			})
		}
		close(start)
		all.Wait()
		var held []string
		s.Query(t, &held, "SELECT address FROM nodes WHERE address IS NOT NULL")
		slices.Sort(held)
		if len(held) != have || len(slices.Compact(held)) != have {
			t.Errorf("%d addresses given, %d different, of %d", len(held), len(slices.Compact(held)), have)
		}
	})
}

func TestRemoveNode(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 3)
		h := host(t, s, "h1", 4)
		for _, n := range rows[:2] {
			_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
			must(t, err)
			_, err = s.PutCertificates(t.Context(), model.Certificate{ClusterID: c.UUID, Kind: model.CertNode, NodeID: n.UUID, PEM: "pem", NotAfter: time.Now()})
			must(t, err)
		}
		for i, n := range rows {
			for range 2 {
				must(t, s.RemoveNode(t.Context(), f, n.UUID))
				usedIsWhatNodesHold(t, s)
			}
			_, err := s.Certificate(t.Context(), c.UUID, 0, model.CertNode, n.UUID)
			wantErr(t, err, store.ErrNotFound)
			got, err := s.Host(t.Context(), h.UUID)
			must(t, err)
			if empty := got.EmptySince != nil; empty != (i >= 1) {
				t.Errorf("after %d removed: empty since %v", i+1, got.EmptySince)
			}
		}
		must(t, s.RemoveNode(t.Context(), f, uuid.NewString()))

		late := nodes(t, s, f, groups[0], 1)[0]
		_, err := s.ClaimHost(t.Context(), f, late.UUID, h.UUID)
		must(t, err)
		if got, _ := s.Host(t.Context(), h.UUID); got.EmptySince != nil {
			t.Error("still called empty")
		}
	})
}

// TestLastNodesLeaveAtOnce: two clusters remove their last node of a host at
// the same time; one of the two sees that the host is empty.
func TestLastNodesLeaveAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		h := host(t, s, "h1", 2)
		for round := range 10 {
			var all sync.WaitGroup
			for i := range 2 {
				_, groups, op := created(t, s, fmt.Sprint("p", i))
				f := claim(t, s, op, "c1")
				n := nodes(t, s, f, groups[1], 1)[0]
				_, err := s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
				must(t, err)
				all.Go(func() {
					// The first may be gone before the second is placed; the
					// end is the same.
					if err := s.RemoveNode(t.Context(), f, n.UUID); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if got, err := s.Host(t.Context(), h.UUID); err != nil || got.EmptySince == nil || got.UsedVCPUs != 0 {
				t.Fatalf("round %d: %+v, %v", round, got, err)
			}
		}
	})
}
