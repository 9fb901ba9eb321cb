// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/placement"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/ironic"
)

// Machines hands out bare-metal machines. Every call is one short step that
// may be repeated; errors are temporary unless marked permanent.
type Machines interface {
	// Allocate reserves a free machine for the host of that uuid. It is done
	// when the allocation names a machine; the same host gets the same one at
	// every call. The error is permanent when there is none.
	Allocate(ctx context.Context, host string, wish MachineWish) (ironic.Allocation, ironic.Result, error)

	// Deploy brings the reserved machine up as a host. A permanent error means
	// that this machine will not become one.
	Deploy(ctx context.Context, host *model.Host) (ironic.Result, error)

	// Describe returns what is known of a machine.
	Describe(ctx context.Context, machine string) (*Machine, error)

	// Release gives the host's machine back, wiped. Given back already is done.
	Release(ctx context.Context, host *model.Host) (ironic.Result, error)

	// Returned tells whether the machine is nothing to the host any more: free
	// for others, in their hands, or gone. It changes nothing.
	Returned(ctx context.Context, host *model.Host) (bool, error)

	// TakeOut sees to it that nobody gets the machine until the operator has
	// looked at it. Taken out already is success.
	TakeOut(ctx context.Context, machine, reason string) error
}

// MachineWish is what a machine must be like.
type MachineWish struct {
	ResourceClass string
	Traits        []string
	VCPUs         int // at least, as the others; 0 means any
	MemoryMiB     int
	DiskGiB       int
	Avoid         []string // machines that could not be deployed lately
}

// Machine is one bare-metal machine.
type Machine struct {
	Name          string
	Address       string // empty if not known
	LibvirtURI    string
	VCPUs         int
	MemoryMiB     int
	DiskGiB       int
	ResourceClass string
	Traits        []string
}

// NodeHosts gives access to the hosts that carry nodes, by libvirt URI; users
// read the name in errors.
type NodeHosts interface {
	Host(name, uri string) NodeHost
}

// NodeHost makes and removes nodes on one host. Every call is a step: it looks
// first, may be repeated, and takes done already as success.
type NodeHost interface {
	// Ensure makes the node as specified and starts it. One that is there stays
	// as it was made.
	Ensure(ctx context.Context, spec lxc.Spec) error

	// Rebuild stops the node and starts it with a new root, made from the
	// specification's image and files; what its COE stored, its address and its
	// limits stay. A node that was made from this image and revision already is
	// only started if it does not run, one that is gone is made. An image that
	// is not on the host is a permanent error, and the node runs on.
	Rebuild(ctx context.Context, spec lxc.Spec) error

	// Start starts a node that is there and stands still. One that is not there
	// is a permanent error.
	Start(ctx context.Context, uuid string) error

	// List returns the nodes that the host has anything of, ours alone.
	List(ctx context.Context) ([]lxc.Info, error)

	// Delete stops the node and removes all it had on the host.
	Delete(ctx context.Context, uuid string) error

	// Probe tells whether the host can take nodes: libvirt answers and all that
	// nodes need is in its place.
	Probe(ctx context.Context) error
}

// HostOptions are the settings of a host pool; NewHostPool fills in what is zero.
type HostOptions struct {
	ResourceClass      string   // of hosts for clusters that ask for none
	Traits             []string // that every machine taken from Ironic must have
	Bridge             string   // on every host
	CPURatio           float64  // how often a vCPU may be given away
	RAMRatio           float64
	DiskRatio          float64
	ReservedMemoryMiB  int           // of each host, for the host itself
	MaxHosts           int           // most hosts taken from Ironic; 0: as many as it has
	MinSpare           int           // empty hosts that are kept ready, deployed ahead of need
	DeployAttempts     int           // machines that are tried for one host
	AvoidFailed        time.Duration // how long a machine that could not be deployed is not tried again
	TakeOutFailed      bool          // such machines are put into maintenance in Ironic
	RetryAfter         time.Duration // how long after the last of DeployAttempts no more are made
	ReleaseAfter       time.Duration // how long a host stays empty before it is given back
	DeployTimeout      time.Duration // of one machine
	PrepareTimeout     time.Duration // from deployed to libvirt answering
	Keep               time.Duration // how often the pool looks after itself
	ProgressPollPeriod time.Duration // how soon a host on its way is looked at again
	Now                func() time.Time
}

