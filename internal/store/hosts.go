// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Hosts returns all hosts, by name.
func (s *Store) Hosts(ctx context.Context) ([]model.Host, error) {
	var hosts []model.Host
	return hosts, failed("list hosts", s.read(ctx).Order("name").Find(&hosts).Error)
}

// HostsIn returns the hosts in any of the states, by name.
func (s *Store) HostsIn(ctx context.Context, states ...model.HostState) ([]model.Host, error) {
	var hosts []model.Host
	return hosts, failed("list hosts", s.read(ctx).Where("state IN ?", states).Order("name").Find(&hosts).Error)
}

// HostWish is what a node needs of a host.
type HostWish struct {
	VCPUs, MemoryMiB, DiskGiB int
	ResourceClass             string
	OrNoClass                 bool     // hosts without a class will do as well
	Traits                    []string // all of them; letters, digits and _ only
}

// HostsWithRoom returns ready hosts that answer and have what is wished for, the better
// ones first and in the order of package placement: those without nodes of the
// cluster, whose hosts avoid names, those with most memory free before others.
// Only when there is none does it look at the hosts of avoid, and when there is
// none again, at those on which nodes fail to start. At most limit hosts are
// read, or as many as avoid names, however many there are.
func (s *Store) HostsWithRoom(ctx context.Context, w HostWish, avoid []string, limit int) ([]model.Host, error) {
	classes := []string{w.ResourceClass}
	if w.OrNoClass {
		classes = append(classes, "")
	}
	// The inner query finds its answer in the index hosts_room alone.
	look := func(condition string, args ...any) (hosts []model.Host, err error) {
		fitting := s.read(ctx).Model(&model.Host{}).Select("id").
			Where("state = ? AND unreachable_since IS NULL AND free_memory_mib >= ? AND free_vcpus >= ? AND free_disk_gib >= ? AND resource_class IN ?",
				model.HostReady, w.MemoryMiB, w.VCPUs, w.DiskGiB, classes).
			Where(condition, args...).Order("free_memory_mib DESC").Limit(limit)
		for _, trait := range w.Traits {
			fitting = fitting.Where("INSTR(traits, ?) > 0", `"`+trait+`"`) // a list in JSON
		}
		return hosts, s.read(ctx).Joins("JOIN (?) fitting ON fitting.id = hosts.id", fitting).Find(&hosts).Error
	}
	siblings := s.read(ctx).Model(&model.Host{}).Select("id").Where("uuid IN ?", avoid)
	hosts, err := look("failures < ? AND id NOT IN (?)", model.FailingAfter, siblings)
	if err == nil && len(hosts) == 0 && len(avoid) > 0 {
		hosts, err = look("failures < ? AND id IN (?)", model.FailingAfter, siblings)
	}
	if err == nil && len(hosts) == 0 {
		hosts, err = look("failures >= ?", model.FailingAfter)
	}
	return hosts, failed("look for hosts with room", err)
}

// CountHosts returns how many hosts there are in each state, and how many of
// them are Ironic's.
func (s *Store) CountHosts(ctx context.Context) (all, fromIronic map[model.HostState]int, err error) {
	var rows []struct {
		State           model.HostState
		Hosts, Machines int
	}
	err = s.read(ctx).Model(&model.Host{}).Select("state, COUNT(*) AS hosts, COUNT(ironic_node_id) AS machines").Group("state").Scan(&rows).Error
	all, fromIronic = make(map[model.HostState]int), make(map[model.HostState]int)
	for _, r := range rows {
		all[r.State], fromIronic[r.State] = r.Hosts, r.Machines
	}
	return all, fromIronic, failed("count hosts", err)
}

// HostNames returns the names of hosts that begin with the prefix, which is
// taken as it is.
func (s *Store) HostNames(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := s.read(ctx).Model(&model.Host{}).Where("SUBSTR(name, 1, ?) = ?", len(prefix), prefix).Pluck("name", &names).Error
	return names, failed("list the names of hosts", err)
}

