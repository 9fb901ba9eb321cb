// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// migration is one step from an empty database to this program's schema.
//
// Programs of the release before go on working while `db sync` runs and until
// they are replaced, so a migration only adds: tables, indexes that are not
// unique, columns that may be null or have a default. One that takes something
// away, or makes it narrower, says since which schema programs do without it:
// it comes a release after the program that stopped using it.
type migration struct {
	ID      string
	Migrate func(*gorm.DB) error
	// Needs is the schema of the oldest program that works when this has been
	// applied. Empty: all that worked before.
	Needs string
}

// migrations in the order they are applied. A migration that was released is
// never changed again: its structs are copies, frozen with it. Each can be run
// again after it was cut off half way, because MySQL commits every DDL
// statement by itself.
var migrations = []migration{
	{ID: "202611230001", Migrate: migrate202611230001},
	{ID: "202611231801", Migrate: migrate202611231801},
	{ID: "202611231840", Migrate: migrate202611231840},
	{ID: "202611232120", Migrate: migrate202611232120},
	{ID: "202611232130", Migrate: migrate202611232130},
	{ID: "202611232200", Migrate: migrate202611232200},
	{ID: "202611232210", Migrate: migrate202611232210},
	{ID: "202611240110", Migrate: migrate202611240110},
}

// steps are the migrations as they are run. Which programs are locked out is
// noted before anything is taken from them.
func steps(all []migration) []*gormigrate.Migration {
	out := make([]*gormigrate.Migration, len(all))
	for i, m := range all {
		out[i] = &gormigrate.Migration{ID: m.ID, Migrate: func(tx *gorm.DB) error {
			if m.Needs != "" {
				note := clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"value"})}
				if err := tx.Clauses(note).Create(&setting{Name: settingOldest, Value: m.Needs}).Error; err != nil {
					return err
				}
			}
			return m.Migrate(tx)
		}}
	}
	return out
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

// CheckSchema tells whether this program can work with the database as it is:
// it has all of this program's migrations, and none that took something away
// that this program needs. newer says that it has others as well, of a newer
// program. ErrSchema when it can not.
func (s *Store) CheckSchema(ctx context.Context) (newer bool, err error) {
	const doing = "check the database schema"
	have, want, err := s.SchemaCurrent(ctx)
	if err != nil {
		return false, err
	}
	if have == "" {
		return false, fmt.Errorf("the database has no tables, run keelsond db sync: %w", ErrSchema)
	}
	var applied []string
	if err := s.read(ctx).Table(migrationsTable).Pluck("id", &applied).Error; err != nil {
		return false, failed(doing, err)
	}
	for _, m := range migrations {
		if !slices.Contains(applied, m.ID) {
			return false, fmt.Errorf("the database has schema %s and lacks migration %s, run this release's keelsond db sync: %w", have, m.ID, ErrSchema)
		}
	}
	var oldest []string
	if err := s.read(ctx).Model(&setting{}).Where("name = ?", settingOldest).Pluck("value", &oldest).Error; err != nil {
		return false, failed(doing, err)
	}
	if len(oldest) == 1 && oldest[0] > want {
		return false, fmt.Errorf("the database has schema %s, which programs older than schema %s can not use, and this one is of %s: %w", have, oldest[0], want, ErrSchema)
	}
	return have > want, nil
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
	}, steps(migrations)).Migrate()
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
