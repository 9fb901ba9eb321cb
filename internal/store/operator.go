// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// OperationFilter says which operations are looked for; empty fields let all
// pass.
type OperationFilter struct {
	Cluster string // uuid
	Project string
	States  []model.OperationState
}

// ListOperations returns operations, the newest first, at most limit.
func (s *Store) ListOperations(ctx context.Context, f OperationFilter, limit int) ([]model.Operation, error) {
	db := s.read(ctx)
	if f.Cluster != "" {
		db = db.Where("cluster_id = ?", f.Cluster)
	}
	if f.Project != "" {
		db = db.Where("project_id = ?", f.Project)
	}
	if len(f.States) > 0 {
		db = db.Where("state IN ?", f.States)
	}
	var ops []model.Operation
	err := db.Order("id DESC").Limit(limit).Find(&ops).Error
	return ops, failed("list operations", err)
}

// CancelOperation ends the time that the operation has, for that reason: the
// next conductor to take it finds it out of time, removes what it half made and
// says the reason to the user. One that works on it now stops at its next
// write; others leave the operation alone for pause, so that both do not work
// on it at once. Cancelled already is success. ErrOperation when it has ended,
// failed already, or is a delete, which has no way back; ErrNotFound.
func (s *Store) CancelOperation(ctx context.Context, uuid, reason string, pause time.Duration) (*model.Operation, error) {
	var op model.Operation
	err := s.write(ctx, "cancel the operation", func(tx *gorm.DB) error {
		op = model.Operation{}
		if err := tx.Clauses(forUpdate).Where("uuid = ?", uuid).Take(&op).Error; err != nil {
			return err
		}
		switch {
		case op.State.Terminal():
			return fmt.Errorf("%w: it has ended, it is %s", ErrOperation, op.State)
		case op.Kind == model.OpDelete:
			return fmt.Errorf("%w: a delete has no way back", ErrOperation)
		case op.Undo:
			return fmt.Errorf("%w: it has failed, and what it half made is being removed", ErrOperation)
		case op.Reason != nil:
			return nil
		}
		change := map[string]any{
			"reason": clip(reason), "deadline": op.CreatedAt, "not_before": nil, "published_at": nil,
			"owner": "", "lease_until": nil, "state": model.OpPending,
			"generation": gorm.Expr("generation + 1"), "writes": gorm.Expr("writes + 1"),
		}
		if op.Owner != "" {
			change["not_before"] = s.clock.after(pause)
		}
		if err := tx.Model(&model.Operation{}).Where("uuid = ?", uuid).Updates(change).Error; err != nil {
			return err
		}
		return tx.Where("uuid = ?", uuid).Take(&op).Error
	})
	if err != nil {
		return nil, err
	}
	return &op, nil
}

// RetryNow lets an operation that waits to be stepped again be claimed at once.
// ErrOperation when a conductor works on it, or it has ended; ErrNotFound.
func (s *Store) RetryNow(ctx context.Context, uuid string) error {
	return s.write(ctx, "try the operation at once", func(tx *gorm.DB) error {
		var op model.Operation
		if err := tx.Clauses(forUpdate).Where("uuid = ?", uuid).Take(&op).Error; err != nil {
			return err
		}
		if op.State.Terminal() {
			return fmt.Errorf("%w: it has ended, it is %s", ErrOperation, op.State)
		}
		r := tx.Model(&model.Operation{}).Where("uuid = ? AND (lease_until IS NULL OR lease_until < "+s.clock.now+")", uuid).
			Updates(map[string]any{"not_before": nil, "published_at": nil})
		if r.Error == nil && r.RowsAffected == 0 {
			return fmt.Errorf("%w: conductor %s works on it", ErrOperation, op.Owner)
		}
		return r.Error
	})
}

// RetryCreate asks again for the create that failed: it must be the cluster's
// last operation. Cluster and groups become CREATE_IN_PROGRESS. ErrOperation,
// ErrNotFound.
func (s *Store) RetryCreate(ctx context.Context, uuid string, request NewOperation) (*model.Operation, error) {
	var again *model.Operation
	err := s.write(ctx, "repeat the create", func(tx *gorm.DB) error {
		again = nil
		var op model.Operation
		if err := tx.Where("uuid = ?", uuid).Take(&op).Error; err != nil {
			return err
		}
		if op.Kind != model.OpCreate || op.State != model.OpFailed {
			return fmt.Errorf("%w: it is a %s that is %s", ErrOperation, op.Kind, op.State)
		}
		c, err := lockCluster(tx, op.ClusterID)
		if err != nil {
			return err
		}
		var later int64
		if err := tx.Model(&model.Operation{}).Where("cluster_id = ? AND id > ?", op.ClusterID, op.ID).Count(&later).Error; err != nil {
			return err
		}
		if later > 0 || c.Status != model.CreateFailed {
			return fmt.Errorf("%w: more was asked of the cluster since, which is %s", ErrOperation, c.Status)
		}
		change := s.status(model.CreateInProgress, nil)
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", c.UUID).Updates(change).Error; err != nil {
			return err
		}
		if err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ?", c.UUID).Updates(change).Error; err != nil {
			return err
		}
		again, err = s.newOperation(tx, c, model.OpCreate, op.Spec, request)
		return err
	})
	return again, err
}