func (o HostOptions) withDefaults() HostOptions {
	o.ResourceClass = orElse(o.ResourceClass, "baremetal")
	o.Bridge = orElse(o.Bridge, "keelson0")
	o.CPURatio = orElse(o.CPURatio, 4)
	o.RAMRatio = orElse(o.RAMRatio, 1)
	o.DiskRatio = orElse(o.DiskRatio, 1)
	o.ReleaseAfter = orElse(o.ReleaseAfter, 10*time.Minute)
	o.DeployAttempts = orElse(o.DeployAttempts, 3)
	o.AvoidFailed = orElse(o.AvoidFailed, time.Hour)
	o.RetryAfter = orElse(o.RetryAfter, 5*time.Minute)
	o.DeployTimeout = orElse(o.DeployTimeout, time.Hour)
	o.PrepareTimeout = orElse(o.PrepareTimeout, 10*time.Minute)
	o.Keep = orElse(o.Keep, 10*time.Second)
	o.ProgressPollPeriod = orElse(o.ProgressPollPeriod, 250*time.Millisecond)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// HostPool is the bare-metal hosts that all tenants share. It has no memory:
// any number of conductors may run one over the same database.
type HostPool struct {
	store    *store.Store
	machines Machines
	nodes    NodeHosts
	log      *slog.Logger
	opts     HostOptions
	stepping sync.Mutex     // held by the node for whose sake a host is taken a step further
	placing  [64]sync.Mutex // by cluster; see place

	// noSpareUntil puts off the next try when no machine was free to be kept as
	// a spare host; only KeepOnce uses it.
	noSpareUntil time.Time
}

// NewHostPool returns a pool that grows through machines, which may be nil
// when all hosts are registered by the operator.
func NewHostPool(s *store.Store, machines Machines, nodes NodeHosts, log *slog.Logger, o HostOptions) *HostPool {
	return &HostPool{store: s, machines: machines, nodes: nodes, log: log, opts: o.withDefaults()}
}

// candidates is how many hosts a node is tried on before it looks again.
const candidates = 32

// claim gives the node room on a host that its cluster's labels allow. When no
// such host has room it brings one more on its way and asks to be called again.
func (p *HostPool) claim(ctx context.Context, fence store.Fence, node *model.Node, kind hostKind) (*model.Node, drivers.Outcome, error) {
	request := p.request(node, kind)
	placed, tried, err := p.place(ctx, fence, node, request)
	switch {
	case placed != nil || err != nil:
		return placed, drivers.Outcome{}, err
	case tried > 0:
		return nil, drivers.Again(time.Millisecond, "other nodes were quicker, looking for a host again"), nil
	}
	outcome, err := p.grow(ctx, node, request)
	return nil, outcome, err
}

// place gives the node room on one of the hosts, and tells how many had some.
// Nodes of one cluster are placed one after the other, for each must see where
// those before it went; one conductor works on a cluster at a time.
func (p *HostPool) place(ctx context.Context, fence store.Fence, node *model.Node, request placement.Request) (*model.Node, int, error) {
	turn := &p.placing[scattered(node.ClusterID)%len(p.placing)]
	turn.Lock()
	defer turn.Unlock()
	hosts, err := p.choose(ctx, node.ClusterID, request)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range hosts {
		placed, err := p.store.ClaimHost(ctx, fence, node.UUID, id)
		if errors.Is(err, store.ErrNoRoom) {
			continue // another node was quicker
		}
		return placed, len(hosts), err
	}
	return nil, len(hosts), nil
}

// choose returns hosts with room, the best first.
func (p *HostPool) choose(ctx context.Context, cluster string, request placement.Request) ([]string, error) {
	siblings, err := p.store.Siblings(ctx, cluster)
	if err != nil {
		return nil, err
	}
	hosts, err := p.store.HostsWithRoom(ctx, wish(request), slices.Collect(maps.Keys(siblings)), candidates)
	if err != nil {
		return nil, err
	}
	return placement.Choose(placement.Candidates(hosts, siblings), request), nil
}

// wish is the request in the store's words.
func wish(r placement.Request) store.HostWish {
	return store.HostWish{
		VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB,
		ResourceClass: r.ResourceClass, OrNoClass: r.OrNoClass, Traits: r.Traits,
	}
}

// step takes a host one step further on its way in or out. Conductors may step
// the same host at once: each step looks first, and state changes name the
// state that they change.
func (p *HostPool) step(ctx context.Context, h *model.Host) (drivers.Outcome, error) {
	switch h.State {
	case model.HostEnrolled:
		wish, err := p.machineWish(ctx, h)
		if err != nil {
			return drivers.Outcome{}, err
		}
		allocation, result, err := p.machines.Allocate(ctx, h.UUID, wish)
		switch {
		case fault.IsPermanent(err):
			if n := len(wish.Avoid); n > 0 {
				err = fault.Permanent(err, "%s (machines that are left alone because they could not be deployed lately: %d)", fault.Reason(err, "no machine can be had"), n)
			}
			// Nothing was taken, so nothing is left of the host.
			return drivers.Outcome{}, errors.Join(err, p.store.RemoveHost(ctx, h.UUID, model.HostEnrolled))
		case err != nil:
			return drivers.Outcome{}, err
		}
		if _, err := p.store.Host(ctx, h.UUID); errors.Is(err, store.ErrNotFound) {
			// Deployed, given up and gone by other hands in the meantime.
			_, err := p.machines.Release(ctx, &model.Host{UUID: h.UUID})
			return drivers.Again(p.opts.ProgressPollPeriod, "host "+h.Name+" is gone"), err
		} else if err != nil {
			return drivers.Outcome{}, err
		}
		if !result.Done {
			return drivers.Again(result.After, result.Message), nil
		}
		reserved := map[string]any{"allocation_id": allocation.ID, "ironic_node_id": allocation.NodeID}
		if err := p.move(ctx, h, model.HostDeploying, reserved); err != nil {
			return drivers.Outcome{}, err
		}
		return drivers.Again(time.Millisecond, "bare-metal machine "+allocation.NodeID+" is reserved"), nil

	case model.HostDeploying:
		result, err := p.machines.Deploy(ctx, h)
		switch {
		case fault.IsPermanent(err):
			return p.giveUp(ctx, h, err)
		case err != nil:
			return drivers.Outcome{}, err
		case !result.Done && h.UpdatedAt != nil && p.opts.Now().Sub(*h.UpdatedAt) > p.opts.DeployTimeout:
			// Ironic may lose a machine half way, and does not notice then.
			late := fmt.Errorf("deployment did not end within %s, the last that was seen: %s", p.opts.DeployTimeout, result.Message)
			return p.giveUp(ctx, h, fault.Permanent(late, "a bare-metal host took too long to deploy"))
		case !result.Done:
			return drivers.Again(result.After, fmt.Sprintf("host %s: %s", h.Name, result.Message)), nil
		}
		m, err := p.machines.Describe(ctx, deref(h.IronicNodeID))
		if fault.IsPermanent(err) {
			return p.giveUp(ctx, h, err)
		}
		if err != nil {
			return drivers.Outcome{}, err
		}
		change := map[string]any{"libvirt_uri": m.LibvirtURI}
		if m.Address != "" {
			change["address"] = m.Address
		}
		if err := p.move(ctx, h, model.HostPreparing, change); err != nil {
			return drivers.Outcome{}, err
		}
		return drivers.Again(time.Millisecond, fmt.Sprintf("host %s is deployed", h.Name)), nil

	case model.HostPreparing:
		if err := p.nodes.Host(h.Name, deref(h.LibvirtURI)).Probe(ctx); err != nil {
			if h.IronicNodeID == nil { // the operator's machine: wait for the operator
				return drivers.Outcome{}, fmt.Errorf("host %s can not take nodes yet: %w", h.Name, err)
			}
			if h.UpdatedAt != nil && p.opts.Now().Sub(*h.UpdatedAt) < p.opts.PrepareTimeout && !fault.IsPermanent(err) {
				return drivers.Again(p.opts.ProgressPollPeriod, fmt.Sprintf("host %s is not ready yet: %s", h.Name, fault.Reason(err, "libvirt does not answer"))), nil
			}
			return p.giveUp(ctx, h, fault.Permanent(err, "host %s was deployed but can not take nodes: %s", h.Name, fault.Reason(err, "libvirt does not answer")))
		}
		change := map[string]any{"empty_since": p.opts.Now().UTC(), "reason": nil}
		if h.IronicNodeID != nil {
			m, err := p.machines.Describe(ctx, *h.IronicNodeID)
			if fault.IsPermanent(err) {
				return p.giveUp(ctx, h, err)
			}
			if err != nil {
				return drivers.Outcome{}, err
			}
			// So far these columns told what was wished for.
			room := p.roomOf(m)
			change["total_vcpus"], change["total_memory_mib"], change["total_disk_gib"] = room.VCPUs, room.MemoryMiB, room.DiskGiB
			change["resource_class"] = m.ResourceClass
			change["traits"] = slices.Sorted(slices.Values(m.Traits))
			if err := p.store.ForgiveMachine(ctx, *h.IronicNodeID); err != nil {
				return drivers.Outcome{}, err
			}
		}
		if err := p.move(ctx, h, model.HostReady, change); err != nil {
			return drivers.Outcome{}, err
		}
		return drivers.Again(time.Millisecond, fmt.Sprintf("host %s is ready", h.Name)), nil

	case model.HostReleasing:
		if h.IronicNodeID == nil {
			return drivers.Done("released"), p.store.RemoveHost(ctx, h.UUID, h.State)
		}
		result, err := p.machines.Release(ctx, h)
		switch {
		case fault.IsPermanent(err):
			p.log.Error("host can not be given back", "host", h.Name, "machine", *h.IronicNodeID, "error", err)
			return drivers.Done("can not be given back"), p.move(ctx, h, model.HostError, map[string]any{"reason": err.Error()})
		case err != nil || !result.Done:
			return drivers.Again(result.After, result.Message), err
		}
		return drivers.Done("released"), p.gone(ctx, h)

	case model.HostError:
		return p.lookAgain(ctx, h)
	}
	return drivers.Done("host is " + string(h.State)), nil
}

// gone forgets a host whose machine was given back. A machine that had failed
// is first taken out, if the operator wants that; had it been in maintenance
// earlier, Ironic would not have cleaned it.
func (p *HostPool) gone(ctx context.Context, h *model.Host) error {
	if p.opts.TakeOutFailed {
		avoid, err := p.store.AvoidedMachines(ctx, p.opts.Now())
		if err != nil {
			return err
		}
		for _, m := range avoid {
			if m.IronicNodeID != *h.IronicNodeID {
				continue
			}
			if err := p.machines.TakeOut(ctx, m.IronicNodeID, "Keelson: "+m.Reason); err != nil {
				return err
			}
		}
	}
	return p.store.RemoveHost(ctx, h.UUID, h.State)
}

// lookAgain looks whether a host is in error for no reason any more. It takes
// nothing from it: what else becomes of the host is for people to say.
func (p *HostPool) lookAgain(ctx context.Context, h *model.Host) (drivers.Outcome, error) {
	switch {
	case h.IronicNodeID != nil:
		returned, err := p.machines.Returned(ctx, h)
		if err != nil || !returned {
			return drivers.Done("in error"), err
		}
	case !p.gaveUp(h) || p.opts.Now().Sub(*h.UpdatedAt) < p.opts.RetryAfter:
		return drivers.Done("in error"), nil
	}
	p.log.Info("host in error is forgotten", "host", h.Name, "reason", deref(h.Reason))
	err := p.store.RemoveHost(ctx, h.UUID, h.State)
	if errors.Is(err, store.ErrInUse) {
		err = nil // its nodes come first
	}
	return drivers.Done("gone"), err
}

// move changes the host's state, unless another conductor did so first.
func (p *HostPool) move(ctx context.Context, h *model.Host, to model.HostState, change map[string]any) error {
	change["state"] = to
	moved, err := p.store.UpdateHost(ctx, h.UUID, []model.HostState{h.State}, change)
	if err != nil {
		return fmt.Errorf("noting that host %s is %s: %w", h.Name, to, err)
	}
	if moved {
		p.log.InfoContext(ctx, "host changed state", "host", h.Name, "from", h.State, "to", to)
	}
	return nil
}

// keep looks after the pool until ctx ends: it carries on with hosts on their
// way that nobody waits for any more, keeps spare hosts, and gives back hosts
// that stay empty.
func (p *HostPool) keep(ctx context.Context) error {
	for {
		if err := p.KeepOnce(ctx); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "looking after the host pool", "error", err)
		}
		if sleep(ctx, jitter(p.opts.Keep)) != nil {
			return nil
		}
	}
}

