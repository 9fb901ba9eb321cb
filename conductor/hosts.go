// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

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
	// every call.
	Allocate(ctx context.Context, host string) (ironic.Allocation, ironic.Result, error)

	// Deploy brings the reserved machine up as a host.
	Deploy(ctx context.Context, host *model.Host) (ironic.Result, error)

	// Describe returns what is known of a machine.
	Describe(ctx context.Context, machine string) (*Machine, error)

	// Release gives the host's machine back, wiped. Given back already is done.
	Release(ctx context.Context, host *model.Host) (ironic.Result, error)
}

// Machine is one bare-metal machine.
type Machine struct {
	Name       string
	Address    string // empty if not known
	LibvirtURI string
	VCPUs      int
	MemoryMiB  int
	DiskGiB    int
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

	// Delete stops the node and removes all it had on the host.
	Delete(ctx context.Context, uuid string) error

	// Probe tells whether the host can take nodes: libvirt answers and all that
	// nodes need is in its place.
	Probe(ctx context.Context) error
}

// HostOptions are the settings of a host pool; NewHostPool fills in what is zero.
type HostOptions struct {
	Bridge             string  // on every host
	CPURatio           float64 // how often a vCPU may be given away
	RAMRatio           float64
	DiskRatio          float64
	ReservedMemoryMiB  int           // of each host, for the host itself
	MaxHosts           int           // most hosts taken from Ironic; 0: as many as it has
	MinSpare           int           // empty hosts that are kept
	ReleaseAfter       time.Duration // how long a host stays empty before it is given back
	PrepareTimeout     time.Duration // from deployed to libvirt answering
	Keep               time.Duration // how often the pool looks after itself
	ProgressPollPeriod time.Duration // how soon a host on its way is looked at again
	Now                func() time.Time
}

func (o HostOptions) withDefaults() HostOptions {
	o.Bridge = orElse(o.Bridge, "keelson0")
	o.CPURatio = orElse(o.CPURatio, 4)
	o.RAMRatio = orElse(o.RAMRatio, 1)
	o.DiskRatio = orElse(o.DiskRatio, 1)
	o.ReleaseAfter = orElse(o.ReleaseAfter, 10*time.Minute)
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
	stepping sync.Mutex // held by the node for whose sake a host is taken a step further
}

// NewHostPool returns a pool that grows through machines, which may be nil
// when all hosts are registered by the operator.
func NewHostPool(s *store.Store, machines Machines, nodes NodeHosts, log *slog.Logger, o HostOptions) *HostPool {
	return &HostPool{store: s, machines: machines, nodes: nodes, log: log, opts: o.withDefaults()}
}

// errNoHost is the cause when nothing can be done about missing room.
var errNoHost = errors.New("no host has room")

// claim gives the node room on a host. When no host has room it brings one
// more on its way and asks to be called again.
func (p *HostPool) claim(ctx context.Context, fence store.Fence, node *model.Node) (*model.Node, drivers.Outcome, error) {
	hosts, err := p.store.Hosts(ctx)
	if err != nil {
		return nil, drivers.Outcome{}, fmt.Errorf("listing hosts: %w", err)
	}
	nodes, err := p.store.Nodes(ctx, node.ClusterID)
	if err != nil {
		return nil, drivers.Outcome{}, fmt.Errorf("reading nodes: %w", err)
	}
	candidates := placement.Candidates(hosts, nodes[node.ClusterID])
	request := placement.Request{Room: placement.Room{VCPUs: node.VCPUs, MemoryMiB: node.MemoryMiB, DiskGiB: node.DiskGiB}}
	for _, id := range placement.Choose(candidates, request) {
		placed, err := p.store.ClaimHost(ctx, fence, node.UUID, id)
		if errors.Is(err, store.ErrNoRoom) {
			continue // another node was quicker
		}
		return placed, drivers.Outcome{}, err
	}
	outcome, err := p.grow(ctx, hosts, node)
	return nil, outcome, err
}

