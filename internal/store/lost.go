// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// HostSilent notes that the host did not answer, and why. It takes no nodes
// from now on, is asked again after about the time again, and the health of the
// clusters with nodes there is due. The result is since when it is silent: nil
// when the host is gone or somebody released it.
func (s *Store) HostSilent(ctx context.Context, uuid, reason string, again time.Duration) (*time.Time, error) {
	var since *time.Time
	err := s.write(ctx, "note that the host does not answer", func(tx *gorm.DB) error {
		since = nil
		var hosts []model.Host
		if err := tx.Clauses(forUpdate).Where("uuid = ? AND state IN ?", uuid, inUse).Find(&hosts).Error; err != nil || len(hosts) == 0 {
			return err
		}
		change := map[string]any{"unreachable_reason": clip(reason), "next_check": s.clock.about(again)}
		if hosts[0].UnreachableSince == nil {
			change["unreachable_since"] = gorm.Expr(s.clock.now)
		}
		if err := tx.Model(&model.Host{}).Where("uuid = ?", uuid).Updates(change).Error; err != nil {
			return err
		}
		if err := tx.Where("uuid = ?", uuid).Take(&hosts[0]).Error; err != nil {
			return err
		}
		since = hosts[0].UnreachableSince
		return healthDue(tx, uuid)
	})
	return since, err
}

// inUse are the states of hosts that are asked what runs on them.
var inUse = []model.HostState{model.HostReady, model.HostDraining}

// healthDue has the health of all clusters with nodes on the host looked at.
func healthDue(tx *gorm.DB, hostUUID string) error {
	clusters := tx.Model(&model.Node{}).Select("cluster_id").Where("host_id = ?", hostUUID)
	return tx.Model(&model.Cluster{}).Where("uuid IN (?)", clusters).Updates(map[string]any{"next_check": nil}).Error
}

// HostsAnswered notes that these hosts answered. One that was silent takes
// nodes again, unless something of lost nodes may be left there.
func (s *Store) HostsAnswered(ctx context.Context, uuids []string) error {
	if len(uuids) == 0 {
		return nil
	}
	return s.write(ctx, "note which hosts answer", func(tx *gorm.DB) error {
		err := tx.Model(&model.Host{}).Where("uuid IN ?", uuids).Updates(map[string]any{"last_seen_at": gorm.Expr(s.clock.now)}).Error
		if err != nil {
			return err
		}
		// Locked, so that no node is lost there meanwhile.
		var silent []model.Host
		err = tx.Clauses(forUpdate).Where("uuid IN ? AND unreachable_since IS NOT NULL", uuids).Find(&silent).Error
		for i := range silent {
			var left int64
			if err == nil {
				err = tx.Model(&model.LostNode{}).Where("host_id = ?", silent[i].UUID).Count(&left).Error
			}
			if err != nil {
				return err
			}
			if left > 0 {
				continue
			}
			err = tx.Model(&model.Host{}).Where("uuid = ?", silent[i].UUID).
				Updates(map[string]any{"unreachable_since": nil, "unreachable_reason": nil, "updated_at": s.now()}).Error
			if err == nil {
				err = healthDue(tx, silent[i].UUID)
			}
		}
		return err
	})
}

// LookAtHost has the host asked what runs on it as soon as possible.
func (s *Store) LookAtHost(ctx context.Context, uuid string) error {
	return s.write(ctx, "have the host looked at", func(tx *gorm.DB) error {
		return tx.Model(&model.Host{}).Where("uuid = ?", uuid).Updates(map[string]any{"next_check": nil}).Error
	})
}

// SilentHosts returns those of the hosts that do not answer, by uuid.
func (s *Store) SilentHosts(ctx context.Context, uuids []string) (map[string]model.Host, error) {
	found := make(map[string]model.Host)
	for some := range slices.Chunk(uuids, 1000) {
		var hosts []model.Host
		if err := s.read(ctx).Where("uuid IN ? AND unreachable_since IS NOT NULL", some).Find(&hosts).Error; err != nil {
			return nil, failed("read which hosts do not answer", err)
		}
		for _, h := range hosts {
			found[h.UUID] = h
		}
	}
	return found, nil
}

