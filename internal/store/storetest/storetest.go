// SPDX-License-Identifier: Apache-2.0

// Package storetest gives tests a store of their own on a real database.
package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/badnet"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/testenv"
)

// New returns a store on a new, migrated SQLite file. It is closed and removed
// with the test.
func New(tb testing.TB) *store.Store {
	tb.Helper()
	blank, err := migratedSQLite()
	if err != nil {
		tb.Fatal(err)
	}
	connection := SQLite(tb)
	if err := os.WriteFile(strings.TrimPrefix(connection, "sqlite:///"), blank, 0o600); err != nil {
		tb.Fatal(err)
	}
	s := Open(tb, connection)
	if os.Getenv(NextSchema) != "" {
		addLater(tb, Direct(tb, s), "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
	}
	return s
}

// NextSchema is the variable that, when set, gives tests of New and NewMariaDB
// a database as a later release may have made it: each table has more columns.
// Programs of this release must work with it.
const NextSchema = "KEELSON_TEST_NEXT_SCHEMA"

// addLater adds columns to the tables that the query lists.
func addLater(tb testing.TB, db *sql.DB, tables string) {
	tb.Helper()
	rows, err := db.QueryContext(tb.Context(), tables)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			tb.Fatal(err)
		}
		names = append(names, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		for _, column := range []string{"added_later VARCHAR(20)", "counted_later INT NOT NULL DEFAULT 7"} {
			if _, err := db.ExecContext(tb.Context(), "ALTER TABLE "+name+" ADD COLUMN "+column); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// migratedSQLite is a migrated SQLite file without rows. It is made once: each
// test gets a copy.
var migratedSQLite = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	file := filepath.Join(dir, "blank.db")
	s, err := store.Open(ctx, "sqlite:///"+file, store.Options{})
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	if err := s.Close(); err != nil { // also writes the WAL back into the file
		return nil, err
	}
	return os.ReadFile(file)
})

// NewMariaDB returns a store on a new, migrated database of the MariaDB server
// of the test environment; without one the test is skipped (see testenv). The
// database is dropped with the test.
func NewMariaDB(tb testing.TB) *store.Store {
	tb.Helper()
	connection := MariaDB(tb)
	s := Open(tb, connection)
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if os.Getenv(NextSchema) != "" {
		cfg, err := mysql.ParseDSN(testenv.Require(tb, testenv.MariaDB))
		if err != nil {
			tb.Fatal(err)
		}
		u, err := url.Parse(connection)
		if err != nil {
			tb.Fatal(err)
		}
		cfg.DBName = strings.TrimPrefix(u.Path, "/")
		db, err := sql.Open("mysql", cfg.FormatDSN())
		if err != nil {
			tb.Fatal(err)
		}
		defer db.Close()
		addLater(tb, db, "SHOW TABLES")
	}
	return s
}

// Each runs the test on SQLite and on MariaDB, as subtests.
func Each(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, New(t)) })
	t.Run("MariaDB", func(t *testing.T) { test(t, NewMariaDB(t)) })
}

// EachEmpty runs the test on SQLite and on MariaDB with the connection of a
// database that has no tables yet.
func EachEmpty(t *testing.T, test func(t *testing.T, connection string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("MariaDB", func(t *testing.T) { test(t, MariaDB(t)) })
}

// SQLite returns the connection of an SQLite file that does not exist yet.
func SQLite(tb testing.TB) string {
	tb.Helper()
	return "sqlite:///" + filepath.Join(tb.TempDir(), "keelson.db")
}

// MariaDB makes an empty database that is dropped with the test and returns
// its connection.
func MariaDB(tb testing.TB) string {
	tb.Helper()
	dsn := testenv.Require(tb, testenv.MariaDB)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", testenv.MariaDB, err)
	}
	server, err := sql.Open("mysql", dsn)
	if err != nil {
		tb.Fatal(err)
	}
	name := "keelson_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := server.ExecContext(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		defer server.Close()
		if _, err := server.ExecContext(context.Background(), "DROP DATABASE "+name); err != nil {
			tb.Error(err)
		}
	})
	user := url.PathEscape(cfg.User)
	if cfg.Passwd != "" {
		user += ":" + url.PathEscape(cfg.Passwd)
	}
	if cfg.Net == "unix" {
		return fmt.Sprintf("mysql+pymysql://%s@localhost/%s?unix_socket=%s", user, name, url.QueryEscape(cfg.Addr))
	}
	return fmt.Sprintf("mysql+pymysql://%s@%s/%s", user, cfg.Addr, name)
}

// BadNet puts a network that can go wrong before the database of a connection
// that MariaDB returned, and returns the connection through it.
func BadNet(tb testing.TB, connection string) (string, *badnet.Proxy) {
	tb.Helper()
	cfg, err := mysql.ParseDSN(testenv.Require(tb, testenv.MariaDB))
	if err != nil {
		tb.Fatalf("%s: %v", testenv.MariaDB, err)
	}
	u, err := url.Parse(connection)
	if err != nil {
		tb.Fatal(err)
	}
	proxy, err := badnet.Listen(cfg.Net, cfg.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = proxy.Close() })
	u.Host, u.RawQuery = proxy.Addr(), ""
	return u.String(), proxy
}

// Open opens a store that is closed with the test.
func Open(tb testing.TB, connection string) *store.Store {
	tb.Helper()
	return OpenWith(tb, connection, store.Options{})
}

// OpenWith does so with options.
func OpenWith(tb testing.TB, connection string, o store.Options) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), connection, o)
	if err != nil {
		tb.Fatal(err)
	}
	connections.Store(s, connection)
	tb.Cleanup(func() {
		connections.Delete(s)
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// connections are those of the stores that Open made.
var connections sync.Map

// Direct returns a connection of its own to the database of a store on SQLite
// that this package opened: for tests that look past the store, or change what
// it has no method for.
func Direct(tb testing.TB, s *store.Store) *sql.DB {
	tb.Helper()
	connection, _ := connections.Load(s)
	file, ok := strings.CutPrefix(fmt.Sprint(connection), "sqlite:///")
	if !ok {
		tb.Fatal("this is no store on SQLite")
	}
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// Hosts adds that many ready hosts, host-1 and so on, with room for sixteen
// nodes of 2 vCPUs, 4 GiB memory and 20 GiB disk each.
func Hosts(tb testing.TB, s *store.Store, n int) {
	tb.Helper()
	var all sync.WaitGroup
	numbers := make(chan int)
	for range 8 {
		all.Go(func() {
			for i := range numbers {
				uri := fmt.Sprintf("sim:///nowhere/host-%d", i)
				err := s.AddHost(tb.Context(), &model.Host{
					Name: fmt.Sprintf("host-%d", i), State: model.HostReady, Bridge: "br0", LibvirtURI: &uri, ResourceClass: "baremetal",
					TotalVCPUs: 2 * 16, TotalMemoryMiB: 4096 * 16, TotalDiskGiB: 20 * 16,
				})
				if err != nil {
					tb.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i + 1
	}
	close(numbers)
	all.Wait()
}

// SQL opens the database behind a connection of MariaDB, past the store's own
// rules.
func SQL(tb testing.TB, connection string) *sql.DB {
	tb.Helper()
	cfg, err := mysql.ParseDSN(testenv.Require(tb, testenv.MariaDB))
	if err != nil {
		tb.Fatalf("%s: %v", testenv.MariaDB, err)
	}
	u, err := url.Parse(connection)
	if err != nil {
		tb.Fatal(err)
	}
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}
