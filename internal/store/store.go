// SPDX-License-Identifier: Apache-2.0

// Package store keeps Keelson's records in MariaDB, MySQL or SQLite.
//
// Every method is one short transaction and may be used from several
// goroutines and processes at once (SQLite: one process). Lists take a
// constant number of queries. Lost races that the database reports (deadlock,
// lock wait, busy) are repeated inside; all other errors come back as one of
// the Err values of this package or wrapped as they are.
//
// Times are UTC, truncated to milliseconds. Leases are reckoned by the
// database's clock, never by that of the machine the conductor runs on.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Options change how a store behaves; the zero value is good.
type Options struct {
	Logger    *slog.Logger     // nil discards
	MaxOpen   int              // most connections at once; 0 means 16
	SlowQuery time.Duration    // statements slower than this are logged; 0 means 500 ms
	Now       func() time.Time // for created_at and the like, not for leases; nil means time.Now

	// Notify keeps a model.Notification of each operation's begin and end, for
	// TakeNotifications. Leave it off when nobody takes them.
	Notify bool
}

// Store is a connection to the database. Make one with Open.
type Store struct {
	db     *gorm.DB
	pool   *sql.DB
	logger *slog.Logger
	clock  clock
	now    func() time.Time // UTC, milliseconds
	notify bool

	// writer is held by the writing transaction. SQLite allows one; to queue
	// here is fairer and quicker than to find the file locked. Nil on MySQL.
	writer chan struct{}
}

// Open connects to the database. The connection is an SQLAlchemy style URL, as
// in [database] connection of OpenStack services:
//
//	mysql+pymysql://user:password@host:port/database?unix_socket=/path
//	sqlite:////absolute/file.db
//	sqlite://                      in memory, for tests
//
// It fails when the database does not answer before ctx ends.
func Open(ctx context.Context, connection string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = 16
	}
	if o.SlowQuery == 0 {
		o.SlowQuery = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	src, err := parseConnection(connection)
	if err != nil {
		return nil, err
	}
	pool, err := src.open(o.MaxOpen, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{pool: pool, logger: o.Logger, now: func() time.Time { return utc(o.Now()) }, notify: o.Notify}
	if err := s.Ping(ctx); err != nil {
		_ = pool.Close()
		return nil, err
	}
	var dialect gorm.Dialector
	if src.mysql != nil {
		dialect = mysql.New(mysql.Config{Conn: pool, DSNConfig: src.mysql})
		s.clock = mysqlClock
	} else {
		dialect = &sqlite.Dialector{Conn: pool}
		s.clock = sqliteClock
		s.writer = make(chan struct{}, 1)
	}
	s.db, err = gorm.Open(dialect, &gorm.Config{
		SkipDefaultTransaction:                   true, // we begin our own
		DisableForeignKeyConstraintWhenMigrating: true,
		TranslateError:                           true,
		NowFunc:                                  s.now,
		Logger:                                   queryLog{o.Logger, o.SlowQuery},
	})
	if err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return s, nil
}

// Close ends all connections.
func (s *Store) Close() error {
	err := s.pool.Close()
	if s.writer == nil {
		return nil // MySQL only ever complains that a connection is gone already
	}
	return err
}

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.PingContext(ctx); err != nil {
		return failed("reach the database", err)
	}
	return nil
}

// clock is how a database tells its own time, in UTC with milliseconds.
type clock struct {
	now   string
	after func(time.Duration) clause.Expr
	about func(time.Duration) clause.Expr // after that long, give or take a tenth, by chance for each row
}

var mysqlClock = clock{
	now: "UTC_TIMESTAMP(3)",
	after: func(d time.Duration) clause.Expr {
		return gorm.Expr("UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND", d.Microseconds())
	},
	about: func(d time.Duration) clause.Expr {
		return gorm.Expr("UTC_TIMESTAMP(3) + INTERVAL FLOOR(? * (0.9 + 0.2 * RAND())) MICROSECOND", d.Microseconds())
	},
}

// SQLite keeps times as text. Columns compared with its clock are only ever
// written by its clock, so that the texts have one form.
var sqliteClock = clock{
	now: "strftime('%Y-%m-%d %H:%M:%f', 'now')",
	after: func(d time.Duration) clause.Expr {
		return gorm.Expr("strftime('%Y-%m-%d %H:%M:%f', 'now', ?)", fmt.Sprintf("%+.3f seconds", d.Seconds()))
	},
	about: func(d time.Duration) clause.Expr {
		return gorm.Expr("strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', ? * (0.9 + 0.2 * abs(random() % 1000) / 1000.0)))", d.Seconds())
	},
}

// read begins a query.
func (s *Store) read(ctx context.Context) *gorm.DB { return s.db.WithContext(ctx) }

// tries is how often a transaction is begun that loses against others.
const tries = 8

// write runs fn in a transaction. The database may make it run again, so fn
// changes nothing but tx and what it sets anew each time.
func (s *Store) write(ctx context.Context, doing string, fn func(tx *gorm.DB) error) error {
	for try := 1; ; try++ {
		err := s.transaction(ctx, fn)
		if err == nil {
			return nil
		}
		if try == tries || !lostRace(err) {
			return failed(doing, err)
		}
		pause := time.Duration(rand.Int64N(int64(5*time.Millisecond) << try))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return failed(doing, ctx.Err())
		}
	}
}

func (s *Store) transaction(ctx context.Context, fn func(tx *gorm.DB) error) error {
	if s.writer != nil {
		select {
		case s.writer <- struct{}{}:
			defer func() { <-s.writer }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := s.read(ctx).Transaction(fn)
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err() // it was rolled back because of that
	}
	return err
}

// lostRace tells whether the database gave this transaction up in favour of
// another one.
func lostRace(err error) bool {
	var my *mysqldriver.MySQLError
	if errors.As(err, &my) {
		return my.Number == 1213 || my.Number == 1205 // deadlock (also Galera's), lock wait timeout
	}
	var lite interface{ Code() int }
	if errors.As(err, &lite) {
		code := lite.Code() & 0xff
		return code == 5 || code == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	return false
}

// failed says what was being done, and turns gorm's errors into ours.
func failed(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gorm.ErrRecordNotFound):
		err = ErrNotFound
	case errors.Is(err, gorm.ErrDuplicatedKey):
		err = ErrExists
	case unavailable(err) && !errors.Is(err, ErrUnavailable):
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// forUpdate locks the rows a query reads until the transaction ends. SQLite
// has only one writer and leaves it out.
var forUpdate = clause.Locking{Strength: clause.LockingStrengthUpdate}

// forShare keeps the rows from being changed, but lets others do the same.
var forShare = clause.Locking{Strength: clause.LockingStrengthShare}

// utc is t as the store keeps it.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// stamp sets t to now unless the caller has set it.
func (s *Store) stamp(t *time.Time) {
	if t.IsZero() {
		*t = s.now()
	} else {
		*t = utc(*t)
	}
}