// NodesPerHost counts the nodes that have room on each host, by host uuid;
// hosts without any are left out.
func (s *Store) NodesPerHost(ctx context.Context) (map[string]int, error) {
	var rows []struct {
		HostID string
		Nodes  int
	}
	err := s.read(ctx).Model(&model.Node{}).Select("host_id, COUNT(*) AS nodes").Where("host_id IS NOT NULL").Group("host_id").Scan(&rows).Error
	count := make(map[string]int, len(rows))
	for _, r := range rows {
		count[r.HostID] = r.Nodes
	}
	return count, failed("count the nodes of hosts", err)
}

// Host returns the host. ErrNotFound.
func (s *Store) Host(ctx context.Context, uuid string) (*model.Host, error) {
	h, err := one[model.Host](s.read(ctx).Where("uuid = ?", uuid))
	return h, failed("read the host", err)
}

// AddHost stores a new host, with nothing used. It fills in UUID and State
// (enrolled) if empty, ID and CreatedAt. ErrExists when its uuid, name or
// Ironic node is known already.
func (s *Store) AddHost(ctx context.Context, h *model.Host) error {
	var row model.Host
	err := s.write(ctx, "add the host", func(tx *gorm.DB) error {
		row = *h
		row.ID = 0
		if row.UUID == "" {
			row.UUID = uuid.NewString()
		}
		if row.State == "" {
			row.State = model.HostEnrolled
		}
		row.UsedVCPUs, row.UsedMemoryMiB, row.UsedDiskGiB = 0, 0, 0
		s.stamp(&row.CreatedAt)
		return tx.Create(&row).Error
	})
	if err == nil {
		*h = row
	}
	return err
}

// UpdateHost changes the named columns if the host is in one of the states
// from (none named: in any), and tells whether it was; false means that
// somebody else has moved or removed it. The state of a host that the operator
// drains, see DrainHost, is not changed by this either. What nodes use of the host is changed
// by ClaimHost and RemoveNode only, and refused here.
func (s *Store) UpdateHost(ctx context.Context, uuid string, from []model.HostState, change map[string]any) (bool, error) {
	const doing = "update the host"
	set := map[string]any{"updated_at": s.now()}
	for column, value := range change {
		switch {
		case !s.hasColumn(&model.Host{}, column), column == "id", column == "uuid", strings.HasPrefix(column, "used_"):
			return false, failed(doing, fmt.Errorf("column %q cannot be changed", column))
		}
		switch t := value.(type) {
		case time.Time:
			value = utc(t)
		case *time.Time:
			if t != nil {
				value = utc(*t)
			}
		case []string:
			list, err := json.Marshal(t)
			if err != nil {
				return false, failed(doing, err)
			}
			value = string(list)
		}
		set[column] = value
	}
	var moved bool
	err := s.write(ctx, doing, func(tx *gorm.DB) error {
		hosts := tx.Model(&model.Host{}).Where("uuid = ?", uuid)
		if len(from) > 0 {
			hosts = hosts.Where("state IN ?", from)
		}
		if set["state"] != nil {
			hosts = hosts.Where("NOT (state = ? AND reason IS NOT NULL)", model.HostDraining)
		}
		r := hosts.Updates(set)
		moved = r.RowsAffected > 0
		return r.Error
	})
	return moved, err
}

