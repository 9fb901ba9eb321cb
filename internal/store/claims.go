// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// knownKinds are the kinds of operations that this program can carry out, as SQL
// has a list.
var knownKinds = func() string {
	quoted := make([]string, len(model.OperationKinds))
	for i, k := range model.OperationKinds {
		quoted[i] = "'" + string(k) + "'"
	}
	return strings.Join(quoted, ", ")
}()

// due is the condition under which an operation may be claimed, but for its
// turn among the operations of its cluster.
func (s *Store) due() string {
	return "operations.state IN ('pending', 'running') AND operations.kind IN (" + knownKinds + ")" +
		" AND (operations.lease_until IS NULL OR operations.lease_until < " + s.clock.now + ")" +
		" AND (operations.not_before IS NULL OR operations.not_before <= " + s.clock.now + ")"
}

// Claimable returns the uuids of operations that may be claimed now, at most
// limit: pending, or running with the lease run out; due; and no earlier
// operation of the same cluster is unfinished.
//
// Projects take turns: first comes each project's oldest, then each project's
// second, and so on, where a project with operations in work has had that many
// turns. Beyond perProject turns (0: no bound) none is returned.
func (s *Store) Claimable(ctx context.Context, limit, perProject int) ([]string, error) {
	if perProject == 0 {
		perProject = math.MaxInt32
	}
	atWork := s.read(ctx).Model(&model.Operation{}).Select("project_id, COUNT(*) AS n").Where(s.atWork()).Group("project_id")
	waiting := s.claimable(ctx).
		Select("operations.uuid, operations.id, ROW_NUMBER() OVER (PARTITION BY operations.project_id ORDER BY operations.id) + COALESCE(busy.n, 0) AS turn").
		Joins("LEFT JOIN (?) busy ON busy.project_id = operations.project_id", atWork)
	var uuids []string
	err := s.read(ctx).Table("(?) waiting", waiting).Where("turn <= ?", perProject).
		Order("turn, id").Limit(limit).Pluck("uuid", &uuids).Error
	return uuids, failed("read claimable operations", err)
}

// claimable begins a query of the operations that are due and whose turn it is
// among those of their cluster.
func (s *Store) claimable(ctx context.Context) *gorm.DB {
	return s.read(ctx).Model(&model.Operation{}).Where(s.due()).
		Where("NOT EXISTS (SELECT 1 FROM operations earlier WHERE earlier.cluster_id = operations.cluster_id" +
			" AND earlier.id < operations.id AND earlier.state IN ('pending', 'running'))")
}

// atWork is the condition of operations that a conductor has in hand.
func (s *Store) atWork() string {
	return "state = 'running' AND lease_until >= " + s.clock.now
}

// Claim makes owner the only one to work on the operation until the lease has
// run out by the database's clock, and returns the operation as claimed; its
// Generation belongs into the Fence of every later write, and TakenFrom is the
// owner whose lease had run out, if any. ErrNotClaimable when
// it is not claimable (see Claimable), another was quicker, or conductors have
// perProject operations of its project in hand already (0: no bound);
// ErrNotFound.
func (s *Store) Claim(ctx context.Context, uuid, owner string, lease time.Duration, perProject int) (*model.Operation, error) {
	const doing = "claim the operation"
	if owner == "" {
		return nil, failed(doing, errors.New("no owner is named"))
	}
	var op model.Operation
	err := s.write(ctx, doing, func(tx *gorm.DB) error {
		op = model.Operation{}
		if err := tx.Where("uuid = ?", uuid).Take(&op).Error; err != nil {
			return err
		}
		// Operations of a cluster are numbered in the order they were asked
		// for and never begin again once ended, so this stays true.
		var earlier int64
		err := tx.Model(&model.Operation{}).
			Where("cluster_id = ? AND id < ? AND state IN ?", op.ClusterID, op.ID, claimableStates).
			Count(&earlier).Error
		if err != nil {
			return err
		}
		if earlier > 0 {
			return ErrNotClaimable
		}
		if perProject > 0 {
			if err := s.underBound(tx, op.ProjectID, perProject); err != nil {
				return err
			}
		}
		before := op.Owner
		r := tx.Model(&model.Operation{}).Where("uuid = ?", uuid).Where(s.due()).Updates(map[string]any{
			"owner":       owner,
			"generation":  gorm.Expr("generation + 1"),
			"state":       model.OpRunning,
			"lease_until": s.clock.after(lease),
			"not_before":  nil,
			"started_at":  gorm.Expr("COALESCE(started_at, " + s.clock.now + ")"),
		})
		if r.Error != nil {
			return r.Error
		}
		if r.RowsAffected == 0 {
			return ErrNotClaimable
		}
		op = model.Operation{}
		if err := tx.Where("uuid = ?", uuid).Take(&op).Error; err != nil {
			return err
		}
		op.TakenFrom = before
		if op.Generation > 1 {
			return nil // its begin was told when it was claimed first
		}
		if err := s.notifyOf(tx, &op, model.OutcomePending); err != nil {
			return err
		}
		return s.tellOf(tx, &op, model.Event{Kind: model.EventOperationStart, Message: op.Kind.Noun() + " begins."})
	})
	if err != nil {
		return nil, err
	}
	return &op, nil
}

