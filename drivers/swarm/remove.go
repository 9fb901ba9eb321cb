// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
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
	return d.drained(ctx, manager, m, info.SystemTime)
}

// drained waits, within limits, for the last tasks of a member that drains.
func (d *Driver) drained(ctx context.Context, manager *engine, m *swarm.Node, managersTime string) (drivers.Outcome, error) {
	if m.Status.State != swarm.NodeStateReady {
		return drivers.Done("drained; it is " + string(m.Status.State)), nil
	}
	left := 0
	gone, err := wait(ctx, func() (gone bool, err error) {
		left, err = manager.tasks(ctx, m.ID)
		return left == 0, err
	})
	switch {
	case err != nil:
		return drivers.Outcome{}, err
	case gone:
		return drivers.Done("drained"), nil
	case drainedFor(m, managersTime) > d.drainTimeout:
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
	manager, _, err := d.manager(ctx, job, departing(job)...)
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
			return d.demote(ctx, job, manager, known, m)
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

// demote turns a leaving manager into a worker, as soon as the swarm can do
// without it. It waits for nothing but the swarm itself: no step may depend on
// another that the plan does not put before it.
func (d *Driver) demote(ctx context.Context, job *drivers.Job, manager *engine, known members, m *swarm.Node) (drivers.Outcome, error) {
	answers := d.answering(ctx, job, known)
	now, why, err := demotions(known, departing(job), m, answers)
	if err != nil {
		return drivers.Outcome{}, err
	}
	for _, m := range now {
		if err := manager.update(ctx, m, swarm.NodeRoleWorker, swarm.NodeAvailabilityDrain); err != nil {
			return drivers.Outcome{}, err
		}
	}
	return drivers.Again(againPause, why), nil
}

// answering asks all managers at once and returns the ids of those that are
// alive. The swarm itself takes some seconds to notice that one died, and a
// majority lost in that time is lost for good.
func (d *Driver) answering(ctx context.Context, job *drivers.Job, known members) map[string]bool {
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]bool{}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		m := known.find(n)
		if m == nil || !reachable(m) {
			continue
		}
		wg.Go(func() {
			if d.ownID(ctx, job, n) == m.ID {
				mu.Lock()
				answers[m.ID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answers
}

// reachable tells whether the member is a manager that the others reach.
func reachable(m *swarm.Node) bool {
	return m.ManagerStatus != nil && m.ManagerStatus.Reachability == swarm.ReachabilityReachable
}

// demotions decides which managers to demote now, on the way to demoting m,
// and says why. Leaving ones that are dead go first, as each living one that
// went before them would bring the swarm closer to losing its majority.
func demotions(known members, going []*drivers.Node, m *swarm.Node, answers map[string]bool) (now []*swarm.Node, why string, err error) {
	for _, n := range going {
		if other := known.find(n); other != nil && other.ManagerStatus != nil && !answers[other.ID] {
			now = append(now, other)
		}
	}
	if now != nil {
		return now, "managers that do not answer become workers", nil
	}
	others, alive := 0, 0
	for i := range known {
		other := &known[i]
		if other.ManagerStatus == nil || other.ID == m.ID {
			continue
		}
		if other.Spec.Role == swarm.NodeRoleWorker {
			return nil, "waits until " + other.Description.Hostname + " is no manager any more", nil
		}
		others++
		if answers[other.ID] {
			alive++
		}
	}
	if alive < others/2+1 {
		return nil, "", fault.Temporary(nil, "node %s can not leave the swarm: of the %d other managers %d answer, which is no majority", m.Description.Hostname, others, alive)
	}
	return []*swarm.Node{m}, "becomes a worker", nil
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
