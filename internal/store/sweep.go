// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Leftover is what no record needs any more, or a sum that is not right. In a
// healthy cloud there is none: rows go in the transaction that makes them
// useless. It takes a restored backup or a hand in the database.
type Leftover struct {
	Kind  LeftoverKind
	ID    string // what it is the row of: see the kinds
	Where string // host of a node, empty for the others
	Why   string
}

// LeftoverKind is what is left over.
type LeftoverKind string

// Kinds of leftovers.
const (
	LeftNode         LeftoverKind = "node"         // a node without cluster or node group, with what it holds; ID is its uuid
	LeftGroup        LeftoverKind = "node group"   // of no cluster; ID is its uuid
	LeftCertificates LeftoverKind = "certificates" // of a cluster that is gone; ID is its uuid
	LeftRoom         LeftoverKind = "room"         // a host whose used room is not that of its nodes; ID is its uuid
	LeftService      LeftoverKind = "service"      // a conductor not heard of for long; ID is host/binary
)

// leftoverPage bounds how many of one kind are told at once.
const leftoverPage = 1000

// Leftovers lists what is left over: rows older than grace, and services that
// were not heard of for silent.
func (s *Store) Leftovers(ctx context.Context, grace, silent time.Duration) ([]Leftover, error) {
	const doing = "look for leftovers"
	var all []Leftover
	before := s.now().Add(-grace)
	gather := func(kind LeftoverKind, query string, args ...any) error {
		var found []Leftover
		if err := s.read(ctx).Raw(query+fmt.Sprintf(" LIMIT %d", leftoverPage), args...).Scan(&found).Error; err != nil {
			return err
		}
		for i := range found {
			found[i].Kind = kind
		}
		all = append(all, found...)
		return nil
	}
	for _, err := range []error{
		gather(LeftNode, "SELECT nodes.uuid AS id, COALESCE(nodes.host_id, '') AS `where`,"+
			" CASE WHEN clusters.id IS NULL THEN 'its cluster is gone' ELSE 'its node group is gone' END AS why FROM nodes"+leftNodes+" ORDER BY nodes.id", before),
		gather(LeftGroup, "SELECT node_groups.uuid AS id, '' AS `where`, 'its cluster is gone' AS why FROM node_groups"+
			" LEFT JOIN clusters ON clusters.uuid = node_groups.cluster_id WHERE clusters.id IS NULL AND node_groups.created_at < ? ORDER BY node_groups.id", before),
		gather(LeftCertificates, "SELECT certificates.cluster_id AS id, '' AS `where`, 'their cluster is gone' AS why FROM certificates"+
			" LEFT JOIN clusters ON clusters.uuid = certificates.cluster_id WHERE clusters.id IS NULL AND certificates.cluster_id <> ''"+
			" GROUP BY certificates.cluster_id HAVING MAX(certificates.created_at) < ? ORDER BY certificates.cluster_id", before),
		gather(LeftRoom, "SELECT hosts.uuid AS id, hosts.name AS `where`, 'more or less room is taken than its nodes have' AS why FROM hosts"+
			" LEFT JOIN nodes ON nodes.host_id = hosts.uuid"+
			" GROUP BY hosts.uuid, hosts.name, hosts.used_vcpus, hosts.used_memory_mib, hosts.used_disk_gib"+
			" HAVING hosts.used_vcpus <> COALESCE(SUM(nodes.vcpus), 0) OR hosts.used_memory_mib <> COALESCE(SUM(nodes.memory_mib), 0)"+
			" OR hosts.used_disk_gib <> COALESCE(SUM(nodes.disk_gib), 0) ORDER BY hosts.name"),
	} {
		if err != nil {
			return nil, failed(doing, err)
		}
	}
	var services []model.ServiceRecord
	if err := s.read(ctx).Where(s.silent(), s.clock.after(-silent)).Order("id").Find(&services).Error; err != nil {
		return nil, failed(doing, err)
	}
	for _, r := range services {
		all = append(all, Leftover{Kind: LeftService, ID: r.Host + "/" + r.Binary, Why: "it was not heard of since " + r.LastSeenUp.UTC().Format(time.RFC3339)})
	}
	return all, nil
}