// DeadHosts returns the hosts in use that carry nodes and have not answered for
// that long, by name.
func (s *Store) DeadHosts(ctx context.Context, silence time.Duration) ([]model.Host, error) {
	var hosts []model.Host
	err := s.read(ctx).Where("state IN ? AND unreachable_since <= ?", inUse, s.clock.after(-silence)).
		Where("EXISTS (SELECT 1 FROM nodes WHERE nodes.host_id = hosts.uuid)").Order("name").Find(&hosts).Error
	return hosts, failed("look for dead hosts", err)
}

// RemoveLostNode is RemoveNode for a node whose host has not answered for that
// long: the node's machine is left where it is. It is noted as lost there, and
// its address stays taken until ForgetLostNode or RemoveHost. ErrReachable when
// the host answers, or did a shorter while ago.
func (s *Store) RemoveLostNode(ctx context.Context, f Fence, nodeUUID string, silence time.Duration) error {
	return s.fenced(ctx, "remove the lost node", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		n, err := lockNode(tx, op, nodeUUID)
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.lose(tx, n, silence); err != nil {
			return err
		}
		return s.removeNode(tx, n)
	})
}

// MoveLostNode takes a node off a host that has not answered for that long,
// before it has ever joined its COE. What may have been made of it there is
// noted as lost; the node is wanted again and has another address. ErrReachable
// as RemoveLostNode, ErrNoAddress, ErrNotFound, ErrSuperseded.
func (s *Store) MoveLostNode(ctx context.Context, f Fence, nodeUUID, network string, free iter.Seq[netip.Addr], silence time.Duration) error {
	return s.fenced(ctx, "take the node off its host", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		n, err := lockNode(tx, op, nodeUUID)
		if err != nil {
			return err
		}
		if n.State != model.NodePlaced || n.HostID == nil {
			return nil // moved already
		}
		if err := s.lose(tx, n, silence); err != nil {
			return err
		}
		err = tx.Where("cluster_id = ? AND kind = ? AND node_id = ?", n.ClusterID, model.CertNode, n.UUID).Delete(&model.Certificate{}).Error
		if err != nil {
			return err // it was for the old address
		}
		if err := s.giveBack(tx, n); err != nil {
			return err
		}
		err = tx.Model(&model.Node{}).Where("uuid = ?", n.UUID).
			Updates(map[string]any{"host_id": nil, "slot": nil, "address": nil, "mac": nil, "state": model.NodeWanted}).Error
		if err != nil {
			return err
		}
		return s.giveAddress(tx, n, network, free)
	})
}

// lose notes what may be left of the locked node on its silent host.
func (s *Store) lose(tx *gorm.DB, n *model.Node, silence time.Duration) error {
	// Locked by this, the host does not come back meanwhile.
	r := tx.Model(&model.Host{}).Where("uuid = ? AND unreachable_since <= ?", n.HostID, s.clock.after(-silence)).
		Updates(map[string]any{"updated_at": s.now()})
	if r.Error != nil {
		return r.Error
	}
	if n.HostID == nil || r.RowsAffected == 0 {
		return ErrReachable
	}
	row := model.LostNode{UUID: n.UUID, HostID: *n.HostID, ClusterID: n.ClusterID, Name: n.Name}
	for to, from := range map[*string]*string{&row.Network: n.Network, &row.Address: n.Address, &row.MAC: n.MAC} {
		if from != nil {
			*to = *from
		}
	}
	s.stamp(&row.CreatedAt)
	return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
}

