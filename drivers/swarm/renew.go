// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"fmt"
	"maps"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Labels by which the swarm itself remembers what an operation is about.
const (
	// labelEmptied is on a member that was drained to be rebuilt: the
	// availability that it had. A node that its owner has drained has none, and
	// stays drained.
	labelEmptied = "keelson.emptied"
	// labelRotated is on the swarm: the last operation that rotated its authority.
	labelRotated = "keelson.rotated"
)

// empty makes the swarm move the tasks of a stale node elsewhere and waits,
// within limits, until they are gone. A manager is only emptied while the
// swarm can do without it.
func (d *Driver) empty(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	if !node.Stale {
		return drivers.Done("is up to date"), nil
	}
	manager, info, err := d.manager(ctx, job)
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
		return drivers.Outcome{}, fault.Permanent(nil, "node %s is not in the swarm: remove it with a resize, then try again", node.Name)
	}
	if err := d.dispensable(ctx, job, known, m); err != nil {
		return drivers.Outcome{}, err
	}
	if m.Status.State == swarm.NodeStateUnknown {
		// A manager that was rebuilt just now has not heard of it yet.
		return drivers.Again(againPause, "waits for the swarm to see "+node.Name), nil
	}
	if m.Spec.Availability != swarm.NodeAvailabilityDrain {
		spec := m.Spec
		spec.Labels = maps.Clone(spec.Labels)
		if spec.Labels == nil {
			spec.Labels = map[string]string{}
		}
		spec.Labels[labelEmptied] = string(spec.Availability)
		spec.Availability = swarm.NodeAvailabilityDrain
		return drivers.Again(againPause, "is being drained"), manager.updateSpec(ctx, m, spec)
	}
	return d.drained(ctx, manager, m, info.SystemTime)
}

// dispensable tells whether the swarm keeps its majority of managers while the
// member is away.
func (d *Driver) dispensable(ctx context.Context, job *drivers.Job, known members, m *swarm.Node) error {
	if m.ManagerStatus == nil {
		return nil
	}
	answers := d.answering(ctx, job, known)
	managers, others := 0, 0
	for i := range known {
		if known[i].ManagerStatus == nil {
			continue
		}
		managers++
		if known[i].ID != m.ID && answers[known[i].ID] {
			others++
		}
	}
	if managers > 1 && others < managers/2+1 {
		return fault.Temporary(nil, "node %s can not be rebuilt now: of the %d other managers %d answer, which is no majority", m.Description.Hostname, managers-1, others)
	}
	return nil
}

// rebuild makes the node's root anew; what its engine keeps stays.
func (d *Driver) rebuild(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	files, err := d.nodeFiles(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	return job.Services.Nodes.Rebuild(ctx, node.ID, files)
}

// comeBack waits until a node that was rebuilt is in the swarm again.
func (d *Driver) comeBack(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	e, info, err := d.awaken(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	if e == nil {
		return notAwake(node), nil
	}
	e.Close()
	if info.Swarm.LocalNodeState == swarm.LocalNodeStateInactive {
		return drivers.Outcome{}, fault.Permanent(nil, "node %s has lost its place in the swarm: remove it with a resize", node.Name)
	}
	manager, _, err := d.manager(ctx, job)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	back, err := wait(ctx, func() (bool, error) {
		known, err := manager.members(ctx)
		return err == nil && isReady(known.find(node), wantedRole(node)), err
	})
	if err != nil {
		return drivers.Outcome{}, err
	}
	if !back {
		return drivers.Again(againPause, "waits for the swarm to see "+node.Name), nil
	}
	return drivers.Done("is back in the swarm with Docker " + info.ServerVersion), nil
}

// fill lets a node that was emptied take tasks again.
func (d *Driver) fill(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
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
		return drivers.Outcome{}, fault.Permanent(nil, "node %s is not in the swarm any more", node.Name)
	}
	before, emptied := m.Spec.Labels[labelEmptied]
	if !emptied {
		return drivers.Done("takes tasks as before"), nil
	}
	spec := m.Spec
	spec.Availability = swarm.NodeAvailability(before)
	spec.Labels = maps.Clone(spec.Labels)
	delete(spec.Labels, labelEmptied)
	if err := manager.updateSpec(ctx, m, spec); err != nil {
		return drivers.Outcome{}, err
	}
	return drivers.Done("takes tasks again"), nil
}

// rotate replaces the swarm's own authority, by which its nodes know each
// other, and its join tokens: who had the old client certificates could read
// them. The swarm has done it when each of its nodes has a new certificate.
func (d *Driver) rotate(ctx context.Context, job *drivers.Job) (drivers.Outcome, error) {
	manager, info, err := d.manager(ctx, job)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer manager.Close()
	call, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	result, err := manager.SwarmInspect(call, client.SwarmInspectOptions{})
	if err != nil {
		return drivers.Outcome{}, manager.failed(fmt.Errorf("look at the swarm: %w", err))
	}
	s := result.Swarm
	if s.Spec.Labels[labelRotated] == job.Operation.ID {
		if info.Swarm.Cluster.RootRotationInProgress {
			return drivers.Again(againPause, "the swarm's nodes are getting new certificates"), nil
		}
		return drivers.Done("the swarm has a new authority and new join tokens"), nil
	}
	spec := s.Spec
	spec.Labels = maps.Clone(spec.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[labelRotated] = job.Operation.ID
	spec.CAConfig.SigningCACert, spec.CAConfig.SigningCAKey = "", ""
	spec.CAConfig.ForceRotate++
	if _, err := manager.SwarmUpdate(call, client.SwarmUpdateOptions{
		Version: s.Version, Spec: spec, RotateWorkerToken: true, RotateManagerToken: true,
	}); err != nil {
		return drivers.Outcome{}, manager.failed(fmt.Errorf("rotate the swarm's authority: %w", err))
	}
	return drivers.Again(againPause, "the swarm is getting a new authority"), nil
}
