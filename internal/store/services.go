// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// ListServices returns all service records, oldest first.
func (s *Store) ListServices(ctx context.Context) ([]model.ServiceRecord, error) {
	var services []model.ServiceRecord
	return services, failed("list services", s.read(ctx).Order("id").Find(&services).Error)
}

// Heartbeat notes that the service is alive, by the database's clock. The
// record is made at the first call; ReportCount counts the calls.
func (s *Store) Heartbeat(ctx context.Context, host, binary string) error {
	beat := func(tx *gorm.DB) error {
		return matched(tx.Model(&model.ServiceRecord{}).Where("host = ? AND `binary` = ?", host, binary).
			Updates(map[string]any{
				"report_count": gorm.Expr("report_count + 1"),
				"last_seen_up": gorm.Expr(s.clock.now),
				"updated_at":   s.now(),
			}))
	}
	return s.write(ctx, "note the service's heartbeat", func(tx *gorm.DB) error {
		err := beat(tx)
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		err = tx.Create(&model.ServiceRecord{Host: host, Binary: binary, CreatedAt: s.now()}).Error
		if err != nil && !errors.Is(err, gorm.ErrDuplicatedKey) {
			return err
		}
		return beat(tx)
	})
}
