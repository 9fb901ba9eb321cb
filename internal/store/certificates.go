// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Certificate returns a certificate of the cluster; nodeUUID is empty unless
// kind is model.CertNode, clusterUUID when it is model.CertHostCA. ErrNotFound.
func (s *Store) Certificate(ctx context.Context, clusterUUID string, generation int, kind, nodeUUID string) (*model.Certificate, error) {
	c, err := certificate(s.read(ctx), clusterUUID, generation, kind, nodeUUID)
	return c, failed("read the certificate", err)
}

// Certificates returns the cluster's certificates of these kinds, of all
// generations, the newest generation first.
func (s *Store) Certificates(ctx context.Context, clusterUUID string, kinds ...string) ([]model.Certificate, error) {
	var found []model.Certificate
	err := s.read(ctx).Where("cluster_id = ? AND kind IN ?", clusterUUID, kinds).Order("generation DESC, id").Find(&found).Error
	return found, failed("read the certificates", err)
}

func certificate(db *gorm.DB, clusterUUID string, generation int, kind, nodeUUID string) (*model.Certificate, error) {
	return one[model.Certificate](db.Where("cluster_id = ? AND generation = ? AND kind = ? AND node_id = ?", clusterUUID, generation, kind, nodeUUID))
}

// ForgetOtherAuthorities removes all certificates of the operation's cluster,
// and their keys, that are not of the cluster's present generation.
// ErrSuperseded.
func (s *Store) ForgetOtherAuthorities(ctx context.Context, f Fence) error {
	return s.fenced(ctx, "forget the other authorities", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		present := tx.Model(&model.Cluster{}).Select("ca_generation").Where("uuid = ?", op.ClusterID)
		return tx.Where("cluster_id = ? AND generation <> (?)", op.ClusterID, present).Delete(&model.Certificate{}).Error
	})
}

// PutCertificates stores certificates of one cluster, unless it has one of that
// generation and kind (and node) already, and returns those that are stored: of
// several who make one at once all get the same. ErrNotFound when the cluster is
// gone; the authority of the hosts (model.CertHostCA) has none.
func (s *Store) PutCertificates(ctx context.Context, certificates ...model.Certificate) ([]model.Certificate, error) {
	var stored []model.Certificate
	err := s.write(ctx, "store certificates", func(tx *gorm.DB) error {
		stored = slices.Clone(certificates)
		for i := range stored {
			c := &stored[i]
			c.ID, c.NotAfter = 0, utc(c.NotAfter)
			s.stamp(&c.CreatedAt)
			if c.Kind == model.CertHostCA || i > 0 {
				continue
			}
			cluster := tx.Clauses(forShare).Select("id").Where("uuid = ?", c.ClusterID).Take(&model.Cluster{})
			if cluster.Error != nil {
				return cluster.Error
			}
		}
		err := tx.Create(&stored).Error
		if !errors.Is(err, gorm.ErrDuplicatedKey) {
			return err
		}
		for i := range stored { // some are there: one by one
			c := &stored[i]
			c.ID = 0
			err := tx.Create(c).Error
			if errors.Is(err, gorm.ErrDuplicatedKey) {
				var there *model.Certificate
				if there, err = certificate(tx, c.ClusterID, c.Generation, c.Kind, c.NodeID); err == nil {
					*c = *there
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}
