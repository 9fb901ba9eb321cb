// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// What clients ask for most is read column by column here, without rows of
// whole models: these questions are most of an API's work.

// ClusterSummary is what lists tell of a cluster.
type ClusterSummary struct {
	model.Cluster        // without what lists do not tell
	Masters, Workers int // that its groups are to have, together
}

// ClusterSummaries returns summaries of the clusters of the scope, in one
// query. ErrBadSortKey, ErrBadMarker.
func (s *Store) ClusterSummaries(ctx context.Context, sc Scope, p Page) ([]ClusterSummary, error) {
	const doing = "list clusters"
	page, err := paged[model.Cluster](sc.own(s.read(ctx)), p, "uuid")
	if err != nil {
		return nil, failed(doing, err)
	}
	const sum = "(SELECT COALESCE(SUM(node_count), 0) FROM node_groups WHERE node_groups.cluster_id = clusters.uuid AND role "
	rows := page.Model(&model.Cluster{}).Select("uuid, name, cluster_template_id, keypair, docker_volume_size, labels, flavor_id, master_flavor_id, "+
		"create_timeout, status, health_status, stack_id, "+sum+"= ?), "+sum+"<> ?)", model.RoleMaster, model.RoleMaster)
	summaries := make([]ClusterSummary, 0, min(p.Limit, 1000))
	err = eachRow(rows, func(row *sql.Rows) error {
		var c ClusterSummary
		err := row.Scan(&c.UUID, &c.Name, &c.TemplateID, &c.Keypair, &c.DockerVolumeSize, labels{&c.Labels}, &c.FlavorID, &c.MasterFlavorID,
			&c.CreateTimeout, &c.Status, &c.HealthStatus, &c.StackID, &c.Masters, &c.Workers)
		summaries = append(summaries, c)
		return err
	})
	return summaries, failed(doing, err)
}

// ClusterParts is what answers tell of a cluster beside its own row.
type ClusterParts struct {
	Groups         []model.NodeGroup // oldest first: Name, Role, NodeCount, Status, StatusReason
	Nodes          []model.Node      // that have joined, by group and index: Role, State, Address
	TemplateLabels model.Labels      // nil when the template is gone
}

// ClusterParts returns the parts of the clusters, by cluster uuid, in three
// queries however many there are.
func (s *Store) ClusterParts(ctx context.Context, clusterUUIDs ...string) (map[string]*ClusterParts, error) {
	const doing = "read the parts of clusters"
	parts := make(map[string]*ClusterParts, len(clusterUUIDs))
	if len(clusterUUIDs) == 0 {
		return parts, nil
	}
	for _, id := range clusterUUIDs {
		parts[id] = &ClusterParts{}
	}
	groups := s.read(ctx).Model(&model.NodeGroup{}).Select("cluster_id, name, role, node_count, status, status_reason").
		Where("cluster_id IN ?", clusterUUIDs).Order("id")
	err := eachRow(groups, func(row *sql.Rows) error {
		var g model.NodeGroup
		if err := row.Scan(&g.ClusterID, &g.Name, &g.Role, &g.NodeCount, &g.Status, &g.StatusReason); err != nil {
			return err
		}
		parts[g.ClusterID].Groups = append(parts[g.ClusterID].Groups, g)
		return nil
	})
	if err != nil {
		return nil, failed(doing, err)
	}
	nodes := s.read(ctx).Model(&model.Node{}).Select("nodes.cluster_id, nodes.role, nodes.state, nodes.address").
		Joins("LEFT JOIN node_groups ON node_groups.uuid = nodes.node_group_id").
		Where("nodes.cluster_id IN ? AND nodes.state = ?", clusterUUIDs, model.NodeReady).
		Order("node_groups.id, nodes.ordinal, nodes.id")
	err = eachRow(nodes, func(row *sql.Rows) error {
		var n model.Node
		if err := row.Scan(&n.ClusterID, &n.Role, &n.State, &n.Address); err != nil {
			return err
		}
		parts[n.ClusterID].Nodes = append(parts[n.ClusterID].Nodes, n)
		return nil
	})
	if err != nil {
		return nil, failed(doing, err)
	}
	templates := s.read(ctx).Model(&model.Cluster{}).Select("clusters.uuid, t.labels").
		Joins("JOIN cluster_templates t ON t.uuid = clusters.cluster_template_id").
		Where("clusters.uuid IN ?", clusterUUIDs)
	err = eachRow(templates, func(row *sql.Rows) error {
		var id string
		var of model.Labels
		if err := row.Scan(&id, labels{&of}); err != nil {
			return err
		}
		parts[id].TemplateLabels = of
		return nil
	})
	return parts, failed(doing, err)
}

// eachRow asks the query and hands over its rows one by one.
func eachRow(query *gorm.DB, scan func(*sql.Rows) error) error {
	rows, err := query.Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// labels scans a column of labels: JSON, or NULL for none.
type labels struct{ to *model.Labels }

func (l labels) Scan(value any) error {
	switch text := value.(type) {
	case []byte:
		if len(text) > 0 {
			return json.Unmarshal(text, l.to)
		}
	case string:
		if text != "" {
			return json.Unmarshal([]byte(text), l.to)
		}
	}
	return nil
}
