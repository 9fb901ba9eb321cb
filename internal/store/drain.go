// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// DrainHost has a host take no new nodes, for that reason, which must not be
// empty: by it a host that the operator drains is told from one that the pool is
// about to give back. Drained already is success, with the new reason.
// ErrHostState when the host is not in use, ErrNotFound.
func (s *Store) DrainHost(ctx context.Context, uuid, reason string) error {
	return s.writeHost(ctx, "drain the host", uuid, inUse, func(*gorm.DB, *model.Host) (map[string]any, error) {
		return map[string]any{"state": model.HostDraining, "reason": clip(reason)}, nil
	})
}

// UndrainHost has a host take new nodes again; one that does is success.
// ErrHostState when the host is not in use, ErrNotFound.
func (s *Store) UndrainHost(ctx context.Context, uuid string) error {
	return s.writeHost(ctx, "let the host take nodes again", uuid, inUse, func(tx *gorm.DB, h *model.Host) (map[string]any, error) {
		if h.State == model.HostReady {
			return nil, nil
		}
		change := map[string]any{"state": model.HostReady, "reason": nil, "empty_since": nil}
		nodes, err := nodesOn(tx, uuid)
		if nodes == 0 { // as if it had become empty now, or it were given back at once
			change["empty_since"] = s.now()
		}
		return change, err
	})
}

// ReleaseHost has the pool give a host without nodes back to Ironic. A host that
// is being given back is success. ErrInUse when it has nodes, ErrHostState when
// it is still on its way, ErrNotFound.
func (s *Store) ReleaseHost(ctx context.Context, uuid string) error {
	from := []model.HostState{model.HostReady, model.HostDraining, model.HostError, model.HostReleasing}
	return s.writeHost(ctx, "give the host back", uuid, from, func(tx *gorm.DB, h *model.Host) (map[string]any, error) {
		if h.State == model.HostReleasing {
			return nil, nil
		}
		nodes, err := nodesOn(tx, uuid)
		if err == nil && nodes > 0 {
			err = ErrInUse
		}
		return map[string]any{"state": model.HostReleasing}, err
	})
}

// writeHost makes the change that fn wants of a host in one of those states. Its
// row is locked, so that no node is placed there meanwhile.
func (s *Store) writeHost(ctx context.Context, doing, uuid string, from []model.HostState, fn func(tx *gorm.DB, h *model.Host) (map[string]any, error)) error {
	return s.write(ctx, doing, func(tx *gorm.DB) error {
		var h model.Host
		if err := tx.Clauses(forUpdate).Where("uuid = ?", uuid).Take(&h).Error; err != nil {
			return err
		}
		if !slices.Contains(from, h.State) {
			return fmt.Errorf("%w: it is %s", ErrHostState, h.State)
		}
		change, err := fn(tx, &h)
		if err != nil || change == nil {
			return err
		}
		change["updated_at"] = s.now()
		return tx.Model(&model.Host{}).Where("uuid = ?", uuid).Updates(change).Error
	})
}
