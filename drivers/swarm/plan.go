// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Names of the steps.
const (
	stepCertificates = "certificates"
	stepPlace        = "node.place"
	stepStart        = "node.start"
	stepInit         = "swarm.init" // by the first manager
	stepJoin         = "swarm.join"
	stepReady        = "swarm.ready" // all new nodes are
	stepRecord       = "cluster.record"
	stepDrain        = "swarm.drain"
	stepRemove       = "swarm.remove"
	stepDelete       = "node.delete"
	stepRestore      = "swarm.restore" // a leaving node stays after all
	stepEmpty        = "swarm.empty"   // a stale node's tasks go elsewhere for a while
	stepRebuild      = "node.rebuild"
	stepReturn       = "swarm.return" // it is back in the swarm
	stepFill         = "swarm.fill"   // it takes tasks again
	stepRotate       = "swarm.rotate" // the swarm's own authority and join tokens
)

// engineTimeout bounds the steps that wait for engines: a node starts within a
// second, so one that is not there after minutes will not come.
const engineTimeout = 3 * time.Minute

// placeTimeout bounds the wait for room, which may have to be deployed first:
// a machine takes a quarter of an hour, and the first one tried may fail. Most
// operations run out of their own time before.
const placeTimeout = 2 * time.Hour

// Plan implements drivers.Driver.
//
// A node is recorded as joined (state ready) by the operation's last step
// only. So nodes that are not ready are those which this operation makes, and
// undoing an update knows which to remove.
func (d *Driver) Plan(_ context.Context, job *drivers.Job) ([]drivers.Step, error) {
	switch op := job.Operation; {
	case op.Kind == drivers.Delete, op.Kind == drivers.Create && op.Undo:
		var p plan
		for i := range job.Nodes {
			p.add(stepDelete, job.Nodes[i].ID)
		}
		return p, nil
	case op.Kind == drivers.Update && op.Undo:
		return undoPlan(job), nil
	case op.Kind == drivers.Create, op.Kind == drivers.Update:
		return growPlan(job), nil
	case op.Kind == drivers.Upgrade, op.Kind == drivers.RotateCA, op.Kind == drivers.Rebuild:
		return renewPlan(job), nil
	default:
		return nil, fault.Permanent(nil, "the swarm driver knows no operation %q", op.Kind)
	}
}

// plan is a list of steps in the making.
type plan []drivers.Step

// add appends a step and returns its key.
func (p *plan) add(name, nodeID string, needs ...drivers.StepKey) drivers.StepKey {
	step := drivers.Step{Name: name, NodeID: nodeID, Needs: needs}
	switch name {
	case stepPlace:
		step.Timeout = placeTimeout
	case stepInit, stepJoin, stepReady, stepRemove, stepRestore, stepReturn, stepFill, stepRotate:
		step.Timeout = engineTimeout
	case stepDrain, stepEmpty:
		step.Timeout = 2 * engineTimeout
	}
	*p = append(*p, step)
	return step.Key()
}

// growPlan makes the new nodes, then removes the leaving ones: their tasks
// have where to go, and managers are replaced before they go.
func growPlan(job *drivers.Job) plan {
	var p plan
	certificates := p.add(stepCertificates, "")
	members := []drivers.StepKey{certificates} // what swarm.ready waits for
	formed := isFormed(job)
	// Each manager joins after the one before it, workers after the first.
	var first, before []drivers.StepKey
	for _, n := range newNodes(job) {
		place := p.add(stepPlace, n.ID)
		started := p.add(stepStart, n.ID, certificates, place)
		var joined drivers.StepKey
		switch {
		case n.Master() && !formed:
			formed = true
			joined = p.add(stepInit, n.ID, started)
			first = []drivers.StepKey{joined}
			before = first
		case n.Master():
			joined = p.add(stepJoin, n.ID, append([]drivers.StepKey{started}, before...)...)
			before = []drivers.StepKey{joined}
		default:
			joined = p.add(stepJoin, n.ID, append([]drivers.StepKey{started}, first...)...)
		}
		members = append(members, joined)
	}
	ready := p.add(stepReady, "", members...)
	last := []drivers.StepKey{ready}
	for _, n := range leavingNodes(job) {
		drained := p.add(stepDrain, n.ID, ready)
		removed := p.add(stepRemove, n.ID, drained)
		last = append(last, p.add(stepDelete, n.ID, removed))
	}
	p.add(stepRecord, "", last...)
	return p
}

