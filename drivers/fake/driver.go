// SPDX-License-Identifier: Apache-2.0

// Package fake is a driver for a pretended COE. It goes the whole way of a
// real one through drivers.Services, keeps what a COE would know in memory,
// and lets tests make any step fail, hang or crash: see [COE.Inject].
package fake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Names of the steps and calls, to inject faults into.
const (
	StepCertificates = "certificates"
	StepPlace        = "node.place"
	StepStart        = "node.start"
	StepForm         = "coe.form" // by the first master
	StepJoin         = "coe.join"
	StepRecord       = "cluster.record"
	StepLeave        = "coe.leave"
	StepRestore      = "coe.restore"
	StepRebuild      = "node.rebuild"
	StepDelete       = "node.delete"

	CallHealth = "health" // not a step: the whole of Health
)

// Version is what clusters are said to run.
const Version = "1.0"

// Driver makes clusters of the pretended COE.
type Driver struct {
	coe  *COE
	coes []string
}

// New returns a driver for the engine. It serves templates with coe "fake", or
// those named.
func New(coe *COE, coes ...string) *Driver {
	if len(coes) == 0 {
		coes = []string{"fake"}
	}
	return &Driver{coe: coe, coes: coes}
}

// Info implements drivers.Driver.
func (d *Driver) Info() drivers.Info {
	return drivers.Info{
		Name:           "fake",
		Version:        Version,
		COEs:           d.coes,
		ServerTypes:    []string{"vm", "bm"},
		NetworkDrivers: []string{"docker"},
		Operations:     []string{drivers.Upgrade, drivers.RotateCA, drivers.Rebuild},
	}
}

// ValidateTemplate implements drivers.Driver. The label "refuse" is the reason
// to refuse a template for.
func (d *Driver) ValidateTemplate(t *drivers.Template) error {
	if reason := t.Labels["refuse"]; reason != "" {
		return errors.New(reason)
	}
	return nil
}

// ValidateCluster implements drivers.Driver.
func (d *Driver) ValidateCluster(t *drivers.Template, _ *drivers.Cluster, groups []drivers.NodeGroup) error {
	for _, g := range groups {
		if g.Role == "master" && g.NodeCount > 0 {
			return d.ValidateTemplate(t)
		}
	}
	return errors.New("master_count must be at least 1")
}

// Plan implements drivers.Driver.
func (d *Driver) Plan(_ context.Context, job *drivers.Job) ([]drivers.Step, error) {
	op := job.Operation
	var fresh, leaving, all []*drivers.Node
	formed := false
	for i := range job.Nodes {
		n := &job.Nodes[i]
		all = append(all, n)
		if n.State == drivers.NodeLeaving {
			leaving = append(leaving, n)
		} else if n.State != drivers.NodeReady || op.Kind == drivers.Create {
			fresh = append(fresh, n)
		}
		if n.Master() && n.State == drivers.NodeReady && op.Kind == drivers.Update {
			formed = true
		}
	}
	switch {
	case op.Kind == drivers.Delete || op.Kind == drivers.Create && op.Undo:
		return deletePlan(all), nil
	case op.Kind == drivers.Update && op.Undo:
		steps := deletePlan(fresh)
		for _, n := range leaving {
			steps = append(steps, drivers.Step{Name: StepRestore, NodeID: n.ID})
		}
		return steps, nil
	case op.Kind == drivers.Create || op.Kind == drivers.Update:
		return growPlan(fresh, leaving, formed), nil
	case op.Kind == drivers.Upgrade || op.Kind == drivers.RotateCA || op.Kind == drivers.Rebuild:
		return renewPlan(op, all), nil
	}
	return nil, fault.Permanent(nil, "the fake driver knows no operation %q", op.Kind)
}

func deletePlan(nodes []*drivers.Node) []drivers.Step {
	var steps []drivers.Step
	for _, n := range nodes {
		steps = append(steps,
			drivers.Step{Name: StepLeave, NodeID: n.ID},
			drivers.Step{Name: StepDelete, NodeID: n.ID, Needs: []drivers.StepKey{{Name: StepLeave, NodeID: n.ID}}})
	}
	return steps
}

func growPlan(fresh, leaving []*drivers.Node, formed bool) []drivers.Step {
	certificates := drivers.Step{Name: StepCertificates}
	steps := []drivers.Step{certificates}
	record := drivers.Step{Name: StepRecord, Needs: []drivers.StepKey{certificates.Key()}}
	var form []drivers.StepKey
	for _, n := range fresh {
		place := drivers.Step{Name: StepPlace, NodeID: n.ID}
		start := drivers.Step{Name: StepStart, NodeID: n.ID, Needs: []drivers.StepKey{certificates.Key(), place.Key()}}
		join := drivers.Step{Name: StepJoin, NodeID: n.ID, Needs: append([]drivers.StepKey{start.Key()}, form...)}
		if n.Master() && !formed {
			formed = true
			join.Name = StepForm
			form = []drivers.StepKey{join.Key()}
		}
		steps = append(steps, place, start, join)
		record.Needs = append(record.Needs, join.Key())
	}
	for _, step := range deletePlan(leaving) {
		steps = append(steps, step)
		if step.Name == StepDelete {
			record.Needs = append(record.Needs, step.Key())
		}
	}
	return append(steps, record)
}

