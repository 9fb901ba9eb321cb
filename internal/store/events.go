// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/keelson/keelson/internal/model"
)

// eventLock lets those who tell of one cluster do so one after the other, so
// that whoever has read up to an event has missed none before it.
type eventLock struct {
	ClusterID string `gorm:"primaryKey;size:36"`
	Events    int64
}

// tell writes events of one cluster in the transaction that makes them happen.
// It comes last there, since from here on others of that cluster wait.
func (s *Store) tell(tx *gorm.DB, events ...model.Event) error {
	if len(events) == 0 {
		return nil
	}
	if s.writer == nil { // SQLite has one writer anyway
		err := tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "cluster_id"}},
			DoUpdates: clause.Assignments(map[string]any{"events": gorm.Expr("event_locks.events + 1")}),
		}).Create(&eventLock{ClusterID: events[0].ClusterID, Events: 1}).Error
		if err != nil {
			return err
		}
	}
	for i := range events {
		e := &events[i]
		e.ID, e.CreatedAt, e.Message = 0, s.now(), clip(e.Message)
		if e.Level == "" {
			e.Level = model.LevelInfo
		}
	}
	return tx.Create(&events).Error
}

// by adds of which operation the event tells, and who asked for that.
func by(op *model.Operation, e model.Event) model.Event {
	e.ClusterID, e.OperationID, e.UserID, e.RequestID = op.ClusterID, op.UUID, op.UserID, op.RequestID
	return e
}

// tellOf tells of an operation.
func (s *Store) tellOf(tx *gorm.DB, op *model.Operation, e model.Event) error {
	return s.tell(tx, by(op, e))
}

// stepEvent tells of a step of an operation.
func stepEvent(op *model.Operation, kind model.EventKind, step model.Step) model.Event {
	e := model.Event{Kind: kind, Step: step.Name, Node: step.NodeName}
	where := "The cluster"
	if step.NodeName != "" {
		where = "Node " + step.NodeName
	}
	doing := stepWords(step.Name)
	if step.Undo {
		doing = "undoing: " + doing
	}
	e.Message = fmt.Sprintf("%s: %s", where, doing)
	switch kind {
	case model.EventStepEnd:
		e.Message += " is done"
	case model.EventStepError:
		e.Message += " failed"
		e.Level = model.LevelError
	}
	if kind != model.EventStepStart && step.Message != "" {
		e.Message += ": " + step.Message
	}
	return by(op, e)
}

// stepWords says what a step does, of those that drivers of Keelson's own have.
// Others go by their name.
func stepWords(name string) string {
	if words, known := map[string]string{
		"certificates":   "making certificates",
		"node.place":     "looking for a host",
		"node.start":     "starting",
		"node.rebuild":   "rebuilding",
		"node.delete":    "removing the machine",
		"machine.start":  "starting the machine again",
		"swarm.init":     "forming the swarm",
		"swarm.join":     "joining the swarm",
		"swarm.ready":    "waiting for the swarm",
		"swarm.drain":    "moving its tasks elsewhere",
		"swarm.remove":   "leaving the swarm",
		"swarm.restore":  "staying in the swarm",
		"swarm.empty":    "moving its tasks elsewhere for a while",
		"swarm.return":   "coming back into the swarm",
		"swarm.fill":     "taking tasks again",
		"swarm.rotate":   "replacing the swarm's authority",
		"cluster.record": "noting the outcome",
	}[name]; known {
		return words
	}
	return name
}

// tellAsked tells that an operation was asked for, and what the cluster's
// status is from now on.
func (s *Store) tellAsked(tx *gorm.DB, op *model.Operation) error {
	if op.Kind == model.OpRepair && op.UserID == "" {
		return nil // it changes no status
	}
	return s.tellOf(tx, op, model.Event{
		Kind: model.EventClusterStatus, Message: fmt.Sprintf("%s: %s was asked for.", op.Kind.During(), op.Kind.Noun()),
	})
}

// tellEnd tells how an operation ended.
func (s *Store) tellEnd(tx *gorm.DB, op *model.Operation, state model.OperationState, reason *string) error {
	e := model.Event{Kind: model.EventOperationEnd, Message: op.Kind.Noun() + " is done."}
	switch state {
	case model.OpCancelled:
		e.Kind, e.Level, e.Message = model.EventOperationError, model.LevelWarning, op.Kind.Noun()+" was given up in favour of what was asked for later."
	case model.OpFailed:
		e.Kind, e.Level, e.Message = model.EventOperationError, model.LevelError, op.Kind.Noun()+" failed."
		if reason != nil {
			e.Message = op.Kind.Noun() + " failed: " + *reason
		}
	}
	return s.tellOf(tx, op, e)
}