// grow brings one more host on its way, unless one already is.
func (p *HostPool) grow(ctx context.Context, hosts []model.Host, node *model.Node) (drivers.Outcome, error) {
	taken, full := 0, 0
	var coming *model.Host
	for _, h := range hosts {
		onItsWay := h.State == model.HostEnrolled || h.State == model.HostDeploying ||
			h.State == model.HostPreparing && h.IronicNodeID != nil
		if onItsWay {
			coming = &h
		} else {
			full++
		}
		if h.IronicNodeID != nil {
			taken++
		}
	}
	noRoom := func(cause error, why string) error {
		return fault.Permanent(cause, "no capacity: no host (of %d) has room for node %s (%d vCPU, %d MiB memory, %d GiB disk), and %s; "+
			"use a smaller flavor, delete unused clusters, or ask the operator for more hosts", full, node.Name, node.VCPUs, node.MemoryMiB, node.DiskGiB, why)
	}
	switch {
	case coming != nil:
		return p.hasten(ctx, coming, noRoom)
	case p.machines == nil:
		return drivers.Outcome{}, noRoom(errNoHost, "no more can be had")
	case p.opts.MaxHosts > 0 && taken >= p.opts.MaxHosts:
		return drivers.Outcome{}, noRoom(errNoHost, "the pool may not grow further")
	}
	// The name decides a race between conductors: one of them adds the host.
	host := &model.Host{UUID: uuid.NewString(), Name: p.freeName(hosts), State: model.HostEnrolled, Bridge: p.opts.Bridge}
	if err := p.store.AddHost(ctx, host); err != nil {
		if errors.Is(err, store.ErrExists) {
			return drivers.Again(p.opts.ProgressPollPeriod, "waiting for a new host"), nil
		}
		return drivers.Outcome{}, fmt.Errorf("adding a host: %w", err)
	}
	p.log.Info("host wanted", "host", host.Name, "for_node", node.Name)
	return p.hasten(ctx, host, noRoom)
}

// hasten takes the host that a node waits for a step further. Of several nodes
// that wait for it in this process, one does the work.
func (p *HostPool) hasten(ctx context.Context, h *model.Host, noRoom func(error, string) error) (drivers.Outcome, error) {
	if !p.stepping.TryLock() {
		return drivers.Again(p.opts.ProgressPollPeriod, "waiting for host "+h.Name), nil
	}
	defer p.stepping.Unlock()
	outcome, err := p.step(ctx, h)
	if h.State == model.HostEnrolled && fault.IsPermanent(err) {
		return outcome, noRoom(err, fault.Reason(err, "no more can be had"))
	}
	return outcome, err
}

func (p *HostPool) freeName(hosts []model.Host) string {
	names := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		names[h.Name] = true
	}
	for i := 1; ; i++ {
		if name := fmt.Sprintf("host-%d", i); !names[name] {
			return name
		}
	}
}

