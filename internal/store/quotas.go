// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// ListQuotas returns the quotas of a project, or of all projects. The page's
// marker is an id. ErrBadSortKey, ErrBadMarker.
func (s *Store) ListQuotas(ctx context.Context, projectID string, all bool, p Page) ([]model.Quota, error) {
	const doing = "list quotas"
	db := s.read(ctx)
	if !all {
		db = db.Where("project_id = ?", projectID)
	}
	page, err := paged[model.Quota](db, p, "id")
	if err != nil {
		return nil, failed(doing, err)
	}
	var quotas []model.Quota
	return quotas, failed(doing, page.Find(&quotas).Error)
}

// Quota returns the project's quota of the resource. ErrNotFound when none is
// stored.
func (s *Store) Quota(ctx context.Context, projectID, resource string) (*model.Quota, error) {
	q, err := one[model.Quota](s.read(ctx).Where("project_id = ? AND resource = ?", projectID, resource))
	return q, failed("read the quota", err)
}

// CreateQuota stores a new quota. A given ID is kept; ID, if 0, and CreatedAt
// are filled in. ErrExists when the project has one of that resource.
func (s *Store) CreateQuota(ctx context.Context, q *model.Quota) error {
	var row model.Quota
	err := s.write(ctx, "create the quota", func(tx *gorm.DB) error {
		row = *q
		s.stamp(&row.CreatedAt)
		return tx.Create(&row).Error
	})
	if err == nil {
		*q = row
	}
	return err
}

// UpdateQuota changes the limit and returns the quota as it is now.
// ErrNotFound.
func (s *Store) UpdateQuota(ctx context.Context, projectID, resource string, hardLimit int) (*model.Quota, error) {
	var row model.Quota
	err := s.write(ctx, "update the quota", func(tx *gorm.DB) error {
		row = model.Quota{}
		where := tx.Where("project_id = ? AND resource = ?", projectID, resource).Session(&gorm.Session{})
		r := where.Model(&model.Quota{}).Updates(map[string]any{"hard_limit": hardLimit, "updated_at": s.now()})
		if err := matched(r); err != nil {
			return err
		}
		return where.Take(&row).Error
	})
	if err != nil {
		return nil, err
	}
	return &row, nil
}

// DeleteQuota removes a quota; the default limit counts again. ErrNotFound.
func (s *Store) DeleteQuota(ctx context.Context, projectID, resource string) error {
	return s.write(ctx, "delete the quota", func(tx *gorm.DB) error {
		return matched(tx.Where("project_id = ? AND resource = ?", projectID, resource).Delete(&model.Quota{}))
	})
}

// Stats counts the project's clusters and the nodes its node groups ask for,
// masters included. An empty projectID means all projects.
func (s *Store) Stats(ctx context.Context, projectID string) (clusters, nodes int, err error) {
	var n struct{ Clusters, Nodes int }
	clusterRows := s.read(ctx).Model(&model.Cluster{}).Select("COUNT(*)")
	groupRows := s.read(ctx).Model(&model.NodeGroup{}).Select("COALESCE(SUM(node_count), 0)")
	if projectID != "" {
		clusterRows = clusterRows.Where("project_id = ?", projectID)
		groupRows = groupRows.Where("project_id = ?", projectID)
	}
	err = s.read(ctx).Raw("SELECT (?) AS clusters, (?) AS nodes", clusterRows, groupRows).Scan(&n).Error
	return n.Clusters, n.Nodes, failed("count clusters and nodes", err)
}
