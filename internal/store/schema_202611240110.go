// SPDX-License-Identifier: Apache-2.0

package store

import "gorm.io/gorm"

// migrate202611240110 makes the table of what all processes agree upon.
func migrate202611240110(tx *gorm.DB) error {
	type setting struct {
		Name  string `gorm:"primaryKey;size:64"`
		Value string `gorm:"size:255"`
	}
	return createTable(tx.Table("settings"), &setting{})
}
