// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"slices"
	"time"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

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

// createNodeGroup, updateNodeGroup and deleteNodeGroup say that this release
// serves the two default groups only.
func (a *API) createNodeGroup(c *call) (response, error) {
	return a.refuseNodeGroupChange(c, "")
}

func (a *API) updateNodeGroup(c *call) (response, error) {
	return a.refuseNodeGroupChange(c, c.PathValue("group"))
}

func (a *API) deleteNodeGroup(c *call) (response, error) {
	return a.refuseNodeGroupChange(c, c.PathValue("group"))
}

func (a *API) refuseNodeGroupChange(c *call, ident string) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	if ident != "" {
		if _, err := a.nodeGroup(c, cluster, ident); err != nil {
			return response{}, err
		}
	}
	return response{}, badRequest("Clusters have the node groups %s and %s only; others can not be made, changed or deleted.", defaultMaster, defaultWorker)
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
