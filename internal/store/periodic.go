// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// Work that comes round again and again is shared without a leader: whoever
// asks first gets what is due, and what was got is not due again for a while.
// A conductor that dies with work in hand loses that round, no more.

// skipLocked leaves out rows that others are about to claim.
var skipLocked = clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}

// dueCheck is the condition under which a cluster or host is to be looked at.
func (s *Store) dueCheck() string {
	return "(next_check IS NULL OR next_check <= " + s.clock.now + ")"
}

// DueClusters returns clusters in one of the statuses whose health is to be
// looked at, the longest due first, at most limit, with what a driver needs to
// know of them and their health. They are not due again until about the time
// every has passed, so nobody else gets them.
func (s *Store) DueClusters(ctx context.Context, statuses []model.Status, every time.Duration, limit int) ([]model.Cluster, error) {
	var clusters []model.Cluster
	columns := []string{
		"id", "uuid", "project_id", "user_id", "name", "cluster_template_id", "labels", "api_address", "driver_state", "ca_generation",
		"health_status", "health_status_reason",
	}
	err := claimDue(ctx, s, "claim clusters to look at", &clusters, columns, every, limit, func(db *gorm.DB) *gorm.DB {
		return db.Where("status IN ?", statuses)
	}, func(c *model.Cluster) int64 { return c.ID })
	return clusters, err
}

// DueHosts returns hosts that may carry nodes and are to be asked what runs
// there, in the manner of DueClusters, with what is needed to ask them.
func (s *Store) DueHosts(ctx context.Context, every time.Duration, limit int) ([]model.Host, error) {
	var hosts []model.Host
	err := claimDue(ctx, s, "claim hosts to look at", &hosts, []string{"id", "uuid", "name", "libvirt_uri", "unreachable_since"}, every, limit, func(db *gorm.DB) *gorm.DB {
		return db.Where("state IN ?", inUse)
	}, func(h *model.Host) int64 { return h.ID })
	return hosts, err
}

func claimDue[T any](ctx context.Context, s *Store, doing string, rows *[]T, columns []string, every time.Duration, limit int,
	which func(*gorm.DB) *gorm.DB, id func(*T) int64,
) error {
	// Most of the time nothing is due, and to see that takes no transaction.
	var ids []int64
	err := which(s.read(ctx).Model(new(T))).Where(s.dueCheck()).Order("next_check, id").Limit(limit).Pluck("id", &ids).Error
	if err != nil || len(ids) == 0 {
		return failed(doing, err)
	}
	return s.write(ctx, doing, func(tx *gorm.DB) error {
		*rows = nil
		if err := tx.Clauses(skipLocked).Select(columns).Where("id IN ?", ids).Where(s.dueCheck()).Order("id").Find(rows).Error; err != nil || len(*rows) == 0 {
			return err
		}
		claimed := make([]int64, len(*rows))
		for i := range *rows {
			claimed[i] = id(&(*rows)[i])
		}
		return tx.Model(new(T)).Where("id IN ?", claimed).Updates(map[string]any{"next_check": s.clock.about(every)}).Error
	})
}

// ForDrivers returns the node groups (oldest first) and nodes (in no order) of
// the clusters, by cluster uuid, with the columns that drivers are told of, in
// two queries.
func (s *Store) ForDrivers(ctx context.Context, clusterUUIDs []string) (map[string][]model.NodeGroup, map[string][]model.Node, error) {
	const doing = "read what drivers are told"
	var groups []model.NodeGroup
	err := s.read(ctx).Select("uuid", "cluster_id", "name", "role", "node_count", "max_node_count", "is_default", "autoscale", "labels").
		Where("cluster_id IN ?", clusterUUIDs).Order("id").Find(&groups).Error
	if err != nil {
		return nil, nil, failed(doing, err)
	}
	var nodes []model.Node
	err = s.read(ctx).Select("uuid", "cluster_id", "node_group_id", "name", "ordinal", "role", "state", "image", "revision", "rebuilds", "vcpus", "memory_mib", "host_id", "address", "coe_id", "machine").
		Where("cluster_id IN ?", clusterUUIDs).Find(&nodes).Error
	if err != nil {
		return nil, nil, failed(doing, err)
	}
	groupsOf := make(map[string][]model.NodeGroup, len(clusterUUIDs))
	for _, g := range groups {
		groupsOf[g.ClusterID] = append(groupsOf[g.ClusterID], g)
	}
	nodesOf := make(map[string][]model.Node, len(clusterUUIDs))
	for _, n := range nodes {
		nodesOf[n.ClusterID] = append(nodesOf[n.ClusterID], n)
	}
	return groupsOf, nodesOf, nil
}

