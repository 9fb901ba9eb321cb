// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// QuotaResource is the only resource that has a quota.
const QuotaResource = "Cluster"

// projectLock serialises what counts a project's clusters or operations. Its
// counter changes each time, so that on Galera two creates (or claims) on
// different database nodes conflict instead of both passing.
type projectLock struct {
	ProjectID string `gorm:"primaryKey;size:255"`
	Creates   int64
}

// ListClusters returns the clusters of the scope, without their DriverState.
// ErrBadSortKey, ErrBadMarker.
func (s *Store) ListClusters(ctx context.Context, sc Scope, p Page) ([]model.Cluster, error) {
	const doing = "list clusters"
	page, err := paged[model.Cluster](sc.own(s.read(ctx)), p, "uuid")
	if err != nil {
		return nil, failed(doing, err)
	}
	var clusters []model.Cluster
	return clusters, failed(doing, page.Omit("driver_state").Find(&clusters).Error)
}

// Cluster returns the cluster of the scope with that uuid or name.
// ErrNotFound, ErrAmbiguous.
func (s *Store) Cluster(ctx context.Context, sc Scope, ident string) (*model.Cluster, error) {
	c, err := find[model.Cluster](sc.own(s.read(ctx)), ident)
	return c, failed("find the cluster", err)
}

// NodeGroups returns the node groups of the clusters, by cluster uuid, oldest
// first, in one query.
func (s *Store) NodeGroups(ctx context.Context, clusterUUIDs ...string) (map[string][]model.NodeGroup, error) {
	found := make(map[string][]model.NodeGroup, len(clusterUUIDs))
	if len(clusterUUIDs) == 0 {
		return found, nil
	}
	var groups []model.NodeGroup
	if err := s.read(ctx).Where("cluster_id IN ?", clusterUUIDs).Order("id").Find(&groups).Error; err != nil {
		return nil, failed("read node groups", err)
	}
	for _, g := range groups {
		found[g.ClusterID] = append(found[g.ClusterID], g)
	}
	return found, nil
}

// Nodes returns the nodes of the clusters, by cluster uuid, ordered by group
// (oldest first), then index, in one query.
func (s *Store) Nodes(ctx context.Context, clusterUUIDs ...string) (map[string][]model.Node, error) {
	found := make(map[string][]model.Node, len(clusterUUIDs))
	if len(clusterUUIDs) == 0 {
		return found, nil
	}
	var nodes []model.Node
	err := s.read(ctx).Select("nodes.*").
		Joins("LEFT JOIN node_groups ON node_groups.uuid = nodes.node_group_id").
		Where("nodes.cluster_id IN ?", clusterUUIDs).
		Order("node_groups.id, nodes.ordinal, nodes.id").Find(&nodes).Error
	if err != nil {
		return nil, failed("read nodes", err)
	}
	for _, n := range nodes {
		found[n.ClusterID] = append(found[n.ClusterID], n)
	}
	return found, nil
}

// NodeGroup returns the cluster's node group with that uuid or name, or else
// with that internal id written as digits. ErrNotFound.
func (s *Store) NodeGroup(ctx context.Context, clusterUUID, ident string) (*model.NodeGroup, error) {
	groups := func() *gorm.DB { return s.read(ctx).Where("cluster_id = ?", clusterUUID) }
	g, err := find[model.NodeGroup](groups(), ident)
	if errors.Is(err, ErrNotFound) {
		if id, bad := strconv.ParseInt(ident, 10, 64); bad == nil {
			g, err = one[model.NodeGroup](groups().Where("id = ?", id))
		}
	}
	return g, failed("find the node group", err)
}

// NewOperation is what the store needs to write an operation beside the change
// that asks for it.
type NewOperation struct {
	UserID          string
	UserDomainID    string        // of the user, if known
	RequestID       string        // of the REST call
	GlobalRequestID string        // that the caller sent along, if any
	TraceParent     string        // trace context of the REST call, if any
	Deadline        time.Duration // from now until it has failed; 0 means never
	MaxQueue        int           // how many may be pending already, but for a delete; 0 means any number
}

