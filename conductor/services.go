// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// idRange is how many user and group ids every node has to itself, and the
// distance between the ranges of two nodes.
const idRange = 1 << 16

// firstID is where the first node's range begins on every host, well above
// the ids of a host's own users and of their subordinate ranges.
const firstID = 1 << 24

// maxDriverState is how much a driver may keep for a cluster.
const maxDriverState = 64 << 10

// services is what Keelson does for drivers, bound to one operation and its
// cluster.
type services struct {
	*runner
	cluster *model.Cluster
	groups  []model.NodeGroup

	mu    sync.Mutex
	nodes []model.Node // as they were when the driver was called, see node
}

var (
	_ drivers.Nodes   = (*services)(nil)
	_ drivers.Records = (*services)(nil)
)

// fenced turns the store's error into the contract's.
func fenced(err error) error {
	if errors.Is(err, store.ErrSuperseded) {
		return drivers.ErrSuperseded
	}
	return err
}

// node returns the node as it was when the driver was called, to the first who
// asks: whoever changes it is the one. After that it is read again.
func (s *services) node(ctx context.Context, id string) (*model.Node, error) {
	s.mu.Lock()
	nodes := s.nodes
	s.nodes = nil
	s.mu.Unlock()
	if nodes == nil {
		read, err := s.Store.Nodes(ctx, s.cluster.UUID)
		if err != nil {
			return nil, fmt.Errorf("reading nodes: %w", err)
		}
		nodes = read[s.cluster.UUID]
	}
	for _, n := range nodes {
		if n.UUID == id {
			return &n, nil
		}
	}
	return nil, store.ErrNotFound
}

// Place implements drivers.Nodes.
func (s *services) Place(ctx context.Context, nodeID string) (drivers.Outcome, error) {
	node, err := s.node(ctx, nodeID)
	if err != nil {
		return drivers.Outcome{}, err
	}
	// The address comes first: it is quick and cheap to give back, a host
	// deployed for a node that can have no address is not.
	if node.HostID == nil {
		if node, err = s.address(ctx, node); err != nil {
			return drivers.Outcome{}, err
		}
	}
	if node.HostID == nil {
		placed, outcome, err := s.Hosts.claim(ctx, s.fence, node, s.hostKind(node))
		if placed == nil || err != nil {
			return outcome, fenced(err)
		}
		node = placed
	}
	host, err := s.Store.Host(ctx, *node.HostID)
	if err != nil {
		return drivers.Outcome{}, fmt.Errorf("reading the host of node %s: %w", node.Name, err)
	}
	return drivers.Done(fmt.Sprintf("on host %s with address %s", host.Name, *node.Address)), nil
}

// address gives the node an address, its network's own or that of a port.
func (s *services) address(ctx context.Context, node *model.Node) (*model.Node, error) {
	network, err := s.networkOf(node)
	if err != nil {
		return nil, err
	}
	free := network.All(scattered(node.UUID))
	ported := s.ported(network.Name())
	if ported && node.Address == nil {
		address, err := s.Ports.Hold(ctx, network.Name(), node.UUID, node.Name)
		if err != nil {
			return nil, err
		}
		if !network.Prefix().Contains(address) {
			return nil, fault.Permanent(nil, "Networking gave node %s the address %s, which is not in %s: the operator must correct network %s", node.Name, address, network.Prefix(), network.Name())
		}
		free = slices.Values([]netip.Addr{address})
	}
	if node.Address == nil {
		addressed, err := s.Store.ClaimAddress(ctx, s.fence, node.UUID, network.Name(), free)
		if errors.Is(err, store.ErrNoAddress) {
			return nil, fault.Permanent(err, "no free address for node %s in network %s: delete unused clusters or ask the operator to widen the network", node.Name, network.Name())
		}
		if err != nil {
			return nil, fenced(err)
		}
		node = addressed
	}
	if ported {
		return node, s.Ports.SetMAC(ctx, node.UUID, deref(node.MAC))
	}
	return node, nil
}

// scattered makes a number of an id. Those who look for an address at the
// same time begin at different ones by it.
func scattered(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return int(h.Sum32())
}

