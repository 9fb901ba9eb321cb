// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// rack is a world with some hosts that can be switched off.
type rack struct {
	*world
	dir string
}

func newRack(t *testing.T, s *store.Store, hosts ...string) *rack {
	t.Helper()
	r := &rack{newHostlessWorld(t, s), t.TempDir()}
	r.options.MachinesEvery, r.options.HealthEvery = 40*time.Millisecond, 40*time.Millisecond
	r.options.LostAfter, r.options.EvacuateAfter = time.Millisecond, 100*time.Millisecond
	for _, name := range hosts {
		r.must(os.Mkdir(filepath.Join(r.dir, name), 0o700))
		r.addHost(name, filepath.Join(r.dir, name), 8192)
	}
	return r
}

func (r *rack) host(name string) *model.Host {
	r.Helper()
	hosts, err := r.store.Hosts(r.Context())
	r.must(err)
	for i := range hosts {
		if hosts[i].Name == name {
			return &hosts[i]
		}
	}
	r.Fatalf("there is no host %s", name)
	return nil
}

// hostOf is the name of the host that the node has its place on.
func (r *rack) hostOf(n *model.Node) string {
	r.Helper()
	h, err := r.store.Host(r.Context(), *n.HostID)
	r.must(err)
	return h.Name
}

// off ends the host and all that runs there; on starts it, with all it had.
func (r *rack) off(cluster, name string) {
	r.Helper()
	h := r.host(name)
	r.must(os.Rename(filepath.Join(r.dir, name), filepath.Join(r.dir, name+"-off")))
	nodes, err := r.store.NodesOn(r.Context(), h.UUID)
	r.must(err)
	for _, n := range nodes[h.UUID] {
		if n.ClusterID == cluster {
			r.coe.Kill(n.UUID)
		}
	}
}

func (r *rack) on(name string) {
	r.Helper()
	r.must(os.Rename(filepath.Join(r.dir, name+"-off"), filepath.Join(r.dir, name)))
}

func (r *rack) left(name string) []lxc.Info {
	r.Helper()
	list, err := simhost.Open(simhost.Scheme + "://" + filepath.Join(r.dir, name)).List(r.Context())
	r.must(err)
	return list
}

// updates are the updates of the cluster so far.
func (r *rack) updates(cluster string) (found []model.Operation) {
	r.Helper()
	ops, err := r.store.Operations(r.Context(), cluster)
	r.must(err)
	for _, op := range ops {
		if op.Kind == model.OpUpdate {
			found = append(found, op)
		}
	}
	return found
}

// The node of a dead host is made anew elsewhere. When the host comes back, what
// it still runs goes before anything else gets there.
func TestNodesOfADeadHostAreReplaced(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newRack(t, s, "alpha", "beta", "gamma")
		r.conduct()
		r.conduct()
		c, create := r.create("demo", 1, 2)
		r.ended(create.UUID)
		old := r.node(c.UUID, "demo-worker-1")
		dead := r.hostOf(old)
		r.off(c.UUID, dead)
		r.eventually("the host is known to be silent", func() bool { return r.host(dead).UnreachableSince != nil })
		if h := r.host(dead); *h.UnreachableReason == "" || h.State != model.HostReady {
			t.Errorf("%+v", h)
		}
		r.eventually("the nodes are replaced", func() bool { return len(r.updates(c.UUID)) > 0 })
		update := r.ended(r.updates(c.UUID)[0].UUID)
		if update.State != model.OpDone || r.cluster(c.UUID).Status != model.UpdateComplete {
			t.Fatalf("the update is %s, the cluster %s: %s", update.State, r.cluster(c.UUID).Status, value(update.Reason))
		}
		fresh := r.node(c.UUID, "demo-worker-2")
		if r.hostOf(fresh) == dead || *fresh.Address == *old.Address || fresh.State != model.NodeReady {
			t.Errorf("instead of %+v there is %+v", old, fresh)
		}
		if got := strings.Join(r.coe.Members(c.UUID), " "); got != "demo-master-0 demo-worker-0 demo-worker-2" {
			t.Errorf("members: %s", got)
		}
		r.health(c.UUID, "HEALTHY")
		lost, err := s.LostNodes(t.Context(), []string{r.host(dead).UUID})
		r.must(err)
		if l := lost[r.host(dead).UUID]; len(l) != 1 || l[0].Address != *old.Address {
			t.Errorf("lost: %+v", l)
		}
		r.on(dead)
		r.eventually("the host takes nodes again", func() bool { return r.host(dead).UnreachableSince == nil })
		if left := r.left(dead); len(left) > 0 {
			t.Errorf("left on the host: %v", left)
		}
		if n := len(r.updates(c.UUID)); n != 1 {
			t.Errorf("%d updates", n)
		}
	})
}