// KeepOnce is one round of keep.
func (p *HostPool) KeepOnce(ctx context.Context) error {
	hosts, err := p.store.Hosts(ctx)
	if err != nil {
		return err
	}
	all := p.keepSpare(ctx, hosts)
	empty := 0
	for _, h := range hosts {
		if p.isSpare(&h) {
			empty++
		}
	}
	for _, h := range hosts {
		var err error
		switch h.State {
		case model.HostReady:
			if h.IronicNodeID == nil || h.EmptySince == nil || p.opts.Now().Sub(*h.EmptySince) < p.opts.ReleaseAfter {
				continue
			}
			if p.isSpare(&h) {
				if empty <= p.opts.MinSpare {
					continue
				}
				empty--
			}
			// Draining takes no new nodes, so a node placed meanwhile is seen next time.
			err = p.move(ctx, &h, model.HostDraining, map[string]any{})
		case model.HostDraining:
			if !p.leaving(&h) {
				continue // by the operator's wish
			}
			to := model.HostReleasing
			if h.UsedMemoryMiB > 0 {
				to = model.HostReady
			}
			err = p.move(ctx, &h, to, map[string]any{})
		case model.HostEnrolled, model.HostDeploying, model.HostPreparing, model.HostReleasing, model.HostError:
			if p.machines == nil && (h.State != model.HostPreparing || h.IronicNodeID != nil) {
				continue
			}
			// The step goes by the host as it is now: on the way through a long
			// list it may have come far.
			var now *model.Host
			if now, err = p.store.Host(ctx, h.UUID); errors.Is(err, store.ErrNotFound) || err == nil && now.State != h.State {
				continue
			}
			if err == nil {
				_, err = p.step(ctx, now)
			}
			if fault.IsPermanent(err) {
				// Said and done: nobody waits here for the host.
				p.log.Info("host will not be ready", "host", h.Name, "error", err)
				if h.State == model.HostEnrolled && unsized(&h) {
					p.noSpareUntil = p.opts.Now().Add(p.opts.RetryAfter)
				}
				err = nil
			}
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("host %s: %w", h.Name, err))
		}
	}
	return all
}
