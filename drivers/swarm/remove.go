// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
)

// drain makes the swarm move its tasks away from a leaving node and waits,
// within limits, until they are gone.
func (d *Driver) drain(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	manager, info, err := d.manager(ctx, job, departing(job)...)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	known, err := manager.members(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	m := known.find(node)
	if m == nil {
		return drivers.Done("is not in the swarm"), nil
	}
	if m.Spec.Availability != swarm.NodeAvailabilityDrain {
		return drivers.Again(againPause, "is being drained"), manager.update(ctx, m, m.Spec.Role, swarm.NodeAvailabilityDrain)
	}
	if m.Status.State != swarm.NodeStateReady {
		return drivers.Done("drained; it is " + string(m.Status.State)), nil
	}
	left := 0
	gone, err := wait(ctx, func() (bool, error) {
		left, err = manager.tasks(ctx, m.ID)
		return left == 0, err
	})
	switch {
	case err != nil:
		return drivers.Outcome{}, err
	case gone:
		return drivers.Done("drained"), nil
	case drainedFor(m, info.SystemTime) > d.drainTimeout:
		return drivers.Done(fmt.Sprintf("drained; %d tasks did not end within %s", left, d.drainTimeout)), nil
	}
	return drivers.Again(againPause, fmt.Sprintf("%d tasks are still here", left)), nil
}

// drainedFor tells how long ago the swarm last changed its record of the node,
// by the manager's own clock: the record changes when draining begins and
// hardly ever after.
func drainedFor(m *swarm.Node, managersTime string) time.Duration {
	now, err := time.Parse(time.RFC3339Nano, managersTime)
	if err != nil {
		return 0
	}
	return now.Sub(m.UpdatedAt)
}

// tasks counts what still runs on the node.
func (e *engine) tasks(ctx context.Context, memberID string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := e.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("node", memberID)})
	if err != nil {
		return 0, e.failed(err)
	}
	running := 0
	for _, t := range result.Items {
		switch t.Status.State {
		case swarm.TaskStateStarting, swarm.TaskStateRunning:
			running++
		}
	}
	return running, nil
}

// remove takes a node out of the swarm. Managers become workers first, one
// after the other, so that the swarm keeps its quorum.
func (d *Driver) remove(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	if node.Address == "" {
		return drivers.Done("was never placed"), nil
	}
	going := departing(job)
	manager, _, err := d.manager(ctx, job, going...)
	if errors.Is(err, errNoManager) && job.Operation.Undo && !node.Master() && ctx.Err() == nil {
		// The swarm can live with the entry of a worker that is gone, the
		// project not with a node that it did not get.
		return drivers.Done("no manager answers; its entry stays in the swarm"), nil
	}
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	known, err := manager.members(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	entries := known.entries(node)
	if len(entries) == 0 {
		// It may have been stopped while it joined: then only itself knows.
		if m := known.byID(d.ownID(ctx, job, node)); m != nil {
			entries = append(entries, m)
		}
	}
	for _, m := range entries {
		if m.Spec.Role == swarm.NodeRoleManager || m.ManagerStatus != nil {
			return manager.demote(ctx, known, m, going, node)
		}
	}
	// Its engine need not leave: it is deleted next, and the swarm refuses the
	// certificate of a removed node.
	for _, m := range entries {
		if err := manager.forget(ctx, m); err != nil {
			return drivers.Outcome{}, err
		}
	}
	return drivers.Done("is no part of the swarm any more"), nil
}

// forget removes a member's entry from the swarm.
func (e *engine) forget(ctx context.Context, m *swarm.Node) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if _, err := e.NodeRemove(ctx, m.ID, client.NodeRemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
		return e.failed(err)
	}
	return nil
}

// demote turns a leaving manager into a worker when it is its turn.
func (e *engine) demote(ctx context.Context, known members, m *swarm.Node, going []*drivers.Node, node *drivers.Node) (drivers.Outcome, error) {
	if next := nextToGo(known, going); next != nil && next != node {
		return drivers.Again(againPause, "waits until "+next.Name+" is no manager any more"), nil
	}
	return drivers.Again(againPause, "becomes a worker"), e.update(ctx, m, swarm.NodeRoleWorker, swarm.NodeAvailabilityDrain)
}

// nextToGo returns the leaving manager whose turn it is, nil when all are
// workers already: those that do not answer go first, as each living one that
// went before them would bring the swarm closer to losing its quorum.
func nextToGo(known members, going []*drivers.Node) *drivers.Node {
	var next *drivers.Node
	nextDead := false
	for _, n := range going {
		m := known.find(n)
		if m == nil || m.ManagerStatus == nil {
			continue
		}
		dead := m.ManagerStatus.Reachability != swarm.ReachabilityReachable
		if next == nil || dead && !nextDead || dead == nextDead && n.Index > next.Index {
			next, nextDead = n, dead
		}
	}
	return next
}

// restore brings a node back that was to leave, when the update that sent it
// away is undone. One that has left the swarm already is deleted.
func (d *Driver) restore(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	manager, _, err := d.manager(ctx, job)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	known, err := manager.members(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	m := known.find(node)
	if m == nil {
		return job.Services.Nodes.Delete(ctx, node.ID)
	}
	role := wantedRole(node)
	if m.Spec.Role != role || m.Spec.Availability != swarm.NodeAvailabilityActive {
		return drivers.Again(againPause, "comes back into service"), manager.update(ctx, m, role, swarm.NodeAvailabilityActive)
	}
	if role == swarm.NodeRoleManager && m.ManagerStatus == nil {
		return drivers.Again(againPause, "is becoming a manager again"), nil
	}
	if err := job.Services.Records.Joined(ctx, node.ID, m.ID); err != nil {
		return drivers.Outcome{}, fmt.Errorf("note that %s stays: %w", node.Name, err)
	}
	return drivers.Done("stays in the swarm"), nil
}
