// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611230110 lets hosts be of different kinds, and remembers machines
// that could not be deployed.
func migrate202611230110(tx *gorm.DB) error {
	type host struct {
		ResourceClass string `gorm:"size:80"`
		Traits        string `gorm:"type:text"`
		Attempts      int
	}
	type avoidedMachine struct {
		ID           int64  `gorm:"primaryKey"`
		IronicNodeID string `gorm:"size:36;uniqueIndex"`
		Name         string `gorm:"size:255"`
		Host         string `gorm:"size:255"`
		Reason       string `gorm:"type:text"`
		Until        time.Time
		CreatedAt    time.Time
	}
	hosts := tx.Table("hosts").Migrator()
	for _, field := range []string{"ResourceClass", "Traits", "Attempts"} {
		if hosts.HasColumn(&host{}, field) {
			continue
		}
		if err := hosts.AddColumn(&host{}, field); err != nil {
			return err
		}
	}
	err := tx.Table("hosts").Where("resource_class IS NULL").
		Updates(map[string]any{"resource_class": "", "traits": "[]", "attempts": 0}).Error
	if err != nil {
		return err
	}
	return createTable(tx.Table("avoided_machines"), &avoidedMachine{})
}