// Nodes stay where they are while the COE says that they work, when the tenant
// wants it so, and when the managers that are left could not take new ones in.
func TestNodesThatAreNotReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		labels   model.Labels
		node     string // whose host is cut off
		works    bool   // by its COE
		health   string
		mentions string // in the health's reasons
	}{
		"only Keelson is cut off": {node: "demo-worker-0", works: true, health: "HEALTHY"},
		"the tenant's wish":       {node: "demo-worker-0", labels: model.Labels{"auto_healing_enabled": "False"}, health: "UNHEALTHY", mentions: "False: its host"},
		"no majority":             {node: "demo-master-0", health: "UNHEALTHY", mentions: "of 1 managers 1 are on hosts that do not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t, storetest.New(t), "alpha", "beta", "gamma")
			r.labels = test.labels
			r.conduct()
			c, create := r.create("demo", 1, 1)
			r.ended(create.UUID)
			r.health(c.UUID, "HEALTHY")
			dead := r.hostOf(r.node(c.UUID, test.node))
			cluster := c.UUID
			if test.works {
				cluster = "" // nothing dies
			}
			r.off(cluster, dead)
			r.eventually("the host is dead", func() bool {
				hosts, err := r.store.DeadHosts(t.Context(), 2*r.options.EvacuateAfter)
				r.must(err)
				return len(hosts) == 1
			})
			r.looks(3)
			reasons := r.health(c.UUID, test.health)
			found := test.mentions == ""
			for _, reason := range reasons {
				found = found || strings.Contains(reason, test.mentions) && strings.Contains(reason, dead)
			}
			if !found {
				t.Errorf("health: %v", reasons)
			}
			if ops := r.updates(c.UUID); len(ops) > 0 {
				t.Errorf("%+v", ops)
			}
			r.on(dead)
			r.eventually("the host is back", func() bool { return r.host(dead).UnreachableSince == nil })
			if len(r.left(dead)) != 1 {
				t.Error("the node is gone")
			}
		})
	}
}

// A delete does not wait for a host that is dead.
func TestDeleteWithNodesOnADeadHost(t *testing.T) {
	r := newRack(t, storetest.New(t), "alpha", "beta")
	r.options.EvacuateAfter = 0
	r.conduct()
	c, create := r.create("demo", 1, 1)
	r.ended(create.UUID)
	dead := r.hostOf(r.node(c.UUID, "demo-worker-0"))
	r.off(c.UUID, dead)
	remove, err := r.store.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
	r.must(err)
	if op := r.ended(remove.UUID); op.State != model.OpDone {
		t.Fatalf("delete is %s", op.State)
	}
	if h := r.host(dead); h.UsedMemoryMiB != 0 || h.UnreachableSince == nil {
		t.Errorf("%+v", h)
	}
	r.on(dead)
	r.eventually("the host takes nodes again", func() bool { return r.host(dead).UnreachableSince == nil })
	if left := r.left(dead); len(left) > 0 {
		t.Errorf("left on the host: %v", left)
	}
}

// A node whose host dies before the node was ever started gets another one, and
// another address.
func TestNodeWhoseFirstHostIsDeadGoesElsewhere(t *testing.T) {
	r := newRack(t, storetest.New(t), "alpha")
	beta := filepath.Join(r.dir, "beta") // the better one, but for being dead
	r.must(os.Mkdir(beta, 0o700))
	r.addHost("beta", beta, 16384)
	r.options.MachinesEvery = time.Minute
	r.conduct()
	r.eventually("beta has answered", func() bool { return r.host("beta").LastSeenAt != nil })
	r.off("", "beta")
	c, create := r.create("demo", 1, 0)
	if op := r.ended(create.UUID); op.State != model.OpDone {
		t.Fatalf("create is %s: %s", op.State, value(op.Reason))
	}
	n := r.node(c.UUID, "demo-master-0")
	if got := r.hostOf(n); got != "alpha" {
		t.Errorf("the node is on %s", got)
	}
	lost, err := r.store.LostNodes(t.Context(), []string{r.host("beta").UUID})
	if left := lost[r.host("beta").UUID]; err != nil || len(left) != 1 || left[0].Address == "" || left[0].Address == *n.Address {
		t.Errorf("the node has address %s; lost is %+v, %v", *n.Address, left, err)
	}
	if h := r.host("beta"); h.UsedMemoryMiB != 0 {
		t.Errorf("%+v", h)
	}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
