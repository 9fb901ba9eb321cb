// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// notifyOf writes, in the transaction that begins or ends the operation, the
// notification of that, with its cluster as it is at this point of the
// transaction. A cluster that is gone leaves nothing to tell.
func (s *Store) notifyOf(tx *gorm.DB, op *model.Operation, outcome model.Outcome) error {
	if !s.notify {
		return nil
	}
	var c model.Cluster
	err := tx.Omit("driver_state").Where("uuid = ?", op.ClusterID).Take(&c).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if op.Kind == model.OpDelete && outcome == model.OutcomeSuccess {
		c.Status, c.StatusReason = model.DeleteComplete, nil // its row goes with this transaction
	}
	data, err := clusterData(tx, &c)
	if err != nil {
		return err
	}
	return tx.Create(&model.Notification{
		UUID: uuid.NewString(), Kind: op.Kind, Outcome: outcome, ClusterID: c.UUID, ClusterName: c.Name,
		ProjectID: op.ProjectID, UserID: op.UserID, UserDomainID: op.UserDomainID, RequestID: op.RequestID, GlobalRequestID: op.GlobalRequestID,
		Cluster: data, CreatedAt: s.now(),
	}).Error
}

// clusterData gathers what notifications tell of the cluster.
func clusterData(tx *gorm.DB, c *model.Cluster) (model.ClusterData, error) {
	data := model.ClusterData{
		Status: c.Status, StatusReason: c.StatusReason, ProjectID: c.ProjectID,
		CreatedAt: isoTime(&c.CreatedAt), UpdatedAt: isoTime(c.UpdatedAt),
		ClusterTemplateID: c.TemplateID, Keypair: c.Keypair, DockerVolumeSize: c.DockerVolumeSize, Labels: c.Labels,
		MasterFlavorID: c.MasterFlavorID, FlavorID: c.FlavorID, StackID: c.StackID, HealthStatus: c.HealthStatus,
		CreateTimeout: c.CreateTimeout, APIAddress: c.APIAddress, DiscoveryURL: c.DiscoveryURL,
		NodeAddresses: []string{}, MasterAddresses: []string{},
	}
	if data.Labels == nil {
		data.Labels = model.Labels{}
	}
	var groups []model.NodeGroup
	if err := tx.Select("role", "node_count").Where("cluster_id = ?", c.UUID).Find(&groups).Error; err != nil {
		return data, err
	}
	for _, g := range groups {
		if g.Master() {
			data.MasterCount += g.NodeCount
		} else {
			data.NodeCount += g.NodeCount
		}
	}
	var nodes []model.Node
	err := tx.Select("role", "address").Where("cluster_id = ? AND address IS NOT NULL", c.UUID).Order("node_group_id, ordinal").Find(&nodes).Error
	for _, n := range nodes {
		if n.Master() {
			data.MasterAddresses = append(data.MasterAddresses, *n.Address)
		} else {
			data.NodeAddresses = append(data.NodeAddresses, *n.Address)
		}
	}
	return data, err
}

// isoTime writes a time as oslo.serialization writes Python's.
func isoTime(t *time.Time) *string {
	if t == nil {
		return nil
	}
	text := t.UTC().Format("2006-01-02T15:04:05.000000")
	return &text
}

// TakeNotifications returns up to limit notifications, oldest first, to be sent
// by the caller, who then has the lease's time for it and calls
// RemoveNotifications. While somebody else's time for the oldest one runs there
// are none: so they are sent in order, and twice only after a crash.
func (s *Store) TakeNotifications(ctx context.Context, limit int, lease time.Duration) ([]model.Notification, error) {
	var taken []model.Notification
	err := s.write(ctx, "take notifications", func(tx *gorm.DB) error {
		taken = nil
		var rows []struct {
			model.Notification
			Busy bool
		}
		err := tx.Model(&model.Notification{}).Clauses(forUpdate).
			Select("*, COALESCE(taken_until >= " + s.clock.now + ", FALSE) AS busy").
			Order("id").Limit(limit).Find(&rows).Error
		if err != nil {
			return err
		}
		var ids []int64
		for _, r := range rows {
			if r.Busy {
				break
			}
			taken = append(taken, r.Notification)
			ids = append(ids, r.ID)
		}
		if len(ids) == 0 {
			return nil
		}
		return tx.Model(&model.Notification{}).Where("id IN ?", ids).
			Updates(map[string]any{"taken_until": s.clock.after(lease)}).Error
	})
	return taken, err
}

// ReturnNotifications gives back what could not be sent, to be taken at once by
// anyone.
func (s *Store) ReturnNotifications(ctx context.Context, uuids ...string) error {
	if len(uuids) == 0 {
		return nil
	}
	return s.write(ctx, "give notifications back", func(tx *gorm.DB) error {
		return tx.Model(&model.Notification{}).Where("uuid IN ?", uuids).Updates(map[string]any{"taken_until": nil}).Error
	})
}

// RemoveNotifications forgets what the broker keeps safe now. Those that are
// gone are success.
func (s *Store) RemoveNotifications(ctx context.Context, uuids ...string) error {
	if len(uuids) == 0 {
		return nil
	}
	return s.write(ctx, "remove notifications", func(tx *gorm.DB) error {
		return tx.Where("uuid IN ?", uuids).Delete(&model.Notification{}).Error
	})
}
