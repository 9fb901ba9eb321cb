// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// Census is how many there are of what, for those who watch the service.
type Census struct {
	Operations    []OperationCount // that have not ended
	Unpublished   int              // operations whose message the broker has not confirmed
	Claimable     int              // operations that wait for a conductor
	Expired       int              // running operations whose lease has run out
	OldestPending time.Duration    // age of the pending operation that was asked for first
	Notifications int              // that wait to be sent
	Clusters      map[model.Status]int
	Nodes         map[model.NodeState]int
	Hosts         []HostCount
}

// OperationCount is how many operations of a kind are in a state.
type OperationCount struct {
	Kind  model.OperationKind
	State model.OperationState
	Count int
}

// HostCount is how many hosts are in a state, and what they have and give away
// together.
type HostCount struct {
	State          model.HostState
	Count          int
	TotalVCPUs     int `gorm:"column:total_vcpus"`
	TotalMemoryMiB int `gorm:"column:total_memory_mib"`
	TotalDiskGiB   int `gorm:"column:total_disk_gib"`
	UsedVCPUs      int `gorm:"column:used_vcpus"`
	UsedMemoryMiB  int `gorm:"column:used_memory_mib"`
	UsedDiskGiB    int `gorm:"column:used_disk_gib"`
}

// mostCounted bounds the operations and notifications that are counted.
const mostCounted = 10_000

// Census counts. It takes a constant number of queries, and looks at no
// operation that has ended.
func (s *Store) Census(ctx context.Context) (*Census, error) {
	const doing = "count what there is"
	c := &Census{Clusters: map[model.Status]int{}, Nodes: map[model.NodeState]int{}}
	unfinished := func() *gorm.DB {
		return s.read(ctx).Model(&model.Operation{}).Where("state IN ?", claimableStates)
	}
	if err := unfinished().Select("kind, state, COUNT(*) AS count").Group("kind, state").Scan(&c.Operations).Error; err != nil {
		return nil, failed(doing, err)
	}
	for _, count := range []struct {
		into *int
		rows *gorm.DB
	}{
		{&c.Unpublished, unfinished().Where("published_at IS NULL")},
		{&c.Claimable, s.claimable(ctx)},
		{&c.Expired, unfinished().Where("owner <> '' AND lease_until < " + s.clock.now)},
		{&c.Notifications, s.read(ctx).Model(&model.Notification{})},
	} {
		some := count.rows.Select("1").Limit(mostCounted)
		if err := s.read(ctx).Table("(?) AS some", some).Select("COUNT(*)").Scan(count.into).Error; err != nil {
			return nil, failed(doing, err)
		}
	}
	var oldest []model.Operation
	if err := unfinished().Select("created_at").Where("started_at IS NULL").Order("id").Limit(1).Find(&oldest).Error; err != nil {
		return nil, failed(doing, err)
	}
	if len(oldest) == 1 {
		c.OldestPending = max(s.now().Sub(oldest[0].CreatedAt), 0)
	}
	var clusters []struct {
		Status model.Status
		Count  int
	}
	if err := s.read(ctx).Model(&model.Cluster{}).Select("status, COUNT(*) AS count").Group("status").Scan(&clusters).Error; err != nil {
		return nil, failed(doing, err)
	}
	for _, row := range clusters {
		c.Clusters[row.Status] = row.Count
	}
	var nodes []struct {
		State model.NodeState
		Count int
	}
	if err := s.read(ctx).Model(&model.Node{}).Select("state, COUNT(*) AS count").Group("state").Scan(&nodes).Error; err != nil {
		return nil, failed(doing, err)
	}
	for _, row := range nodes {
		c.Nodes[row.State] = row.Count
	}
	err := s.read(ctx).Model(&model.Host{}).Select("state, COUNT(*) AS count" +
		", SUM(total_vcpus) AS total_vcpus, SUM(total_memory_mib) AS total_memory_mib, SUM(total_disk_gib) AS total_disk_gib" +
		", SUM(used_vcpus) AS used_vcpus, SUM(used_memory_mib) AS used_memory_mib, SUM(used_disk_gib) AS used_disk_gib").
		Group("state").Order("state").Scan(&c.Hosts).Error
	return c, failed(doing, err)
}
