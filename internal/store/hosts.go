// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Hosts returns all hosts, by name.
func (s *Store) Hosts(ctx context.Context) ([]model.Host, error) {
	var hosts []model.Host
	return hosts, failed("list hosts", s.read(ctx).Order("name").Find(&hosts).Error)
}

// Host returns the host. ErrNotFound.
func (s *Store) Host(ctx context.Context, uuid string) (*model.Host, error) {
	h, err := one[model.Host](s.read(ctx).Where("uuid = ?", uuid))
	return h, failed("read the host", err)
}

// AddHost stores a new host, with nothing used. It fills in UUID and State
// (enrolled) if empty, ID and CreatedAt. ErrExists when its uuid, name or
// Ironic node is known already.
func (s *Store) AddHost(ctx context.Context, h *model.Host) error {
	var row model.Host
	err := s.write(ctx, "add the host", func(tx *gorm.DB) error {
		row = *h
		row.ID = 0
		if row.UUID == "" {
			row.UUID = uuid.NewString()
		}
		if row.State == "" {
			row.State = model.HostEnrolled
		}
		row.UsedVCPUs, row.UsedMemoryMiB, row.UsedDiskGiB = 0, 0, 0
		s.stamp(&row.CreatedAt)
		return tx.Create(&row).Error
	})
	if err == nil {
		*h = row
	}
	return err
}

// UpdateHost changes the named columns if the host is in one of the states
// from (none named: in any), and tells whether it was; false means that
// somebody else has moved or removed it. What nodes use of the host is changed
// by ClaimHost and RemoveNode only, and refused here.
func (s *Store) UpdateHost(ctx context.Context, uuid string, from []model.HostState, change map[string]any) (bool, error) {
	const doing = "update the host"
	set := map[string]any{"updated_at": s.now()}
	for column, value := range change {
		switch {
		case !s.hasColumn(&model.Host{}, column), column == "id", column == "uuid", strings.HasPrefix(column, "used_"):
			return false, failed(doing, fmt.Errorf("column %q cannot be changed", column))
		}
		switch t := value.(type) {
		case time.Time:
			value = utc(t)
		case *time.Time:
			if t != nil {
				value = utc(*t)
			}
		}
		set[column] = value
	}
	var moved bool
	err := s.write(ctx, doing, func(tx *gorm.DB) error {
		hosts := tx.Model(&model.Host{}).Where("uuid = ?", uuid)
		if len(from) > 0 {
			hosts = hosts.Where("state IN ?", from)
		}
		r := hosts.Updates(set)
		moved = r.RowsAffected > 0
		return r.Error
	})
	return moved, err
}

func (s *Store) hasColumn(row any, column string) bool {
	stmt := &gorm.Statement{DB: s.db}
	return stmt.Parse(row) == nil && stmt.Schema.FieldsByDBName[column] != nil
}

// RemoveHost forgets a host without nodes; one that is gone is success.
// ErrInUse when it has nodes.
func (s *Store) RemoveHost(ctx context.Context, uuid string) error {
	return s.write(ctx, "remove the host", func(tx *gorm.DB) error {
		// Locked, so that no node is placed there meanwhile.
		var hosts []model.Host
		if err := tx.Clauses(forUpdate).Where("uuid = ?", uuid).Find(&hosts).Error; err != nil || len(hosts) == 0 {
			return err
		}
		left, err := nodesOn(tx, uuid)
		if err != nil {
			return err
		}
		if left > 0 {
			return ErrInUse
		}
		return tx.Where("uuid = ?", uuid).Delete(&model.Host{}).Error
	})
}
