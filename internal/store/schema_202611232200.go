// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611232200 notes which hosts do not answer, and what is left on them
// of nodes that are gone from the records.
func migrate202611232200(tx *gorm.DB) error {
	type host struct {
		State             string     `gorm:"size:16;index:hosts_room,priority:1"`
		FreeVCPUs         int        `gorm:"column:free_vcpus;type:int GENERATED ALWAYS AS (total_vcpus - used_vcpus) VIRTUAL;index:hosts_room,priority:3"`
		FreeMemoryMiB     int        `gorm:"column:free_memory_mib;type:int GENERATED ALWAYS AS (total_memory_mib - used_memory_mib) VIRTUAL;index:hosts_room,priority:2"`
		FreeDiskGiB       int        `gorm:"column:free_disk_gib;type:int GENERATED ALWAYS AS (total_disk_gib - used_disk_gib) VIRTUAL;index:hosts_room,priority:4"`
		ResourceClass     string     `gorm:"size:80;index:hosts_room,priority:5"`
		Failures          int        `gorm:"index:hosts_room,priority:6"`
		UnreachableSince  *time.Time `gorm:"index:hosts_room,priority:7"`
		UnreachableReason *string    `gorm:"type:text"`
		LastSeenAt        *time.Time
	}
	type lostNode struct {
		ID        int64  `gorm:"primaryKey"`
		UUID      string `gorm:"size:36;uniqueIndex:lost_nodes_place"`
		HostID    string `gorm:"size:36;index;uniqueIndex:lost_nodes_place"`
		ClusterID string `gorm:"size:36;index"`
		Name      string `gorm:"size:63"`
		Network   string `gorm:"size:64"`
		Address   string `gorm:"size:45"`
		MAC       string `gorm:"column:mac;size:17"`
		CreatedAt time.Time
	}
	hosts := tx.Table("hosts").Migrator()
	added := false
	for _, field := range []string{"LastSeenAt", "UnreachableReason", "UnreachableSince"} {
		if hosts.HasColumn(&host{}, field) {
			continue
		}
		if err := hosts.AddColumn(&host{}, field); err != nil {
			return err
		}
		added = true
	}
	// The index of placement answers without the rows.
	if added && hosts.HasIndex(&host{}, "hosts_room") {
		if err := hosts.DropIndex(&host{}, "hosts_room"); err != nil {
			return err
		}
	}
	if !hosts.HasIndex(&host{}, "hosts_room") {
		if err := hosts.CreateIndex(&host{}, "hosts_room"); err != nil {
			return err
		}
	}
	return createTable(tx.Table("lost_nodes"), &lostNode{})
}
