// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestClusterChoosesItsNetwork(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.addHost("host-2", w.hostDir, 65536)
	w.addNetwork("small", "198.51.100.0/28", "198.51.100.2-198.51.100.3")
	w.addNetwork("gold-1", "203.0.113.0/26", "203.0.113.2-203.0.113.4", "tier=gold")
	w.addNetwork("gold-2", "203.0.113.64/26", "203.0.113.66-203.0.113.69", "tier=gold")
	w.conduct()
	fixed := func(name string) func(*model.Cluster) { return func(c *model.Cluster) { c.FixedNetwork = &name } }
	label := func(value string) func(*model.Cluster) {
		return func(c *model.Cluster) { c.Labels = model.Labels{"node_network": value} }
	}
	for _, c := range []struct {
		name    string
		workers int
		wish    func(*model.Cluster)
		want    string // beginning of all addresses, or part of the reason
	}{
		{"none named", 1, func(*model.Cluster) {}, "192.0.2."},
		{"one of Keelson's", 1, fixed("small"), "198.51.100."},
		{"it is full", 1, fixed("small"), "no free address for node demo-"},
		{"larger than it", 3, fixed("small"), "network small has 2 addresses"},
		{"one of Neutron's", 1, fixed("private"), "192.0.2."},
		{"by label", 2, label("tier=gold"), "203.0.113.6"}, // the larger one
		{"by label again", 2, label("tier=gold"), "203.0.113."},
		{"no such label", 1, label("tier=lead"), `there is no network with the name or label "tier=lead"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, create := w.create("demo", 1, c.workers, c.wish)
			if op := w.ended(create.UUID); op.State != model.OpDone {
				if got := w.reason(cluster.UUID); !strings.Contains(got, c.want) {
					t.Errorf("reason is %q, want %q", got, c.want)
				}
				return
			}
			nodes, err := w.store.Nodes(t.Context(), cluster.UUID)
			w.must(err)
			networks := map[string]bool{}
			for _, n := range nodes[cluster.UUID] {
				networks[*n.Network] = true
				if !strings.HasPrefix(*n.Address, c.want) {
					t.Errorf("node %s has address %s, want %s…", n.Name, *n.Address, c.want)
				}
			}
			if len(networks) != 1 {
				t.Errorf("the cluster is spread over networks %v", networks)
			}
		})
	}
}

// A cluster grows where it is, even when another network is the usual one now.
func TestClusterGrowsInItsNetwork(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.addNetwork("other", "198.51.100.0/24", "198.51.100.10-198.51.100.19")
	stop := w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	stop()
	w.networks[0], w.networks[1] = w.networks[1], w.networks[0]
	w.conduct()
	groups, err := w.store.NodeGroups(t.Context(), cluster.UUID)
	w.must(err)
	grow, err := w.store.ScaleNodeGroup(t.Context(), cluster.UUID, groups[cluster.UUID][1].UUID, 3, nil,
		func(model.Status) bool { return true }, store.NewOperation{})
	w.must(err)
	if op := w.ended(grow.UUID); op.State != model.OpDone {
		t.Fatalf("grow ended %s: %s", op.State, w.reason(cluster.UUID))
	}
	nodes, err := w.store.Nodes(t.Context(), cluster.UUID)
	w.must(err)
	for _, n := range nodes[cluster.UUID] {
		if *n.Network != "net" {
			t.Errorf("node %s is on network %s, want net", n.Name, *n.Network)
		}
	}
}
