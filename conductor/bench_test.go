// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/ipam"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

// How much is at rest in BenchmarkAtRest, and for how long it is watched.
const (
	restingClusters = 10_000
	restingNodes    = 3 // of each cluster
	nodesOnHost     = 100
	restWatched     = time.Minute
)

// BenchmarkAtRest is what one conductor costs while nobody asks for anything:
// 10,000 finished clusters of three nodes on 300 simulated hosts, MariaDB, all
// periodic work at its default pace. It reports the CPU time of this process
// and, where it runs on this machine, of the database server (with whatever
// else the server does), as parts of one core.
func BenchmarkAtRest(b *testing.B) {
	server := testenv.Require(b, testenv.MariaDB)
	connection := storetest.MariaDB(b)
	s := storetest.Open(b, connection)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(s.Migrate(b.Context()))
	at, err := url.Parse(connection)
	must(err)
	db, err := sql.Open("mysql", strings.TrimSuffix(server, "/")+at.Path)
	must(err)
	defer db.Close()
	settle(b, db, b.TempDir())

	dir := b.TempDir()
	sealer, err := ca.LoadOrCreateKeyFile(filepath.Join(dir, "master.key"))
	must(err)
	authorities, err := ca.New(s, sealer, ca.Options{NotFound: store.ErrNotFound})
	must(err)
	network, err := ipam.Parse("net", "192.0.2.0/24", "192.0.2.1", "192.0.2.10-192.0.2.19")
	must(err)
	messages, err := queue.Open("memory://", queue.Options{})
	must(err)
	defer messages.Close()
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
	coe := fake.NewCOE()
	hosts := simulated{}
	c := conductor.New(conductor.Parts{
		Store: s, Messages: messages, Drivers: drivers.NewRegistry(fake.New(coe)), Nodes: hosts,
		Hosts:        conductor.NewHostPool(s, nil, hosts, log, conductor.HostOptions{}),
		Certificates: authorities, Sealer: sealer, Networks: ipam.Networks{network}, Logger: log,
	}, conductor.Options{Owner: "bench", Host: "bench"})

	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		began, mine, theirs := time.Now(), ownCPU(b), serverCPU(db)
		select {
		case err := <-done:
			b.Fatal(err)
		case <-time.After(restWatched):
		}
		took := time.Since(began)
		b.ReportMetric(100*(ownCPU(b)-mine).Seconds()/took.Seconds(), "%core")
		if theirs > 0 {
			b.ReportMetric(100*(serverCPU(db)-theirs).Seconds()/took.Seconds(), "%core-of-db")
		}
		b.ReportMetric(float64(coe.Taken(fake.CallHealth, ""))/took.Seconds(), "looks/s")
		cancel()
		must(<-done)
	}
}

// settle fills the database, and directories for the hosts, as they are after
// all clusters were made. Checks are due evenly over the next minute.
func settle(b *testing.B, db *sql.DB, dir string) {
	b.Helper()
	insert := func(into string, columns int, rows [][]any) {
		b.Helper()
		marks := "(" + strings.TrimSuffix(strings.Repeat("?,", columns), ",") + ")"
		for len(rows) > 0 {
			some := rows[:min(len(rows), 1000)]
			rows = rows[len(some):]
			var args []any
			for _, r := range some {
				args = append(args, r...)
			}
			statement := "INSERT INTO " + into + " VALUES " + strings.TrimSuffix(strings.Repeat(marks+",", len(some)), ",")
			if _, err := db.ExecContext(b.Context(), statement, args...); err != nil {
				b.Fatal(err)
			}
		}
	}
	now := time.Now().UTC()
	in := func(i, of int) time.Time { return now.Add(time.Duration(i) * time.Minute / time.Duration(of)) }
	var hosts, clusters, groups, nodes [][]any
	hostIDs := make([]string, restingClusters*restingNodes/nodesOnHost)
	for i := range hostIDs {
		hostIDs[i] = uuid.NewString()
		host := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(host, 0o700); err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, []any{hostIDs[i], fmt.Sprint("host-", i), "ready", simhost.Scheme + "://" + host, "br0", 400, 400_000, 4000, 100, 102_400, 1000, in(i, len(hostIDs)), now})
	}
	template := uuid.NewString()
	insert("cluster_templates (uuid, project_id, user_id, name, coe, image_id, labels, registry_enabled, tls_disabled, public, hidden, server_type, master_lb_enabled, floating_ip_enabled, created_at)",
		15, [][]any{{template, "p", "u", "t", "fake", "image", "{}", false, false, false, false, "vm", false, false, now}})
	labels := `{"zone": "a", "swarm_strategy": "spread"}`
	for i := range restingClusters {
		id, name := uuid.NewString(), fmt.Sprint("c", i)
		master, worker := uuid.NewString(), uuid.NewString()
		reasons := map[string]string{"api": "ok"}
		for k := range restingNodes {
			group, role, node := worker, "worker", uuid.NewString()
			if k == 0 {
				group, role = master, "master"
			}
			n := i*restingNodes + k
			host := n % len(hostIDs)
			reasons[fmt.Sprintf("%s-%d", name, k)+".Ready"] = "False" // the pretended COE knows none of them
			nodes = append(nodes, []any{
				node, id, group, fmt.Sprintf("%s-%d", name, k), k, role, "ready", 1, 1024, 10, "node", "node/" + template + "/0",
				hostIDs[host], n / len(hostIDs), "net", fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255), "52:54:00:00:00:01", "fake-" + node, now,
			})
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(host), node+".json"), []byte("{}"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		health, err := json.Marshal(reasons)
		if err != nil {
			b.Fatal(err)
		}
		clusters = append(clusters, []any{id, "p", "u", name, template, false, false, labels, "CREATE_COMPLETE", "UNHEALTHY", health, "tcp://10.0.0.1:2376", in(i, restingClusters), now})
		for _, g := range [][]any{{master, "default-master", "master", 1}, {worker, "default-worker", "worker", 2}} {
			groups = append(groups, []any{g[0], id, g[1], "p", g[2], labels, g[3], 0, true, "CREATE_COMPLETE", now})
		}
	}
	insert("hosts (uuid, name, state, libvirt_uri, bridge, total_vcpus, total_memory_mib, total_disk_gib, used_vcpus, used_memory_mib, used_disk_gib, next_check, created_at)", 13, hosts)
	insert("clusters (uuid, project_id, user_id, name, cluster_template_id, floating_ip_enabled, master_lb_enabled, labels, status, health_status, health_status_reason, api_address, next_check, created_at)", 14, clusters)
	insert("node_groups (uuid, cluster_id, name, project_id, role, labels, node_count, min_node_count, is_default, status, created_at)", 11, groups)
	insert("nodes (uuid, cluster_id, node_group_id, name, ordinal, role, state, vcpus, memory_mib, disk_gib, image, revision, host_id, slot, network, address, mac, coe_id, created_at)", 19, nodes)
	if _, err := db.ExecContext(b.Context(), "UPDATE hosts SET failures = 0"); err != nil {
		b.Fatal(err)
	}
}

// ownCPU is the CPU time that this process has used.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// serverCPU is the CPU time that the database server has used, 0 when it can
// not be told.
func serverCPU(db *sql.DB) time.Duration {
	var file string
	if db.QueryRow("SELECT @@pid_file").Scan(&file) != nil {
		return 0
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}
