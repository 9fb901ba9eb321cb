// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
)

// CreateTablesFromModels makes the schema that the live structs describe, to
// compare the migrations with.
func (s *Store) CreateTablesFromModels(ctx context.Context) error {
	db := s.read(ctx)
	if s.writer == nil {
		db = db.Set("gorm:table_options", mysqlTable)
	}
	return db.AutoMigrate(append(Rows(), &projectLock{}, &periodicJob{}, &eventLock{}, &setting{})...)
}

// Rows is one of each kind that package model knows.
func Rows() []any {
	return []any{
		&model.ClusterTemplate{}, &model.Cluster{}, &model.NodeGroup{}, &model.Node{}, &model.Host{}, &model.AvoidedMachine{},
		&model.Operation{}, &model.Step{}, &model.Certificate{}, &model.Quota{}, &model.ServiceRecord{},
		&model.Notification{}, &model.LostNode{}, &model.Event{}, &model.Autoscaling{}, &model.UsageSample{},
	}
}

// Exec runs a statement past the store's own rules.
func (s *Store) Exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if err := s.read(tb.Context()).Exec(sql, args...).Error; err != nil {
		tb.Fatal(err)
	}
}

// Query reads into rows, which points to a slice or a single value.
func (s *Store) Query(tb testing.TB, rows any, sql string, args ...any) {
	tb.Helper()
	if err := s.read(tb.Context()).Raw(sql, args...).Scan(rows).Error; err != nil {
		tb.Fatal(err)
	}
}

// OnMariaDB tells which of the databases this is.
func (s *Store) OnMariaDB() bool { return s.writer == nil }

// CountStatements returns how many statements fn sends to the database.
func (s *Store) CountStatements(tb testing.TB, fn func()) int {
	tb.Helper()
	var n atomic.Int64
	count := func(db *gorm.DB) {
		if !db.DryRun { // subqueries are only built
			n.Add(1)
		}
	}
	for _, err := range []error{
		s.db.Callback().Query().After("gorm:query").Register("count", count),
		s.db.Callback().Row().After("gorm:row").Register("count", count),
		s.db.Callback().Raw().After("gorm:raw").Register("count", count),
		s.db.Callback().Create().After("gorm:create").Register("count", count),
		s.db.Callback().Update().After("gorm:update").Register("count", count),
		s.db.Callback().Delete().After("gorm:delete").Register("count", count),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	fn()
	for _, err := range []error{
		s.db.Callback().Query().Remove("count"),
		s.db.Callback().Row().Remove("count"),
		s.db.Callback().Raw().Remove("count"),
		s.db.Callback().Create().Remove("count"),
		s.db.Callback().Update().Remove("count"),
		s.db.Callback().Delete().Remove("count"),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return int(n.Load())
}

// HoldCluster locks the cluster in a transaction, tells so and says nothing
// more until release.
func (s *Store) HoldCluster(ctx context.Context, uuid string, locked chan<- struct{}, release <-chan struct{}) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		_, err := lockCluster(tx, uuid)
		locked <- struct{}{}
		<-release
		return err
	})
}
