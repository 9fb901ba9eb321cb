// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// StepChange is what a step of an operation has come to.
type StepChange struct {
	Step  model.Step      // as it is now; the operation is the fence's
	Event model.EventKind // by which people are told; empty: they are not
}

// WriteSteps writes the changes into the operation's journal, in order. A step
// that is there already (same Name, NodeID and Undo) gets the new State,
// Attempts and Message and keeps the rest; one that does not run any more is
// finished now. ErrSuperseded.
func (s *Store) WriteSteps(ctx context.Context, f Fence, changes ...StepChange) error {
	if len(changes) == 0 {
		return nil
	}
	return s.fenced(ctx, "write the steps", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		rows := make([]model.Step, 0, len(changes))
		var events []model.Event
		for _, c := range changes {
			row := c.Step
			row.ID, row.OperationID, row.Message = 0, op.UUID, clip(row.Message)
			s.stamp(&row.StartedAt)
			row.FinishedAt = nil
			if row.State != model.StepRunning {
				row.FinishedAt = new(s.now())
			}
			rows = append(rows, row)
			if c.Event != "" {
				events = append(events, stepEvent(op, c.Event, row))
			}
		}
		err := tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "operation_id"}, {Name: "name"}, {Name: "node_id"}, {Name: "undo"}},
			DoUpdates: clause.AssignmentColumns([]string{"attempts", "state", "message", "finished_at"}),
		}).Create(&rows).Error
		if err != nil {
			return err
		}
		return s.tell(tx, events...)
	})
}
