// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// SealedTables are the tables that hold sealed secrets.
func (s *Store) SealedTables() []string { return []string{"certificates", "clusters"} }

// sealedColumn is where the tables of SealedTables have their secret.
var sealedColumn = map[string]string{"certificates": "sealed_key", "clusters": "driver_state"}

// Sealed returns the sealed secrets of a table in the order of their ids, those
// above after, at most limit.
func (s *Store) Sealed(ctx context.Context, table string, after int64, limit int) ([]model.Sealed, error) {
	const doing = "read sealed secrets"
	var found []model.Sealed
	page := s.read(ctx).Where("id > ?", after).Order("id").Limit(limit)
	switch table {
	case "certificates":
		var rows []model.Certificate
		if err := page.Select("id", "cluster_id", "kind", "node_id", "sealed_key").Find(&rows).Error; err != nil {
			return nil, failed(doing, err)
		}
		for _, r := range rows {
			found = append(found, model.Sealed{Table: table, ID: r.ID, Context: []string{r.ClusterID, r.Kind, r.NodeID}, Bytes: r.SealedKey})
		}
	case "clusters":
		var rows []model.Cluster
		if err := page.Select("id", "uuid", "driver_state").Where("LENGTH(driver_state) > 0").Find(&rows).Error; err != nil {
			return nil, failed(doing, err)
		}
		for _, r := range rows {
			found = append(found, model.Sealed{Table: table, ID: r.ID, Context: []string{model.DriverStateContext, r.UUID}, Bytes: r.DriverState})
		}
	default:
		return nil, fmt.Errorf("%s: not in %s", doing, table)
	}
	return found, nil
}

// ReplaceSealed puts other bytes in the place of a sealed secret's, unless they
// have changed since it was read, or are gone.
func (s *Store) ReplaceSealed(ctx context.Context, secret model.Sealed, sealed []byte) (replaced bool, err error) {
	column, known := sealedColumn[secret.Table]
	if !known {
		return false, fmt.Errorf("no sealed secrets are in %s", secret.Table)
	}
	err = s.write(ctx, "replace a sealed secret", func(tx *gorm.DB) error {
		r := tx.Table(secret.Table).Where("id = ? AND "+column+" = ?", secret.ID, secret.Bytes).UpdateColumn(column, sealed)
		replaced = r.RowsAffected == 1
		return r.Error
	})
	return replaced, err
}
