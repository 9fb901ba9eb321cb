// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/store/storetest"
)

// An empty database fails the check, a synchronised one passes, and rows that
// are left of what is gone are named.
func TestDBCheck(t *testing.T) {
	o := newOperator(t, "")
	connection := storetest.MariaDB(t)
	o.config += "[database]\nconnection = " + connection + "\n[conductor]\nsweep_grace = 60\n"
	if out, err := o.run("db", "check"); err == nil || !strings.Contains(err.Error(), "db sync") {
		t.Errorf("an empty database: %v\n%s", err, out)
	}
	for range 2 {
		_, err := o.run("db", "sync")
		must(t, err)
	}
	for range 2 {
		out, err := o.run("db", "check")
		must(t, err)
		if !strings.Contains(out, "this release's schema") || !strings.Contains(out, "rows fit") {
			t.Errorf("got %s", out)
		}
	}
	db := storetest.SQL(t, connection)
	id := uuid.NewString()
	_, err := db.ExecContext(t.Context(), "INSERT INTO certificates (cluster_id, kind, node_id, pem, sealed_key, not_after, created_at) VALUES (?, 'ca', '', 'pem', '', '2030-01-01', '2020-01-01')", id)
	must(t, err)
	out, err := o.run("db", "check")
	if err == nil || !strings.Contains(err.Error(), "keelsond sweep") || !strings.Contains(out, id) {
		t.Errorf("a certificate of no cluster: %v\n%s", err, out)
	}
}

// What is old is counted first, and removed only when that is said; what is
// young or has not ended stays.
func TestDBPurge(t *testing.T) {
	o := newOperator(t, "")
	connection := storetest.MariaDB(t)
	s := o.onDatabase(connection)
	db := storetest.SQL(t, connection)
	for _, row := range []struct{ state, finished string }{
		{"done", "2020-01-01"}, {"failed", "2020-01-01"}, {"done", "2020-02-02"}, {"done", time.Now().UTC().Format("2006-01-02 15:04:05")},
	} {
		id := uuid.NewString()
		_, err := db.ExecContext(t.Context(), "INSERT INTO operations (uuid, cluster_id, project_id, user_id, request_id, kind, state, spec, created_at, finished_at) VALUES (?, ?, 'p', 'u', 'r', 'create', ?, '{}', '2020-01-01', ?)",
			id, uuid.NewString(), row.state, row.finished)
		must(t, err)
		_, err = db.ExecContext(t.Context(), "INSERT INTO steps (operation_id, name, node_id, node_name, `undo`, state, attempts, message, started_at) VALUES (?, 'x', '', '', 0, 'done', 1, '', '2020-01-01')", id)
		must(t, err)
	}
	_, err := db.ExecContext(t.Context(), "INSERT INTO operations (uuid, cluster_id, project_id, user_id, request_id, kind, state, spec, created_at) VALUES (?, 'c', 'p', 'u', 'r', 'create', 'pending', '{}', '2020-01-01')", uuid.NewString())
	must(t, err)
	rows := func(table string) (n int) {
		t.Helper()
		must(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
		return n
	}
	for range 2 {
		out, err := o.run("db", "purge", "--older-than", "7")
		must(t, err)
		if !strings.Contains(out, "3 operations") || !strings.Contains(out, "7 days") || !strings.Contains(out, "--yes") || rows("operations") != 5 {
			t.Errorf("counted: %s", out)
		}
	}
	for _, want := range []string{"3 operations", "0 operations"} {
		out, err := o.run("db", "purge", "--older-than", "7", "--batch", "2", "--yes")
		must(t, err)
		if !strings.Contains(out, want) || rows("operations") != 2 || rows("steps") != 1 {
			t.Errorf("removed, of which %d operations and %d steps stay: %s", rows("operations"), rows("steps"), out)
		}
	}
	for _, args := range [][]string{{"--older-than", "0"}, {"--older-than", "-1"}, {"--batch", "0"}, {"--keep", "-1"}} {
		if _, err := o.run(append([]string{"db", "purge", "--yes"}, args...)...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	ops, _, err := s.Prunable(t.Context(), time.Hour, 0)
	if err != nil || ops != 0 {
		t.Errorf("%d, %v", ops, err)
	}
}