// leftNodes picks the nodes that nobody needs, but for very young ones.
const leftNodes = " LEFT JOIN clusters ON clusters.uuid = nodes.cluster_id LEFT JOIN node_groups ON node_groups.uuid = nodes.node_group_id" +
	" WHERE (clusters.id IS NULL OR node_groups.id IS NULL) AND nodes.created_at < ?"

// silent is the condition under which a service was not heard of since a time
// of the database's clock.
func (s *Store) silent() string { return "last_seen_up < ?" }

// RemoveLeftover removes what Leftovers has told, or sets the sum right. It
// looks again: what has come to be needed meanwhile, or is gone, is left alone.
// A node's machine must have been removed from its host before.
func (s *Store) RemoveLeftover(ctx context.Context, l Leftover, grace, silent time.Duration) error {
	before := s.now().Add(-grace)
	return s.write(ctx, "remove the leftover "+string(l.Kind), func(tx *gorm.DB) error {
		orphaned := tx.Where("NOT EXISTS (SELECT 1 FROM clusters WHERE clusters.uuid = cluster_id)").Session(&gorm.Session{})
		switch l.Kind {
		case LeftNode:
			var nodes []model.Node
			err := tx.Raw("SELECT nodes.* FROM nodes"+leftNodes+" AND nodes.uuid = ?", before, l.ID).Scan(&nodes).Error
			for i := range nodes {
				if err == nil {
					err = s.removeNode(tx, &nodes[i])
				}
			}
			return err
		case LeftGroup:
			return orphaned.Where("uuid = ? AND created_at < ?", l.ID, before).Delete(&model.NodeGroup{}).Error
		case LeftCertificates:
			return orphaned.Where("cluster_id = ? AND cluster_id <> '' AND created_at < ?", l.ID, before).Delete(&model.Certificate{}).Error
		case LeftRoom:
			return recount(tx, l.ID)
		case LeftService:
			var rows []model.ServiceRecord
			if err := tx.Where(s.silent(), s.clock.after(-silent)).Find(&rows).Error; err != nil {
				return err
			}
			for _, r := range rows {
				if r.Host+"/"+r.Binary == l.ID {
					return tx.Where(s.silent(), s.clock.after(-silent)).Where("id = ?", r.ID).Delete(&model.ServiceRecord{}).Error
				}
			}
			return nil
		}
		return fmt.Errorf("nothing is known of leftovers of kind %q", l.Kind)
	})
}

// recount makes the used room of a host that of its nodes. The host's row is
// locked: claims wait, and what is being given back is subtracted afterwards.
func recount(tx *gorm.DB, hostUUID string) error {
	var hosts []model.Host
	if err := tx.Clauses(forUpdate).Where("uuid = ?", hostUUID).Find(&hosts).Error; err != nil || len(hosts) == 0 {
		return err
	}
	var sum struct{ VCPUs, Memory, Disk int }
	err := tx.Model(&model.Node{}).Where("host_id = ?", hostUUID).
		Select("COALESCE(SUM(vcpus), 0) AS v_cpus, COALESCE(SUM(memory_mib), 0) AS memory, COALESCE(SUM(disk_gib), 0) AS disk").Scan(&sum).Error
	if err != nil {
		return err
	}
	return tx.Model(&model.Host{}).Where("uuid = ?", hostUUID).
		Updates(map[string]any{"used_vcpus": sum.VCPUs, "used_memory_mib": sum.Memory, "used_disk_gib": sum.Disk}).Error
}

// NodeHosts tells on which host each of the nodes has its place, by node uuid;
// those without a record are left out.
func (s *Store) NodeHosts(ctx context.Context, nodeUUIDs []string) (map[string]string, error) {
	found := make(map[string]string, len(nodeUUIDs))
	for some := range slices.Chunk(nodeUUIDs, 1000) {
		var nodes []model.Node
		if err := s.read(ctx).Select("uuid", "host_id").Where("uuid IN ?", some).Find(&nodes).Error; err != nil {
			return nil, failed("read where nodes are", err)
		}
		for _, n := range nodes {
			found[n.UUID] = ""
			if n.HostID != nil {
				found[n.UUID] = *n.HostID
			}
		}
	}
	return found, nil
}