// underBound tells whether one more operation of the project may be claimed.
// Claims within a project pass one after the other: they change its lock's row.
func (s *Store) underBound(tx *gorm.DB, projectID string, most int) error {
	if err := lockProject(tx, projectID); err != nil {
		return err
	}
	var busy int64
	if err := tx.Model(&model.Operation{}).Where("project_id = ?", projectID).Where(s.atWork()).Count(&busy).Error; err != nil {
		return err
	}
	if busy >= int64(most) {
		return ErrNotClaimable
	}
	return nil
}

// Fence names a claim; FenceOf makes it. A write that carries it happens only
// while that claim is the operation's latest and the operation has not ended;
// otherwise it changes nothing and returns ErrSuperseded.
type Fence struct {
	Operation  string // uuid
	Owner      string
	Generation int64

	op *model.Operation
}

// FenceOf is the fence of the claim that returned op.
func FenceOf(op *model.Operation) Fence {
	claimed := *op
	return Fence{Operation: op.UUID, Owner: op.Owner, Generation: op.Generation, op: &claimed}
}

// fenced runs fn in a transaction that begins with a change of the operation's
// row under the fence: from there on nobody else can claim it. fn gets the
// operation as it was claimed, of which only whom it is about and who asked for
// what still holds, and must touch only its cluster.
func (s *Store) fenced(ctx context.Context, doing string, f Fence, change map[string]any, fn func(tx *gorm.DB, op *model.Operation) error) error {
	return s.write(ctx, doing, func(tx *gorm.DB) error {
		set := map[string]any{"writes": gorm.Expr("writes + 1")}
		maps.Copy(set, change)
		r := tx.Model(&model.Operation{}).
			Where("uuid = ? AND owner = ? AND generation = ? AND state = ?", f.Operation, f.Owner, f.Generation, model.OpRunning).
			Updates(set)
		if r.Error != nil {
			return r.Error
		}
		if r.RowsAffected == 0 {
			return ErrSuperseded
		}
		if fn == nil {
			return nil
		}
		return fn(tx, f.op)
	})
}

// Renew extends the lease to the given time from now, and tells whether a
// later operation asks this one to stop. ErrSuperseded.
func (s *Store) Renew(ctx context.Context, f Fence, lease time.Duration) (cancelRequested bool, err error) {
	err = s.fenced(ctx, "renew the lease", f, map[string]any{"lease_until": s.clock.after(lease)},
		func(tx *gorm.DB, op *model.Operation) error {
			return tx.Model(&model.Operation{}).Select("cancel_requested").Where("uuid = ?", op.UUID).Take(&cancelRequested).Error
		})
	return cancelRequested, err
}

// Release gives the operation back unfinished, to be claimed by anyone, not
// before the given time (zero: at once; then its message is also sent again).
// ErrSuperseded.
func (s *Store) Release(ctx context.Context, f Fence, notBefore time.Time) error {
	change := map[string]any{
		"owner":       "",
		"lease_until": nil,
		"state":       model.OpPending,
	}
	// The wait is counted by the database's clock, as claims are.
	if wait := notBefore.Sub(s.now()); !notBefore.IsZero() && wait > 0 {
		change["not_before"] = s.clock.after(wait)
	} else {
		change["published_at"] = nil
	}
	return s.fenced(ctx, "give the operation back", f, change, nil)
}

// SetUndo notes that from now on the operation removes what it half made, and
// why. What its request had changed in the cluster's records is put back.
// ErrSuperseded.
func (s *Store) SetUndo(ctx context.Context, f Fence, reason string) error {
	change := map[string]any{"undo": true, "reason": clip(reason)}
	return s.fenced(ctx, "turn the operation to undo", f, change, func(tx *gorm.DB, op *model.Operation) error {
		if op.Spec.Before != nil {
			if err := putBack(tx, op.ClusterID, op.Spec.Before); err != nil {
				return err
			}
		}
		return s.tellOf(tx, op, model.Event{
			Kind: model.EventOperationError, Level: model.LevelError,
			Message: op.Kind.Noun() + " can not be finished, what it half made is removed: " + reason,
		})
	})
}
