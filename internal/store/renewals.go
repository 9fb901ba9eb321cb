// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// UpgradeCluster asks for the nodes of the groups to be rebuilt from the
// template. From now on the groups have its image and, when one of them is a
// default group, the cluster has the template; what they had before is in the
// returned operation, and put back if that fails. Cluster and groups become
// UPDATE_IN_PROGRESS.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned; so it is for a group that
// is being deleted. ErrNotFound when cluster or template are gone.
func (s *Store) UpgradeCluster(ctx context.Context, clusterUUID, templateUUID string, groupUUIDs []string, maxBatchSize int, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "upgrade the cluster", func(tx *gorm.DB) error {
		c, err := s.beginUpdate(tx, clusterUUID, allowed)
		if err != nil {
			return err
		}
		var template model.ClusterTemplate
		if err := tx.Clauses(forShare).Where("uuid = ?", templateUUID).Take(&template).Error; err != nil {
			return err
		}
		var groups []model.NodeGroup
		if err := tx.Where("cluster_id = ? AND uuid IN ?", clusterUUID, groupUUIDs).Find(&groups).Error; err != nil {
			return err
		}
		before := model.ClusterBefore{TemplateID: c.TemplateID, CAGeneration: c.CAGeneration, Images: map[string]*string{}}
		for _, g := range groups {
			if g.Status == model.DeleteInProgress {
				return &StatusError{Status: g.Status}
			}
			before.Images[g.UUID] = g.ImageID
			change := s.status(model.UpdateInProgress, nil)
			change["image_id"] = template.ImageID
			if err := tx.Model(&model.NodeGroup{}).Where("uuid = ?", g.UUID).Updates(change).Error; err != nil {
				return err
			}
		}
		if slices.ContainsFunc(groups, func(g model.NodeGroup) bool { return g.IsDefault }) {
			err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(map[string]any{"cluster_template_id": template.UUID}).Error
			if err != nil {
				return err
			}
		}
		operation, err = s.newOperation(tx, c, model.OpUpgrade, model.OperationSpec{
			NodeGroups: groupUUIDs, MaxBatchSize: maxBatchSize, Before: &before,
		}, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// RotateAuthorities asks for new authorities of the cluster. From now on it has
// the next generation of them, made when first asked for; the present one stays
// until the returned operation has brought all nodes to the new one. Cluster
// and groups become UPDATE_IN_PROGRESS.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned. ErrNotFound.
func (s *Store) RotateAuthorities(ctx context.Context, clusterUUID string, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "rotate the cluster's authorities", func(tx *gorm.DB) error {
		c, err := s.beginUpdate(tx, clusterUUID, allowed)
		if err != nil {
			return err
		}
		err = tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(map[string]any{"ca_generation": c.CAGeneration + 1}).Error
		if err != nil {
			return err
		}
		err = tx.Model(&model.NodeGroup{}).Where("cluster_id = ? AND status <> ?", clusterUUID, model.DeleteInProgress).
			Updates(s.status(model.UpdateInProgress, nil)).Error
		if err != nil {
			return err
		}
		operation, err = s.newOperation(tx, c, model.OpRotateCA, model.OperationSpec{
			Before: &model.ClusterBefore{TemplateID: c.TemplateID, CAGeneration: c.CAGeneration},
		}, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// RebuildNodes asks for the roots of these ready nodes to be made anew from what
// they are made from. Those that are gone or not ready are left out; when none
// is left nothing changes and both results are nil. Cluster and the groups of
// the nodes become UPDATE_IN_PROGRESS. A rebuild that fails is not undone: what
// it has not come to stays stale, and the next one goes on.
//
// allowed is asked with the cluster's locked status; when it says no nothing
// changes and ErrStatus (a *StatusError) is returned. ErrNotFound.
func (s *Store) RebuildNodes(ctx context.Context, clusterUUID string, nodeUUIDs []string, allowed func(model.Status) bool, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "rebuild nodes", func(tx *gorm.DB) error {
		operation = nil
		c, err := lockCluster(tx, clusterUUID)
		if err != nil {
			return err
		}
		if !allowed(c.Status) {
			return &StatusError{Status: c.Status}
		}
		var nodes []model.Node
		err = tx.Clauses(forUpdate).Where("cluster_id = ? AND uuid IN ? AND state = ?", clusterUUID, nodeUUIDs, model.NodeReady).Order("id").Find(&nodes).Error
		if err != nil || len(nodes) == 0 {
			return err
		}
		spec := model.OperationSpec{}
		for _, n := range nodes {
			spec.Nodes = append(spec.Nodes, n.UUID)
			if !slices.Contains(spec.NodeGroups, n.NodeGroupID) {
				spec.NodeGroups = append(spec.NodeGroups, n.NodeGroupID)
			}
		}
		err = tx.Model(&model.Node{}).Where("uuid IN ?", spec.Nodes).Updates(map[string]any{"rebuilds": gorm.Expr("rebuilds + 1"), "updated_at": s.now()}).Error
		if err != nil {
			return err
		}
		change := s.status(model.UpdateInProgress, nil)
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(change).Error; err != nil {
			return err
		}
		err = tx.Model(&model.NodeGroup{}).Where("uuid IN ? AND status <> ?", spec.NodeGroups, model.DeleteInProgress).Updates(change).Error
		if err != nil {
			return err
		}
		operation, err = s.newOperation(tx, c, model.OpRebuild, spec, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// beginUpdate locks the cluster, asks whether it may be changed in its status
// and makes it UPDATE_IN_PROGRESS.
func (s *Store) beginUpdate(tx *gorm.DB, clusterUUID string, allowed func(model.Status) bool) (*model.Cluster, error) {
	c, err := lockCluster(tx, clusterUUID)
	if err != nil {
		return nil, err
	}
	if !allowed(c.Status) {
		return nil, &StatusError{Status: c.Status}
	}
	return c, tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(s.status(model.UpdateInProgress, nil)).Error
}

// putBack writes into the cluster's records what the request had changed.
func putBack(tx *gorm.DB, clusterUUID string, before *model.ClusterBefore) error {
	err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).
		Updates(map[string]any{"cluster_template_id": before.TemplateID, "ca_generation": before.CAGeneration}).Error
	if err != nil {
		return err
	}
	for group, image := range before.Images {
		err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ? AND uuid = ?", clusterUUID, group).Updates(map[string]any{"image_id": image}).Error
		if err != nil {
			return err
		}
	}
	return nil
}