// newOperation writes a pending operation on the cluster, whose row the
// transaction has locked or made. ErrBusy.
func (s *Store) newOperation(tx *gorm.DB, c *model.Cluster, kind model.OperationKind, spec model.OperationSpec, op NewOperation) (*model.Operation, error) {
	if op.MaxQueue > 0 && kind != model.OpDelete {
		var pending int64 // counted no further than needed, and not to the last one: it is a brake, no quota
		some := tx.Model(&model.Operation{}).Select("id").Where("state = ?", model.OpPending).Limit(op.MaxQueue)
		if err := tx.Table("(?) pending", some).Count(&pending).Error; err != nil {
			return nil, err
		}
		if pending >= int64(op.MaxQueue) {
			return nil, ErrBusy
		}
	}
	row := &model.Operation{
		UUID:      uuid.NewString(),
		ClusterID: c.UUID,
		ProjectID: c.ProjectID,
		UserID:    op.UserID,
		RequestID: op.RequestID,
		Kind:      kind,
		State:     model.OpPending,
		Spec:      spec,
		CreatedAt: s.now(),

		UserDomainID:    op.UserDomainID,
		GlobalRequestID: op.GlobalRequestID,
		TraceParent:     op.TraceParent,
	}
	if op.Deadline > 0 {
		deadline := utc(row.CreatedAt.Add(op.Deadline))
		row.Deadline = &deadline
	}
	if err := tx.Create(row).Error; err != nil {
		return nil, err
	}
	return row, s.tellAsked(tx, row)
}

// CreateCluster stores a new cluster with its node groups and the operation
// that will make it, and returns the operation to be announced. Cluster and
// groups become CREATE_IN_PROGRESS; empty UUIDs and CreatedAt are filled in,
// ClusterID and ProjectID of the groups are set.
//
// The project's clusters in any status are counted against its quota, or
// against defaultQuota when it has none; creates of one project pass one after
// the other, so the limit holds whatever comes at once. ErrQuota (a
// *QuotaError), ErrExists (uuid or group name taken), ErrNotFound when the
// template is gone.
func (s *Store) CreateCluster(ctx context.Context, c *model.Cluster, groups []model.NodeGroup, defaultQuota int, op NewOperation) (*model.Operation, error) {
	var (
		row       model.Cluster
		rows      []model.NodeGroup
		operation *model.Operation
	)
	err := s.write(ctx, "create the cluster", func(tx *gorm.DB) error {
		row, rows = *c, slices.Clone(groups)
		s.prepare(&row, rows)
		if err := underQuota(tx, row.ProjectID, defaultQuota); err != nil {
			return err
		}
		template := tx.Clauses(forShare).Select("id").Where("uuid = ?", row.TemplateID).Take(&model.ClusterTemplate{})
		if template.Error != nil {
			return template.Error
		}
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := tx.Create(&rows).Error; err != nil {
				return err
			}
		}
		var err error
		operation, err = s.newOperation(tx, &row, model.OpCreate, model.OperationSpec{}, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	*c = row
	copy(groups, rows)
	return operation, nil
}

// prepare fills in what the store knows of a new cluster.
func (s *Store) prepare(c *model.Cluster, groups []model.NodeGroup) {
	c.ID = 0
	if c.UUID == "" {
		c.UUID = uuid.NewString()
	}
	c.Status, c.StatusReason = model.CreateInProgress, nil
	s.stamp(&c.CreatedAt)
	for i := range groups {
		g := &groups[i]
		g.ID = 0
		if g.UUID == "" {
			g.UUID = uuid.NewString()
		}
		g.ClusterID, g.ProjectID = c.UUID, c.ProjectID
		g.Status, g.StatusReason = model.CreateInProgress, nil
		s.stamp(&g.CreatedAt)
	}
}

// underQuota locks the project and tells whether it may have one more cluster.
func underQuota(tx *gorm.DB, projectID string, limit int) error {
	if err := lockProject(tx, projectID); err != nil {
		return err
	}
	var quotas []model.Quota
	if err := tx.Where("project_id = ? AND resource = ?", projectID, QuotaResource).Find(&quotas).Error; err != nil {
		return err
	}
	if len(quotas) == 1 {
		limit = quotas[0].HardLimit
	}
	var have int64
	if err := tx.Model(&model.Cluster{}).Where("project_id = ?", projectID).Count(&have).Error; err != nil {
		return err
	}
	if have >= int64(limit) {
		return &QuotaError{Limit: limit}
	}
	return nil
}

// lockProject lets nobody else count the project's rows until the transaction
// ends.
func lockProject(tx *gorm.DB, projectID string) error {
	return tx.Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "project_id"}},
		DoUpdates: clause.Assignments(map[string]any{"creates": gorm.Expr("project_locks.creates + 1")}),
	}).Create(&projectLock{ProjectID: projectID, Creates: 1}).Error
}

