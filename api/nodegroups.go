// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

var nodeGroupPatchRules = patchRules{internal: []string{
	"name", "cluster_id", "docker_volume_size", "labels", "flavor_id", "image_id", "node_addresses", "node_count",
	"role", "is_default", "stack_id", "status", "status_reason", "version",
}}

// nodeGroup finds a group of the cluster by uuid, name or id.
func (a *API) nodeGroup(c *call, cluster *model.Cluster, ident string) (*model.NodeGroup, error) {
	group, err := a.Store.NodeGroup(c.Context(), cluster.UUID, ident)
	return group, foundAs("Nodegroup", ident, err)
}

func (a *API) listNodeGroups(c *call) (response, error) {
	page, err := a.page(c)
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	all, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	groups := all[cluster.UUID]
	if role, given := c.args["role"]; given {
		groups = slices.DeleteFunc(groups, func(g model.NodeGroup) bool { return g.Role != role })
	}
	groups, err = pageOfGroups(groups, page)
	if err != nil {
		return response{}, err
	}
	body := v1.NodeGroupSummaries{NodeGroups: each(groups, renderNodeGroupSummary)}
	if n := len(groups); n > 0 {
		body.Next = c.next("/v1/clusters/"+cluster.UUID+"/nodegroups", page, n, groups[n-1].UUID)
	}
	return ok(body), nil
}

// groupOrder compares two groups by a column. A cluster has few groups, so
// they are sorted here.
var groupOrder = map[string]func(x, y *model.NodeGroup) int{
	"id":                 func(x, y *model.NodeGroup) int { return cmp.Compare(x.ID, y.ID) },
	"uuid":               func(x, y *model.NodeGroup) int { return cmp.Compare(x.UUID, y.UUID) },
	"name":               func(x, y *model.NodeGroup) int { return cmp.Compare(x.Name, y.Name) },
	"cluster_id":         func(_, _ *model.NodeGroup) int { return 0 },
	"project_id":         func(x, y *model.NodeGroup) int { return cmp.Compare(x.ProjectID, y.ProjectID) },
	"role":               func(x, y *model.NodeGroup) int { return cmp.Compare(x.Role, y.Role) },
	"flavor_id":          func(x, y *model.NodeGroup) int { return compareNullable(x.FlavorID, y.FlavorID) },
	"image_id":           func(x, y *model.NodeGroup) int { return compareNullable(x.ImageID, y.ImageID) },
	"docker_volume_size": func(x, y *model.NodeGroup) int { return compareNullable(x.DockerVolumeSize, y.DockerVolumeSize) },
	"node_count":         func(x, y *model.NodeGroup) int { return cmp.Compare(x.NodeCount, y.NodeCount) },
	"min_node_count":     func(x, y *model.NodeGroup) int { return cmp.Compare(x.MinNodeCount, y.MinNodeCount) },
	"max_node_count":     func(x, y *model.NodeGroup) int { return compareNullable(x.MaxNodeCount, y.MaxNodeCount) },
	"status":             func(x, y *model.NodeGroup) int { return cmp.Compare(x.Status, y.Status) },
	"status_reason":      func(x, y *model.NodeGroup) int { return compareNullable(x.StatusReason, y.StatusReason) },
	"stack_id":           func(x, y *model.NodeGroup) int { return compareNullable(x.StackID, y.StackID) },
	"version":            func(x, y *model.NodeGroup) int { return compareNullable(x.Version, y.Version) },
	"created_at":         func(x, y *model.NodeGroup) int { return x.CreatedAt.Compare(y.CreatedAt) },
	"updated_at": func(x, y *model.NodeGroup) int {
		return or(x.UpdatedAt, time.Time{}).Compare(or(y.UpdatedAt, time.Time{}))
	},
}

// compareNullable puts null first.
func compareNullable[T cmp.Ordered](x, y *T) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	return cmp.Compare(*x, *y)
}

func pageOfGroups(groups []model.NodeGroup, page store.Page) ([]model.NodeGroup, error) {
	order, known := groupOrder[page.SortKey]
	if !known {
		return nil, store.ErrBadSortKey
	}
	slices.SortStableFunc(groups, func(x, y model.NodeGroup) int {
		way := cmp.Or(order(&x, &y), cmp.Compare(x.ID, y.ID))
		if page.SortDir == "desc" {
			return -way
		}
		return way
	})
	if page.Marker != "" {
		at := slices.IndexFunc(groups, func(g model.NodeGroup) bool { return g.UUID == page.Marker })
		if at < 0 {
			return nil, store.ErrBadMarker
		}
		groups = groups[at+1:]
	}
	return groups[:min(len(groups), page.Limit)], nil
}