// undoPlan brings a cluster back to what it was before the update.
func undoPlan(job *drivers.Job) plan {
	var p plan
	formed := isFormed(job)
	for _, n := range newNodes(job) {
		if !formed { // there is no swarm to remove it from
			p.add(stepDelete, n.ID)
			continue
		}
		p.add(stepDelete, n.ID, p.add(stepRemove, n.ID))
	}
	for _, n := range leavingNodes(job) {
		p.add(stepRestore, n.ID)
	}
	return p
}

// renewPlan rebuilds the stale nodes of the operation's groups, managers first
// and one by one, so that the swarm keeps its quorum; then the workers of each
// group, as many at once as may be out of service. Nodes that are not stale
// are in the plan all the same and pass through it untouched: which are stale
// changes while the plan is carried out, and the plan must not.
func renewPlan(job *drivers.Job) plan {
	var p plan
	certificates := p.add(stepCertificates, "")
	var masters, workers []*drivers.Node
	for i := range job.Nodes {
		n := &job.Nodes[i]
		switch {
		case !job.Operation.Concerns(n):
		case n.Master():
			masters = append(masters, n)
		default:
			workers = append(workers, n)
		}
	}
	renew := func(n *drivers.Node, needs ...drivers.StepKey) drivers.StepKey {
		emptied := p.add(stepEmpty, n.ID, needs...)
		rebuilt := p.add(stepRebuild, n.ID, emptied)
		returned := p.add(stepReturn, n.ID, rebuilt)
		return p.add(stepFill, n.ID, returned)
	}
	managed := certificates
	for _, n := range masters {
		managed = renew(n, managed)
	}
	all := []drivers.StepKey{managed}
	filled := map[string][]drivers.StepKey{} // by group
	for _, n := range workers {
		before := filled[n.GroupID]
		needs := []drivers.StepKey{managed}
		if k := len(before) - max(job.Operation.MaxBatchSize, 1); k >= 0 {
			needs = append(needs, before[k])
		}
		key := renew(n, needs...)
		filled[n.GroupID] = append(before, key)
		all = append(all, key)
	}
	if job.Operation.Kind == drivers.RotateCA && !job.Operation.Undo {
		all = []drivers.StepKey{p.add(stepRotate, "", all...)}
	}
	p.add(stepRecord, "", all...)
	return p
}

// newNodes are those that the operation makes, masters first: all nodes of a
// create, in an update those which are not ready yet.
func newNodes(job *drivers.Job) []*drivers.Node {
	var masters, workers []*drivers.Node
	for i := range job.Nodes {
		n := &job.Nodes[i]
		switch {
		case n.State == drivers.NodeLeaving:
		case job.Operation.Kind != drivers.Create && n.State == drivers.NodeReady:
		case n.Master():
			masters = append(masters, n)
		default:
			workers = append(workers, n)
		}
	}
	return append(masters, workers...)
}

// departing are the nodes that the operation takes out of the swarm.
func departing(job *drivers.Job) []*drivers.Node {
	if job.Operation.Undo {
		return newNodes(job)
	}
	return leavingNodes(job)
}

func leavingNodes(job *drivers.Job) []*drivers.Node {
	var leaving []*drivers.Node
	for i := range job.Nodes {
		if n := &job.Nodes[i]; n.State == drivers.NodeLeaving {
			leaving = append(leaving, n)
		}
	}
	return leaving
}

// isFormed tells whether there was a swarm before the operation.
func isFormed(job *drivers.Job) bool {
	if job.Operation.Kind == drivers.Create {
		return false
	}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if n.Master() && (n.State == drivers.NodeReady || n.State == drivers.NodeLeaving) {
			return true
		}
	}
	return false
}
