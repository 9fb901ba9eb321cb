// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func hostNow(t *testing.T, s *store.Store, uuid string) *model.Host {
	t.Helper()
	h, err := s.Host(t.Context(), uuid)
	must(t, err)
	return h
}

// silent makes the host one that does not answer.
func silent(t *testing.T, s *store.Store, h *model.Host) {
	t.Helper()
	since, err := s.HostSilent(t.Context(), h.UUID, "no route", time.Minute)
	must(t, err)
	if since == nil {
		t.Fatal("the host is gone")
	}
}

func TestSilentHostTakesNoNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, h, _ := onHost(t, s)
		must(t, s.HostsAnswered(t.Context(), []string{h.UUID}))
		if h := hostNow(t, s, h.UUID); h.LastSeenAt == nil || h.UnreachableSince != nil {
			t.Errorf("%+v", h)
		}
		_, err := s.DueClusters(t.Context(), looked, time.Hour, 10)
		must(t, err)
		silent(t, s, h)
		since := hostNow(t, s, h.UUID).UnreachableSince
		silent(t, s, h)
		if got := hostNow(t, s, h.UUID); !got.UnreachableSince.Equal(*since) || *got.UnreachableReason != "no route" {
			t.Errorf("silent since %v, then %v because %v", since, got.UnreachableSince, got.UnreachableReason)
		}
		if due, err := s.DueClusters(t.Context(), looked, time.Hour, 10); err != nil || len(due) != 1 || due[0].UUID != c.UUID {
			t.Errorf("clusters to look at: %v, %v", due, err)
		}
		if found, err := s.SilentHosts(t.Context(), []string{h.UUID, "other"}); err != nil || len(found) != 1 {
			t.Errorf("%v, %v", found, err)
		}
		wish := store.HostWish{VCPUs: 1, MemoryMiB: 1, DiskGiB: 1, OrNoClass: true}
		if found, err := s.HostsWithRoom(t.Context(), wish, nil, 10); err != nil || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
		_, groups, op := created(t, s, "p2")
		f := claim(t, s, op, "c2")
		n := nodes(t, s, f, groups[0], 1)[0]
		_, err = s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
		wantErr(t, err, store.ErrNoRoom)
		for range 2 {
			must(t, s.HostsAnswered(t.Context(), []string{h.UUID}))
		}
		if found, err := s.HostsWithRoom(t.Context(), wish, nil, 10); err != nil || len(found) != 1 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// A node that is gone from the records keeps its address, and its host out of