// hostKind is which hosts the labels of the node's group and cluster allow.
func (s *services) hostKind(node *model.Node) hostKind {
	for _, g := range s.groups {
		if g.UUID == node.NodeGroupID {
			return kindOf(g.Labels, s.cluster.Labels)
		}
	}
	return kindOf(s.cluster.Labels)
}

// Start implements drivers.Nodes.
func (s *services) Start(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return s.build(ctx, nodeID, files, "started", NodeHost.Ensure)
}

// Rebuild implements drivers.Nodes.
func (s *services) Rebuild(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return s.build(ctx, nodeID, files, "rebuilt", NodeHost.Rebuild)
}

// build has the node's host make the node, and notes what it was made from.
func (s *services) build(ctx context.Context, nodeID string, files []drivers.File, done string, make func(NodeHost, context.Context, lxc.Spec) error) (drivers.Outcome, error) {
	node, err := s.node(ctx, nodeID)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if node.HostID == nil && node.Address != nil { // its first host was lost
		return s.placeAgain(ctx, node)
	}
	if node.HostID == nil || node.Slot == nil || node.Address == nil || node.MAC == nil {
		return drivers.Outcome{}, fault.Permanent(errors.New("node has no place"), "node %s was to be %s before it was placed", node.Name, done)
	}
	host, err := s.Store.Host(ctx, *node.HostID)
	if err != nil {
		return drivers.Outcome{}, fmt.Errorf("reading the host of node %s: %w", node.Name, err)
	}
	// A node with a port keeps it, and so its address, which may be in use on
	// the host: it waits.
	if host.UnreachableSince != nil && node.State == model.NodePlaced && !s.ported(deref(node.Network)) {
		network, err := s.networkOf(node)
		if err != nil {
			return drivers.Outcome{}, err
		}
		err = s.Store.MoveLostNode(ctx, s.fence, nodeID, network.Name(), network.All(scattered(node.UUID)), s.opts.LostAfter)
		if !errors.Is(err, store.ErrReachable) {
			return drivers.Again(time.Millisecond, "host "+host.Name+" does not answer, the node goes elsewhere"), fenced(err)
		}
	}
	spec, err := s.spec(node, host, files)
	if err != nil {
		return drivers.Outcome{}, err
	}
	end, ok := s.starts.begin(host.UUID)
	if !ok {
		return drivers.Again(startPause, "waiting for other nodes that are being made on host "+host.Name), nil
	}
	defer end()
	err = make(s.machine(host), ctx, spec)
	s.countStart(ctx, host, err)
	if err != nil {
		s.suspect(ctx, host, err)
		return drivers.Outcome{}, onNode(err, node, host)
	}
	if err := s.Store.NodeBuilt(ctx, s.fence, nodeID, spec.Revision); err != nil {
		return drivers.Outcome{}, fenced(err)
	}
	return drivers.Done(done + " on host " + host.Name), nil
}

// placeAgain finds another host for a node that was made for one that is lost.
func (s *services) placeAgain(ctx context.Context, node *model.Node) (drivers.Outcome, error) {
	outcome, err := s.Place(ctx, node.UUID)
	if err != nil || outcome.After > 0 {
		return outcome, err
	}
	return drivers.Again(time.Millisecond, outcome.Message), nil
}

// suspect has a host looked at that has failed to do something: it may be dead.
func (s *services) suspect(ctx context.Context, host *model.Host, err error) {
	if fault.IsPermanent(err) || host.UnreachableSince != nil || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	if err := s.Store.LookAtHost(ctx, host.UUID); err != nil {
		s.log.Warn("could not have a host looked at", "host", host.Name, "error", err)
	}
}

// countStart notes how a node's start went, for placement to avoid hosts on which
// nothing starts.
func (s *services) countStart(ctx context.Context, host *model.Host, err error) {
	if err == nil && host.Failures == 0 || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	// A start that took all the time there was is one that failed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	if err := s.Store.NodeStarted(ctx, host.UUID, err == nil); err != nil {
		s.log.Warn("could not count how nodes start on a host", "host", host.Name, "error", err)
	}
}

