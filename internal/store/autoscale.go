// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// samplesKept is how many samples of its usage a cluster keeps.
const samplesKept = 360

// Autoscalings returns what autoscaling knows of the clusters, by cluster uuid;
// those of which it knows nothing are left out.
func (s *Store) Autoscalings(ctx context.Context, clusterUUIDs ...string) (map[string]model.Autoscaling, error) {
	found := make(map[string]model.Autoscaling, len(clusterUUIDs))
	if len(clusterUUIDs) == 0 {
		return found, nil
	}
	var rows []model.Autoscaling
	if err := s.read(ctx).Where("cluster_id IN ?", clusterUUIDs).Find(&rows).Error; err != nil {
		return nil, failed("read what autoscaling knows", err)
	}
	for _, r := range rows {
		found[r.ClusterID] = r
	}
	return found, nil
}

// Samples returns the cluster's usage over time, the oldest first.
func (s *Store) Samples(ctx context.Context, clusterUUID string) ([]model.UsageSample, error) {
	var samples []model.UsageSample
	err := s.read(ctx).Where("cluster_id = ?", clusterUUID).Order("id").Find(&samples).Error
	return samples, failed("read the usage", err)
}

// AddSample keeps what is reserved of the cluster's nodes now, and forgets the
// oldest sample beyond the last few hundred. ErrNotFound when the cluster is
// gone.
func (s *Store) AddSample(ctx context.Context, clusterUUID string, nodes []model.NodeUsage) error {
	return s.write(ctx, "keep the usage", func(tx *gorm.DB) error {
		a, err := s.autoscaling(tx, clusterUUID)
		if err != nil {
			return err
		}
		now := s.now()
		a.Nodes, a.SampledAt = nodes, &now
		if err := tx.Model(a).Where("cluster_id = ?", clusterUUID).Select("nodes", "sampled_at").Updates(a).Error; err != nil {
			return err
		}
		sample := model.UsageSample{ClusterID: clusterUUID, CreatedAt: now}
		for _, n := range nodes {
			sample.CPUs, sample.CPUsReserved = sample.CPUs+n.CPUs, sample.CPUsReserved+n.CPUsReserved
			sample.Memory, sample.MemoryReserved = sample.Memory+n.Memory, sample.MemoryReserved+n.MemoryReserved
		}
		if err := tx.Create(&sample).Error; err != nil {
			return err
		}
		var old []int64
		err = tx.Model(&model.UsageSample{}).Where("cluster_id = ?", clusterUUID).Order("id DESC").Offset(samplesKept).Limit(samplesKept).Pluck("id", &old).Error
		if err != nil || len(old) == 0 {
			return err
		}
		return tx.Where("id IN ?", old).Delete(&model.UsageSample{}).Error
	})
}

// autoscaling locks the cluster, and returns its row of autoscaling, made if it
// is missing.
func (s *Store) autoscaling(tx *gorm.DB, clusterUUID string) (*model.Autoscaling, error) {
	if _, err := lockCluster(tx, clusterUUID); err != nil {
		return nil, err
	}
	if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&model.Autoscaling{ClusterID: clusterUUID}).Error; err != nil {
		return nil, err
	}
	var a model.Autoscaling
	return &a, tx.Where("cluster_id = ?", clusterUUID).Take(&a).Error
}

// AutoscaleChange is what a user changes of a cluster's autoscaling; what is nil
// stays.
type AutoscaleChange struct {
	Enabled          *bool
	ThresholdPercent *int
	SettleSeconds    *int
	Groups           map[string]GroupChange // by node group uuid
}

// GroupChange is what a user changes of a node group's part in it.
type GroupChange struct {
	Autoscale *bool
	Least     *int
	Most      *int
}