// TouchedNodes tells which of the nodes an operation has had in hand that is
// unfinished or ended less than grace ago.
func (s *Store) TouchedNodes(ctx context.Context, nodeUUIDs []string, grace time.Duration) (map[string]bool, error) {
	touched := make(map[string]bool)
	for some := range slices.Chunk(nodeUUIDs, 1000) {
		var nodes []string
		err := s.read(ctx).Model(&model.Step{}).Joins("JOIN operations ON operations.uuid = steps.operation_id").
			Where("operations.state IN ? OR operations.finished_at > ?", claimableStates, s.now().Add(-grace)).
			Where("steps.node_id IN ?", some).Distinct().Pluck("steps.node_id", &nodes).Error
		if err != nil {
			return nil, failed("read which nodes were touched", err)
		}
		for _, n := range nodes {
			touched[n] = true
		}
	}
	return touched, nil
}

// PruneOperations forgets operations, with their journals, that ended longer
// ago than age, at most limit of them, and tells how many. Of a cluster that is
// there the last keep ended operations stay. Those with an id up to after are
// passed over; next is where to go on, 0 when all was seen.
func (s *Store) PruneOperations(ctx context.Context, age time.Duration, keep, limit int, after int64) (pruned int, next int64, err error) {
	const doing = "prune ended operations"
	var old []model.Operation
	err = s.prunable(ctx, age, keep).Select("id", "uuid").Where("id > ?", after).Order("id").Limit(limit).Find(&old).Error
	if err != nil || len(old) == 0 {
		return 0, 0, failed(doing, err)
	}
	uuids := make([]string, len(old))
	for i := range old {
		uuids[i] = old[i].UUID
	}
	err = s.write(ctx, doing, func(tx *gorm.DB) error {
		if err := tx.Where("operation_id IN ?", uuids).Delete(&model.Step{}).Error; err != nil {
			return err
		}
		if err := tx.Where("operation_id IN ?", uuids).Delete(&model.Event{}).Error; err != nil {
			return err
		}
		return tx.Where("uuid IN ?", uuids).Delete(&model.Operation{}).Error
	})
	if err != nil {
		return 0, 0, err
	}
	return len(old), old[len(old)-1].ID, nil
}

// prunable begins a query of the operations that PruneOperations removes.
func (s *Store) prunable(ctx context.Context, age time.Duration, keep int) *gorm.DB {
	return s.read(ctx).Model(&model.Operation{}).Where("finished_at < ? AND state NOT IN ?", s.now().Add(-age), claimableStates).
		Where("NOT EXISTS (SELECT 1 FROM clusters WHERE clusters.uuid = operations.cluster_id)"+
			" OR (SELECT COUNT(*) FROM operations later WHERE later.cluster_id = operations.cluster_id AND later.id > operations.id"+
			" AND later.finished_at IS NOT NULL) >= ?", keep)
}

// Prunable counts what PruneOperations and PruneEvents would remove: operations,
// and events that are about none.
func (s *Store) Prunable(ctx context.Context, age time.Duration, keep int) (operations, events int64, err error) {
	const doing = "count what is old"
	if err := s.prunable(ctx, age, keep).Count(&operations).Error; err != nil {
		return 0, 0, failed(doing, err)
	}
	err = s.read(ctx).Model(&model.Event{}).Where("created_at < ? AND operation_id = ''", s.now().Add(-age)).Count(&events).Error
	return operations, events, failed(doing, err)
}

// UnknownKinds counts the operations that have not ended and that this program
// can not carry out, by kind.
func (s *Store) UnknownKinds(ctx context.Context) (map[model.OperationKind]int, error) {
	var rows []OperationCount
	err := s.read(ctx).Model(&model.Operation{}).Select("kind, COUNT(*) AS count").
		Where("state IN ? AND kind NOT IN ?", claimableStates, model.OperationKinds).Group("kind").Scan(&rows).Error
	kinds := make(map[model.OperationKind]int, len(rows))
	for _, r := range rows {
		kinds[r.Kind] = r.Count
	}
	return kinds, failed("look for operations of unknown kinds", err)
}
