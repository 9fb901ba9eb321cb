// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// claimableStates are the states of operations that have not ended.
var claimableStates = []model.OperationState{model.OpPending, model.OpRunning}

// Operation returns the operation. ErrNotFound.
func (s *Store) Operation(ctx context.Context, uuid string) (*model.Operation, error) {
	op, err := one[model.Operation](s.read(ctx).Where("uuid = ?", uuid))
	return op, failed("read the operation", err)
}

// Operations returns all operations of the cluster, ended ones too, oldest
// first. They outlive the cluster.
func (s *Store) Operations(ctx context.Context, clusterUUID string) ([]model.Operation, error) {
	var ops []model.Operation
	err := s.read(ctx).Where("cluster_id = ?", clusterUUID).Order("id").Find(&ops).Error
	return ops, failed("read the operations", err)
}

// LatestOperations returns the cluster's last operations, the newest first, at
// most limit, and their journals in the order the steps were first begun, by
// operation, in two queries.
func (s *Store) LatestOperations(ctx context.Context, clusterUUID string, limit int) ([]model.Operation, map[string][]model.Step, error) {
	const doing = "read the latest operations"
	var ops []model.Operation
	if err := s.read(ctx).Where("cluster_id = ?", clusterUUID).Order("id DESC").Limit(limit).Find(&ops).Error; err != nil || len(ops) == 0 {
		return nil, nil, failed(doing, err)
	}
	ids := make([]string, len(ops))
	for i := range ops {
		ids[i] = ops[i].UUID
	}
	var steps []model.Step
	if err := s.read(ctx).Where("operation_id IN ?", ids).Order("id").Find(&steps).Error; err != nil {
		return nil, nil, failed(doing, err)
	}
	journals := make(map[string][]model.Step, len(ops))
	for _, step := range steps {
		journals[step.OperationID] = append(journals[step.OperationID], step)
	}
	return ops, journals, nil
}

// Unpublished returns the uuids of operations whose message the broker has not
// confirmed and that have not ended, oldest first, at most limit.
func (s *Store) Unpublished(ctx context.Context, limit int) ([]string, error) {
	var uuids []string
	err := s.read(ctx).Model(&model.Operation{}).
		Where("published_at IS NULL AND state IN ?", claimableStates).
		Order("id").Limit(limit).Pluck("uuid", &uuids).Error
	return uuids, failed("read unpublished operations", err)
}

// MarkPublished notes that the broker has confirmed the operations' messages.
// Unknown uuids and those marked before are left alone.
func (s *Store) MarkPublished(ctx context.Context, uuids ...string) error {
	if len(uuids) == 0 {
		return nil
	}
	return s.write(ctx, "mark operations as published", func(tx *gorm.DB) error {
		return tx.Model(&model.Operation{}).Where("uuid IN ? AND published_at IS NULL", uuids).
			Updates(map[string]any{"published_at": s.now()}).Error
	})
}

// Steps returns the operation's journal in the order the steps were first
// begun.
func (s *Store) Steps(ctx context.Context, operationUUID string) ([]model.Step, error) {
	var steps []model.Step
	err := s.read(ctx).Where("operation_id = ?", operationUUID).Order("id").Find(&steps).Error
	return steps, failed("read the steps", err)
}
