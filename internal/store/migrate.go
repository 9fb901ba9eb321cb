// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// migrations in the order they are applied. A migration that was released is
// never changed again: its structs are copies, frozen with it. Each can be run
// again after it was cut off half way, because MySQL commits every DDL
// statement by itself.
var migrations = []*gormigrate.Migration{
	{ID: "202611230001", Migrate: migrate202611230001},
	{ID: "202611231801", Migrate: migrate202611231801},
	{ID: "202611231840", Migrate: migrate202611231840},
	{ID: "202611232120", Migrate: migrate202611232120},
	{ID: "202611232130", Migrate: migrate202611232130},
	{ID: "202611232200", Migrate: migrate202611232200},
	{ID: "202611232210", Migrate: migrate202611232210},
	{ID: "202611240110", Migrate: migrate202611240110},
}

const migrationsTable = "schema_migrations"

// mysqlTable makes text compare byte by byte, as SQLite does.
const mysqlTable = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

// SchemaCurrent returns the id of the newest migration the database has, empty
// if none, and the id of the one this program wants.
func (s *Store) SchemaCurrent(ctx context.Context) (have, want string, err error) {
	want = migrations[len(migrations)-1].ID
	if err := s.Ping(ctx); err != nil {
		return "", want, err // HasTable would take it for an empty database
	}
	db := s.read(ctx)
	if !db.Migrator().HasTable(migrationsTable) {
		return "", want, nil
	}
	var ids []string
	if err := db.Table(migrationsTable).Order("id DESC").Limit(1).Pluck("id", &ids).Error; err != nil {
		return "", want, failed("look at the database schema", err)
	}
	if len(ids) == 1 {
		have = ids[0]
	}
	return have, want, nil
}

// Migrate brings the database to this program's schema; done already is
// success. Of several at once one works and the others wait for it, at most
// until ctx ends. It refuses a database that a newer program has migrated.
func (s *Store) Migrate(ctx context.Context) error {
	const doing = "migrate the database"
	unlock, err := s.lockSchema(ctx)
	if err != nil {
		return failed(doing, err)
	}
	defer unlock()

	db := s.read(ctx)
	if s.writer == nil {
		// A session of its own: conditions of one query must not stay for the next.
		db = db.Set("gorm:table_options", mysqlTable).Session(&gorm.Session{})
	}
	db = db.Session(&gorm.Session{}) // or what one statement sets would stay for the next
	err = gormigrate.New(db, &gormigrate.Options{
		TableName:                 migrationsTable,
		IDColumnName:              "id",
		IDColumnSize:              255,
		ValidateUnknownMigrations: true,
	}, migrations).Migrate()
	if errors.Is(err, gormigrate.ErrUnknownPastMigration) {
		return fmt.Errorf("%s: a newer version has changed it: %w", doing, ErrSchema)
	}
	return failed(doing, err)
}

// createTable makes the row's table and indexes, as far as they are missing.
func createTable(tx *gorm.DB, row any) error {
	m := tx.Migrator()
	if !m.HasTable(row) {
		return m.CreateTable(row)
	}
	stmt := &gorm.Statement{DB: tx}
	if err := stmt.Parse(row); err != nil {
		return err
	}
	for _, index := range stmt.Schema.ParseIndexes() {
		if m.HasIndex(row, index.Name) {
			continue
		}
		if err := m.CreateIndex(row, index.Name); err != nil {
			return err
		}
	}
	return nil
}

// schemaLock is the one row that says who migrates.
type schemaLock struct {
	ID         int64      `gorm:"primaryKey;autoIncrement:false"`
	Owner      string     `gorm:"size:36"`
	LeaseUntil *time.Time // database clock
}

// schemaLease is how long a migrating process may be silent before another
// one takes over. It is renewed at a third.
const schemaLease = 30 * time.Second

// lockSchema waits until this process may migrate. unlock gives the right
// back; it is called once.
func (s *Store) lockSchema(ctx context.Context) (unlock func(), err error) {
	db := s.read(ctx)
	if s.writer == nil {
		// A session of its own: conditions of one query must not stay for the next.
		db = db.Set("gorm:table_options", mysqlTable).Session(&gorm.Session{})
	}
	if !db.Migrator().HasTable(&schemaLock{}) {
		// Another may be quicker; that it is there is what counts.
		if err := db.Migrator().CreateTable(&schemaLock{}); err != nil && !db.Migrator().HasTable(&schemaLock{}) {
			return nil, err
		}
	}
	err = s.write(ctx, "lock the database schema", func(tx *gorm.DB) error {
		return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&schemaLock{ID: 1}).Error
	})
	if err != nil {
		return nil, err
	}

	me := uuid.NewString()
	hold := func(ctx context.Context) (bool, error) {
		var rows int64
		err := s.write(ctx, "lock the database schema", func(tx *gorm.DB) error {
			r := tx.Model(&schemaLock{}).
				Where("id = 1 AND (owner = ? OR owner = '' OR lease_until < "+s.clock.now+")", me).
				Updates(map[string]any{"owner": me, "lease_until": s.clock.after(schemaLease)})
			rows = r.RowsAffected
			return r.Error
		})
		return rows == 1, err
	}
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for {
		held, err := hold(ctx)
		if err != nil {
			return nil, err
		}
		if held {
			break
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("another process migrates it: %w", ctx.Err())
		}
	}

	renewing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(schemaLease / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if held, err := hold(renewing); err != nil || !held {
					s.logger.WarnContext(ctx, "the lock of the database schema was not renewed", "error", err)
				}
			case <-renewing.Done():
				return
			}
		}
	}()
	return func() {
		stop()
		<-done
		// Also after ctx has ended, so that the next one need not wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := s.write(ctx, "unlock the database schema", func(tx *gorm.DB) error {
			return tx.Model(&schemaLock{}).Where("id = 1 AND owner = ?", me).
				Updates(map[string]any{"owner": "", "lease_until": nil}).Error
		})
		if err != nil {
			s.logger.WarnContext(ctx, "the lock of the database schema was not given back; it runs out by itself", "error", err)
		}
	}, nil
}