// tellHealth tells that the cluster's health is another one now.
func (s *Store) tellHealth(tx *gorm.DB, clusterUUID, status string, reasons model.Labels) error {
	e := model.Event{ClusterID: clusterUUID, Kind: model.EventClusterHealth, Message: status + "."}
	if status != "HEALTHY" {
		e.Level = model.LevelWarning
		var wrong []string
		for _, what := range slices.Sorted(maps.Keys(reasons)) {
			if why := reasons[what]; why != "ok" && why != "True" {
				wrong = append(wrong, what+": "+why)
			}
		}
		if len(wrong) > 0 {
			e.Message = status + ": " + strings.Join(wrong, "; ")
		}
	}
	return s.tell(tx, e)
}

// Events returns the cluster's events after the one with that id, oldest first,
// at most limit. They outlive the cluster.
func (s *Store) Events(ctx context.Context, clusterUUID string, after int64, limit int) ([]model.Event, error) {
	var events []model.Event
	err := s.read(ctx).Where("cluster_id = ? AND id > ?", clusterUUID, after).Order("id").Limit(limit).Find(&events).Error
	return events, failed("read the events", err)
}

// NewestEvents is like Events, but the newest come first.
func (s *Store) NewestEvents(ctx context.Context, clusterUUID string, after int64, limit int) ([]model.Event, error) {
	var events []model.Event
	err := s.read(ctx).Where("cluster_id = ? AND id > ?", clusterUUID, after).Order("id DESC").Limit(limit).Find(&events).Error
	return events, failed("read the newest events", err)
}

// LatestEvents returns the id of the last event of each of the clusters that
// has any, and which of them are gone, in two queries.
func (s *Store) LatestEvents(ctx context.Context, clusterUUIDs []string) (latest map[string]int64, gone map[string]bool, err error) {
	const doing = "look for new events"
	latest, gone = make(map[string]int64, len(clusterUUIDs)), make(map[string]bool)
	for some := range slices.Chunk(clusterUUIDs, 1000) {
		// First which are there: a cluster that goes is told of before it is gone.
		var there []string
		if err := s.read(ctx).Model(&model.Cluster{}).Where("uuid IN ?", some).Pluck("uuid", &there).Error; err != nil {
			return nil, nil, failed(doing, err)
		}
		for _, id := range some {
			gone[id] = true
		}
		for _, id := range there {
			delete(gone, id)
		}
		var rows []struct {
			ClusterID string
			Last      int64
		}
		err := s.read(ctx).Model(&model.Event{}).Select("cluster_id, MAX(id) AS last").
			Where("cluster_id IN ?", some).Group("cluster_id").Scan(&rows).Error
		if err != nil {
			return nil, nil, failed(doing, err)
		}
		for _, r := range rows {
			latest[r.ClusterID] = r.Last
		}
	}
	return latest, gone, nil
}

// PruneEvents forgets events older than age that are about no operation, and
// what was kept to order the events of clusters that are gone, at most limit of
// each, and tells how many rows that were. Those about operations go with them,
// see PruneOperations.
func (s *Store) PruneEvents(ctx context.Context, age time.Duration, limit int) (int, error) {
	const doing = "prune events"
	var ids []int64
	err := s.read(ctx).Model(&model.Event{}).Where("created_at < ? AND operation_id = ''", s.now().Add(-age)).Order("id").Limit(limit).Pluck("id", &ids).Error
	if err != nil {
		return 0, failed(doing, err)
	}
	var locks []string
	err = s.read(ctx).Model(&eventLock{}).
		Where("NOT EXISTS (SELECT 1 FROM clusters WHERE clusters.uuid = cluster_id) AND NOT EXISTS (SELECT 1 FROM operations WHERE operations.cluster_id = event_locks.cluster_id)").
		Limit(limit).Pluck("cluster_id", &locks).Error
	if err != nil || len(ids)+len(locks) == 0 {
		return 0, failed(doing, err)
	}
	err = s.write(ctx, doing, func(tx *gorm.DB) error {
		if len(ids) > 0 {
			if err := tx.Where("id IN ?", ids).Delete(&model.Event{}).Error; err != nil {
				return err
			}
		}
		if len(locks) == 0 {
			return nil
		}
		return tx.Where("cluster_id IN ?", locks).Delete(&eventLock{}).Error
	})
	return len(ids) + len(locks), err
}