// SetAutoscaling writes the user's settings. ErrNotFound.
func (s *Store) SetAutoscaling(ctx context.Context, clusterUUID string, change AutoscaleChange) error {
	return s.write(ctx, "set the autoscaling", func(tx *gorm.DB) error {
		if _, err := s.autoscaling(tx, clusterUUID); err != nil {
			return err
		}
		set := make(map[string]any)
		if change.Enabled != nil {
			set["enabled"] = *change.Enabled
		}
		if change.ThresholdPercent != nil {
			set["threshold_percent"] = *change.ThresholdPercent
		}
		if change.SettleSeconds != nil {
			set["settle_seconds"] = *change.SettleSeconds
		}
		if len(set) > 0 {
			if err := tx.Model(&model.Autoscaling{}).Where("cluster_id = ?", clusterUUID).Updates(set).Error; err != nil {
				return err
			}
		}
		for group, g := range change.Groups {
			set := map[string]any{"updated_at": s.now()}
			if g.Autoscale != nil {
				set["autoscale"] = *g.Autoscale
			}
			if g.Least != nil {
				set["min_node_count"] = *g.Least
			}
			if g.Most != nil {
				set["max_node_count"] = *g.Most
			}
			if err := matched(tx.Model(&model.NodeGroup{}).Where("cluster_id = ? AND uuid = ?", clusterUUID, group).Updates(set)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Grow asks, on Keelson's own account, for one node more in the group, and
// returns the operation to be announced. Nothing happens, and both results are
// nil, when the cluster is not in a …_COMPLETE, an operation is unfinished or
// ended less than settle ago, the group has more than count nodes already, or
// the cluster is gone: so of several that decide the same only one adds a node.
func (s *Store) Grow(ctx context.Context, clusterUUID, groupUUID string, count int, settle time.Duration, why string, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "grow the cluster", func(tx *gorm.DB) error {
		operation = nil
		var clusters []model.Cluster
		if err := tx.Clauses(forUpdate).Omit("driver_state").Where("uuid = ?", clusterUUID).Find(&clusters).Error; err != nil {
			return err
		}
		if len(clusters) == 0 || !clusters[0].Status.Ready() {
			return nil
		}
		var inTheWay int64
		err := tx.Model(&model.Operation{}).Where("cluster_id = ?", clusterUUID).
			Where("state IN ? OR finished_at > ?", claimableStates, s.now().Add(-settle)).Count(&inTheWay).Error
		if err != nil || inTheWay > 0 {
			return err
		}
		r := tx.Model(&model.NodeGroup{}).Where("cluster_id = ? AND uuid = ? AND node_count = ? AND status <> ?", clusterUUID, groupUUID, count, model.DeleteInProgress).
			Updates(map[string]any{"node_count": count + 1, "status": model.UpdateInProgress, "status_reason": nil, "updated_at": s.now()})
		if r.Error != nil || r.RowsAffected == 0 {
			return r.Error
		}
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).Updates(s.status(model.UpdateInProgress, nil)).Error; err != nil {
			return err
		}
		a, err := s.autoscaling(tx, clusterUUID)
		if err != nil {
			return err
		}
		now := s.now()
		err = tx.Model(a).Where("cluster_id = ?", clusterUUID).Updates(map[string]any{"decision": clip(why), "decided_at": now, "grown_at": now}).Error
		if err != nil {
			return err
		}
		operation, err = s.newOperation(tx, &clusters[0], model.OpUpdate, model.OperationSpec{
			NodeGroups: []string{groupUUID}, NodeCounts: map[string]int{groupUUID: count},
		}, op)
		if err != nil {
			return err
		}
		return s.tellOf(tx, operation, model.Event{Kind: model.EventAutoscale, Message: why})
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// Decide notes why autoscaling does not add a node, if it is not what it said
// before: stuck means that it would if it could, which the cluster's
// status_reason says, too, and an event. While the cluster is not in a
// …_COMPLETE nothing is noted: there is something else to be said. ErrNotFound.
func (s *Store) Decide(ctx context.Context, clusterUUID, why string, stuck bool) error {
	return s.write(ctx, "note what autoscaling decided", func(tx *gorm.DB) error {
		c, err := lockCluster(tx, clusterUUID)
		if err != nil || !c.Status.Ready() {
			return err
		}
		a, err := s.autoscaling(tx, clusterUUID)
		if err != nil || a.Decision != nil && *a.Decision == why {
			return err
		}
		err = tx.Model(a).Where("cluster_id = ?", clusterUUID).Updates(map[string]any{"decision": clip(why), "decided_at": s.now()}).Error
		if err != nil {
			return err
		}
		var reason *string
		if stuck {
			reason = &why
		} else if a.Decision == nil {
			return nil // nothing to take back
		}
		err = tx.Model(&model.Cluster{}).Where("uuid = ?", clusterUUID).
			Updates(map[string]any{"status_reason": reason}).Error
		if err != nil || !stuck {
			return err
		}
		return s.tell(tx, model.Event{ClusterID: clusterUUID, Kind: model.EventAutoscale, Level: model.LevelWarning, Message: why})
	})
}
