// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// upgradeCheck asks for the checks and returns their results and the status.
func (o *operator) upgradeCheck() (map[string]int, int) {
	o.Helper()
	out, err := o.run("status", "upgrade-check", "-f", "json")
	var answer struct{ Checks []upgradeResult }
	if e := json.Unmarshal([]byte(out), &answer); e != nil && exitStatus(err) != upgradeUnknown {
		o.Fatalf("%v: %s", e, out)
	}
	results := map[string]int{}
	for _, r := range answer.Checks {
		results[r.Check] = r.Result
		if (r.Result == upgradeSuccess) != (r.Details == nil) {
			o.Errorf("details of %s: %v", r.Check, r.Details)
		}
	}
	if err == nil {
		return results, 0
	}
	return results, exitStatus(err)
}

// The status is the worst result, as deployment tools expect of OpenStack
// services.
func TestUpgradeCheck(t *testing.T) {
	o := newOperator(t, "")
	connection := storetest.MariaDB(t)
	base := "[database]\nconnection = " + connection + "\n"
	o.config = base
	expect := func(status int, want map[string]int) {
		t.Helper()
		for range 2 {
			got, is := o.upgradeCheck()
			if is != status {
				t.Errorf("status %d, want %d", is, status)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		}
	}
	expect(upgradeFailure, map[string]int{"Configuration": 0, "Policy File": 0, "Drivers": 0, "Database Schema": 2})
	_, err := o.run("db", "sync")
	must(t, err)
	all := map[string]int{"Configuration": 0, "Policy File": 0, "Drivers": 0, "Database Schema": 0, "Master Keys": 0, "Operations": 0}
	expect(upgradeSuccess, all)

	o.config = base + "[conductor]\nmood = good\n"
	all["Configuration"] = 1
	expect(upgradeWarning, all)
	o.config, all["Configuration"] = base, 0

	_, err = storetest.SQL(t, connection).ExecContext(t.Context(), "INSERT INTO operations (uuid, cluster_id, project_id, user_id, request_id, kind, state, spec, created_at) VALUES (?, 'c', 'p', 'u', 'r', 'teleport', 'pending', '{}', '2020-01-01')", uuid.NewString())
	must(t, err)
	all["Operations"] = 1
	expect(upgradeWarning, all)

	key := filepath.Join(o.dir, "master.key")
	sealer, err := ca.LoadKeyFile(key)
	must(t, err)
	authority, err := ca.New(storetest.Open(t, connection), sealer, ca.Options{NotFound: store.ErrNotFound, Term: time.Hour, KeyType: "ecdsa"})
	must(t, err)
	_, err = authority.Hosts().Authority(t.Context())
	must(t, err)
	id, err := ca.AddKey(key)
	must(t, err)
	must(t, ca.UseKey(key, id))
	all["Master Keys"] = 1
	expect(upgradeWarning, all)
	must(t, os.Remove(key))
	all["Master Keys"] = 2
	expect(upgradeFailure, all)

	o.config = "[database]\nconnection = mysql+pymysql://nobody@127.0.0.1:1/none\n"
	if _, status := o.upgradeCheck(); status != upgradeUnknown {
		t.Errorf("without a database: status %d", status)
	}
}

func TestUpgradeTable(t *testing.T) {
	why := "It is of a newer release, with which this one can work for as long as it has to."
	var out strings.Builder
	must(t, writeUpgradeTable(&out, []upgradeResult{{"Drivers", 0, nil}, {"Database Schema", 1, &why}}))
	want := `+------------------------------------------------------------+
| Upgrade Check Results                                      |
+------------------------------------------------------------+
| Check: Drivers                                             |
| Result: Success                                            |
| Details: None                                              |
+------------------------------------------------------------+
| Check: Database Schema                                     |
| Result: Warning                                            |
| Details: It is of a newer release, with which this one can |
|   work for as long as it has to.                           |
+------------------------------------------------------------+
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExitStatus(t *testing.T) {
	if got := exitStatus(errors.Join(nil, statusError{2, errors.New("x")})); got != 2 {
		t.Errorf("got %d", got)
	}
	if got := exitStatus(errors.New("x")); got != 1 {
		t.Errorf("got %d", got)
	}
}
