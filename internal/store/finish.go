// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// ObserveCluster notes what is seen of the cluster; empty fields leave the
// record as it is. ErrSuperseded.
func (s *Store) ObserveCluster(ctx context.Context, f Fence, stackID, apiAddress, coeVersion, containerVersion string) error {
	change := make(map[string]any)
	for column, value := range map[string]string{
		"stack_id":          stackID,
		"api_address":       apiAddress,
		"coe_version":       coeVersion,
		"container_version": containerVersion,
	} {
		if value != "" {
			change[column] = value
		}
	}
	return s.changeCluster(ctx, "note what is seen of the cluster", f, change)
}

// SaveDriverState keeps the driver's sealed state of the cluster.
// ErrSuperseded.
func (s *Store) SaveDriverState(ctx context.Context, f Fence, sealed []byte) error {
	return s.changeCluster(ctx, "save the driver's state", f, map[string]any{"driver_state": sealed})
}

func (s *Store) changeCluster(ctx context.Context, doing string, f Fence, change map[string]any) error {
	return s.fenced(ctx, doing, f, nil, func(tx *gorm.DB, op *model.Operation) error {
		if len(change) == 0 {
			return nil
		}
		set := map[string]any{"updated_at": s.now()}
		for column, value := range change {
			set[column] = value
		}
		return matched(tx.Model(&model.Cluster{}).Where("uuid = ?", op.ClusterID).Updates(set))
	})
}

