// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// state is what the driver keeps of a cluster.
type state struct {
	SwarmID string `json:"swarm_id"`
}

// loadState returns the empty state when none was saved.
func loadState(job *drivers.Job) state {
	var s state
	_ = json.Unmarshal(job.Cluster.State, &s) // what is not ours is as good as none
	return s
}

func saveSwarm(ctx context.Context, job *drivers.Job, id string) error {
	if loadState(job).SwarmID == id {
		return nil
	}
	text, err := json.Marshal(state{SwarmID: id})
	if err != nil {
		return err
	}
	return job.Services.Records.SaveState(ctx, text)
}

// init forms the swarm on its first manager.
func (d *Driver) init(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	e, info, err := d.awaken(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if e == nil {
		return notAwake(node), nil
	}
	defer e.Close()
	switch {
	case isManager(info, ""):
		return drivers.Done("formed the swarm"), saveSwarm(ctx, job, info.Swarm.Cluster.ID)
	case info.Swarm.LocalNodeState == swarm.LocalNodeStatePending:
		return drivers.Again(againPause, "the swarm is being formed"), nil
	case info.Swarm.LocalNodeState != swarm.LocalNodeStateInactive:
		// It is left from another swarm.
		return drivers.Again(againPause, "leaves an old swarm"), e.leave(ctx)
	}
	call, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if _, err := e.SwarmInit(call, client.SwarmInitOptions{
		ListenAddr:      net.JoinHostPort(node.Address, swarmPort),
		AdvertiseAddr:   net.JoinHostPort(node.Address, swarmPort),
		DataPathAddr:    node.Address,
		DefaultAddrPool: overlayPool(node.Address),
		SubnetSize:      24,
	}); err != nil {
		return drivers.Outcome{}, e.failed(fmt.Errorf("form the swarm: %w", err))
	}
	info, err = e.look(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if !isManager(info, "") {
		return drivers.Again(againPause, "the swarm is being formed"), nil
	}
	return drivers.Done("formed the swarm"), saveSwarm(ctx, job, info.Swarm.Cluster.ID)
}

func notAwake(node *drivers.Node) drivers.Outcome {
	return drivers.Again(againPause, "waits for Docker on "+node.Name)
}

// overlayPool returns where overlay networks get their addresses: one half of
// Docker's default 10.0.0.0/8, the one that the nodes are not in.
func overlayPool(address string) []netip.Prefix {
	upper := netip.MustParsePrefix("10.128.0.0/9")
	if a, err := netip.ParseAddr(address); err == nil && upper.Contains(a) {
		return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/9")}
	}
	return []netip.Prefix{upper}
}

// join makes the node part of the swarm, in its role.
func (d *Driver) join(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	e, info, err := d.awaken(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if e == nil {
		return notAwake(node), nil
	}
	defer e.Close()
	manager, seen, err := d.manager(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()

	switch info.Swarm.LocalNodeState {
	case swarm.LocalNodeStateInactive:
		return e.enter(ctx, manager, wantedRole(node))
	case swarm.LocalNodeStatePending:
		return drivers.Again(againPause, "is joining the swarm"), nil
	case swarm.LocalNodeStateActive:
		known, err := manager.members(ctx)
		if err != nil {
			return drivers.Outcome{}, err
		}
		if m := known.byID(info.Swarm.NodeID); m != nil {
			return joined(ctx, manager, m, wantedRole(node), info.Swarm.ControlAvailable)
		}
	}
	// It is left half joined, or in a swarm other than seen.
	if info.Swarm.Cluster != nil && info.Swarm.Cluster.ID == seen.Swarm.Cluster.ID {
		return drivers.Again(againPause, "is not known to "+manager.node.Name+" yet"), nil
	}
	return drivers.Again(againPause, "leaves an old swarm"), e.leave(ctx)
}

func wantedRole(n *drivers.Node) swarm.NodeRole {
	if n.Master() {
		return swarm.NodeRoleManager
	}
	return swarm.NodeRoleWorker
}

// joined gives a member the role it should have.
func joined(ctx context.Context, manager *engine, m *swarm.Node, role swarm.NodeRole, manages bool) (drivers.Outcome, error) {
	if m.Spec.Role != role {
		return drivers.Again(againPause, "becomes a "+string(role)), manager.update(ctx, m, role, m.Spec.Availability)
	}
	if manages != (role == swarm.NodeRoleManager) {
		return drivers.Again(againPause, "is becoming a "+string(role)), nil
	}
	return drivers.Done("joined as a " + string(role)), nil
}

// enter joins the engine to the manager's swarm.
func (e *engine) enter(ctx context.Context, manager *engine, role swarm.NodeRole) (drivers.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	result, err := manager.SwarmInspect(ctx, client.SwarmInspectOptions{})
	if err != nil {
		return drivers.Outcome{}, manager.failed(fmt.Errorf("get the join token: %w", err))
	}
	token := result.Swarm.JoinTokens.Worker
	if role == swarm.NodeRoleManager {
		token = result.Swarm.JoinTokens.Manager
	}
	if _, err := e.SwarmJoin(ctx, client.SwarmJoinOptions{
		ListenAddr:    net.JoinHostPort(e.node.Address, swarmPort),
		AdvertiseAddr: net.JoinHostPort(e.node.Address, swarmPort),
		DataPathAddr:  e.node.Address,
		RemoteAddrs:   []string{net.JoinHostPort(manager.node.Address, swarmPort)},
		JoinToken:     token,
	}); err != nil {
		if isUnreachable(err) {
			return drivers.Again(againPause, "is joining the swarm"), nil
		}
		return drivers.Outcome{}, e.failed(fmt.Errorf("join the swarm: %w", err))
	}
	return drivers.Done("joined as a " + string(role)), nil
}

// ready waits until the swarm itself calls all new nodes ready.
func (d *Driver) ready(ctx context.Context, job *drivers.Job) (drivers.Outcome, error) {
	fresh := newNodes(job)
	if len(fresh) == 0 {
		return drivers.Done("no new nodes"), nil
	}
	manager, _, err := d.manager(ctx, job)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	var missing string
	all, err := wait(ctx, func() (bool, error) {
		known, err := manager.members(ctx)
		if err != nil {
			return false, err
		}
		for _, n := range fresh {
			if m := known.find(n); !isReady(m, wantedRole(n)) {
				missing = n.Name
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return drivers.Outcome{}, err
	}
	if !all {
		return drivers.Again(againPause, "node "+missing+" is not ready yet"), nil
	}
	return drivers.Done(fmt.Sprintf("%d new nodes are ready", len(fresh))), nil
}

// isReady tells whether the swarm can use the member (nil: unknown to it) in
// that role.
func isReady(m *swarm.Node, role swarm.NodeRole) bool {
	if m == nil || m.Status.State != swarm.NodeStateReady {
		return false
	}
	return role == swarm.NodeRoleWorker || reachable(m)
}

// record notes the nodes as joined and what users see of the cluster.
func (d *Driver) record(ctx context.Context, job *drivers.Job) (drivers.Outcome, error) {
	manager, info, err := d.manager(ctx, job, departing(job)...)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	known, err := manager.members(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	for _, n := range newNodes(job) {
		m := known.find(n)
		if m == nil {
			return drivers.Outcome{}, fault.Temporary(nil, "node %s is not in the swarm any more", n.Name)
		}
		if n.State == drivers.NodeReady && n.COEID == m.ID {
			continue
		}
		if err := job.Services.Records.Joined(ctx, n.ID, m.ID); err != nil {
			return drivers.Outcome{}, fmt.Errorf("note that %s has joined: %w", n.Name, err)
		}
	}
	return drivers.Done("the swarm is complete"), job.Services.Records.Observed(ctx, drivers.Observed{
		StackID:          info.Swarm.Cluster.ID,
		APIAddress:       apiAddress(job),
		COEVersion:       info.ServerVersion,
		ContainerVersion: info.ServerVersion,
	})
}

// apiAddress is where tenants find the cluster.
func apiAddress(job *drivers.Job) string {
	front := frontManager(job)
	if front == nil {
		return ""
	}
	return "tcp://" + net.JoinHostPort(front.Address, apiPort)
}

// frontManager is the manager that tenants talk to: the first that stays.
func frontManager(job *drivers.Job) *drivers.Node {
	for i := range job.Nodes {
		if n := &job.Nodes[i]; n.Master() && n.State != drivers.NodeLeaving && n.Address != "" {
			return n
		}
	}
	return nil
}
