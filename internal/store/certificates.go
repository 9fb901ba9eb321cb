// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Certificate returns a certificate of the cluster; nodeUUID is empty unless
// kind is model.CertNode. ErrNotFound.
func (s *Store) Certificate(ctx context.Context, clusterUUID, kind, nodeUUID string) (*model.Certificate, error) {
	c, err := certificate(s.read(ctx), clusterUUID, kind, nodeUUID)
	return c, failed("read the certificate", err)
}

func certificate(db *gorm.DB, clusterUUID, kind, nodeUUID string) (*model.Certificate, error) {
	return one[model.Certificate](db.Where("cluster_id = ? AND kind = ? AND node_id = ?", clusterUUID, kind, nodeUUID))
}

// PutCertificate stores the certificate unless the cluster has one of that
// kind (and node) already, and returns the one that is stored: of several who
// make one at once all get the same. ErrNotFound when the cluster is gone.
func (s *Store) PutCertificate(ctx context.Context, c *model.Certificate) (*model.Certificate, error) {
	var stored *model.Certificate
	err := s.write(ctx, "store the certificate", func(tx *gorm.DB) error {
		cluster := tx.Clauses(forShare).Select("id").Where("uuid = ?", c.ClusterID).Take(&model.Cluster{})
		if cluster.Error != nil {
			return cluster.Error
		}
		var err error
		if stored, err = certificate(tx, c.ClusterID, c.Kind, c.NodeID); !errors.Is(err, ErrNotFound) {
			return err
		}
		row := *c
		row.ID = 0
		row.NotAfter = utc(row.NotAfter)
		s.stamp(&row.CreatedAt)
		err = tx.Create(&row).Error
		if errors.Is(err, gorm.ErrDuplicatedKey) {
			stored, err = certificate(tx, c.ClusterID, c.Kind, c.NodeID)
			return err
		}
		stored = &row
		return err
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}
