// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/keelson/keelson/internal/model"
)

// WaitingNode is a node that waits for room on a host, with the labels that say
// which hosts may give it.
type WaitingNode struct {
	model.Node
	GroupLabels   model.Labels `gorm:"serializer:json"`
	ClusterLabels model.Labels `gorm:"serializer:json"`
}

// WaitingNodes returns the nodes that have an address, wait for a host and are
// in the hands of an operation, the longest waiting first.
func (s *Store) WaitingNodes(ctx context.Context) ([]WaitingNode, error) {
	var waiting []WaitingNode
	err := s.read(ctx).Model(&model.Node{}).
		Select("nodes.*, node_groups.labels AS group_labels, clusters.labels AS cluster_labels").
		Joins("JOIN node_groups ON node_groups.uuid = nodes.node_group_id").
		Joins("JOIN clusters ON clusters.uuid = nodes.cluster_id").
		Where("nodes.state = ? AND nodes.host_id IS NULL AND nodes.address IS NOT NULL", model.NodeWanted).
		Where("EXISTS (SELECT 1 FROM operations WHERE operations.cluster_id = nodes.cluster_id AND operations.state = ?)", model.OpRunning).
		Order("nodes.id").Scan(&waiting).Error
	return waiting, failed("read the nodes that wait for a host", err)
}
