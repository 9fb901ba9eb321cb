// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// TestCrowd: 8 conductors, each with its own connections, work on 500 creates
// (see creates), more than the hosts can take at once, and on the deletes that
// follow each. At no moment is more given away than there is, or other than what nodes hold; in
// the end nothing is held.
func TestCrowd(t *testing.T) {
	const conductors, hosts = 8, 6
	connection := storetest.MariaDB(t)
	own := func() *store.Store { return storetest.OpenWith(t, connection, store.Options{MaxOpen: 5}) }
	s := own()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newHostlessWorld(t, s)
	w.log, w.look = slog.DiscardHandler, 100*time.Millisecond // the database has enough to do
	w.options.Poll, w.options.CancelCheck, w.pool.Keep = 200*time.Millisecond, 2*time.Second, time.Second
	w.networks = nil
	w.addNetwork("net", "198.18.0.0/16", "198.18.1.0-198.18.4.255")
	w.options.Workers, w.options.StepsAtOnce, w.options.StepTimeout = 4, 2, 5*time.Minute
	var dirs []string
	for i := range hosts {
		dirs = append(dirs, filepath.Join(t.TempDir(), fmt.Sprint("host-", i)))
		w.must(os.Mkdir(dirs[i], 0o700))
		w.addHost(fmt.Sprint("host-", i), dirs[i], 1024*(2+i)) // 2 to 7 nodes
	}

	watch, stop := context.WithCancel(t.Context())
	watched := make(chan int, 1)
	go func() { watched <- watchRoom(watch, t, storetest.SQL(t, connection)) }()

	for range conductors {
		w.conductOn(own())
	}
	var all sync.WaitGroup
	outcomes := make(chan string, creates)
	next := make(chan int)
	for range 48 { // users, each with one cluster at a time
		all.Go(func() {
			for i := range next {
				outcomes <- w.lifeOfACluster(fmt.Sprint("c", i), 1, i%2)
			}
		})
	}
	began := time.Now()
	for i := range creates {
		next <- i
	}
	close(next)
	all.Wait()
	stop()
	close(outcomes)
	counts := map[string]int{}
	for outcome := range outcomes {
		counts[outcome]++
	}
	t.Logf("%d clusters in %s: %v; looked at %d times", creates, time.Since(began).Round(time.Second), counts, <-watched)
	if counts["made"] < creates/10 || counts["no capacity"] < creates/10 || counts["made"]+counts["no capacity"] != creates {
		t.Errorf("what came of the creates: %v; want many of both kinds and nothing else", counts)
	}

	left, err := s.Hosts(t.Context())
	w.must(err)
	for _, h := range left {
		if h.UsedVCPUs != 0 || h.UsedMemoryMiB != 0 || h.UsedDiskGiB != 0 || h.EmptySince == nil {
			t.Errorf("host %s still has room taken: %+v", h.Name, h)
		}
	}
	held, err := s.AddressesHeld(t.Context())
	w.must(err)
	if len(held) != 0 {
		t.Errorf("addresses still held: %v", held)
	}
	for _, dir := range dirs {
		if nodes, err := simhost.Open(simhost.Scheme + "://" + dir).Nodes(); err != nil || len(nodes) != 0 {
			t.Errorf("nodes left on a host: %v, %v", nodes, err)
		}
	}
}

// lifeOfACluster makes a cluster and deletes it, and tells what came of it.
func (w *world) lifeOfACluster(name string, masters, workers int) string {
	cluster, create := w.create(name, masters, workers)
	outcome := "made"
	if op := w.ended(create.UUID); op.State != model.OpDone {
		if outcome = w.reason(cluster.UUID); strings.HasPrefix(outcome, "no capacity") {
			outcome = "no capacity"
		}
	}
	remove, err := w.store.DeleteCluster(w.Context(), cluster.UUID, store.NewOperation{})
	if err != nil {
		return "delete: " + err.Error()
	}
	if op := w.ended(remove.UUID); op.State != model.OpDone {
		return fmt.Sprintf("delete ended %s", op.State)
	}
	return outcome
}

// watchRoom looks at all hosts and their nodes, in one statement and so at one
// moment, again and again until ctx ends, and returns how often.
func watchRoom(ctx context.Context, t *testing.T, db *sql.DB) int {
	const wrong = `SELECT h.name, h.used_vcpus, h.used_memory_mib, h.used_disk_gib, COALESCE(n.nodes, 0)
		FROM hosts h LEFT JOIN (SELECT host_id, COUNT(*) AS nodes, COUNT(DISTINCT slot) AS slots, COUNT(DISTINCT address) AS addresses,
			SUM(vcpus) AS vcpus, SUM(memory_mib) AS memory_mib, SUM(disk_gib) AS disk_gib FROM nodes GROUP BY host_id) n ON n.host_id = h.uuid
		WHERE h.used_vcpus > h.total_vcpus OR h.used_memory_mib > h.total_memory_mib OR h.used_disk_gib > h.total_disk_gib
			OR h.used_vcpus <> COALESCE(n.vcpus, 0) OR h.used_memory_mib <> COALESCE(n.memory_mib, 0) OR h.used_disk_gib <> COALESCE(n.disk_gib, 0)
			OR n.slots <> n.nodes OR n.addresses <> n.nodes`
	for looked := 0; ; looked++ {
		rows, err := db.QueryContext(ctx, wrong)
		if ctx.Err() != nil {
			return looked
		}
		if err != nil {
			t.Errorf("looking at the hosts: %v", err)
			return looked
		}
		for rows.Next() {
			var name string
			var vcpus, memory, disk, nodes int
			if err := rows.Scan(&name, &vcpus, &memory, &disk, &nodes); err == nil {
				t.Errorf("host %s has %d vCPUs, %d MiB memory, %d GiB disk taken, by %d nodes", name, vcpus, memory, disk, nodes)
			}
		}
		rows.Close()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return looked
		}
	}
}
