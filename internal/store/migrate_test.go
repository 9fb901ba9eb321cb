// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// column is one column or one column of an index, as the database describes it.
type column struct{ Place, What string }

// schema is what the database says of itself, without the tables that only
// migrating needs.
func schema(t *testing.T, s *store.Store) []column {
	t.Helper()
	const own = "('schema_migrations', 'schema_locks', 'sqlite_sequence')"
	var columns []column
	if !s.OnMariaDB() {
		s.Query(t, &columns, `SELECT m.name || '.' || c.name AS place, c.type || c."notnull" || c.pk || COALESCE(c.dflt_value, '') AS what
			FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT IN `+own+`
			UNION ALL SELECT m.name || ' ' || i.name || ' ' || i."unique", x.seqno || x.name
			FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) x
			WHERE m.type = 'table' AND m.name NOT IN `+own+`
			ORDER BY 1, 2`)
		return columns
	}
	s.Query(t, &columns, `SELECT CONCAT(table_name, '.', column_name) AS place,
			CONCAT_WS(' ', column_type, is_nullable, column_key, extra, collation_name, column_default) AS what
		FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name NOT IN `+own+`
		UNION ALL SELECT CONCAT(table_name, ' ', index_name, ' ', non_unique), CONCAT(seq_in_index, column_name)
		FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name NOT IN `+own+`
		ORDER BY 1, 2`)
	return columns
}

func TestMigratedSchemaIsThatOfTheModels(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		fresh := storetest.Open(t, connection)
		if err := fresh.CreateTablesFromModels(t.Context()); err != nil {
			t.Fatal(err)
		}
		migrated := storetest.New(t)
		if fresh.OnMariaDB() {
			migrated = storetest.NewMariaDB(t)
		}
		want, got := schema(t, fresh), schema(t, migrated)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the migrations (+) make another schema than the models (-):\n%s", diff)
		}
		if len(got) < 150 {
			t.Errorf("only %d columns compared", len(got))
		}
	})
}

func TestMigrateTwiceKeepsTheRows(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s := storetest.Open(t, connection)
		have, want, err := s.SchemaCurrent(t.Context())
		if err != nil || have != "" || want == "" {
			t.Fatalf("empty database: have %q, want %q, %v", have, want, err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := cluster(t, s, "p1")
		before := schema(t, s)
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, schema(t, s)); diff != "" {
			t.Errorf("the second run changed the schema:\n%s", diff)
		}
		if _, err := s.Cluster(t.Context(), everything, c.UUID); err != nil {
			t.Error(err)
		}
		if have, want, err = s.SchemaCurrent(t.Context()); err != nil || have != want {
			t.Errorf("have %q, want %q, %v", have, want, err)
		}
	})
}

func TestMigrateGoesOnWhereItWasCutOff(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s := storetest.Open(t, connection)
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := schema(t, s)
		// As after a crash: some tables are missing, an index too, and the
		// migration is not noted as applied.
		s.Exec(t, "DROP TABLE steps")
		s.Exec(t, "DROP TABLE service_records")
		if s.OnMariaDB() {
			s.Exec(t, "DROP INDEX nodes_address ON nodes")
		} else {
			s.Exec(t, "DROP INDEX nodes_address")
		}
		s.Exec(t, "DELETE FROM schema_migrations")
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, schema(t, s)); diff != "" {
			t.Errorf("the repeated run made another schema:\n%s", diff)
		}
	})
}

// Hosts that were there before hosts were of several kinds are of no kind, and
// serve those who ask for none.
func TestMigrateKeepsHosts(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s := storetest.Open(t, connection)
		must(t, s.Migrate(t.Context()))
		h := host(t, s, "h1", 4)
		for _, sql := range []string{
			"DROP INDEX hosts_room", "ALTER TABLE hosts DROP COLUMN resource_class", "ALTER TABLE hosts DROP COLUMN traits",
			"ALTER TABLE hosts DROP COLUMN attempts", "ALTER TABLE hosts DROP COLUMN free_memory_mib",
			"DELETE FROM schema_migrations WHERE id > '202611230001'",
		} {
			if s.OnMariaDB() && sql == "DROP INDEX hosts_room" {
				sql += " ON hosts"
			}
			s.Exec(t, sql)
		}
		must(t, s.Migrate(t.Context()))
		found, err := s.HostsWithRoom(t.Context(), store.HostWish{VCPUs: 1, MemoryMiB: 4096, ResourceClass: "baremetal", OrNoClass: true}, nil, 10)
		must(t, err)
		if len(found) != 1 || found[0].UUID != h.UUID || found[0].Attempts != 0 || len(found[0].Traits) != 0 {
			t.Errorf("found %+v", found)
		}
	})
}

func TestMigrateAtOnce(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		var all sync.WaitGroup
		for range 4 {
			s := storetest.Open(t, connection)
			all.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestMigrateWaitsForTheOther(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		future := "UTC_TIMESTAMP(3) + INTERVAL 60 SECOND"
		if !s.OnMariaDB() {
			future = "strftime('%Y-%m-%d %H:%M:%f', 'now', '+60 seconds')"
		}
		s.Exec(t, "UPDATE schema_locks SET owner = 'another', lease_until = "+future)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := s.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while another migrates: %v", err)
		}
		past := "UTC_TIMESTAMP(3) - INTERVAL 1 SECOND"
		if !s.OnMariaDB() {
			past = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 seconds')"
		}
		s.Exec(t, "UPDATE schema_locks SET lease_until = "+past)
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("after the other has died: %v", err)
		}
	})
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		s.Exec(t, "INSERT INTO schema_migrations (id) VALUES ('999912310001')")
		if err := s.Migrate(t.Context()); !errors.Is(err, store.ErrSchema) {
			t.Errorf("got %v", err)
		}
	})
}
