// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/magnum"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// aMagnum is the connection of a database as Magnum's own migrations make it,
// with rows of each kind.
func aMagnum(t *testing.T) string {
	t.Helper()
	connection := storetest.MariaDB(t)
	db := storetest.SQL(t, connection)
	text, err := os.ReadFile("../../internal/magnum/testdata/magnum-15.sql")
	must(t, err)
	for statement := range strings.SplitSeq(string(text), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	return connection
}

// checksum is of all that the database of a Magnum holds.
func checksum(t *testing.T, connection string) (sums string) {
	t.Helper()
	rows, err := storetest.SQL(t, connection).QueryContext(t.Context(), "CHECKSUM TABLE cluster, cluster_template, nodegroup, quotas")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var table, sum string
		must(t, rows.Scan(&table, &sum))
		sums += table + " " + sum + "\n"
	}
	must(t, rows.Err())
	return sums
}

// Templates and quotas come over once, with their uuids; clusters stay; nothing
// of Magnum's changes, and none of its secrets is told.
func TestAdoptFromMagnum(t *testing.T) {
	source := aMagnum(t)
	before := checksum(t, source)
	o := newOperator(t, "")
	s := o.onDatabase(storetest.MariaDB(t))
	file := filepath.Join(t.TempDir(), "connection")
	must(t, os.WriteFile(file, []byte(source+"\n"), 0o600))
	inventory := filepath.Join(t.TempDir(), "clusters.json")
	adopt := func(args ...string) [][2]string {
		t.Helper()
		out, err := o.run(append([]string{"cluster", "adopt-from-magnum", "-f", "json", "--connection-file", file, "--clusters-file", inventory}, args...)...)
		must(t, err)
		if strings.Contains(out, "s3cr3t") {
			t.Errorf("a secret is told: %s", out)
		}
		var done []adopted
		must(t, json.Unmarshal([]byte(out), &done))
		var actions [][2]string
		for _, a := range done {
			actions = append(actions, [2]string{a.What + " " + a.ID[:min(len(a.ID), 4)], a.Action})
		}
		return actions
	}
	expect := func(what string, got [][2]string, action string) {
		t.Helper()
		want := [][2]string{
			{"template 1111", action},
			{"template 2222", action + "; no driver makes clusters of kubernetes"},
			{"template 3333", action + "; no driver makes clusters of no COE"},
			{"quota blue", action},
			{"quota red", action},
			{"cluster 4444", "unmanaged: stays with Magnum"},
			{"cluster 5555", "unmanaged: stays with Magnum"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	for range 2 {
		expect("dry run", adopt(), "would be adopted")
	}
	if _, err := os.Stat(inventory); err == nil {
		t.Error("a dry run wrote the clusters' file")
	}
	expect("first", adopt("--yes"), "adopted")
	expect("again", adopt("--yes"), "is there")

	all := store.Scope{All: true}
	template, err := s.Template(t.Context(), all, "11111111-1111-4111-8111-111111111111")
	must(t, err)
	if diff := cmp.Diff(map[string]string{"strategy": "spread", "replicas": "3", "on": "true"}, map[string]string(template.Labels)); diff != "" {
		t.Errorf("labels: %s", diff)
	}
	if valueOf(template.Name) != "swarm" || template.ProjectID != "blue" || template.COE != "swarm-mode" || !template.Public || template.Hidden || !template.MasterLBEnabled ||
		template.FloatingIPEnabled || template.ServerType != "bm" || *template.DockerVolumeSize != 5 || *template.APIServerPort != 2376 || valueOf(template.Tags) != "a,b" ||
		template.CreatedAt.Format("2006-01-02 15:04:05") != "2021-02-03 04:05:06" {
		t.Errorf("got %+v", template)
	}
	quota, err := s.Quota(t.Context(), "red", "Cluster")
	if err != nil || quota.HardLimit != 0 {
		t.Errorf("%+v, %v", quota, err)
	}
	if clusters, err := s.ListClusters(t.Context(), all, store.Page{}); err != nil || len(clusters) != 0 {
		t.Errorf("clusters: %+v, %v", clusters, err)
	}
	text, err := os.ReadFile(inventory)
	must(t, err)
	var clusters []magnum.Cluster
	must(t, json.Unmarshal(text, &clusters))
	if len(clusters) != 2 || clusters[0].APIAddress != "https://192.0.2.1:6443" || len(clusters[0].NodeGroups) != 2 || clusters[0].NodeGroups[0].Nodes != 3 || strings.Contains(string(text), "s3cr3t") {
		t.Errorf("the clusters' file: %s", text)
	}
	if info, err := os.Stat(inventory); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if after := checksum(t, source); after != before {
		t.Errorf("Magnum's database was changed:\n%s%s", before, after)
	}

	// What was changed here since is kept.
	_, err = s.UpdateQuota(t.Context(), "blue", "Cluster", 9)
	must(t, err)
	if got := adopt("--yes")[3][1]; got != "is there, with 9 instead of 7" {
		t.Errorf("a quota that was changed: %s", got)
	}
	must(t, os.WriteFile(file, []byte("sqlite:////magnum.db"), 0o600))
	if _, err := o.run("cluster", "adopt-from-magnum", "--connection-file", file); err == nil || !strings.Contains(err.Error(), "MariaDB") {
		t.Errorf("SQLite: %v", err)
	}
}