func (s *services) spec(node *model.Node, host *model.Host, files []drivers.File) (lxc.Spec, error) {
	address, err := netip.ParseAddr(*node.Address)
	if err != nil {
		return lxc.Spec{}, fmt.Errorf("address of node %s: %w", node.Name, err)
	}
	network, err := s.networkOf(node)
	if err != nil {
		return lxc.Spec{}, err
	}
	spec := lxc.Spec{
		UUID: node.UUID, Name: node.Name, Image: node.Image, Revision: node.RootRevision(s.cluster),
		VCPUs: node.VCPUs, MemoryMiB: node.MemoryMiB, DiskGiB: node.DiskGiB,
		Cluster: s.cluster.UUID, Limits: s.Limits,
		IDBase: uint32(firstID + *node.Slot*idRange),
		Bridge: host.Bridge, MAC: *node.MAC,
		Address: netip.PrefixFrom(address, network.Prefix().Bits()), Gateway: network.Gateway(),
		Nameservers: s.Nameservers,
	}
	for _, f := range files {
		spec.Files = append(spec.Files, lxc.File{Path: f.Path, Mode: f.Mode, Content: f.Content})
	}
	return spec, nil
}

func (s *services) machine(host *model.Host) NodeHost {
	return s.Nodes.Host(host.Name, deref(host.LibvirtURI))
}

// onNode says which node and host an error of libvirt is about.
func onNode(err error, node *model.Node, host *model.Host) error {
	reason := fault.Reason(err, "the host reported an error that the operator finds in the log")
	if fault.IsPermanent(err) {
		return fault.Permanent(err, "node %s on host %s: %s", node.Name, host.Name, reason)
	}
	return fault.Temporary(err, "node %s on host %s: %s", node.Name, host.Name, reason)
}

// Delete implements drivers.Nodes.
func (s *services) Delete(ctx context.Context, nodeID string) (drivers.Outcome, error) {
	node, err := s.node(ctx, nodeID)
	if errors.Is(err, store.ErrNotFound) {
		return drivers.Done("gone"), nil
	}
	if err != nil {
		return drivers.Outcome{}, err
	}
	if node.HostID != nil {
		host, err := s.Store.Host(ctx, *node.HostID)
		if err != nil {
			return drivers.Outcome{}, fmt.Errorf("reading the host of node %s: %w", node.Name, err)
		}
		if host.UnreachableSince != nil {
			err := s.Store.RemoveLostNode(ctx, s.fence, nodeID, s.opts.LostAfter)
			if !errors.Is(err, store.ErrReachable) {
				return drivers.Done("removed from the records; what is left on host " + host.Name + ", which does not answer, goes when it does"), fenced(err)
			}
		}
		if err := s.machine(host).Delete(ctx, nodeID); err != nil {
			s.suspect(ctx, host, err)
			return drivers.Outcome{}, onNode(err, node, host)
		}
	}
	if s.ported(deref(node.Network)) {
		if err := s.Ports.Free(ctx, nodeID); err != nil {
			return drivers.Outcome{}, err
		}
	}
	if err := s.Store.RemoveNode(ctx, s.fence, nodeID); err != nil {
		return drivers.Outcome{}, fenced(err)
	}
	return drivers.Done("deleted"), nil
}

// Joined implements drivers.Records.
func (s *services) Joined(ctx context.Context, nodeID, coeID string) error {
	return fenced(s.Store.NodeState(ctx, s.fence, nodeID, model.NodeReady, &coeID))
}

// Observed implements drivers.Records.
func (s *services) Observed(ctx context.Context, o drivers.Observed) error {
	return fenced(s.Store.ObserveCluster(ctx, s.fence, o.StackID, o.APIAddress, o.COEVersion, o.ContainerVersion))
}

// SaveState implements drivers.Records.
func (s *services) SaveState(ctx context.Context, state []byte) error {
	if len(state) > maxDriverState {
		return fault.Permanent(nil, "the driver keeps %d bytes of state, more than %d", len(state), maxDriverState)
	}
	sealed := s.Sealer.Seal(state, model.DriverStateContext, s.cluster.UUID)
	return fenced(s.Store.SaveDriverState(ctx, s.fence, sealed))
}
