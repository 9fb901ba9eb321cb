// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// neutron hands out addresses of net, from 192.0.2.200 on.
type neutron struct {
	mu    sync.Mutex
	held  map[string]netip.Addr // by node
	macs  map[string]string
	next  netip.Addr
	fails int // so many calls
}

func newNeutron() *neutron {
	return &neutron{held: map[string]netip.Addr{}, macs: map[string]string{}, next: netip.MustParseAddr("192.0.2.200")}
}

func (n *neutron) call(f func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fails > 0 {
		n.fails--
		return fault.Temporary(nil, "Networking is not available")
	}
	f()
	return nil
}

func (n *neutron) Serves(network string) bool { return network == "net" }

func (n *neutron) Hold(_ context.Context, _, node, _ string) (address netip.Addr, err error) {
	return address, n.call(func() {
		if !n.held[node].IsValid() {
			n.held[node], n.next = n.next, n.next.Next()
		}
		address = n.held[node]
	})
}

func (n *neutron) SetMAC(_ context.Context, node, mac string) error {
	return n.call(func() { n.macs[node] = mac })
}

func (n *neutron) Free(_ context.Context, node string) error {
	return n.call(func() { delete(n.held, node) })
}

func (n *neutron) Held(context.Context) (nodes []string, err error) {
	return nodes, n.call(func() {
		for node := range n.held {
			nodes = append(nodes, node)
		}
	})
}

func (n *neutron) has(node string) (netip.Addr, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[node], n.macs[node]
}

// Where Neutron has the addresses, a node's is that of its port, which goes with
// the node.
func TestAddressesOfPorts(t *testing.T) {
	r := newRack(t, storetest.New(t), "alpha", "beta")
	r.options.EvacuateAfter = 0
	ports := newNeutron()
	ports.fails = 3
	r.ports = ports
	r.conduct()
	c, create := r.create("demo", 1, 1)
	if op := r.ended(create.UUID); op.State != model.OpDone {
		t.Fatalf("create is %s: %s", op.State, value(op.Reason))
	}
	for _, name := range []string{"demo-master-0", "demo-worker-0"} {
		n := r.node(c.UUID, name)
		if address, mac := ports.has(n.UUID); address.String() != *n.Address || mac != *n.MAC {
			t.Errorf("%s has %s %s, its port %s %s", name, *n.Address, *n.MAC, address, mac)
		}
	}
	// On a dead host the address may be in use.
	worker := r.node(c.UUID, "demo-worker-0")
	dead := r.hostOf(worker)
	r.off(c.UUID, dead)
	remove, err := r.store.DeleteCluster(t.Context(), c.UUID, store.NewOperation{})
	r.must(err)
	r.ended(remove.UUID)
	if held, _ := ports.Held(t.Context()); len(held) != 1 || held[0] != worker.UUID {
		t.Errorf("held: %v, want the port of the lost node", held)
	}
	sweeper := r.sweeper()
	sweeper.Ports, sweeper.Grace = ports, -time.Minute
	stray := uuid.NewString()
	_, err = ports.Hold(t.Context(), "net", stray, "stray")
	r.must(err)
	report, err := sweeper.Sweep(t.Context(), true)
	r.must(err)
	if len(report.Orphans) != 1 || report.Orphans[0].Kind != conductor.OrphanPort || report.Orphans[0].ID != stray || !report.Orphans[0].Removed {
		t.Errorf("orphans: %+v", report.Orphans)
	}
	r.on(dead)
	r.eventually("the port of the lost node is gone", func() bool {
		held, _ := ports.Held(t.Context())
		return len(held) == 0
	})
}
