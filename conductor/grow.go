// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/placement"
	"github.com/keelson/keelson/internal/store"
)

// Labels of clusters, templates and node groups that say which hosts may carry
// the nodes.
const (
	labelResourceClass = "host_resource_class"
	labelTraits        = "host_traits" // separated by commas
)

// hostKind is which hosts a node may be on.
type hostKind struct {
	resourceClass string // empty: the configured one
	traits        []string
}

// kindOf reads it from labels; what the first ones do not say, the others may.
func kindOf(labels ...model.Labels) hostKind {
	label := func(name string) string {
		for _, l := range labels {
			if text := strings.TrimSpace(l[name]); text != "" {
				return text
			}
		}
		return ""
	}
	traits := strings.FieldsFunc(label(labelTraits), func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(traits)
	return hostKind{label(labelResourceClass), slices.Compact(traits)}
}

// request is what the node needs, as placement sees it.
func (p *HostPool) request(node *model.Node, kind hostKind) placement.Request {
	class := cmp.Or(kind.resourceClass, p.opts.ResourceClass)
	return placement.Request{
		Room:          placement.Room{VCPUs: node.VCPUs, MemoryMiB: node.MemoryMiB, DiskGiB: node.DiskGiB},
		ResourceClass: class, OrNoClass: class == p.opts.ResourceClass, Traits: kind.traits,
	}
}

// errNoHost is the cause when nothing can be done about missing room.
var errNoHost = errors.New("no host has room")

// grow brings one more host on its way for the node, unless one already is.
func (p *HostPool) grow(ctx context.Context, node *model.Node, request placement.Request) (drivers.Outcome, error) {
	outcome, err := p.bringHost(ctx, node, request)
	if !fault.IsPermanent(err) {
		return outcome, err
	}
	// One that was on its way when room was looked for may be ready by now, and
	// one that still is may have taken the last machine.
	if host, lookErr := p.wanted(ctx, request); lookErr != nil || host != nil && coming(host) {
		return drivers.Again(p.opts.ProgressPollPeriod, "waiting for a host"), lookErr
	}
	if ready, lookErr := p.store.HostsWithRoom(ctx, wish(request), nil, 1); lookErr != nil || len(ready) > 0 {
		return drivers.Again(p.opts.ProgressPollPeriod, "a host has room by now"), lookErr
	}
	return outcome, err
}

// bringHost is grow, which looks once more before it believes that there is no
// capacity.
func (p *HostPool) bringHost(ctx context.Context, node *model.Node, request placement.Request) (drivers.Outcome, error) {
	all, fromIronic, err := p.store.CountHosts(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	noRoom := func(cause error, why string) error {
		kind := ""
		if !request.OrNoClass || len(request.Traits) > 0 {
			kind = " of resource class " + request.ResourceClass
		}
		if len(request.Traits) > 0 {
			kind += " with traits " + strings.Join(request.Traits, ", ")
		}
		return fault.Permanent(cause, "no capacity: no host%s (of %d in all) has room for node %s (%d vCPU, %d MiB memory, %d GiB disk), and %s; "+
			"use a smaller flavor, delete unused clusters, or ask the operator for more hosts",
			kind, all[model.HostReady]+all[model.HostDraining], node.Name, node.VCPUs, node.MemoryMiB, node.DiskGiB, why)
	}
	if p.machines == nil {
		return drivers.Outcome{}, noRoom(errNoHost, "no more can be had")
	}
	var name string
	host, err := p.wanted(ctx, request)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if host == nil {
		// Another conductor may want a host at this moment. It is seen below, or
		// it has taken the name that is free here.
		if name, err = p.freeName(ctx); err != nil {
			return drivers.Outcome{}, err
		}
		if host, err = p.wanted(ctx, request); err != nil {
			return drivers.Outcome{}, err
		}
		// One that was on its way when room was looked for may be ready by now.
		if ready, err := p.store.HostsWithRoom(ctx, wish(request), nil, 1); err != nil || len(ready) > 0 {
			return drivers.Again(time.Millisecond, "a host has room by now"), err
		}
	}
	if host != nil && coming(host) {
		enough, err := p.enoughComing(ctx, host, node, request)
		if enough == nil && err == nil && name == "" {
			// Another may find so at this moment: as above, the name comes first.
			if name, err = p.freeName(ctx); err == nil {
				enough, err = p.enoughComing(ctx, host, node, request)
			}
		}
		if err != nil {
			return drivers.Outcome{}, err
		}
		if enough != nil || p.full(all, fromIronic) {
			return p.hasten(ctx, cmp.Or(enough, host), noRoom)
		}
		host = nil // those on their way are full when all have got what they wait for
	}
	switch {
	case host == nil:
	case p.leaving(host):
		// Not given back yet: it stays.
		err := p.move(ctx, host, model.HostReady, map[string]any{"empty_since": p.opts.Now().UTC()})
		return drivers.Again(time.Millisecond, "host "+host.Name+" stays"), err
	default:
		return drivers.Outcome{}, noRoom(errNoHost, deref(host.Reason))
	}
	if p.full(all, fromIronic) {
		return drivers.Outcome{}, noRoom(errNoHost, "the pool may not grow further")
	}
	host = p.newHost(name, request.ResourceClass, p.traits(request.Traits))
	host.TotalVCPUs, host.TotalMemoryMiB, host.TotalDiskGiB = request.VCPUs, request.MemoryMiB, request.DiskGiB
	if err := p.store.AddHost(ctx, host); err != nil {
		if errors.Is(err, store.ErrExists) {
			return drivers.Again(p.opts.ProgressPollPeriod, "waiting for a new host"), nil
		}
		return drivers.Outcome{}, err
	}
	p.log.Info("host wanted", "host", host.Name, "for_node", node.Name)
	return p.hasten(ctx, host, noRoom)
}

// wanted returns the host that decides what happens for the request: one on its
// way, else one that the pool was about to give back, else one that stands for
// machines of which none could be deployed. Nil means that there is none.
func (p *HostPool) wanted(ctx context.Context, request placement.Request) (*model.Host, error) {
	hosts, err := p.store.HostsIn(ctx, model.HostEnrolled, model.HostDeploying, model.HostPreparing, model.HostDraining, model.HostError)
	if err != nil {
		return nil, err
	}
	traits := p.traits(request.Traits)
	var leaving, failed *model.Host
	for i := range hosts {
		h := &hosts[i]
		total := placement.Room{VCPUs: h.TotalVCPUs, MemoryMiB: h.TotalMemoryMiB, DiskGiB: h.TotalDiskGiB}
		if coming(h) && unsized(h) { // how large it gets is to be seen
			total = request.Room
		}
		switch fits := request.Fits(h.ResourceClass, h.Traits, total); {
		case fits && coming(h):
			return h, nil
		case fits && p.leaving(h) && h.UsedMemoryMiB == 0:
			leaving = h
		case p.gaveUp(h) && h.ResourceClass == request.ResourceClass && subset(h.Traits, traits):
			failed = h
		}
	}
	return cmp.Or(leaving, failed), nil
}

// enoughComing returns the host on its way that will have room for the node when
// all nodes that have waited longer got theirs, host if none is on its way any
// more; nil means that one more is needed. How large a host gets is known when
// its machine is reserved, and until then it is taken to be large enough.
func (p *HostPool) enoughComing(ctx context.Context, host *model.Host, node *model.Node, request placement.Request) (*model.Host, error) {
	hosts, err := p.store.HostsIn(ctx, model.HostEnrolled, model.HostDeploying, model.HostPreparing)
	if err != nil {
		return nil, err
	}
	traits := p.traits(request.Traits)
	var on []*model.Host
	free := make(map[*model.Host]placement.Room)
	for i := range hosts {
		h := &hosts[i]
		if !coming(h) || !request.Fits(h.ResourceClass, h.Traits, request.Room) && !subset(traits, h.Traits) {
			continue
		}
		on = append(on, h)
		if h.IronicNodeID == nil {
			continue
		}
		m, err := p.machines.Describe(ctx, *h.IronicNodeID)
		if err != nil {
			continue // what is not known is no reason to take more
		}
		free[h] = p.roomOf(m)
	}
	if len(on) == 0 { // ready by now, or given up: the next look tells
		return host, nil
	}
	// One that became ready before that look is for some of those who wait.
	if ready, err := p.store.HostsWithRoom(ctx, wish(request), nil, 1); err != nil || len(ready) > 0 {
		return on[0], err
	}
	waiting, err := p.store.WaitingNodes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range waiting {
		other := p.request(&waiting[i].Node, kindOf(waiting[i].GroupLabels, waiting[i].ClusterLabels))
		if other.ResourceClass != request.ResourceClass || !slices.Equal(other.Traits, request.Traits) {
			continue
		}
		at := slices.IndexFunc(on, func(h *model.Host) bool {
			room, known := free[h]
			return !known || room.VCPUs >= other.VCPUs && room.MemoryMiB >= other.MemoryMiB && room.DiskGiB >= other.DiskGiB
		})
		mine := waiting[i].UUID == node.UUID
		switch {
		case at < 0 && mine:
			return nil, nil
		case mine:
			return on[at], nil
		case at < 0: // it has one more brought on its way, or had
			continue
		}
		if room, known := free[on[at]]; known {
			free[on[at]] = placement.Room{VCPUs: room.VCPUs - other.VCPUs, MemoryMiB: room.MemoryMiB - other.MemoryMiB, DiskGiB: room.DiskGiB - other.DiskGiB}
		}
	}
	return on[0], nil // it got its place meanwhile
}

// roomOf is what nodes may have of a machine.
func (p *HostPool) roomOf(m *Machine) placement.Room {
	return placement.Room{
		VCPUs:     int(float64(m.VCPUs) * p.opts.CPURatio),
		MemoryMiB: int(float64(m.MemoryMiB-p.opts.ReservedMemoryMiB) * p.opts.RAMRatio),
		DiskGiB:   int(float64(m.DiskGiB) * p.opts.DiskRatio),
	}
}

// hasten takes the host that a node waits for a step further. Of several nodes
// that wait for it in this process, one does the work.
func (p *HostPool) hasten(ctx context.Context, h *model.Host, noRoom func(error, string) error) (drivers.Outcome, error) {
	if !p.stepping.TryLock() {
		return drivers.Again(p.opts.ProgressPollPeriod, "waiting for host "+h.Name), nil
	}
	defer p.stepping.Unlock()
	outcome, err := p.step(ctx, h)
	if fault.IsPermanent(err) {
		return outcome, noRoom(err, fault.Reason(err, "no more can be had"))
	}
	return outcome, err
}

// coming tells whether the host is on its way from Ironic.
func coming(h *model.Host) bool {
	return h.State == model.HostEnrolled || h.State == model.HostDeploying || h.State == model.HostPreparing && h.IronicNodeID != nil
}

// leaving tells whether the pool is about to give the host back.
func (p *HostPool) leaving(h *model.Host) bool {
	return h.State == model.HostDraining && h.IronicNodeID != nil && h.Reason == nil // a reason is the operator's
}

// unsized tells whether the host on its way may be of any size: one that is to
// be kept as a spare.
func unsized(h *model.Host) bool {
	return h.TotalVCPUs == 0 && h.TotalMemoryMiB == 0 && h.TotalDiskGiB == 0
}

// gaveUp tells whether the host stands for machines of which none could be
// deployed, and therefore no more are tried for a while.
func (p *HostPool) gaveUp(h *model.Host) bool {
	return h.State == model.HostError && h.IronicNodeID == nil && h.Attempts > 0 && h.UpdatedAt != nil
}

// full tells whether no more hosts may be taken from Ironic. Those that are
// being given back do not count.
func (p *HostPool) full(all, fromIronic map[model.HostState]int) bool {
	taken := all[model.HostEnrolled]
	for _, state := range []model.HostState{model.HostDeploying, model.HostPreparing, model.HostReady, model.HostDraining} {
		taken += fromIronic[state]
	}
	return p.opts.MaxHosts > 0 && taken >= p.opts.MaxHosts
}

// traits are those that a machine must have to be good for these.
func (p *HostPool) traits(wanted []string) []string {
	traits := slices.Concat(p.opts.Traits, wanted)
	slices.Sort(traits)
	return slices.Compact(traits)
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}

func (p *HostPool) newHost(name, class string, traits []string) *model.Host {
	return &model.Host{UUID: uuid.NewString(), Name: name, State: model.HostEnrolled, Bridge: p.opts.Bridge, ResourceClass: class, Traits: traits}
}

// hostPrefix is how the names of hosts from Ironic begin.
const hostPrefix = "host-"

// freeName is a name that no host has.
func (p *HostPool) freeName(ctx context.Context) (string, error) {
	taken, err := p.store.HostNames(ctx, hostPrefix)
	if err != nil {
		return "", err
	}
	return freeNames(taken, 1)[0], nil
}

// freeNames are the first n names that are not taken.
func freeNames(taken []string, n int) []string {
	names := make(map[string]bool, len(taken))
	for _, name := range taken {
		names[name] = true
	}
	var free []string
	for i := 1; len(free) < n; i++ {
		if name := fmt.Sprint(hostPrefix, i); !names[name] {
			free = append(free, name)
		}
	}
	return free
}

// machineWish is what the machine for an enrolled host must be like.
func (p *HostPool) machineWish(ctx context.Context, h *model.Host) (MachineWish, error) {
	avoid, err := p.store.AvoidedMachines(ctx, p.opts.Now())
	if err != nil {
		return MachineWish{}, err
	}
	wish := MachineWish{ResourceClass: cmp.Or(h.ResourceClass, p.opts.ResourceClass), Traits: h.Traits}
	if !unsized(h) {
		wish.VCPUs = int(math.Ceil(float64(h.TotalVCPUs) / p.opts.CPURatio))
		wish.MemoryMiB = int(math.Ceil(float64(h.TotalMemoryMiB)/p.opts.RAMRatio)) + p.opts.ReservedMemoryMiB
		wish.DiskGiB = int(math.Ceil(float64(h.TotalDiskGiB) / p.opts.DiskRatio))
	}
	for _, m := range avoid {
		wish.Avoid = append(wish.Avoid, m.IronicNodeID)
	}
	return wish, nil
}

// giveUp leaves the host's machine alone for a while, because it can not be
// deployed, and has another one tried in its place. After the last attempt the
// error is permanent, and nobody makes another one until RetryAfter has passed.
func (p *HostPool) giveUp(ctx context.Context, h *model.Host, why error) (drivers.Outcome, error) {
	machine := deref(h.IronicNodeID)
	bad := model.AvoidedMachine{IronicNodeID: machine, Host: h.Name, Reason: why.Error(), Until: p.opts.Now().Add(p.opts.AvoidFailed)}
	if m, err := p.machines.Describe(ctx, machine); err == nil {
		bad.Name = m.Name
	}
	reason := fault.Reason(why, "the machine could not be deployed")
	name, err := p.freeName(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	instead := p.newHost(name, h.ResourceClass, h.Traits)
	instead.TotalVCPUs, instead.TotalMemoryMiB, instead.TotalDiskGiB = h.TotalVCPUs, h.TotalMemoryMiB, h.TotalDiskGiB
	instead.Attempts = h.Attempts + 1
	last := instead.Attempts >= p.opts.DeployAttempts
	if last {
		reason = fmt.Sprintf("of %d bare-metal machines in a row none could be deployed, the last one because: %s", instead.Attempts, reason)
		instead.State, instead.Reason = model.HostError, &reason
	}
	gaveUp, err := p.store.GiveUpMachine(ctx, h.UUID, h.State, bad, instead)
	if errors.Is(err, store.ErrExists) {
		return drivers.Again(p.opts.ProgressPollPeriod, "waiting for a new host"), nil // the next look does it
	}
	if err != nil {
		return drivers.Outcome{}, err
	}
	if gaveUp {
		p.log.Error("bare-metal machine could not be deployed", "machine", machine, "name", bad.Name, "host", h.Name,
			"attempt", instead.Attempts, "of", p.opts.DeployAttempts, "avoided_until", bad.Until, "error", why)
		if last {
			return drivers.Outcome{}, fault.Permanent(why, "%s", reason)
		}
	}
	return drivers.Again(p.opts.ProgressPollPeriod, fmt.Sprintf("%s, trying another machine", reason)), nil
}

// isSpare tells whether the host is ready, empty, and of the usual kind.
func (p *HostPool) isSpare(h *model.Host) bool {
	usual := placement.Request{ResourceClass: p.opts.ResourceClass, OrNoClass: true}
	return h.State == model.HostReady && h.UnreachableSince == nil && h.EmptySince != nil && !h.Failing() && usual.Fits(h.ResourceClass, h.Traits, placement.Room{})
}

// keepSpare brings as many hosts on their way as are missing to MinSpare empty
// ones.
func (p *HostPool) keepSpare(ctx context.Context, hosts []model.Host) error {
	if p.machines == nil || p.opts.MinSpare == 0 || p.opts.Now().Before(p.noSpareUntil) {
		return nil
	}
	traits := p.traits(nil)
	spare := 0
	var names []string
	all, fromIronic := make(map[model.HostState]int), make(map[model.HostState]int)
	for i := range hosts {
		h := &hosts[i]
		names = append(names, h.Name)
		all[h.State]++
		if h.IronicNodeID != nil {
			fromIronic[h.State]++
		}
		usual := h.ResourceClass == p.opts.ResourceClass && subset(h.Traits, traits)
		switch {
		case p.gaveUp(h) && usual:
			return nil
		case p.isSpare(h), coming(h) && unsized(h) && usual:
			spare++
		}
	}
	// The names were free when the hosts were counted: of several conductors
	// that miss the same hosts, one adds them.
	for _, name := range freeNames(names, max(p.opts.MinSpare-spare, 0)) {
		if p.full(all, fromIronic) {
			return nil
		}
		if err := p.store.AddHost(ctx, p.newHost(name, p.opts.ResourceClass, traits)); err != nil {
			if errors.Is(err, store.ErrExists) {
				return nil
			}
			return err
		}
		all[model.HostEnrolled]++
		p.log.Info("spare host wanted", "host", name)
	}
	return nil
}
