// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611232120 notes when clusters and hosts are to be looked at again,
// what is wrong with the machines of nodes, and when jobs that are nobody's in
// particular are to be done next.
func migrate202611232120(tx *gorm.DB) error {
	type cluster struct {
		NextCheck *time.Time `gorm:"index"`
	}
	type host struct {
		NextCheck *time.Time `gorm:"index"`
	}
	type node struct {
		Machine string `gorm:"size:16;not null;default:''"`
	}
	type operation struct {
		FinishedAt *time.Time `gorm:"index"`
	}
	type periodicJob struct {
		Name    string `gorm:"primaryKey;size:64"`
		NextRun *time.Time
	}
	for _, column := range []struct {
		table string
		row   any
		field string
		index string
	}{
		{"clusters", &cluster{}, "NextCheck", "idx_clusters_next_check"},
		{"hosts", &host{}, "NextCheck", "idx_hosts_next_check"},
		{"nodes", &node{}, "Machine", ""},
		{"operations", &operation{}, "FinishedAt", "idx_operations_finished_at"},
	} {
		m := tx.Table(column.table).Migrator()
		if !m.HasColumn(column.row, column.field) {
			if err := m.AddColumn(column.row, column.field); err != nil {
				return err
			}
		}
		if column.index != "" && !m.HasIndex(column.row, column.index) {
			if err := m.CreateIndex(column.row, column.index); err != nil {
				return err
			}
		}
	}
	return createTable(tx.Table("periodic_jobs"), &periodicJob{})
}