// lockCluster returns the cluster; nobody else changes its status or adds an
// operation to it until the transaction ends.
func lockCluster(tx *gorm.DB, uuid string) (*model.Cluster, error) {
	var c model.Cluster
	err := tx.Clauses(forUpdate).Omit("driver_state").Where("uuid = ?", uuid).Take(&c).Error
	return &c, err
}

// ScaleNodeGroup asks for another number of nodes in a group: it writes the
// count, makes cluster and group UPDATE_IN_PROGRESS and returns the operation
// to be announced, which remembers the old count. nodesToRemove are preferred
// when the group shrinks.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned; so it is for a group that
// is being deleted. When the group has that count already nothing changes and
// both results are nil, unless the cluster is in a failed status: then the
// operation is there to get it out of that. It is about the other groups in
// UPDATE_FAILED, too; in CREATE_FAILED it makes the cluster anew, for which
// nothing may be left of the first try (ErrStatus). ErrNotFound.
func (s *Store) ScaleNodeGroup(ctx context.Context, clusterUUID, groupUUID string, count int, nodesToRemove []string, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "scale the node group", func(tx *gorm.DB) error {
		operation = nil
		c, err := lockCluster(tx, clusterUUID)
		if err != nil {
			return err
		}
		if !allowed(c.Status) {
			return &StatusError{Status: c.Status}
		}
		var g model.NodeGroup
		if err := tx.Where("cluster_id = ? AND uuid = ?", clusterUUID, groupUUID).Take(&g).Error; err != nil {
			return err
		}
		if g.Status == model.DeleteInProgress {
			return &StatusError{Status: g.Status}
		}
		if g.NodeCount == count && !c.Status.Failed() {
			return nil
		}
		if c.Status == model.CreateFailed {
			operation, err = s.createAgain(tx, c, groupUUID, count, op)
			return err
		}
		groups := []string{groupUUID}
		if c.Status == model.UpdateFailed {
			var failed []string
			err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ? AND status = ? AND uuid <> ?", clusterUUID, model.UpdateFailed, groupUUID).
				Order("id").Pluck("uuid", &failed).Error
			if err != nil {
				return err
			}
			groups = append(groups, failed...)
		}
		change := s.status(model.UpdateInProgress, nil)
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(change).Error; err != nil {
			return err
		}
		if err := tx.Model(&model.NodeGroup{}).Where("uuid IN ?", groups).Updates(change).Error; err != nil {
			return err
		}
		if err := tx.Model(&model.NodeGroup{}).Where("uuid = ?", groupUUID).Updates(map[string]any{"node_count": count}).Error; err != nil {
			return err
		}
		operation, err = s.newOperation(tx, c, model.OpUpdate, model.OperationSpec{
			NodeGroups:    groups,
			NodeCounts:    map[string]int{groupUUID: g.NodeCount},
			NodesToRemove: nodesToRemove,
		}, op)
		return err
	})
	return operation, err
}

