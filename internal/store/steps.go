// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// BeginStep writes the step into the operation's journal as running. A step
// that is there already (same Name, NodeID and Undo) gets one attempt more and
// keeps its message and the time it was first begun. ErrSuperseded.
func (s *Store) BeginStep(ctx context.Context, f Fence, step model.Step) error {
	return s.fenced(ctx, "begin the step", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		row := model.Step{
			OperationID: op.UUID,
			Name:        step.Name,
			NodeID:      step.NodeID,
			NodeName:    step.NodeName,
			Undo:        step.Undo,
			State:       model.StepRunning,
			Attempts:    1,
			Message:     clip(step.Message),
			StartedAt:   step.StartedAt,
		}
		s.stamp(&row.StartedAt)
		var before int64
		err := tx.Model(&model.Step{}).Where("operation_id = ? AND name = ? AND node_id = ? AND `undo` = ?", op.UUID, step.Name, step.NodeID, step.Undo).Count(&before).Error
		if err != nil {
			return err
		}
		err = tx.Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "operation_id"}, {Name: "name"}, {Name: "node_id"}, {Name: "undo"}},
			DoUpdates: clause.Assignments(map[string]any{
				"attempts":    gorm.Expr("steps.attempts + 1"),
				"state":       model.StepRunning,
				"finished_at": nil,
			}),
		}).Create(&row).Error
		if err != nil || before > 0 {
			return err
		}
		return s.tellStep(tx, op, model.EventStepStart, row)
	})
}

// EndStep writes a step's outcome. model.StepRunning keeps the step open and
// changes the message only. ErrSuperseded, ErrNotFound when it was not begun.
func (s *Store) EndStep(ctx context.Context, f Fence, name, nodeID string, undo bool, state model.StepState, message string) error {
	return s.fenced(ctx, "end the step", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		change := map[string]any{"state": state, "message": clip(message), "finished_at": nil}
		if state != model.StepRunning {
			change["finished_at"] = s.now()
		}
		step := tx.Model(&model.Step{}).
			Where("operation_id = ? AND name = ? AND node_id = ? AND `undo` = ?", op.UUID, name, nodeID, undo).
			Session(&gorm.Session{})
		if err := matched(step.Updates(change)); err != nil || state == model.StepRunning {
			return err
		}
		var ended model.Step
		if err := step.Take(&ended).Error; err != nil {
			return err
		}
		kind := model.EventStepEnd
		if state == model.StepFailed {
			kind = model.EventStepError
		}
		return s.tellStep(tx, op, kind, ended)
	})
}