// NodesOn returns the nodes that have room on the hosts, by host uuid: what
// they are and how their machines were, in one query.
func (s *Store) NodesOn(ctx context.Context, hostUUIDs ...string) (map[string][]model.Node, error) {
	found := make(map[string][]model.Node, len(hostUUIDs))
	if len(hostUUIDs) == 0 {
		return found, nil
	}
	var nodes []model.Node
	err := s.read(ctx).Select("uuid", "cluster_id", "name", "state", "host_id", "machine").
		Where("host_id IN ?", hostUUIDs).Find(&nodes).Error
	if err != nil {
		return nil, failed("read the nodes of hosts", err)
	}
	for _, n := range nodes {
		found[*n.HostID] = append(found[*n.HostID], n)
	}
	return found, nil
}

// SetMachines writes what hosts say of the machines of ready nodes, by node
// uuid, and makes the health of their clusters due. A node is left alone while
// its cluster has an unfinished operation, which may be about to stop, make or
// remove it, and when it is gone or not ready.
func (s *Store) SetMachines(ctx context.Context, machines map[string]model.MachineState) error {
	byState := make(map[model.MachineState][]string)
	var all []string
	for node, machine := range machines {
		byState[machine] = append(byState[machine], node)
		all = append(all, node)
	}
	if len(all) == 0 {
		return nil
	}
	return s.write(ctx, "note the state of machines", func(tx *gorm.DB) error {
		for machine, nodes := range byState {
			err := tx.Model(&model.Node{}).Where("uuid IN ? AND state = ?", nodes, model.NodeReady).
				Where("NOT EXISTS (SELECT 1 FROM operations WHERE operations.cluster_id = nodes.cluster_id AND operations.state IN ?)", claimableStates).
				Updates(map[string]any{"machine": machine}).Error
			if err != nil {
				return err
			}
		}
		clusters := tx.Model(&model.Node{}).Select("cluster_id").Where("uuid IN ?", all)
		return tx.Model(&model.Cluster{}).Where("uuid IN (?)", clusters).Updates(map[string]any{"next_check": nil}).Error
	})
}

// MachineRuns notes that the machine of a node of the operation's cluster was
// seen running. A node that is gone is left out. ErrSuperseded.
func (s *Store) MachineRuns(ctx context.Context, f Fence, nodeUUID string) error {
	return s.fenced(ctx, "note that a machine runs", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		if err := ofCluster(tx, op).Where("uuid = ?", nodeUUID).Updates(map[string]any{"machine": model.MachineFine}).Error; err != nil {
			return err
		}
		return tx.Model(&model.Cluster{}).Where("uuid = ?", op.ClusterID).Updates(map[string]any{"next_check": nil}).Error
	})
}

// RepairCluster asks for the cluster's machines that stand still to be started,
// on Keelson's own account, and returns the operation to be announced. Status
// and specification stay as they are. Nothing happens, and both results are
// nil, when the cluster's status is none of these, an operation is unfinished,
// a repair has failed less than rest ago, or the cluster is gone.
func (s *Store) RepairCluster(ctx context.Context, clusterUUID string, statuses []model.Status, rest time.Duration, op NewOperation) (*model.Operation, error) {
	var operation *model.Operation
	err := s.write(ctx, "ask for a repair of the cluster", func(tx *gorm.DB) error {
		operation = nil
		var clusters []model.Cluster
		err := tx.Clauses(forUpdate).Omit("driver_state").Where("uuid = ? AND status IN ?", clusterUUID, statuses).Find(&clusters).Error
		if err != nil || len(clusters) == 0 {
			return err
		}
		var inTheWay int64
		err = tx.Model(&model.Operation{}).Where("cluster_id = ?", clusterUUID).
			Where("state IN ? OR (kind = ? AND state = ? AND finished_at > ?)", claimableStates, model.OpRepair, model.OpFailed, s.now().Add(-rest)).
			Count(&inTheWay).Error
		if err != nil || inTheWay > 0 {
			return err
		}
		operation, err = s.newOperation(tx, &clusters[0], model.OpRepair, model.OperationSpec{}, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return operation, nil
}

// periodicJob is a job that is nobody's in particular.
type periodicJob struct {
	Name    string     `gorm:"primaryKey;size:64"`
	NextRun *time.Time // database clock
}

// ClaimJob tells whether the caller is the one to do the job now. Nobody is
// asked to do it again until about the time every has passed.
func (s *Store) ClaimJob(ctx context.Context, name string, every time.Duration) (bool, error) {
	due := "(next_run IS NULL OR next_run <= " + s.clock.now + ")"
	const doing = "claim a periodic job"
	var jobs []periodicJob
	if err := s.read(ctx).Where("name = ?", name).Where("NOT " + due).Find(&jobs).Error; err != nil || len(jobs) > 0 {
		return false, failed(doing, err)
	}
	var mine bool
	err := s.write(ctx, doing, func(tx *gorm.DB) error {
		if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&periodicJob{Name: name}).Error; err != nil {
			return err
		}
		r := tx.Model(&periodicJob{}).Where("name = ?", name).Where(due).Updates(map[string]any{"next_run": s.clock.about(every)})
		mine = r.RowsAffected == 1
		return r.Error
	})
	return mine, err
}
