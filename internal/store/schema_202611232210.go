// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611232210 makes the tables of events, of autoscaling and of usage,
// notes which node groups grow by themselves, and how often nodes were
// rebuilt.
func migrate202611232210(tx *gorm.DB) error {
	type nodeGroup struct {
		Autoscale *bool
	}
	type node struct {
		Rebuilds int `gorm:"not null;default:0"`
	}
	type event struct {
		ID          int64     `gorm:"primaryKey;index:events_cluster,priority:2"`
		ClusterID   string    `gorm:"size:36;index:events_cluster,priority:1"`
		OperationID string    `gorm:"size:36;index"`
		Kind        string    `gorm:"size:32"`
		Level       string    `gorm:"size:16"`
		Step        string    `gorm:"size:64"`
		Node        string    `gorm:"size:63"`
		Message     string    `gorm:"type:text"`
		UserID      string    `gorm:"size:255"`
		RequestID   string    `gorm:"size:64"`
		CreatedAt   time.Time `gorm:"index"`
	}
	type eventLock struct {
		ClusterID string `gorm:"primaryKey;size:36"`
		Events    int64
	}
	type autoscaling struct {
		ClusterID        string `gorm:"primaryKey;size:36"`
		Enabled          *bool
		ThresholdPercent *int
		SettleSeconds    *int
		Decision         *string `gorm:"type:text"`
		DecidedAt        *time.Time
		GrownAt          *time.Time
		Nodes            string `gorm:"type:mediumtext"`
		SampledAt        *time.Time
	}
	type usageSample struct {
		ID             int64  `gorm:"primaryKey;index:usage_samples_cluster,priority:2"`
		ClusterID      string `gorm:"size:36;index:usage_samples_cluster,priority:1"`
		CPUs           int64  `gorm:"column:cpus"`
		CPUsReserved   int64  `gorm:"column:cpus_reserved"`
		Memory         int64
		MemoryReserved int64
		CreatedAt      time.Time
	}
	for _, column := range []struct {
		table string
		row   any
		field string
	}{
		{"node_groups", &nodeGroup{}, "Autoscale"},
		{"nodes", &node{}, "Rebuilds"},
	} {
		m := tx.Table(column.table).Migrator()
		if !m.HasColumn(column.row, column.field) {
			if err := m.AddColumn(column.row, column.field); err != nil {
				return err
			}
		}
	}
	for table, row := range map[string]any{
		"events": &event{}, "event_locks": &eventLock{}, "autoscalings": &autoscaling{}, "usage_samples": &usageSample{},
	} {
		if err := createTable(tx.Table(table), row); err != nil {
			return err
		}
	}
	return nil
}
