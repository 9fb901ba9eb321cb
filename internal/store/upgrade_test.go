// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// shape is a schema as far as programs depend on it.
type shape struct {
	columns  map[string]string // "table.column": its type
	required map[string]bool   // columns that a program must know of to insert a row
	unique   map[string]bool   // "table index" of unique ones
}

func shapeOf(t *testing.T, s *store.Store) shape {
	t.Helper()
	const own = "('schema_migrations', 'schema_locks', 'sqlite_sequence')"
	var rows []struct {
		Place, Type      string
		Required, Unique bool
	}
	if s.OnMariaDB() {
		s.Query(t, &rows, `SELECT CONCAT(table_name, '.', column_name) AS place, CONCAT(column_type, IF(is_nullable = 'YES', ' null', '')) AS type,
				is_nullable = 'NO' AND column_default IS NULL AND extra = '' AS required, FALSE AS `+"`unique`"+`
			FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name NOT IN `+own+`
			UNION SELECT CONCAT(table_name, ' ', index_name), '', FALSE, TRUE
			FROM information_schema.statistics WHERE table_schema = DATABASE() AND non_unique = 0 AND table_name NOT IN `+own)
	} else {
		s.Query(t, &rows, `SELECT m.name || '.' || c.name AS place, c.type || CASE WHEN c."notnull" THEN '' ELSE ' null' END AS type,
				c."notnull" AND c.dflt_value IS NULL AND c.pk = 0 AS required, FALSE AS "unique"
			FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.type = 'table' AND m.name NOT IN `+own+`
			UNION SELECT m.name || ' ' || i.name, '', FALSE, TRUE
			FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table' AND i."unique" AND m.name NOT IN `+own)
	}
	found := shape{map[string]string{}, map[string]bool{}, map[string]bool{}}
	for _, r := range rows {
		if r.Unique {
			found.unique[r.Place] = true
			continue
		}
		found.columns[r.Place] = r.Type
		if r.Required {
			found.required[r.Place] = true
		}
	}
	return found
}

// tables are those that a program of this schema may write to.
func (s shape) tables() map[string]bool {
	all := map[string]bool{}
	for place := range s.columns {
		table, _, _ := strings.Cut(place, ".")
		all[table] = true
	}
	return all
}

// breaks tells what a program made for one schema misses in a later one.
func breaks(before, after shape) (broken []string) {
	old := before.tables()
	for place, kind := range before.columns {
		switch now, there := after.columns[place]; {
		case !there:
			broken = append(broken, place+" is gone")
		case now != kind:
			broken = append(broken, place+" was "+kind+" and is "+now)
		}
	}
	for place := range after.required {
		table, _, _ := strings.Cut(place, ".")
		if old[table] && !before.required[place] {
			broken = append(broken, place+" is new, and has neither default nor null")
		}
	}
	for index := range after.unique {
		table, _, _ := strings.Cut(index, " ")
		if old[table] && !before.unique[index] {
			broken = append(broken, index+" is a new unique index")
		}
	}
	slices.Sort(broken)
	return broken
}

// firstSchema is that of the first programs which had to be replaced while
// others run. What came before was never in anybody's cloud.
const firstSchema = "202611232210"

