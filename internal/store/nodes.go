// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// AddNodes writes new nodes of the operation's cluster; those that are there
// already (same uuid) are left as they are. Empty UUID and State (wanted),
// CreatedAt and ClusterID are filled in in the rows, not in the caller's
// slice. ErrExists when a name is taken by another node; ErrSuperseded.
func (s *Store) AddNodes(ctx context.Context, f Fence, nodes []model.Node) error {
	return s.fenced(ctx, "add nodes", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		var have []string
		if err := ofCluster(tx, op).Pluck("uuid", &have).Error; err != nil {
			return err
		}
		var rows []model.Node
		for _, n := range nodes {
			if n.ClusterID != "" && n.ClusterID != op.ClusterID {
				return fmt.Errorf("node %s is of another cluster", n.Name)
			}
			if n.UUID != "" && slices.Contains(have, n.UUID) {
				continue
			}
			n.ID, n.ClusterID = 0, op.ClusterID
			if n.UUID == "" {
				n.UUID = uuid.NewString()
			}
			if n.State == "" {
				n.State = model.NodeWanted
			}
			s.stamp(&n.CreatedAt)
			rows = append(rows, n)
		}
		if len(rows) == 0 {
			return nil
		}
		return tx.Create(&rows).Error
	})
}

// ofCluster begins a query of the nodes of the operation's cluster.
func ofCluster(tx *gorm.DB, op *model.Operation) *gorm.DB {
	return tx.Model(&model.Node{}).Where("cluster_id = ?", op.ClusterID)
}

// lockNode returns a node of the operation's cluster.
func lockNode(tx *gorm.DB, op *model.Operation, nodeUUID string) (*model.Node, error) {
	var n model.Node
	err := ofCluster(tx, op).Clauses(forUpdate).Where("uuid = ?", nodeUUID).Take(&n).Error
	return &n, err
}

// MarkLeaving makes these nodes leave the cluster; the operation removes them.
// Those that are gone are left out. ErrSuperseded.
func (s *Store) MarkLeaving(ctx context.Context, f Fence, nodeUUIDs []string) error {
	return s.fenced(ctx, "mark nodes as leaving", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		if len(nodeUUIDs) == 0 {
			return nil
		}
		return ofCluster(tx, op).Where("uuid IN ?", nodeUUIDs).
			Updates(map[string]any{"state": model.NodeLeaving, "updated_at": s.now()}).Error
	})
}

// NodeState writes a node's state and, unless nil, its id in the COE.
// ErrNotFound, ErrSuperseded.
func (s *Store) NodeState(ctx context.Context, f Fence, nodeUUID string, state model.NodeState, coeID *string) error {
	return s.fenced(ctx, "write the node's state", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		change := map[string]any{"state": state, "updated_at": s.now()}
		if coeID != nil {
			change["coe_id"] = *coeID
		}
		return matched(ofCluster(tx, op).Where("uuid = ?", nodeUUID).Updates(change))
	})
}

// NodeBuilt notes that the node's root was made from that revision and that the
// node runs; one that has joined its COE stays in that state. ErrNotFound,
// ErrSuperseded.
func (s *Store) NodeBuilt(ctx context.Context, f Fence, nodeUUID, revision string) error {
	return s.fenced(ctx, "note what the node was made from", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		n, err := lockNode(tx, op, nodeUUID)
		if err != nil {
			return err
		}
		change := map[string]any{"revision": revision, "machine": model.MachineFine, "updated_at": s.now()}
		if n.State == model.NodeWanted || n.State == model.NodePlaced {
			change["state"] = model.NodeRunning
		}
		return matched(ofCluster(tx, op).Where("uuid = ?", nodeUUID).Updates(change))
	})
}

