// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// setting is what all processes of one cloud have to agree upon.
type setting struct {
	Name  string `gorm:"primaryKey;size:64"`
	Value string `gorm:"size:255"`
}

// Names of settings.
const (
	settingCloud  = "cloud_id"
	settingOldest = "oldest_program" // see SchemaCurrent
)

// CloudID returns the name by which this cloud's Keelson is told from another
// that shares services with it. The first call makes it what initial says, and
// so it stays.
func (s *Store) CloudID(ctx context.Context, initial string) (string, error) {
	var row setting
	err := s.write(ctx, "name the cloud", func(tx *gorm.DB) error {
		r := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&setting{Name: settingCloud, Value: initial})
		if r.Error != nil {
			return r.Error
		}
		return tx.Where("name = ?", settingCloud).Take(&row).Error
	})
	return row.Value, err
}
