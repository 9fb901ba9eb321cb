// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// CreateNodeGroup stores a further node group of the cluster g.ClusterID with
// the operation that will make its nodes, and returns the operation to be
// announced. The group becomes CREATE_IN_PROGRESS, the cluster
// UPDATE_IN_PROGRESS; an empty UUID and CreatedAt, and ProjectID, are filled
// in.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned. ErrExists when the
// cluster has a group of that name; ErrNotFound.
func (s *Store) CreateNodeGroup(ctx context.Context, g *model.NodeGroup, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var (
		row       model.NodeGroup
		operation *model.Operation
	)
	err := s.write(ctx, "create the node group", func(tx *gorm.DB) error {
		c, err := lockCluster(tx, g.ClusterID)
		if err != nil {
			return err
		}
		if !allowed(c.Status) {
			return &StatusError{Status: c.Status}
		}
		row = *g
		row.ID = 0
		if row.UUID == "" {
			row.UUID = uuid.NewString()
		}
		row.ProjectID = c.ProjectID
		row.Status, row.StatusReason = model.CreateInProgress, nil
		s.stamp(&row.CreatedAt)
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		operation, err = s.updateGroup(tx, c, model.OperationSpec{
			NodeGroups: []string{row.UUID}, NodeCounts: map[string]int{row.UUID: 0}, GroupKind: model.OpCreate,
		}, nil, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	*g = row
	return operation, nil
}

// UpdateNodeGroupLimits writes how few and how many nodes the group may have
// (nil or 0: no upper bound), makes cluster and group UPDATE_IN_PROGRESS and
// returns the operation to be announced.
//
// check is asked with the locked group as it would be, but for its status,
// which is the one before; its error is returned and nothing changes.
// ErrNotFound.
func (s *Store) UpdateNodeGroupLimits(ctx context.Context, clusterUUID, groupUUID string, least int, most *int, check func(model.NodeGroup) error, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "update the node group", func(tx *gorm.DB) error {
		c, err := lockCluster(tx, clusterUUID)
		if err != nil {
			return err
		}
		g, err := groupOf(tx, clusterUUID, groupUUID)
		if err != nil {
			return err
		}
		g.MinNodeCount, g.MaxNodeCount = least, most
		if err := check(*g); err != nil {
			return err
		}
		change := s.status(model.UpdateInProgress, nil)
		change["min_node_count"], change["max_node_count"] = least, most
		operation, err = s.updateGroup(tx, c, model.OperationSpec{NodeGroups: []string{groupUUID}}, change, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// DeleteNodeGroup asks for the group and its nodes to be removed: it sets the
// group's count to 0, makes the group DELETE_IN_PROGRESS and the cluster
// UPDATE_IN_PROGRESS, and returns the operation to be announced, at whose end
// the group is gone. When the group is being deleted already nothing changes
// and both results are nil.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned. ErrNotFound.
func (s *Store) DeleteNodeGroup(ctx context.Context, clusterUUID, groupUUID string, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "delete the node group", func(tx *gorm.DB) error {
		operation = nil
		c, err := lockCluster(tx, clusterUUID)
		if err != nil {
			return err
		}
		g, err := groupOf(tx, clusterUUID, groupUUID)
		if err != nil || g.Status == model.DeleteInProgress {
			return err
		}
		if !allowed(c.Status) {
			return &StatusError{Status: c.Status}
		}
		change := s.status(model.DeleteInProgress, nil)
		change["node_count"] = 0
		operation, err = s.updateGroup(tx, c, model.OperationSpec{
			NodeGroups: []string{groupUUID}, NodeCounts: map[string]int{groupUUID: g.NodeCount}, GroupKind: model.OpDelete,
		}, change, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// groupOf returns a node group of the locked cluster.
func groupOf(tx *gorm.DB, clusterUUID, groupUUID string) (*model.NodeGroup, error) {
	var g model.NodeGroup
	return &g, tx.Where("cluster_id = ? AND uuid = ?", clusterUUID, groupUUID).Take(&g).Error
}

// updateGroup makes the locked cluster UPDATE_IN_PROGRESS, changes the row of
// the one group that the operation is about and writes the operation.
func (s *Store) updateGroup(tx *gorm.DB, c *model.Cluster, spec model.OperationSpec, change map[string]any, op NewOperation) (*model.Operation, error) {
	err := tx.Model(&model.Cluster{}).Where("uuid = ?", c.UUID).Updates(s.status(model.UpdateInProgress, nil)).Error
	if err != nil {
		return nil, err
	}
	if len(change) > 0 {
		if err := tx.Model(&model.NodeGroup{}).Where("uuid = ?", spec.NodeGroups[0]).Updates(change).Error; err != nil {
			return nil, err
		}
	}
	return s.newOperation(tx, c, model.OpUpdate, spec, op)
}