// Finish ends the operation and writes status and reason of the cluster and of
// the groups the operation was about. restoreCounts puts back node counts, by
// group uuid. A delete that is done removes the cluster, its groups, nodes and
// certificates instead; operations and steps stay. One that was to delete a
// node group and is done removes that group's row; while the group has nodes
// left it is not done, and that is an error. A repair changes no status.
//
// What a later operation is already about belongs to that one: when the user
// has asked for more in the meantime, cluster status, and status and count of
// the groups concerned, are left alone; counts to put back are handed on to
// the later operation in case it fails too. ErrSuperseded.
func (s *Store) Finish(ctx context.Context, f Fence, state model.OperationState, status model.Status, reason *string, restoreCounts map[string]int) error {
	const doing = "finish the operation"
	if !state.Terminal() {
		return failed(doing, errors.New("the state is not a final one"))
	}
	if reason != nil {
		text := clip(*reason)
		reason = &text
	}
	change := s.ended(state)
	if reason != nil {
		change["reason"] = reason
	}
	return s.fenced(ctx, doing, f, change, func(tx *gorm.DB, op *model.Operation) error {
		if _, err := lockCluster(tx, op.ClusterID); errors.Is(err, gorm.ErrRecordNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		later := tx.Model(&model.Operation{}).
			Where("cluster_id = ? AND id > ? AND state IN ?", op.ClusterID, op.ID, claimableStates).
			Session(&gorm.Session{})
		if op.Kind == model.OpDelete && state == model.OpDone {
			if err := s.notifyOf(tx, op, model.OutcomeSuccess); err != nil {
				return err
			}
			if err := s.removeCluster(tx, op.ClusterID); err != nil {
				return err
			}
			if err := later.Updates(s.ended(model.OpCancelled)).Error; err != nil {
				return err
			}
			return s.tellEnd(tx, op, state, reason)
		}
		if op.Kind == model.OpRepair {
			// Nobody asked for it, so the status tells of what was asked for before.
			return s.tellEnd(tx, op, state, reason)
		}
		var next []model.Operation
		if err := later.Order("id").Find(&next).Error; err != nil {
			return err
		}
		groupStatus := status
		if kind := op.Spec.GroupKind; kind != "" {
			groupStatus = kind.Broken()
			if state == model.OpDone {
				groupStatus = kind.After()
			}
		}
		if err := s.settle(tx, op, next, s.status(status, reason), s.status(groupStatus, reason), restoreCounts); err != nil {
			return err
		}
		outcome := model.OutcomeFailure
		if state == model.OpDone {
			outcome = model.OutcomeSuccess
		}
		if err := s.notifyOf(tx, op, outcome); err != nil {
			return err
		}
		if len(next) == 0 {
			e := model.Event{Kind: model.EventClusterStatus, Message: fmt.Sprintf("%s.", status)}
			if state != model.OpDone {
				e.Level = model.LevelError
			}
			if reason != nil {
				e.Message = fmt.Sprintf("%s: %s", status, *reason)
			}
			if err := s.tellOf(tx, op, e); err != nil {
				return err
			}
		}
		return s.tellEnd(tx, op, state, reason)
	})
}

// ended is the change that ends an operation.
func (s *Store) ended(state model.OperationState) map[string]any {
	return map[string]any{"state": state, "owner": "", "lease_until": nil, "not_before": nil, "finished_at": s.now()}
}

// settle writes the outcome of an operation to its cluster, as far as the
// unfinished operations that came later leave it to do so.
func (s *Store) settle(tx *gorm.DB, op *model.Operation, later []model.Operation, status, groupStatus map[string]any, restoreCounts map[string]int) error {
	if len(later) == 0 {
		if err := tx.Model(&model.Cluster{}).Where("uuid = ?", op.ClusterID).Updates(status).Error; err != nil {
			return err
		}
	}
	var groups []string
	if err := tx.Model(&model.NodeGroup{}).Where("cluster_id = ?", op.ClusterID).Pluck("uuid", &groups).Error; err != nil {
		return err
	}
	for _, group := range groups {
		ours := op.Spec.Concerns(group) &&
			!slices.ContainsFunc(later, func(l model.Operation) bool { return l.Spec.Concerns(group) })
		if ours && groupStatus["status"] == model.DeleteComplete {
			if err := removeGroup(tx, group); err != nil {
				return err
			}
			continue
		}
		change := make(map[string]any)
		if ours {
			maps.Copy(change, groupStatus)
		}
		if count, restore := restoreCounts[group]; restore {
			given, err := passOn(tx, later, group, count)
			if err != nil {
				return err
			}
			if !given {
				change["node_count"] = count
			}
		}
		if len(change) == 0 {
			continue
		}
		if err := tx.Model(&model.NodeGroup{}).Where("uuid = ?", group).Updates(change).Error; err != nil {
			return err
		}
	}
	return nil
}

// passOn gives a count that is to be put back to the first of the later
// operations that is about the group's count, for the case that it fails too;
// false means there is none.
func passOn(tx *gorm.DB, later []model.Operation, group string, count int) (bool, error) {
	heir := slices.IndexFunc(later, func(l model.Operation) bool {
		_, counts := l.Spec.NodeCounts[group]
		return counts
	})
	if heir < 0 {
		return false, nil
	}
	spec := later[heir].Spec
	spec.NodeCounts[group] = count
	return true, tx.Model(&model.Operation{}).Where("uuid = ?", later[heir].UUID).
		Select("spec").Updates(model.Operation{Spec: spec}).Error
}

// removeGroup removes the row of a node group without nodes. Nodes never
// outlive the row of their group: they hold room on hosts.
func removeGroup(tx *gorm.DB, uuid string) error {
	var left int64
	if err := tx.Model(&model.Node{}).Where("node_group_id = ?", uuid).Count(&left).Error; err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("node group %s still has %d nodes", uuid, left)
	}
	return tx.Where("uuid = ?", uuid).Delete(&model.NodeGroup{}).Error
}

// removeCluster removes all rows of the cluster. Nodes that are still there
// give back what they hold.
func (s *Store) removeCluster(tx *gorm.DB, clusterUUID string) error {
	var nodes []model.Node
	if err := tx.Where("cluster_id = ?", clusterUUID).Find(&nodes).Error; err != nil {
		return err
	}
	for i := range nodes {
		if err := s.removeNode(tx, &nodes[i]); err != nil {
			return err
		}
	}
	for _, row := range []any{&model.Certificate{}, &model.NodeGroup{}, &model.Autoscaling{}, &model.UsageSample{}} {
		if err := tx.Where("cluster_id = ?", clusterUUID).Delete(row).Error; err != nil {
			return err
		}
	}
	return tx.Where("uuid = ?", clusterUUID).Delete(&model.Cluster{}).Error
}

// FinishCancelled ends the operation as cancelled. The cluster is left alone:
// it belongs to the operation that asked for this. ErrSuperseded.
func (s *Store) FinishCancelled(ctx context.Context, f Fence) error {
	return s.fenced(ctx, "end the cancelled operation", f, s.ended(model.OpCancelled), func(tx *gorm.DB, op *model.Operation) error {
		if err := s.notifyOf(tx, op, model.OutcomeFailure); err != nil {
			return err
		}
		return s.tellEnd(tx, op, model.OpCancelled, nil)
	})
}
