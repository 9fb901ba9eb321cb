// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611232130 makes the table of notifications that wait to be sent,
// and lets operations remember where their request came from.
func migrate202611232130(tx *gorm.DB) error {
	type operation struct {
		UserDomainID    string `gorm:"size:64;not null;default:''"`
		GlobalRequestID string `gorm:"size:64;not null;default:''"`
		TraceParent     string `gorm:"size:64;not null;default:''"`
	}
	m := tx.Table("operations").Migrator()
	for _, field := range []string{"UserDomainID", "GlobalRequestID", "TraceParent"} {
		if m.HasColumn(&operation{}, field) {
			continue
		}
		if err := m.AddColumn(&operation{}, field); err != nil {
			return err
		}
	}
	type notification struct {
		ID              int64  `gorm:"primaryKey"`
		UUID            string `gorm:"size:36;uniqueIndex"`
		Kind            string `gorm:"size:16"`
		Outcome         string `gorm:"size:16"`
		ClusterID       string `gorm:"size:36"`
		ClusterName     string `gorm:"size:255"`
		ProjectID       string `gorm:"size:255"`
		UserID          string `gorm:"size:255"`
		UserDomainID    string `gorm:"size:64"`
		RequestID       string `gorm:"size:64"`
		GlobalRequestID string `gorm:"size:64"`
		Cluster         string `gorm:"type:mediumtext"`
		TakenUntil      *time.Time
		CreatedAt       time.Time
	}
	return createTable(tx.Table("notifications"), &notification{})
}