// SetNodeImages writes from which image nodes are to be made, by node uuid.
// Those that are gone are left out. ErrSuperseded.
func (s *Store) SetNodeImages(ctx context.Context, f Fence, images map[string]string) error {
	return s.fenced(ctx, "write the nodes' images", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		for node, image := range images {
			err := ofCluster(tx, op).Where("uuid = ?", node).Updates(map[string]any{"image": image, "updated_at": s.now()}).Error
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Siblings returns how many nodes of the cluster are on each host, by host uuid.
func (s *Store) Siblings(ctx context.Context, clusterUUID string) (map[string]int, error) {
	var rows []struct {
		HostID string
		Nodes  int
	}
	err := s.read(ctx).Model(&model.Node{}).Select("host_id, COUNT(*) AS nodes").
		Where("cluster_id = ? AND host_id IS NOT NULL", clusterUUID).Group("host_id").Scan(&rows).Error
	siblings := make(map[string]int, len(rows))
	for _, r := range rows {
		siblings[r.HostID] = r.Nodes
	}
	return siblings, failed("count the nodes of the cluster by host", err)
}

// ClaimHost gives the node room on the host: it is taken from the host's, the
// node gets the lowest free slot there and becomes placed. A node that has a
// host already is returned as it is, whatever host was asked for. ErrNoRoom
// when the host has too little, is not ready or does not answer: try the next one. ErrNotFound
// when there is no such node; ErrSuperseded.
func (s *Store) ClaimHost(ctx context.Context, f Fence, nodeUUID, hostUUID string) (*model.Node, error) {
	var node *model.Node
	err := s.fenced(ctx, "claim room on the host", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		var err error
		if node, err = lockNode(tx, op, nodeUUID); err != nil || node.HostID != nil {
			return err
		}
		if node.State == model.NodeLeaving {
			return fault.Permanent(nil, "node %s is leaving and takes no host", node.Name)
		}
		r := tx.Model(&model.Host{}).
			Where("uuid = ? AND state = ? AND unreachable_since IS NULL", hostUUID, model.HostReady).
			Where("used_vcpus + ? <= total_vcpus AND used_memory_mib + ? <= total_memory_mib AND used_disk_gib + ? <= total_disk_gib",
				node.VCPUs, node.MemoryMiB, node.DiskGiB).
			Updates(map[string]any{
				"used_vcpus":      gorm.Expr("used_vcpus + ?", node.VCPUs),
				"used_memory_mib": gorm.Expr("used_memory_mib + ?", node.MemoryMiB),
				"used_disk_gib":   gorm.Expr("used_disk_gib + ?", node.DiskGiB),
				"empty_since":     nil,
				"updated_at":      s.now(),
			})
		if r.Error != nil {
			return r.Error
		}
		if r.RowsAffected == 0 {
			return ErrNoRoom
		}
		// The host's row is locked now, so the slots stand still.
		var taken []int
		err = tx.Model(&model.Node{}).Where("host_id = ? AND slot IS NOT NULL", hostUUID).Order("slot").Pluck("slot", &taken).Error
		if err != nil {
			return err
		}
		slot := lowestFree(taken)
		now := s.now()
		node.HostID, node.Slot, node.State, node.UpdatedAt = &hostUUID, &slot, model.NodePlaced, &now
		return tx.Model(&model.Node{}).Where("uuid = ?", nodeUUID).
			Updates(map[string]any{"host_id": hostUUID, "slot": slot, "state": node.State, "updated_at": now}).Error
	})
	if err != nil {
		return nil, err
	}
	return node, nil
}

// lowestFree is the smallest number from 0 that is not among the taken ones,
// which are in order.
func lowestFree(taken []int) int {
	free := 0
	for _, n := range taken {
		if n > free {
			break
		}
		free = n + 1
	}
	return free
}

// ClaimAddress gives the node the first address of the sequence that no node
// holds in that network, and a MAC address of its own. A node that has an
// address already is returned as it is. ErrNoAddress when all are held;
// ErrNotFound, ErrSuperseded.
func (s *Store) ClaimAddress(ctx context.Context, f Fence, nodeUUID, network string, free iter.Seq[netip.Addr]) (*model.Node, error) {
	var node *model.Node
	err := s.fenced(ctx, "claim an address", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		var err error
		if node, err = lockNode(tx, op, nodeUUID); err != nil || node.Address != nil {
			return err
		}
		return s.giveAddress(tx, node, network, free)
	})
	if err != nil {
		return nil, err
	}
	return node, nil
}

// addressesAtOnce is how many addresses are looked at together for one that is
// free.
const addressesAtOnce = 32

// giveAddress gives the locked node an address and a MAC address.
func (s *Store) giveAddress(tx *gorm.DB, node *model.Node, network string, free iter.Seq[netip.Addr]) error {
	mac, err := macOf(tx, node)
	if err != nil {
		return err
	}
	var some []string
	for addr := range free {
		if some = append(some, addr.String()); len(some) < addressesAtOnce {
			continue
		}
		if given, err := s.giveOneOf(tx, node, network, mac, some); given || err != nil {
			return err
		}
		some = some[:0]
	}
	given, err := s.giveOneOf(tx, node, network, mac, some)
	if err == nil && !given {
		return ErrNoAddress
	}
	return err
}

// giveOneOf gives the node the first of the addresses that nobody holds, and
// tells whether there was one.
func (s *Store) giveOneOf(tx *gorm.DB, node *model.Node, network, mac string, addresses []string) (bool, error) {
	if len(addresses) == 0 {
		return false, nil
	}
	// Lost nodes are read last: what a node loses meanwhile is found there.
	var held []string
	for _, row := range []any{&model.Node{}, &model.LostNode{}} {
		var some []string
		if err := tx.Model(row).Where("network = ? AND address IN ?", network, addresses).Pluck("address", &some).Error; err != nil {
			return false, err
		}
		held = append(held, some...)
	}
	for _, address := range addresses {
		if slices.Contains(held, address) {
			continue
		}
		now := s.now()
		err := tx.Model(&model.Node{}).Where("uuid = ?", node.UUID).
			Updates(map[string]any{"network": network, "address": address, "mac": mac, "updated_at": now}).Error
		if errors.Is(err, gorm.ErrDuplicatedKey) {
			continue // taken since we looked
		}
		node.Network, node.Address, node.MAC, node.UpdatedAt = &network, &address, &mac, &now
		return true, err
	}
	return false, nil
}

// AddressesHeld returns how many addresses of each network nodes hold or are
// about to claim, those of lost nodes among them.
func (s *Store) AddressesHeld(ctx context.Context) (map[string]int, error) {
	held := make(map[string]int)
	for _, row := range []any{&model.Node{}, &model.LostNode{}} {
		var rows []struct {
			Network string
			Nodes   int
		}
		err := s.read(ctx).Model(row).Select("network, COUNT(*) AS nodes").Where("network IS NOT NULL").Group("network").Scan(&rows).Error
		if err != nil {
			return nil, failed("count the addresses held", err)
		}
		for _, r := range rows {
			held[r.Network] += r.Nodes
		}
	}
	return held, nil
}

// macOf makes the node's MAC address, a locally administered unicast one. Its
// first four bytes are the cluster's alone: by them a host knows to which
// cluster a packet from another host belongs, whose walls have seen to it that
// the sender is who it says. The last two are the node's in the cluster.
func macOf(tx *gorm.DB, n *model.Node) (string, error) {
	var cluster model.Cluster
	if err := tx.Select("id").Where("uuid = ?", n.ClusterID).Take(&cluster).Error; err != nil {
		return "", err
	}
	var taken []string
	err := tx.Raw("SELECT mac FROM nodes WHERE cluster_id = ? AND mac IS NOT NULL UNION ALL SELECT mac FROM lost_nodes WHERE cluster_id = ? AND mac IS NOT NULL",
		n.ClusterID, n.ClusterID).Scan(&taken).Error
	if err != nil {
		return "", err
	}
	// After a billion clusters the numbers begin again.
	family := fmt.Sprintf("%02x:%02x:%02x:%02x", byte(cluster.ID>>24)<<2|2, byte(cluster.ID>>16), byte(cluster.ID>>8), byte(cluster.ID))
	for number := range 1 << 16 {
		mac := fmt.Sprintf("%s:%02x:%02x", family, byte(number>>8), byte(number))
		if !slices.Contains(taken, mac) {
			return mac, nil
		}
	}
	return "", ErrNoAddress
}

// RemoveNode removes the node's record and its certificate and gives back its
// room, slot and address. A node that is gone is success. ErrSuperseded.
func (s *Store) RemoveNode(ctx context.Context, f Fence, nodeUUID string) error {
	return s.fenced(ctx, "remove the node", f, nil, func(tx *gorm.DB, op *model.Operation) error {
		n, err := lockNode(tx, op, nodeUUID)
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.removeNode(tx, n)
	})
}

func (s *Store) removeNode(tx *gorm.DB, n *model.Node) error {
	err := tx.Where("cluster_id = ? AND kind = ? AND node_id = ?", n.ClusterID, model.CertNode, n.UUID).
		Delete(&model.Certificate{}).Error
	if err != nil {
		return err
	}
	if err := tx.Where("uuid = ?", n.UUID).Delete(&model.Node{}).Error; err != nil {
		return err
	}
	return s.giveBack(tx, n)
}

// giveBack gives the node's room back to its host. The node's row is gone, or
// is about to lose its host.
func (s *Store) giveBack(tx *gorm.DB, n *model.Node) error {
	if n.HostID == nil {
		return nil
	}
	err := tx.Model(&model.Host{}).Where("uuid = ?", *n.HostID).Updates(map[string]any{
		"used_vcpus":      gorm.Expr("used_vcpus - ?", n.VCPUs),
		"used_memory_mib": gorm.Expr("used_memory_mib - ?", n.MemoryMiB),
		"used_disk_gib":   gorm.Expr("used_disk_gib - ?", n.DiskGiB),
		"updated_at":      s.now(),
	}).Error
	if err != nil {
		return err
	}
	// Counted after the host's row is locked: whoever removes its last node
	// sees that it was the last.
	var left int64
	err = tx.Model(&model.Node{}).Where("host_id = ? AND uuid <> ?", *n.HostID, n.UUID).Count(&left).Error
	if err != nil || left > 0 {
		return err
	}
	return tx.Model(&model.Host{}).Where("uuid = ?", *n.HostID).Updates(map[string]any{"empty_since": s.now()}).Error
}

func nodesOn(tx *gorm.DB, hostUUID string) (int64, error) {
	var n int64
	err := tx.Model(&model.Node{}).Where("host_id = ?", hostUUID).Count(&n).Error
	return n, err
}