// renewPlan rebuilds the nodes of the operation's groups, as many at once as it
// allows.
func renewPlan(op drivers.Operation, nodes []*drivers.Node) []drivers.Step {
	steps := []drivers.Step{{Name: StepCertificates}}
	record := drivers.Step{Name: StepRecord, Needs: []drivers.StepKey{steps[0].Key()}}
	for _, n := range nodes {
		if !op.Concerns(n) {
			continue
		}
		rebuild := drivers.Step{Name: StepRebuild, NodeID: n.ID, Needs: []drivers.StepKey{steps[max(0, len(steps)-op.MaxBatchSize)].Key()}}
		steps = append(steps, rebuild)
		record.Needs = append(record.Needs, rebuild.Key())
	}
	return append(steps, record)
}

// Run implements drivers.Driver.
func (d *Driver) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error) {
	node := job.Node(step.NodeID)
	name := ""
	if node != nil {
		name = node.Name
	}
	if outcome, err := d.coe.before(ctx, step.Name, name); outcome != nil || err != nil {
		if outcome == nil {
			outcome = &drivers.Outcome{}
		}
		return *outcome, err
	}
	lost, err := d.coe.mishap(ctx, step.Name)
	if err != nil {
		return drivers.Outcome{}, err
	}
	outcome, err := d.run(ctx, job, step, node)
	if err == nil {
		d.coe.crash(step.Name, name)
		err = lost()
	}
	return outcome, err
}

func (d *Driver) run(ctx context.Context, job *drivers.Job, step drivers.Step, node *drivers.Node) (drivers.Outcome, error) {
	services := job.Services
	switch step.Name {
	case StepCertificates:
		if _, err := services.Certificates.Authority(ctx); err != nil {
			return drivers.Outcome{}, err
		}
		_, _, err := services.Certificates.Client(ctx)
		return drivers.Done("authority made"), err
	case StepPlace:
		return services.Nodes.Place(ctx, step.NodeID)
	case StepDelete:
		return services.Nodes.Delete(ctx, step.NodeID)
	case StepRecord:
		return d.record(ctx, job)
	case StepLeave:
		return drivers.Done("left"), d.coe.leave(job.Cluster.ID, step.NodeID)
	case StepStart, StepForm, StepJoin, StepRestore, StepRebuild:
		if node == nil {
			return drivers.Done("the node is gone"), nil
		}
	}
	switch step.Name {
	case StepStart:
		return build(ctx, job, node, services.Nodes.Start)
	case StepRebuild:
		return build(ctx, job, node, services.Nodes.Rebuild)
	case StepForm, StepJoin:
		return drivers.Done("joined"), d.coe.join(job.Cluster.ID, node)
	case StepRestore:
		if !d.coe.member(job.Cluster.ID, node.ID) {
			return services.Nodes.Delete(ctx, node.ID)
		}
		return drivers.Done("stays"), services.Records.Joined(ctx, node.ID, coeID(node))
	}
	return drivers.Outcome{}, fault.Permanent(nil, "the fake driver knows no step %q", step.Name)
}

// build has a node made with its files, by Start or Rebuild.
func build(ctx context.Context, job *drivers.Job, node *drivers.Node, make func(context.Context, string, []drivers.File) (drivers.Outcome, error)) (drivers.Outcome, error) {
	address, err := netip.ParseAddr(node.Address)
	if err != nil {
		return drivers.Outcome{}, fmt.Errorf("address of %s: %w", node.Name, err)
	}
	cert, key, err := job.Services.Certificates.Node(ctx, node.ID, node.Name, address)
	if err != nil {
		return drivers.Outcome{}, err
	}
	return make(ctx, node.ID, []drivers.File{
		{Path: "/etc/fake/cert.pem", Mode: 0o644, Content: cert},
		{Path: "/etc/fake/key.pem", Mode: 0o600, Content: key},
	})
}

// coeID is the pretended COE's id of a node.
func coeID(n *drivers.Node) string { return "fake-" + n.ID }

func (d *Driver) record(ctx context.Context, job *drivers.Job) (drivers.Outcome, error) {
	observed := drivers.Observed{StackID: "fake-" + job.Cluster.ID, COEVersion: Version, ContainerVersion: Version}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if n.State == drivers.NodeLeaving {
			continue
		}
		if n.Master() && observed.APIAddress == "" {
			observed.APIAddress = "tcp://" + netip.AddrPortFrom(netip.MustParseAddr(n.Address), 2376).String()
		}
		if n.State != drivers.NodeReady {
			if err := job.Services.Records.Joined(ctx, n.ID, coeID(n)); err != nil {
				return drivers.Outcome{}, err
			}
		}
	}
	return drivers.Done("cluster is complete"), job.Services.Records.Observed(ctx, observed)
}

// Health implements drivers.Driver.
func (d *Driver) Health(ctx context.Context, job *drivers.Job) (drivers.Health, error) {
	if _, err := d.coe.before(ctx, CallHealth, ""); err != nil {
		return drivers.Health{}, err
	}
	health := drivers.Health{Status: drivers.Healthy, Reasons: map[string]string{"api": "ok"}}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		switch {
		case n.State == drivers.NodeLeaving:
		case d.coe.ready(job.Cluster.ID, n.ID):
			health.Reasons[n.Name+".Ready"] = "True"
		default:
			health.Status = drivers.Unhealthy
			health.Reasons[n.Name+".Ready"] = "False"
		}
	}
	return health, nil
}