func (a *API) showNodeGroup(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	group, err := a.nodeGroup(c, cluster, c.PathValue("group"))
	if err != nil {
		return response{}, err
	}
	nodes, err := a.Store.Nodes(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	return ok(c.renderNodeGroup(cluster, group, nodes[cluster.UUID])), nil
}

func (a *API) createNodeGroup(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	group, mergeLabels := readNodeGroup(o)
	if err := o.done(); err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	if cluster.APIAddress == nil {
		return response{}, conflict("The cluster %s has no api_address yet: wait for its creation to complete.", cluster.Name)
	}
	taken := conflict("A node group with the name %s already exists in the cluster %s.", group.Name, cluster.Name)
	groups, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	if slices.ContainsFunc(groups[cluster.UUID], func(g model.NodeGroup) bool { return g.Name == group.Name }) {
		return response{}, taken
	}
	if err := checkBounds(group); err != nil {
		return response{}, err
	}
	if group.Master() {
		return response{}, badRequest("Creating node groups with the role %s is not possible.", model.RoleMaster)
	}
	if err := a.fillNodeGroup(c, group, cluster, mergeLabels); err != nil {
		return response{}, err
	}
	operation, err := a.Store.CreateNodeGroup(c.Context(), group, model.Status.Updatable, a.operation(c, a.config.OperationTimeout))
	if status, ok := errors.AsType[*store.StatusError](err); ok {
		return response{}, conflict("No node group can be created while the cluster is in status %s.", status.Status)
	}
	if errors.Is(err, store.ErrExists) { // since it was looked up
		return response{}, taken
	}
	if err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	a.announce(c, operation)
	return accepted(c.renderNewNodeGroup(cluster, group)), nil
}

// readNodeGroup reads what users may say of a new group, and whether its
// labels are to be merged into the cluster's.
func readNodeGroup(o *object) (group *model.NodeGroup, mergeLabels bool) {
	o.readOnly("project_id", "stack_id", "node_addresses", "links", "created_at", "updated_at")
	o.uuid("uuid") // the service makes its own
	o.enum("status", clusterStatuses...)
	o.boolean("is_default") // the defaults are those the cluster was made with
	o.ignored("id", "cluster_id", "status_reason", "version", "labels_overridden", "labels_added", "labels_skipped")
	group = &model.NodeGroup{
		Name:             o.required("name", 1, maxText),
		Role:             or(o.text("role", 1, maxText), model.RoleWorker),
		DockerVolumeSize: o.integer("docker_volume_size", 1),
		FlavorID:         o.text("flavor_id", 1, maxText),
		ImageID:          o.text("image_id", 1, maxText),
		NodeCount:        or(o.integer("node_count", 0), 1),
		MinNodeCount:     or(o.integer("min_node_count", 0), 0),
		MaxNodeCount:     o.integer("max_node_count", 0),
		Labels:           o.labels("labels"),
	}
	return group, or(o.boolean("merge_labels"), false)
}

// fillNodeGroup fills in what a new group has from its cluster or template.
func (a *API) fillNodeGroup(c *call, group *model.NodeGroup, cluster *model.Cluster, mergeLabels bool) error {
	group.UUID = uuid.NewString()
	group.ClusterID, group.ProjectID = cluster.UUID, cluster.ProjectID
	group.FlavorID = either(group.FlavorID, cluster.FlavorID)
	if group.Labels == nil || mergeLabels { // labels that are given as {} stay so
		group.Labels = mergedLabels(cluster.Labels, group.Labels, mergeLabels)
	}
	if group.ImageID != nil {
		return nil
	}
	template, err := a.templateOf(c, cluster)
	if err != nil {
		return err
	}
	group.ImageID = &template.ImageID
	return nil
}

// checkBounds holds the three counts of a group against each other; a
// max_node_count of null or 0 is no bound.
func checkBounds(g *model.NodeGroup) error {
	most := or(g.MaxNodeCount, 0)
	switch {
	case most > 0 && g.MinNodeCount > most:
		return conflict("The min_node_count %d is more than the max_node_count %d.", g.MinNodeCount, most)
	case most > 0 && g.NodeCount > most:
		return conflict("The node_count %d is more than the max_node_count %d.", g.NodeCount, most)
	case g.NodeCount < g.MinNodeCount:
		return conflict("The node_count %d is less than the min_node_count %d.", g.NodeCount, g.MinNodeCount)
	}
	return nil
}

func (a *API) updateNodeGroup(c *call) (response, error) {
	patch, err := c.readPatch(nodeGroupPatchRules)
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	group, err := a.nodeGroup(c, cluster, c.PathValue("group"))
	if err != nil {
		return response{}, err
	}
	nodes, err := a.Store.Nodes(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	before := c.renderNodeGroup(cluster, group, nodes[cluster.UUID])
	least, most, err := patchNodeGroup(before, patch)
	if err != nil {
		return response{}, err
	}
	if least != group.MinNodeCount || compareNullable(most, group.MaxNodeCount) != 0 {
		if err := a.limitNodeGroup(c, group, least, most); err != nil {
			return response{}, err
		}
	}
	after := before
	after.MinNodeCount, after.MaxNodeCount = least, most
	return accepted(after), nil
}

// patchNodeGroup returns the limits that a patch asks for: all else is
// internal.
func patchNodeGroup(before v1.NodeGroup, patch []patchOperation) (least int, most *int, err error) {
	doc, err := newDocument(before, "merge_labels", "labels_overridden", "labels_added", "labels_skipped")
	if err != nil {
		return 0, nil, err
	}
	patched, err := doc.apply(patch)
	if err != nil {
		return 0, nil, err
	}
	o := newObject(patched)
	o.patched = true
	least = or(o.integer("min_node_count", 0), 0)
	most = o.integer("max_node_count", 0)
	return least, most, o.err
}

// limitNodeGroup stores new limits. In a status that does not allow it nothing
// happens, see changeCluster.
func (a *API) limitNodeGroup(c *call, group *model.NodeGroup, least int, most *int) error {
	check := func(g model.NodeGroup) error {
		if err := checkBounds(&g); err != nil {
			return err
		}
		if !g.Status.Updatable() {
			return store.ErrStatus
		}
		return nil
	}
	operation, err := a.Store.UpdateNodeGroupLimits(c.Context(), group.ClusterID, group.UUID, least, most, check, a.operation(c, a.config.OperationTimeout))
	if errors.Is(err, store.ErrStatus) {
		return nil
	}
	if err != nil {
		return foundAs("Nodegroup", c.PathValue("group"), err)
	}
	a.announce(c, operation)
	return nil
}

func (a *API) deleteNodeGroup(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	group, err := a.nodeGroup(c, cluster, c.PathValue("group"))
	if err != nil {
		return response{}, err
	}
	if group.IsDefault {
		return response{}, badRequest("Deleting the default node group %s is not possible.", group.Name)
	}
	operation, err := a.Store.DeleteNodeGroup(c.Context(), cluster.UUID, group.UUID, model.Status.Updatable, a.operation(c, a.config.OperationTimeout))
	if status, ok := errors.AsType[*store.StatusError](err); ok {
		return response{}, conflict("No node group can be deleted while the cluster is in status %s: delete the cluster.", status.Status)
	}
	if err != nil {
		return response{}, foundAs("Nodegroup", c.PathValue("group"), err)
	}
	a.announce(c, operation)
	return noContent(), nil
}

func renderNodeGroupSummary(g *model.NodeGroup) v1.NodeGroupSummary {
	return v1.NodeGroupSummary{
		UUID:      g.UUID,
		Name:      g.Name,
		FlavorID:  g.FlavorID,
		ImageID:   g.ImageID,
		NodeCount: g.NodeCount,
		Role:      g.Role,
		IsDefault: g.IsDefault,
		StackID:   g.StackID,
		Status:    string(g.Status),
	}
}

func (c *call) renderNodeGroup(cluster *model.Cluster, g *model.NodeGroup, nodes []model.Node) v1.NodeGroup {
	summary := renderNodeGroupSummary(g)
	summary.MinNodeCount, summary.MaxNodeCount = g.MinNodeCount, g.MaxNodeCount
	return v1.NodeGroup{
		NodeGroupSummary: summary,
		ID:               g.ID,
		ClusterID:        cluster.UUID,
		ProjectID:        g.ProjectID,
		DockerVolumeSize: g.DockerVolumeSize,
		Labels:           present(g.Labels),
		StatusReason:     g.StatusReason,
		Version:          g.Version,
		NodeAddresses:    addresses(nodes, func(n *model.Node) bool { return n.NodeGroupID == g.UUID }),
		LabelDifferences: compareLabels(cluster.Labels, g.Labels),
		Links:            c.links("/clusters/" + cluster.UUID + "/nodegroups/" + g.UUID),
		CreatedAt:        v1.Time(g.CreatedAt),
		UpdatedAt:        wireTime(g.UpdatedAt),
	}
}

// renderNewNodeGroup shows a group as it was asked for; what only the record
// of it has is left out, as Magnum does.
func (c *call) renderNewNodeGroup(cluster *model.Cluster, g *model.NodeGroup) v1.NewNodeGroup {
	return v1.NewNodeGroup{
		UUID:             g.UUID,
		Name:             g.Name,
		ClusterID:        cluster.UUID,
		ProjectID:        g.ProjectID,
		DockerVolumeSize: g.DockerVolumeSize,
		Labels:           present(g.Labels),
		FlavorID:         g.FlavorID,
		ImageID:          g.ImageID,
		NodeCount:        g.NodeCount,
		Role:             g.Role,
		MinNodeCount:     g.MinNodeCount,
		MaxNodeCount:     g.MaxNodeCount,
		LabelDifferences: compareLabels(cluster.Labels, g.Labels),
		Links:            c.links("/clusters/" + cluster.UUID + "/nodegroups/" + g.UUID),
	}
}