// While a release is replaced by the next one, programs of the older one work
// with the newer schema. So a migration only adds, unless it says with Needs
// which programs it locks out.
func TestMigrationsOnlyAdd(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s := storetest.Open(t, connection)
		ids, contracting := store.MigrationIDs()
		first := slices.Index(ids, firstSchema)
		must(t, s.MigrateTo(t.Context(), ids[first]))
		before := shapeOf(t, s)
		for _, id := range ids[first+1:] {
			must(t, s.MigrateTo(t.Context(), id))
			after := shapeOf(t, s)
			if broken := breaks(before, after); broken != nil && !contracting[id] {
				t.Errorf("migration %s is not for programs of the schema before it: %s", id, strings.Join(broken, "; "))
			}
			before = after
		}

		// And the test sees what it is for.
		for statement, want := range map[string]string{
			"ALTER TABLE clusters DROP COLUMN stack_id":                   "clusters.stack_id is gone",
			"ALTER TABLE quotas ADD COLUMN needed INT NOT NULL":           "quotas.needed is new, and has neither default nor null",
			"ALTER TABLE clusters ADD COLUMN fine INT NOT NULL DEFAULT 1": "",
			"ALTER TABLE clusters ADD COLUMN fine_too TEXT":               "",
			"CREATE INDEX fine ON clusters (name)":                        "",
			"CREATE UNIQUE INDEX narrow ON clusters (uuid, name)":         "clusters narrow is a new unique index",
			"ALTER TABLE quotas RENAME COLUMN hard_limit TO most":         "quotas.hard_limit is gone",
		} {
			if !s.OnMariaDB() && strings.HasSuffix(statement, "needed INT NOT NULL") {
				continue // SQLite refuses it by itself
			}
			before := shapeOf(t, s)
			s.Exec(t, statement)
			if got := breaks(before, shapeOf(t, s)); want == "" && got != nil || want != "" && !slices.Contains(got, want) {
				t.Errorf("%s: %q", statement, got)
			}
		}
	})
}

// Which programs may work with which database.
func TestCheckSchema(t *testing.T) {
	nothing := func(*gorm.DB) error { return nil }
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		s := storetest.Open(t, connection)
		refused := func(words string) {
			t.Helper()
			if _, err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want it to say %q", err, words)
			}
		}
		accepted := func(wantNewer bool) {
			t.Helper()
			if newer, err := s.CheckSchema(t.Context()); err != nil || newer != wantNewer {
				t.Errorf("newer %v, %v", newer, err)
			}
		}
		refused("has no tables, run keelsond db sync")
		ids, _ := store.MigrationIDs()
		last := ids[len(ids)-1]
		must(t, s.MigrateTo(t.Context(), ids[len(ids)-2])) // of the release before
		refused("lacks migration " + last)
		must(t, s.Migrate(t.Context()))
		accepted(false)

		// The next release adds, and the one after it takes away what this one
		// does without; then what this one needs.
		next := store.Migration{ID: "900001010000", Migrate: nothing}
		takes := store.Migration{ID: "900002020000", Migrate: nothing, Needs: last}
		takesMore := store.Migration{ID: "900003030000", Needs: next.ID, Migrate: func(*gorm.DB) error {
			refused("programs older than schema 900001010000 can not use") // before anything is gone
			return errors.New("cut off")
		}}
		must(t, s.MigrateTo(t.Context(), next.ID, next, takes, takesMore))
		accepted(true)
		must(t, s.MigrateTo(t.Context(), takes.ID, next, takes, takesMore))
		accepted(true)
		if err := s.MigrateTo(t.Context(), takesMore.ID, next, takes, takesMore); err == nil {
			t.Error("the migration was not cut off")
		}
		refused("programs older than schema 900001010000 can not use")
	})
}

// Stories of this package, told again on a database of the next release. With
// the variable set by hand all stories can be, but for those about the schema.
func TestThisProgramOnTheSchemaOfTheNext(t *testing.T) {
	if os.Getenv(storetest.NextSchema) != "" {
		t.Skip("this is it")
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run",
		"^Test(CreateCluster|ScaleNodeGroup|DeleteSupersedes|Claim|Journal)$")
	again.Env = append(os.Environ(), storetest.NextSchema+"=yes")
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A conductor leaves kinds of operations alone that it has never heard of: one
// of the next release takes them.
func TestOperationsOfUnknownKindsAreLeftToOthers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		_, _, op := created(t, s, "p1")
		_, _, known := created(t, s, "p2")
		s.Exec(t, "UPDATE operations SET kind = 'defragment' WHERE uuid = ?", op.UUID)
		uuids, err := s.Claimable(t.Context(), 10, 0)
		if err != nil || !slices.Equal(uuids, []string{known.UUID}) {
			t.Errorf("claimable: %v, %v", uuids, err)
		}
		if _, err := s.Claim(t.Context(), op.UUID, "me", lease, 0); !errors.Is(err, store.ErrNotClaimable) {
			t.Errorf("claimed: %v", err)
		}
		if now := operationNow(t, s, op.UUID); now.State != model.OpPending {
			t.Errorf("it is %s", now.State)
		}
	})
}
