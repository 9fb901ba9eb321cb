// SPDX-License-Identifier: Apache-2.0

// Package drivers is the contract between the conductor and a driver of a
// container orchestration engine (COE).
//
// A driver turns an operation on a cluster (create, update, delete) into a
// plan: named steps with dependencies. The conductor takes the steps, side by
// side where the plan allows it, writes each one into the operation's journal,
// and takes them again after a crash. So every step is short, has no memory of
// its own, looks before it acts, and counts "done already" as success.
//
// The package knows no implementation: neither Ironic nor libvirt nor Docker.
// What drivers need from Keelson comes as [Services].
package drivers

import (
	"context"
	"time"
)

// Driver makes and keeps clusters of one kind of COE. All methods may be
// called from several goroutines at once, for different clusters and, except
// for Plan, for different steps of the same cluster.
type Driver interface {
	// Info says what the driver is and can do. It never changes while the
	// process runs and needs no network.
	Info() Info

	// ValidateTemplate refuses a cluster template that no cluster could be
	// made from. The error's text goes to the user as a 400 and names the
	// field and the rule. Called by the API, so it must be quick and local.
	ValidateTemplate(t *Template) error

	// ValidateCluster refuses a cluster (with its groups' counts) that could
	// not be made. Same rules as ValidateTemplate.
	ValidateCluster(t *Template, c *Cluster, groups []NodeGroup) error

	// Plan lists the steps that take the cluster to where the operation wants
	// it. The conductor calls it when it claims an operation and again after
	// each take-over; it must depend on nothing but job and give the same keys
	// (name, node) for the same operation, as steps already journalled as done
	// are not taken again. When job.Operation.Undo is set, the plan removes
	// what the failed operation half made.
	Plan(ctx context.Context, job *Job) ([]Step, error)

	// Run takes one step of the plan. It returns within ctx's deadline (some
	// seconds); work that takes longer is looked at again: Outcome.After > 0
	// asks to be called once more, later, with the same step. A temporary
	// error is retried with back-off until the step's deadline; one marked
	// permanent (package fault) ends the operation.
	Run(ctx context.Context, job *Job, step Step) (Outcome, error)

	// Health looks at a cluster that is there, some seconds at most. The
	// conductor calls it about once a minute for each cluster, also while an
	// operation changes it. The job has no operation, its nodes are those that
	// have joined and have not begun to leave, and its services can not change
	// anything: Nodes and Records answer ErrReadOnly. An error means that
	// nothing could be found out.
	Health(ctx context.Context, job *Job) (Health, error)
}

// Info describes a driver.
type Info struct {
	Name        string   // unique, lower case: "swarm"
	Version     string   // of the driver
	COEs        []string // values of a template's coe that it serves
	ServerTypes []string // values of a template's server_type: "vm", "bm"
	Distros     []string // os_distro of node images; empty means any
	// NetworkDrivers and VolumeDrivers that a template may name; the first
	// network driver is the default.
	NetworkDrivers []string
	VolumeDrivers  []string
	// Operations are the kinds that the driver plans beside Create, Update and
	// Delete: Upgrade, RotateCA, Rebuild.
	Operations []string
	// Stub marks a driver that validates and plans but makes no clusters.
	Stub bool
}

// Step is one node of the plan's graph. Name and NodeID together are its key.
type Step struct {
	Name   string // lower case words joined by dots: "node.start"
	NodeID string // uuid of the node, empty for the cluster as a whole
	// Needs are the keys of steps that must be done first.
	Needs []StepKey
	// Timeout bounds all tries of this step together; 0 means the configured
	// default ([conductor] step_timeout).
	Timeout time.Duration
}

// StepKey names a step within a plan.
type StepKey struct{ Name, NodeID string }

// Key returns the step's key.
func (s Step) Key() StepKey { return StepKey{s.Name, s.NodeID} }

// Outcome is what a step that did not fail came to.
type Outcome struct {
	// After > 0: not done yet, call again that much later. 0: done.
	After time.Duration
	// Message is for people and goes into the journal: "joined as a worker".
	Message string
}

// Done is the outcome of a step that is finished.
func Done(message string) Outcome { return Outcome{Message: message} }

// Again is the outcome of a step that must be looked at again after d.
func Again(d time.Duration, message string) Outcome {
	return Outcome{After: max(d, time.Millisecond), Message: message}
}

// Health is what a look at a cluster found.
type Health struct {
	Status  string            // HEALTHY, UNHEALTHY or UNKNOWN
	Reasons map[string]string // "api" → "ok", "<node>.Ready" → "False: …"
}

// Values of Health.Status, as in the API.
const (
	Healthy   = "HEALTHY"
	Unhealthy = "UNHEALTHY"
	Unknown   = "UNKNOWN"
)
