// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"net/netip"
	"strings"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/ipam"
	"github.com/keelson/keelson/internal/model"
)

// Ports are addresses that another service hands out, for some of the networks:
// Neutron's ports. Every call may be repeated; errors are temporary unless marked
// permanent.
type Ports interface {
	// Serves tells whether nodes of that network have ports.
	Serves(network string) bool

	// Hold makes the node's port and returns its address, which is the node's
	// until Free.
	Hold(ctx context.Context, network, node, name string) (netip.Addr, error)

	// SetMAC tells the MAC address of the node's port.
	SetMAC(ctx context.Context, node, mac string) error

	// Free removes the node's port, if it has one.
	Free(ctx context.Context, node string) error

	// Held lists the uuids of the nodes that have a port.
	Held(ctx context.Context) ([]string, error)
}

// ported tells whether nodes of that network have ports.
func (c *Conductor) ported(network string) bool { return c.Ports != nil && c.Ports.Serves(network) }

// labelNetwork is the label of clusters that names the network of their nodes,
// or a label of networks that will do.
const labelNetwork = "node_network"

// network is where new nodes of the cluster get their addresses from: where its
// nodes are already, else what its label node_network asks for, else the network
// that fixed_network names, else the usual one. Of several with the same label
// it is the one with most addresses free.
//
// A fixed_network that is none of Keelson's networks has no effect: in clouds
// with Neutron it names one of Neutron's.
func (r *runner) network(ctx context.Context, cluster *model.Cluster, nodes []model.Node) (*ipam.Pool, error) {
	for _, n := range nodes {
		if p, ok := r.Networks.Named(deref(n.Network)); ok {
			return p, nil
		}
	}
	wish := strings.TrimSpace(cluster.Labels[labelNetwork])
	if _, ours := r.Networks.Named(deref(cluster.FixedNetwork)); wish == "" && ours {
		wish = *cluster.FixedNetwork
	}
	matching, err := r.Networks.Matching(wish)
	if err != nil {
		return nil, fault.Permanent(err, "no network for the nodes: %v; choose one that the operator offers with the label %s", err, labelNetwork)
	}
	if len(matching) == 1 {
		return matching[0], nil
	}
	held, err := r.Store.AddressesHeld(ctx)
	if err != nil {
		return nil, err
	}
	best := matching[0]
	for _, p := range matching[1:] {
		if p.Size()-held[p.Name()] > best.Size()-held[best.Name()] {
			best = p
		}
	}
	return best, nil
}

// networkOf is the network that was chosen for the node when it was wanted;
// nodes that were wanted before there was a choice are on the usual one.
func (r *runner) networkOf(n *model.Node) (*ipam.Pool, error) {
	if n.Network == nil && len(r.Networks) > 0 {
		return r.Networks[0], nil
	}
	p, ok := r.Networks.Named(deref(n.Network))
	if !ok {
		return nil, fault.Permanent(nil, "network %s of node %s is not configured any more: the operator must bring it back", deref(n.Network), n.Name)
	}
	return p, nil
}
