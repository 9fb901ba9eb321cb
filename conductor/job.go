// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// everything is the scope of the system itself.
var everything = store.Scope{All: true}

// records are what an attempt at an operation reads once. A template that is in
// use does not change, nor does an authority; what is asked of the groups later
// belongs to a later operation.
type records struct {
	template     *model.ClusterTemplate
	groups       []model.NodeGroup
	certificates *ca.Cluster
}

// job reads the cluster and its nodes afresh and hands them to the driver as
// copies of its own.
func (r *runner) job(ctx context.Context) (*drivers.Job, error) {
	cluster, err := r.Store.Cluster(ctx, everything, r.op.ClusterID)
	if err != nil {
		return nil, fmt.Errorf("reading cluster %s: %w", r.op.ClusterID, err)
	}
	read, err := r.recordsOf(ctx, cluster)
	if err != nil {
		return nil, err
	}
	nodes, err := r.Store.Nodes(ctx, cluster.UUID)
	if err != nil {
		return nil, fmt.Errorf("reading nodes: %w", err)
	}
	job, err := r.describe(cluster, read.template, read.groups, nodes[cluster.UUID])
	if err != nil {
		return nil, err
	}
	job.Operation = drivers.Operation{
		ID: r.op.UUID, Kind: string(r.op.Kind), Undo: r.op.Undo,
		Groups: r.op.Spec.NodeGroups, Nodes: r.op.Spec.Nodes, MaxBatchSize: max(r.op.Spec.MaxBatchSize, 1),
	}
	bound := &services{runner: r, cluster: cluster, groups: read.groups, nodes: nodes[cluster.UUID]}
	job.Services = drivers.Services{Nodes: bound, Certificates: read.certificates, Records: bound}
	return job, nil
}

// recordsOf returns the cluster's records that are read once.
func (r *runner) recordsOf(ctx context.Context, cluster *model.Cluster) (records, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.read.template != nil {
		return r.read, nil
	}
	template, err := r.Store.Template(ctx, everything, cluster.TemplateID)
	if err != nil {
		return records{}, fmt.Errorf("reading cluster template %s: %w", cluster.TemplateID, err)
	}
	groups, err := r.Store.NodeGroups(ctx, cluster.UUID)
	if err != nil {
		return records{}, fmt.Errorf("reading node groups: %w", err)
	}
	r.read = records{template, groups[cluster.UUID], r.Certificates.Of(cluster)}
	return r.read, nil
}

// describe makes a job of a cluster's records, without operation and services.
func (c *Conductor) describe(cluster *model.Cluster, template *model.ClusterTemplate, groups []model.NodeGroup, nodes []model.Node) (*drivers.Job, error) {
	var state []byte
	if len(cluster.DriverState) > 0 {
		var err error
		if state, err = c.Sealer.Open(cluster.DriverState, model.DriverStateContext, cluster.UUID); err != nil {
			return nil, fault.Permanent(err, "the driver's stored state can not be read: the operator must bring back the key it was sealed with")
		}
	}
	job := &drivers.Job{
		Cluster: drivers.Cluster{
			ID: cluster.UUID, Name: cluster.Name, ProjectID: cluster.ProjectID, UserID: cluster.UserID,
			Labels: cluster.Labels, APIAddress: deref(cluster.APIAddress), State: state,
		},
		Template: *JobTemplate(template),
	}
	order := make(map[string]int)
	for i, g := range groups {
		order[g.UUID] = i
		job.Groups = append(job.Groups, drivers.NodeGroup{ID: g.UUID, Name: g.Name, Role: g.Role, NodeCount: g.NodeCount, Labels: g.Labels})
	}
	for _, n := range nodes {
		job.Nodes = append(job.Nodes, drivers.Node{
			ID: n.UUID, Name: n.Name, GroupID: n.NodeGroupID, Role: n.Role, Index: n.Index, State: drivers.NodeState(n.State),
			Host: deref(n.HostID), Zone: c.Zone, Address: deref(n.Address), COEID: deref(n.COEID),
			Stale: n.Revision != n.RootRevision(cluster),
		})
	}
	slices.SortFunc(job.Nodes, func(a, b drivers.Node) int {
		if c := order[a.GroupID] - order[b.GroupID]; c != 0 {
			return c
		}
		return a.Index - b.Index
	})
	return job, nil
}

// driverFor returns the driver that the cluster's template calls for.
func (c *Conductor) driverFor(job *drivers.Job) (drivers.Driver, error) {
	d, err := c.Drivers.For(&job.Template)
	if err != nil {
		return nil, fault.Permanent(err, "no driver serves this cluster: %v", err)
	}
	return d, nil
}

// JobTemplate is the part of a cluster template that drivers see.
func JobTemplate(t *model.ClusterTemplate) *drivers.Template {
	return &drivers.Template{
		ID: t.UUID, Name: deref(t.Name), Driver: deref(t.Driver), COE: t.COE, ServerType: t.ServerType, ImageID: t.ImageID, Distro: deref(t.ClusterDistro),
		NetworkDriver: deref(t.NetworkDriver), VolumeDriver: deref(t.VolumeDriver), DockerStorageDriver: deref(t.DockerStorageDriver),
		TLSDisabled: t.TLSDisabled, MasterLBEnabled: t.MasterLBEnabled, RegistryEnabled: t.RegistryEnabled,
		InsecureRegistry: deref(t.InsecureRegistry), HTTPProxy: deref(t.HTTPProxy), HTTPSProxy: deref(t.HTTPSProxy), NoProxy: deref(t.NoProxy),
		DNSNameserver: strings.TrimSpace(deref(t.DNSNameserver)), Labels: t.Labels,
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
