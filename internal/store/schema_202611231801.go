// SPDX-License-Identifier: Apache-2.0

package store

import "gorm.io/gorm"

// migrate202611231801 lets a cluster have authorities of two generations while
// they are being replaced, and notes what the roots of nodes were made from.
// What an older program writes meanwhile is of generation 0.
func migrate202611231801(tx *gorm.DB) error {
	type cluster struct {
		CAGeneration int `gorm:"column:ca_generation;not null;default:0"`
	}
	type node struct {
		Revision string `gorm:"size:255;not null;default:''"`
	}
	type certificate struct {
		ClusterID  string `gorm:"size:36;uniqueIndex:certificates_generation"`
		Kind       string `gorm:"size:16;uniqueIndex:certificates_generation"`
		NodeID     string `gorm:"size:36;uniqueIndex:certificates_generation"`
		Generation int    `gorm:"not null;default:0;uniqueIndex:certificates_generation"`
	}
	for _, column := range []struct {
		table string
		row   any
		field string
	}{
		{"clusters", &cluster{}, "CAGeneration"},
		{"nodes", &node{}, "Revision"},
		{"certificates", &certificate{}, "Generation"},
	} {
		m := tx.Table(column.table).Migrator()
		if m.HasColumn(column.row, column.field) {
			continue
		}
		if err := m.AddColumn(column.row, column.field); err != nil {
			return err
		}
	}
	m := tx.Table("certificates").Migrator()
	if !m.HasIndex(&certificate{}, "certificates_generation") {
		if err := m.CreateIndex(&certificate{}, "certificates_generation"); err != nil {
			return err
		}
	}
	if m.HasIndex(&certificate{}, "certificates_key") {
		return m.DropIndex(&certificate{}, "certificates_key")
	}
	return nil
}