// LostNodes returns what may be left of nodes on the hosts, by host uuid.
func (s *Store) LostNodes(ctx context.Context, hostUUIDs []string) (map[string][]model.LostNode, error) {
	found := make(map[string][]model.LostNode)
	for some := range slices.Chunk(hostUUIDs, 1000) {
		var lost []model.LostNode
		if err := s.read(ctx).Where("host_id IN ?", some).Order("id").Find(&lost).Error; err != nil {
			return nil, failed("read what is left of lost nodes", err)
		}
		for _, n := range lost {
			found[n.HostID] = append(found[n.HostID], n)
		}
	}
	return found, nil
}

// UnknownNodes returns those of the uuids of which no record knows anything:
// they are neither of nodes nor of lost ones.
func (s *Store) UnknownNodes(ctx context.Context, uuids []string) ([]string, error) {
	known := make(map[string]bool)
	for some := range slices.Chunk(uuids, 1000) {
		for _, row := range []any{&model.Node{}, &model.LostNode{}} {
			var found []string
			if err := s.read(ctx).Model(row).Where("uuid IN ?", some).Pluck("uuid", &found).Error; err != nil {
				return nil, failed("look for unknown nodes", err)
			}
			for _, id := range found {
				known[id] = true
			}
		}
	}
	var unknown []string
	for _, id := range uuids {
		if !known[id] && !slices.Contains(unknown, id) {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

// ForgetLostNode notes that nothing of the node is on the host any more. Its
// address is free. Forgotten already is success.
func (s *Store) ForgetLostNode(ctx context.Context, nodeUUID, hostUUID string) error {
	return s.write(ctx, "forget the lost node", func(tx *gorm.DB) error {
		return tx.Where("uuid = ? AND host_id = ?", nodeUUID, hostUUID).Delete(&model.LostNode{}).Error
	})
}

// ReplaceNodes asks for these nodes of the cluster to be replaced by new ones,
// on Keelson's own account: an update of their groups. The operation is to be
// announced. Nothing happens, and both results are nil, when the cluster's
// status is none of these, an operation is unfinished, such an update has
// failed less than rest ago, none of the nodes is there or the cluster is gone.
func (s *Store) ReplaceNodes(ctx context.Context, clusterUUID string, nodeUUIDs []string, statuses []model.Status, rest time.Duration, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "ask for nodes to be replaced", func(tx *gorm.DB) error {
		operation = nil
		var clusters []model.Cluster
		err := tx.Clauses(forUpdate).Omit("driver_state").Where("uuid = ? AND status IN ?", clusterUUID, statuses).Find(&clusters).Error
		if err != nil || len(clusters) == 0 {
			return err
		}
		var others []model.Operation
		err = tx.Where("cluster_id = ?", clusterUUID).
			Where("state IN ? OR (kind = ? AND state = ? AND finished_at > ?)", claimableStates, model.OpUpdate, model.OpFailed, s.now().Add(-rest)).
			Find(&others).Error
		if err != nil {
			return err
		}
		for _, other := range others {
			if !other.State.Terminal() || len(other.Spec.Replace) > 0 {
				return nil
			}
		}
		var nodes []model.Node
		if err := tx.Where("cluster_id = ? AND uuid IN ?", clusterUUID, nodeUUIDs).Order("id").Find(&nodes).Error; err != nil || len(nodes) == 0 {
			return err
		}
		spec := model.OperationSpec{}
		for _, n := range nodes {
			spec.Replace = append(spec.Replace, n.UUID)
			if !slices.Contains(spec.NodeGroups, n.NodeGroupID) {
				spec.NodeGroups = append(spec.NodeGroups, n.NodeGroupID)
			}
		}
		status := s.status(model.UpdateInProgress, nil)
		if err := tx.Model(&model.NodeGroup{}).Where("uuid IN ?", spec.NodeGroups).Updates(status).Error; err != nil {
			return err
		}
		operation, err = s.updateGroup(tx, &clusters[0], spec, nil, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}