// createAgain asks for a cluster that could not be created to be made anew,
// with another count of one group. What the first try has seen and kept is
// forgotten with its nodes.
func (s *Store) createAgain(tx *gorm.DB, c *model.Cluster, groupUUID string, count int, op NewOperation) (*model.Operation, error) {
	var left int64
	if err := tx.Model(&model.Node{}).Where("cluster_id = ?", c.UUID).Count(&left).Error; err != nil {
		return nil, err
	}
	if left > 0 {
		return nil, &StatusError{Status: c.Status}
	}
	change := s.status(model.CreateInProgress, nil)
	if err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ?", c.UUID).Updates(change).Error; err != nil {
		return nil, err
	}
	if err := tx.Model(&model.NodeGroup{}).Where("uuid = ?", groupUUID).Updates(map[string]any{"node_count": count}).Error; err != nil {
		return nil, err
	}
	for _, column := range []string{"driver_state", "stack_id", "api_address", "coe_version", "container_version"} {
		change[column] = nil
	}
	if err := tx.Model(&model.Cluster{}).Where("uuid = ?", c.UUID).Updates(change).Error; err != nil {
		return nil, err
	}
	return s.newOperation(tx, c, model.OpCreate, model.OperationSpec{}, op)
}

// status is the change that sets a cluster's or node group's status.
func (s *Store) status(status model.Status, reason *string) map[string]any {
	return map[string]any{"status": status, "status_reason": reason, "updated_at": s.now()}
}

// DeleteCluster asks for the cluster to be removed: it makes cluster and
// groups DELETE_IN_PROGRESS, asks the unfinished operations to stop and
// returns the operation to be announced. When such an operation is under way
// already that one is returned and nothing changes. ErrNotFound.
func (s *Store) DeleteCluster(ctx context.Context, clusterUUID string, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "delete the cluster", func(tx *gorm.DB) error {
		c, err := lockCluster(tx, clusterUUID)
		if err != nil {
			return err
		}
		var unfinished []model.Operation
		err = tx.Where("cluster_id = ? AND state IN ?", clusterUUID, claimableStates).Order("id").Find(&unfinished).Error
		if err != nil {
			return err
		}
		for i := range unfinished {
			if unfinished[i].Kind == model.OpDelete {
				operation = &unfinished[i]
				return nil
			}
		}
		if len(unfinished) > 0 {
			// Those that wait for something need not wait to be told.
			err := tx.Model(&model.Operation{}).
				Where("cluster_id = ? AND state IN ?", clusterUUID, claimableStates).
				Updates(map[string]any{"cancel_requested": true, "not_before": nil}).Error
			if err != nil {
				return err
			}
		}
		change := s.status(model.DeleteInProgress, nil)
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(change).Error; err != nil {
			return err
		}
		if err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ?", clusterUUID).Updates(change).Error; err != nil {
			return err
		}
		operation, err = s.newOperation(tx, c, model.OpDelete, model.OperationSpec{}, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// SetHealth writes what is known of the cluster's health; nil means nobody has
// looked. It does not touch the status. ErrNotFound.
func (s *Store) SetHealth(ctx context.Context, clusterUUID string, status *string, reasons model.Labels) error {
	return s.write(ctx, "write the cluster's health", func(tx *gorm.DB) error {
		var before model.Cluster
		err := tx.Clauses(forUpdate).Select("health_status").Where("uuid = ?", clusterUUID).Take(&before).Error
		if err != nil {
			return err
		}
		now := s.now()
		r := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).
			Select("health_status", "health_status_reason", "updated_at").
			Updates(model.Cluster{HealthStatus: status, HealthStatusReason: reasons, UpdatedAt: &now})
		if r.Error != nil || status == nil || before.HealthStatus != nil && *before.HealthStatus == *status {
			return r.Error
		}
		return s.tellHealth(tx, clusterUUID, *status, reasons)
	})
}

// matched is ErrNotFound when a change met no row.
func matched(r *gorm.DB) error {
	if r.Error == nil && r.RowsAffected == 0 {
		return ErrNotFound
	}
	return r.Error
}
