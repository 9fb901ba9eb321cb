// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// listable is what a list of templates shows: one's own, and the public ones
// that are not hidden.
func listable(db *gorm.DB, sc Scope) *gorm.DB {
	return ownOr(db, sc, "(public AND NOT hidden)")
}

// showable is what is shown to who knows a template's uuid or name: one's own,
// and the public ones.
func showable(db *gorm.DB, sc Scope) *gorm.DB { return ownOr(db, sc, "public") }

func ownOr(db *gorm.DB, sc Scope, other string) *gorm.DB {
	switch {
	case sc.All:
		return db
	case sc.ProjectID != "":
		return db.Where("(project_id = ? OR "+other+")", sc.ProjectID)
	case sc.UserID != "":
		return db.Where("(user_id = ? OR "+other+")", sc.UserID)
	default:
		return db.Where(other)
	}
}

// ListTemplates returns the templates of the scope and the public ones that
// are not hidden. ErrBadSortKey, ErrBadMarker.
func (s *Store) ListTemplates(ctx context.Context, sc Scope, p Page) ([]model.ClusterTemplate, error) {
	const doing = "list cluster templates"
	page, err := paged[model.ClusterTemplate](listable(s.read(ctx), sc), p, "uuid")
	if err != nil {
		return nil, failed(doing, err)
	}
	var templates []model.ClusterTemplate
	return templates, failed(doing, page.Find(&templates).Error)
}

// Template returns the template with that uuid or name, or else with that
// internal id written as digits, among those of the scope and all public ones,
// hidden or not. ErrNotFound, ErrAmbiguous.
func (s *Store) Template(ctx context.Context, sc Scope, ident string) (*model.ClusterTemplate, error) {
	t, err := find[model.ClusterTemplate](showable(s.read(ctx), sc), ident)
	if errors.Is(err, ErrNotFound) {
		if id, bad := strconv.ParseInt(ident, 10, 64); bad == nil {
			t, err = one[model.ClusterTemplate](showable(s.read(ctx), sc).Where("id = ?", id))
		}
	}
	return t, failed("find the cluster template", err)
}

// CreateTemplate stores a new template. It fills in UUID if empty, ID and
// CreatedAt. ErrExists when the uuid is taken; names may repeat.
func (s *Store) CreateTemplate(ctx context.Context, t *model.ClusterTemplate) error {
	var row model.ClusterTemplate
	err := s.write(ctx, "create the cluster template", func(tx *gorm.DB) error {
		row = *t
		row.ID = 0
		if row.UUID == "" {
			row.UUID = uuid.NewString()
		}
		s.stamp(&row.CreatedAt)
		return tx.Create(&row).Error
	})
	if err == nil {
		*t = row
	}
	return err
}

// UpdateTemplate writes all of the template but what identifies it and its
// owner, and sets UpdatedAt. With onlyIfUnused it changes nothing and returns
// ErrInUse when a cluster uses the template. ErrNotFound.
func (s *Store) UpdateTemplate(ctx context.Context, t *model.ClusterTemplate, onlyIfUnused bool) error {
	var row model.ClusterTemplate
	err := s.write(ctx, "update the cluster template", func(tx *gorm.DB) error {
		row = *t
		now := s.now()
		row.UpdatedAt = &now
		if err := lockTemplate(tx, t.UUID); err != nil {
			return err
		}
		if onlyIfUnused {
			if err := templateUnused(tx, t.UUID); err != nil {
				return err
			}
		}
		return tx.Model(&model.ClusterTemplate{}).Where("uuid = ?", t.UUID).
			Select("*").Omit("id", "uuid", "project_id", "user_id", "created_at").Updates(row).Error
	})
	if err == nil {
		t.UpdatedAt = row.UpdatedAt
	}
	return err
}

// DeleteTemplate removes a template that no cluster uses. ErrNotFound,
// ErrInUse.
func (s *Store) DeleteTemplate(ctx context.Context, uuid string) error {
	return s.write(ctx, "delete the cluster template", func(tx *gorm.DB) error {
		if err := lockTemplate(tx, uuid); err != nil {
			return err
		}
		if err := templateUnused(tx, uuid); err != nil {
			return err
		}
		return tx.Where("uuid = ?", uuid).Delete(&model.ClusterTemplate{}).Error
	})
}

// lockTemplate keeps new clusters from using the template until the
// transaction ends.
func lockTemplate(tx *gorm.DB, uuid string) error {
	return tx.Clauses(forUpdate).Select("id").Where("uuid = ?", uuid).Take(&model.ClusterTemplate{}).Error
}

func templateUnused(tx *gorm.DB, uuid string) error {
	users, err := templateUsers(tx, uuid)
	if err == nil && users > 0 {
		return ErrInUse
	}
	return err
}

// templateUsers counts the clusters that have the template, and those that an
// upgrade under way may give it back to.
func templateUsers(db *gorm.DB, uuid string) (int64, error) {
	db = db.Session(&gorm.Session{})
	var n int64
	if err := db.Model(&model.Cluster{}).Where("cluster_template_id = ?", uuid).Count(&n).Error; err != nil {
		return 0, err
	}
	var upgrades []model.Operation
	err := db.Where("kind = ? AND state IN ?", model.OpUpgrade, claimableStates).Find(&upgrades).Error
	for _, op := range upgrades {
		if op.Spec.Before.TemplateID == uuid {
			n++
		}
	}
	return n, err
}

// TemplateUsers counts the clusters, of any project, that use the template.
func (s *Store) TemplateUsers(ctx context.Context, uuid string) (int, error) {
	n, err := templateUsers(s.read(ctx), uuid)
	return int(n), failed("count the clusters of the template", err)
}

// TemplatesByID returns the templates with these uuids, whoever owns them, in
// one query. Unknown ones are left out.
func (s *Store) TemplatesByID(ctx context.Context, uuids []string) (map[string]*model.ClusterTemplate, error) {
	found := make(map[string]*model.ClusterTemplate, len(uuids))
	if len(uuids) == 0 {
		return found, nil
	}
	var templates []model.ClusterTemplate
	if err := s.read(ctx).Where("uuid IN ?", uuids).Find(&templates).Error; err != nil {
		return nil, failed("read cluster templates", err)
	}
	for i := range templates {
		found[templates[i].UUID] = &templates[i]
	}
	return found, nil
}
