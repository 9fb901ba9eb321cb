// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// Two conductors look at a cluster that is full: one node comes, then the next,
// up to the maximum, and the user is told why no more do.
func TestAFullClusterGrowsToItsMaximumAndNotBeyond(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.options.HealthEvery = 50 * time.Millisecond
		w.conduct()
		w.conduct()
		c, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		full := func() {
			nodes, err := s.Nodes(t.Context(), c.UUID)
			w.must(err)
			for _, n := range nodes[c.UUID] {
				w.coe.Reserve(drivers.Reserved{NodeID: n.UUID, Memory: int64(n.MemoryMiB) << 20})
			}
		}
		full()
		w.looks(4)
		if n := w.workers(c.UUID); n != 1 {
			t.Fatalf("it has %d workers, although nobody asked for autoscaling", n)
		}

		groups, err := s.NodeGroups(t.Context(), c.UUID)
		w.must(err)
		worker := groups[c.UUID][1].UUID
		w.must(s.SetAutoscaling(t.Context(), c.UUID, store.AutoscaleChange{
			Enabled: new(true), SettleSeconds: new(0), Groups: map[string]store.GroupChange{worker: {Most: new(3)}},
		}))
		w.eventually("the cluster says that it is full", func() bool {
			full()
			reason := w.cluster(c.UUID).StatusReason
			return reason != nil && strings.Contains(*reason, "max_node_count of 3")
		})
		if n := w.workers(c.UUID); n != 3 {
			t.Errorf("it has %d workers", n)
		}
		w.looks(4)
		operations, err := s.Operations(t.Context(), c.UUID)
		w.must(err)
		if len(operations) != 3 { // the creation, and two nodes one after the other
			t.Errorf("there were %d operations", len(operations))
		}
		events, err := s.Events(t.Context(), c.UUID, 0, 1000)
		w.must(err)
		told := 0
		for _, e := range events {
			if e.Kind == model.EventAutoscale {
				told++
			}
		}
		if told != 3 {
			t.Errorf("it was told %d times: twice of a node, once of the maximum", told)
		}

		nodes, err := s.Nodes(t.Context(), c.UUID)
		w.must(err)
		for _, n := range nodes[c.UUID] {
			w.coe.Reserve(drivers.Reserved{NodeID: n.UUID})
		}
		w.eventually("nothing is said any more", func() bool { return w.cluster(c.UUID).StatusReason == nil })
		if n := w.workers(c.UUID); n != 3 {
			t.Errorf("it has shrunk to %d workers", n)
		}
	})
}

// workers is the count of the default worker group.
func (w *world) workers(cluster string) int {
	w.Helper()
	groups, err := w.store.NodeGroups(w.Context(), cluster)
	w.must(err)
	return groups[cluster][1].NodeCount
}
