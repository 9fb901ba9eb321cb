// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611231840 lets hosts be of different kinds, and remembers machines
// that could not be deployed.
func migrate202611231840(tx *gorm.DB) error {
	type host struct {
		State         string `gorm:"size:16;index:hosts_room,priority:1"`
		FreeVCPUs     int    `gorm:"column:free_vcpus;type:int GENERATED ALWAYS AS (total_vcpus - used_vcpus) VIRTUAL;index:hosts_room,priority:3"`
		FreeMemoryMiB int    `gorm:"column:free_memory_mib;type:int GENERATED ALWAYS AS (total_memory_mib - used_memory_mib) VIRTUAL;index:hosts_room,priority:2"`
		FreeDiskGiB   int    `gorm:"column:free_disk_gib;type:int GENERATED ALWAYS AS (total_disk_gib - used_disk_gib) VIRTUAL;index:hosts_room,priority:4"`
		ResourceClass string `gorm:"size:80;index:hosts_room,priority:5"`
		Traits        string `gorm:"type:text"`
		Failures      int    `gorm:"index:hosts_room,priority:6"`
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
	for _, field := range []string{"FreeVCPUs", "FreeMemoryMiB", "FreeDiskGiB", "ResourceClass", "Traits", "Attempts"} {
		if hosts.HasColumn(&host{}, field) {
			continue
		}
		if err := hosts.AddColumn(&host{}, field); err != nil {
			return err
		}
	}
	if !hosts.HasIndex(&host{}, "hosts_room") {
		if err := hosts.CreateIndex(&host{}, "hosts_room"); err != nil {
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