// GiveUpMachine notes that the machine of the host could not be deployed: the
// host begins to release it, the machine is to be avoided until the given time,
// and another host takes the place of this one, unless nil. All of that happens
// if the host is in the state from and still has the machine; false means that
// somebody else has moved it. ErrExists when the other host's name is taken.
func (s *Store) GiveUpMachine(ctx context.Context, hostUUID string, from model.HostState, avoid model.AvoidedMachine, instead *model.Host) (bool, error) {
	var moved bool
	err := s.write(ctx, "give up the host's machine", func(tx *gorm.DB) error {
		moved = false
		avoid := avoid
		avoid.ID, avoid.Reason, avoid.Until = 0, clip(avoid.Reason), utc(avoid.Until)
		s.stamp(&avoid.CreatedAt)
		r := tx.Model(&model.Host{}).Where("uuid = ? AND state = ? AND ironic_node_id = ?", hostUUID, from, avoid.IronicNodeID).
			Updates(map[string]any{"state": model.HostReleasing, "reason": avoid.Reason, "updated_at": s.now()})
		if r.Error != nil || r.RowsAffected == 0 {
			return r.Error
		}
		// What was avoided long enough goes on this occasion.
		err := tx.Where("ironic_node_id = ? OR until < ?", avoid.IronicNodeID, s.now()).Delete(&model.AvoidedMachine{}).Error
		if err != nil {
			return err
		}
		if err := tx.Create(&avoid).Error; err != nil {
			return err
		}
		if instead != nil {
			row := *instead
			row.ID = 0
			s.stamp(&row.CreatedAt)
			now := s.now()
			row.UpdatedAt = &now
			if err := tx.Create(&row).Error; err != nil {
				return err
			}
		}
		moved = true
		return nil
	})
	return moved, err
}

// AvoidedMachines returns the machines that are to be avoided at that time,
// those that failed last first.
func (s *Store) AvoidedMachines(ctx context.Context, at time.Time) ([]model.AvoidedMachine, error) {
	var machines []model.AvoidedMachine
	err := s.read(ctx).Where("until > ?", utc(at)).Order("created_at DESC, id DESC").Find(&machines).Error
	return machines, failed("list machines to avoid", err)
}

// ForgiveMachine takes the machine from those to be avoided; one that is not
// among them is success.
func (s *Store) ForgiveMachine(ctx context.Context, ironicNodeID string) error {
	return s.write(ctx, "forgive the machine", func(tx *gorm.DB) error {
		return tx.Where("ironic_node_id = ?", ironicNodeID).Delete(&model.AvoidedMachine{}).Error
	})
}

// NodeStarted counts node starts that failed in a row on a host: one more
// failed, or one went well and the row is over.
func (s *Store) NodeStarted(ctx context.Context, hostUUID string, well bool) error {
	failures := gorm.Expr("failures + 1")
	if well {
		failures = gorm.Expr("0")
	}
	return s.write(ctx, "count failed node starts of the host", func(tx *gorm.DB) error {
		return tx.Model(&model.Host{}).Where("uuid = ?", hostUUID).Updates(map[string]any{"failures": failures}).Error
	})
}

func (s *Store) hasColumn(row any, column string) bool {
	stmt := &gorm.Statement{DB: s.db}
	return stmt.Parse(row) == nil && stmt.Schema.FieldsByDBName[column] != nil
}

// RemoveHost forgets a host without nodes, if it is in one of the states from
// (none named: in any); one that is gone is success. What was left on it of lost
// nodes is forgotten, so the machine must be gone or wiped. ErrInUse when it
// has nodes.
func (s *Store) RemoveHost(ctx context.Context, uuid string, from ...model.HostState) error {
	return s.write(ctx, "remove the host", func(tx *gorm.DB) error {
		// Locked, so that no node is placed there meanwhile.
		var hosts []model.Host
		if err := tx.Clauses(forUpdate).Where("uuid = ?", uuid).Find(&hosts).Error; err != nil || len(hosts) == 0 {
			return err
		}
		if len(from) > 0 && !slices.Contains(from, hosts[0].State) {
			return nil
		}
		left, err := nodesOn(tx, uuid)
		if err != nil {
			return err
		}
		if left > 0 {
			return ErrInUse
		}
		if err := tx.Where("host_id = ?", uuid).Delete(&model.LostNode{}).Error; err != nil {
			return err
		}
		return tx.Where("uuid = ?", uuid).Delete(&model.Host{}).Error
	})
}