// step takes a host one step further on its way in or out. Conductors may step
// the same host at once: each step looks first, and state changes name the
// state that they change.
func (p *HostPool) step(ctx context.Context, h *model.Host) (drivers.Outcome, error) {
	switch h.State {
	case model.HostEnrolled:
		allocation, result, err := p.machines.Allocate(ctx, h.UUID)
		switch {
		case fault.IsPermanent(err):
			// Nothing was taken, so nothing is left of the host.
			return drivers.Outcome{}, errors.Join(err, p.store.RemoveHost(ctx, h.UUID))
		case err != nil:
			return drivers.Outcome{}, err
		case !result.Done:
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
			reason := fault.Reason(err, "deploying failed")
			return drivers.Outcome{}, errors.Join(err, p.move(ctx, h, model.HostReleasing, map[string]any{"reason": reason}))
		case err != nil:
			return drivers.Outcome{}, err
		case !result.Done:
			return drivers.Again(result.After, fmt.Sprintf("host %s: %s", h.Name, result.Message)), nil
		}
		m, err := p.machines.Describe(ctx, deref(h.IronicNodeID))
		if err != nil {
			return drivers.Outcome{}, err
		}
		change := map[string]any{
			"libvirt_uri":      m.LibvirtURI,
			"total_vcpus":      int(float64(m.VCPUs) * p.opts.CPURatio),
			"total_memory_mib": int(float64(m.MemoryMiB-p.opts.ReservedMemoryMiB) * p.opts.RAMRatio),
			"total_disk_gib":   int(float64(m.DiskGiB) * p.opts.DiskRatio),
		}
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
			reason := fault.Reason(err, "libvirt does not answer")
			failed := fault.Permanent(err, "host %s was deployed but can not take nodes: %s", h.Name, reason)
			return drivers.Outcome{}, errors.Join(failed, p.move(ctx, h, model.HostReleasing, map[string]any{"reason": reason}))
		}
		if err := p.move(ctx, h, model.HostReady, map[string]any{"empty_since": p.opts.Now().UTC(), "reason": nil}); err != nil {
			return drivers.Outcome{}, err
		}
		return drivers.Again(time.Millisecond, fmt.Sprintf("host %s is ready", h.Name)), nil

	case model.HostReleasing:
		if h.IronicNodeID != nil {
			result, err := p.machines.Release(ctx, h)
			if err != nil || !result.Done {
				return drivers.Again(result.After, result.Message), err
			}
		}
		return drivers.Done("released"), p.store.RemoveHost(ctx, h.UUID)
	}
	return drivers.Done("host is " + string(h.State)), nil
}

// move changes the host's state, unless another conductor did so first.
func (p *HostPool) move(ctx context.Context, h *model.Host, to model.HostState, change map[string]any) error {
	change["state"] = to
	moved, err := p.store.UpdateHost(ctx, h.UUID, []model.HostState{h.State}, change)
	if err != nil {
		return fmt.Errorf("noting that host %s is %s: %w", h.Name, to, err)
	}
	if moved {
		p.log.Info("host changed state", "host", h.Name, "from", h.State, "to", to)
	}
	return nil
}

// keep looks after the pool until ctx ends: it carries on with hosts on their
// way that nobody waits for any more, and gives back hosts that stay empty.
func (p *HostPool) keep(ctx context.Context) error {
	for sleep(ctx, jitter(p.opts.Keep)) == nil {
		if err := p.KeepOnce(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("looking after the host pool", "error", err)
		}
	}
	return nil
}

// KeepOnce is one round of keep.
func (p *HostPool) KeepOnce(ctx context.Context) error {
	hosts, err := p.store.Hosts(ctx)
	if err != nil {
		return fmt.Errorf("listing hosts: %w", err)
	}
	var all error
	empty := 0
	for _, h := range hosts {
		if h.State == model.HostReady && h.EmptySince != nil {
			empty++
		}
	}
	for _, h := range hosts {
		var err error
		switch h.State {
		case model.HostReady:
			if h.IronicNodeID == nil || h.EmptySince == nil || empty <= p.opts.MinSpare || p.opts.Now().Sub(*h.EmptySince) < p.opts.ReleaseAfter {
				continue
			}
			// Draining takes no new nodes, so a node placed meanwhile is seen next time.
			err = p.move(ctx, &h, model.HostDraining, map[string]any{})
			empty--
		case model.HostDraining:
			if h.IronicNodeID == nil {
				continue // by the operator's wish
			}
			to := model.HostReleasing
			if h.UsedMemoryMiB > 0 {
				to = model.HostReady
			}
			err = p.move(ctx, &h, to, map[string]any{})
		case model.HostEnrolled, model.HostDeploying, model.HostPreparing, model.HostReleasing:
			if p.machines == nil && h.State != model.HostPreparing {
				continue
			}
			_, err = p.step(ctx, &h)
		default:
			continue
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("host %s: %w", h.Name, err))
		}
	}
	return all
}
