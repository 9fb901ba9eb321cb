// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Names of the steps of a cluster made with kubeadm.
const (
	stepCertificates = "certificates" // the cluster's authority
	stepPlace        = "node.place"
	stepStart        = "node.start"
	stepInit         = "kubernetes.init"    // the first master sets the control plane up
	stepNetwork      = "kubernetes.network" // pods reach each other: flannel or calico
	stepJoin         = "kubernetes.join"
	stepReady        = "kubernetes.ready" // all new nodes are
	stepRecord       = "cluster.record"
	stepDrain        = "kubernetes.drain"
	stepRemove       = "kubernetes.remove" // of a master also its member of etcd
	stepDelete       = "node.delete"
	stepRestore      = "kubernetes.restore" // a leaving node stays after all
)

// Bounds of the steps that wait for a machine, and for what runs on it.
const (
	placeTimeout = 2 * time.Hour
	nodeTimeout  = 10 * time.Minute // images of the control plane are pulled
)

// Plan implements drivers.Driver.
func (Driver) Plan(_ context.Context, job *drivers.Job) ([]drivers.Step, error) {
	var p plan
	switch op := job.Operation; {
	case op.Kind == drivers.Delete, op.Kind == drivers.Create && op.Undo:
		for i := range job.Nodes {
			p.add(stepDelete, job.Nodes[i].ID)
		}
	case op.Kind == drivers.Update && op.Undo:
		p.undo(job)
	case op.Kind == drivers.Create, op.Kind == drivers.Update:
		p.grow(job)
	default:
		return nil, fault.Permanent(nil, "the kubernetes driver knows no operation %q", op.Kind)
	}
	return p, nil
}

// plan is a list of steps in the making.
type plan []drivers.Step

// add appends a step and returns its key.
func (p *plan) add(name, nodeID string, needs ...drivers.StepKey) drivers.StepKey {
	step := drivers.Step{Name: name, NodeID: nodeID, Needs: needs}
	switch name {
	case stepPlace:
		step.Timeout = placeTimeout
	case stepInit, stepJoin, stepReady, stepDrain:
		step.Timeout = nodeTimeout
	}
	*p = append(*p, step)
	return step.Key()
}

// grow makes the new nodes, then removes the leaving ones, so that their pods
// have where to go. A master joins after the one before it, as etcd takes one
// new member at a time; workers join side by side.
func (p *plan) grow(job *drivers.Job) {
	certificates := p.add(stepCertificates, "")
	fresh, leaving, formed := sort(job)
	before := []drivers.StepKey{certificates} // what the next master waits for
	joined := []drivers.StepKey{certificates}
	var network []drivers.StepKey // what workers wait for, with a new control plane
	for _, n := range fresh {
		started := p.add(stepStart, n.ID, certificates, p.add(stepPlace, n.ID))
		switch {
		case n.Master() && !formed:
			formed = true
			network = []drivers.StepKey{p.add(stepNetwork, "", p.add(stepInit, n.ID, started))}
			before = network
			joined = append(joined, network...)
		case n.Master():
			before = []drivers.StepKey{p.add(stepJoin, n.ID, append([]drivers.StepKey{started}, before...)...)}
			joined = append(joined, before...)
		default:
			joined = append(joined, p.add(stepJoin, n.ID, append([]drivers.StepKey{started}, network...)...))
		}
	}
	ready := p.add(stepReady, "", joined...)
	last := []drivers.StepKey{ready}
	member := ready // one member of etcd leaves at a time, too
	for _, n := range leaving {
		needs := []drivers.StepKey{p.add(stepDrain, n.ID, ready)}
		if n.Master() {
			needs = append(needs, member)
		}
		removed := p.add(stepRemove, n.ID, needs...)
		if n.Master() {
			member = removed
		}
		last = append(last, p.add(stepDelete, n.ID, removed))
	}
	p.add(stepRecord, "", last...)
}

// undo removes what a failed update half made and keeps what was to leave.
func (p *plan) undo(job *drivers.Job) {
	fresh, leaving, _ := sort(job)
	for _, n := range fresh {
		p.add(stepDelete, n.ID, p.add(stepRemove, n.ID))
	}
	for _, n := range leaving {
		p.add(stepRestore, n.ID)
	}
}

// sort tells the nodes apart: those to make, those to remove, and whether
// there is a control plane that new nodes join. Nodes are recorded as ready by
// the last step only, so the answer is the same during all of an operation.
func sort(job *drivers.Job) (fresh, leaving []*drivers.Node, formed bool) {
	for i := range job.Nodes {
		switch n := &job.Nodes[i]; {
		case n.State == drivers.NodeLeaving:
			leaving = append(leaving, n)
		case n.State != drivers.NodeReady || job.Operation.Kind == drivers.Create:
			fresh = append(fresh, n)
		default:
			formed = formed || n.Master()
		}
	}
	return fresh, leaving, formed
}