// use, until the host has said that nothing is left there.
func TestLostNodeKeepsItsAddressUntilItsHostIsBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 3)
		h, other := host(t, s, "h1", 2), host(t, s, "h2", 4)
		for _, n := range rows[:2] {
			_, err := s.ClaimAddress(t.Context(), f, n.UUID, "net", addresses(4, 0))
			must(t, err)
			_, err = s.ClaimHost(t.Context(), f, n.UUID, h.UUID)
			must(t, err)
		}
		wantErr(t, s.RemoveLostNode(t.Context(), f, rows[0].UUID, 0), store.ErrReachable)
		silent(t, s, h)
		wantErr(t, s.RemoveLostNode(t.Context(), f, rows[0].UUID, time.Hour), store.ErrReachable)
		for range 2 {
			must(t, s.RemoveLostNode(t.Context(), f, rows[0].UUID, 0))
		}
		// The other one has not joined yet: it goes elsewhere, as another.
		for range 2 {
			must(t, s.MoveLostNode(t.Context(), f, rows[1].UUID, "net", addresses(4, 0), 0))
		}
		by, err := s.Nodes(t.Context(), c.UUID)
		must(t, err)
		moved := by[c.UUID][slices.IndexFunc(by[c.UUID], func(n model.Node) bool { return n.UUID == rows[1].UUID })]
		if moved.HostID != nil || moved.State != model.NodeWanted || *moved.Address != "192.0.2.12" || (*moved.MAC)[len("02:00:00:00"):] != ":00:02" {
			t.Errorf("moved: %+v", moved)
		}
		if _, err := s.ClaimHost(t.Context(), f, moved.UUID, other.UUID); err != nil {
			t.Error(err)
		}
		if n, err := s.ClaimAddress(t.Context(), f, rows[2].UUID, "net", addresses(4, 0)); err != nil || *n.Address != "192.0.2.13" {
			t.Errorf("an address of a lost node was given away: %+v, %v", n, err)
		}
		if h := hostNow(t, s, h.UUID); h.UsedMemoryMiB != 0 || h.EmptySince == nil {
			t.Errorf("room on the dead host is still taken: %+v", h)
		}
		if held, err := s.AddressesHeld(t.Context()); err != nil || held["net"] != 4 {
			t.Errorf("held: %v, %v", held, err)
		}

		// Back, but with something on it.
		must(t, s.HostsAnswered(t.Context(), []string{h.UUID}))
		lost, err := s.LostNodes(t.Context(), []string{h.UUID, other.UUID})
		must(t, err)
		var names []string
		for _, l := range lost[h.UUID] {
			names = append(names, l.Name+" "+l.Address)
			if hostNow(t, s, h.UUID).UnreachableSince == nil {
				t.Error("the host takes nodes too early")
			}
			for range 2 {
				must(t, s.ForgetLostNode(t.Context(), l.UUID, h.UUID))
			}
			must(t, s.HostsAnswered(t.Context(), []string{h.UUID}))
		}
		if diff := cmp.Diff([]string{rows[0].Name + " 192.0.2.10", rows[1].Name + " 192.0.2.11"}, names); diff != "" {
			t.Error(diff)
		}
		if hostNow(t, s, h.UUID).UnreachableSince != nil {
			t.Error("the host does not come back")
		}
		// Or never: then its removal sets the addresses free.
		silent(t, s, other)
		must(t, s.RemoveLostNode(t.Context(), f, rows[1].UUID, 0))
		must(t, s.RemoveHost(t.Context(), other.UUID))
		if lost, err := s.LostNodes(t.Context(), []string{other.UUID}); err != nil || len(lost) > 0 {
			t.Errorf("%v, %v", lost, err)
		}
	})
}

func TestReplaceNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, h, n := onHost(t, s)
		ask := func() *model.Operation {
			t.Helper()
			op, err := s.ReplaceNodes(t.Context(), c.UUID, []string{n.UUID, "gone"}, looked, time.Hour, store.NewOperation{})
			must(t, err)
			return op
		}
		if dead, err := s.DeadHosts(t.Context(), 0); err != nil || len(dead) > 0 {
			t.Errorf("%v, %v", dead, err)
		}
		silent(t, s, h)
		if dead, err := s.DeadHosts(t.Context(), 0); err != nil || len(dead) != 1 || dead[0].UUID != h.UUID {
			t.Errorf("%v, %v", dead, err)
		}
		if dead, err := s.DeadHosts(t.Context(), time.Hour); err != nil || len(dead) > 0 {
			t.Errorf("%v, %v", dead, err)
		}
		op := ask()
		if op == nil || op.Kind != model.OpUpdate || !slices.Equal(op.Spec.Replace, []string{n.UUID}) || !slices.Equal(op.Spec.NodeGroups, []string{n.NodeGroupID}) {
			t.Fatalf("%+v", op)
		}
		if again := ask(); again != nil {
			t.Errorf("asked twice: %+v", again)
		}
		if got := clusterNow(t, s, c.UUID); got.Status != model.UpdateInProgress {
			t.Errorf("cluster is %s", got.Status)
		}
		f := claim(t, s, op, "c1")
		must(t, s.Finish(t.Context(), f, model.OpFailed, model.UpdateFailed, ptr("no room"), nil))
		if soon := ask(); soon != nil {
			t.Errorf("asked again at once after a failure: %+v", soon)
		}
	})
}
