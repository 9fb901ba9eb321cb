// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/ironic"
)

func (w *world) sweeper() *conductor.Sweeper {
	return &conductor.Sweeper{Store: w.store, Nodes: simulated{w.fault}, Logger: slog.New(slog.DiscardHandler), Grace: time.Hour, Silent: time.Hour}
}

// stray makes a machine on the host that no record knows.
func (w *world) stray() string {
	w.Helper()
	id := uuid.NewString()
	w.must(w.host().Ensure(w.Context(), lxc.Spec{UUID: id, Name: "stray", Image: "node"}))
	return id
}

func TestSweepFindsMachinesWithoutRecords(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.addHost("host-2", filepath.Join(t.TempDir(), "away"), 0)
		w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		sweep := func(remove bool) *conductor.SweepReport {
			t.Helper()
			report, err := w.sweeper().Sweep(t.Context(), remove)
			w.must(err)
			return report
		}
		if report := sweep(true); len(report.Orphans) > 0 || w.onHost() != 2 {
			t.Fatalf("in a healthy cloud: %+v", report.Orphans)
		}
		stray := w.stray()
		want := &conductor.SweepReport{
			Orphans: []conductor.Orphan{{Kind: "machine", ID: stray, Where: "host-1", Why: "no record knows it; it is running"}},
			Silent:  []string{"host-2"},
		}
		if diff := cmp.Diff(want, sweep(false)); diff != "" {
			t.Error(diff)
		}
		if w.onHost() != 3 {
			t.Error("the dry run has removed something")
		}
		want.Orphans[0].Removed = true
		if diff := cmp.Diff(want, sweep(true)); diff != "" {
			t.Error(diff)
		}
		if report := sweep(true); len(report.Orphans) > 0 || w.onHost() != 2 {
			t.Errorf("afterwards: %d on the host, %+v", w.onHost(), report.Orphans)
		}

		// What an operation had in hand that has just ended is no orphan yet.
		worker := w.node(cluster.UUID, "demo-worker-0").UUID
		content, err := os.ReadFile(filepath.Join(w.hostDir, worker+".json"))
		w.must(err)
		remove, err := s.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
		w.must(err)
		w.ended(remove.UUID)
		w.must(os.WriteFile(filepath.Join(w.hostDir, worker+".json"), content, 0o600)) // by a conductor that woke up late
		if report := sweep(true); len(report.Orphans) > 0 {
			t.Errorf("a machine that was touched lately: %+v", report.Orphans)
		}
		old := w.sweeper()
		old.Grace = -time.Minute // as if it were later
		if report, err := old.Sweep(t.Context(), true); err != nil || len(report.Orphans) != 1 || w.onHost() != 0 {
			t.Errorf("later: %+v, %v", report, err)
		}
	})
}

// A machine of a node that has its place on another host is one too many.
func TestSweepFindsDoubledMachines(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.conduct()
	cluster, create := w.create("demo", 1, 0)
	w.ended(create.UUID)
	other := filepath.Join(t.TempDir(), "other")
	w.must(os.Mkdir(other, 0o700))
	w.addHost("host-2", other, 0)
	node := w.node(cluster.UUID, "demo-master-0").UUID
	w.must(os.WriteFile(filepath.Join(other, node+".json"), []byte("{}"), 0o600))
	sweeper := w.sweeper()
	sweeper.Grace = -time.Minute
	report, err := sweeper.Sweep(t.Context(), true)
	w.must(err)
	want := []conductor.Orphan{{Kind: "machine", ID: node, Where: "host-2", Why: "its node has its place elsewhere; it is running", Removed: true}}
	if diff := cmp.Diff(want, report.Orphans); diff != "" {
		t.Error(diff)
	}
	if !w.runs(node) {
		t.Error("the node's own machine was removed")
	}
}

// reserved is an Ironic with these reservations.
type reserved []ironic.Allocation

func (r reserved) Reserved(context.Context) ([]ironic.Allocation, error) { return r, nil }

func TestSweepGivesBackMachinesThatNoHostIsFor(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	known, machine := uuid.NewString(), uuid.NewString()
	w.must(w.store.AddHost(t.Context(), &model.Host{UUID: known, Name: "coming", State: model.HostDeploying, AllocationID: &known, IronicNodeID: &machine}))
	orphan := ironic.Allocation{ID: uuid.NewString(), NodeID: uuid.NewString()}
	sweeper := w.sweeper()
	sweeper.Reservations = reserved{{ID: known, NodeID: machine}, {ID: uuid.NewString()}, orphan}
	want := []conductor.Orphan{{Kind: "reservation", ID: orphan.ID, Where: orphan.NodeID, Why: "no host is known that it is for"}}
	report, err := sweeper.Sweep(t.Context(), false)
	w.must(err)
	if diff := cmp.Diff(want, report.Orphans); diff != "" {
		t.Error(diff)
	}
	if _, err = sweeper.Sweep(t.Context(), true); err != nil {
		t.Error(err)
	}
	h, err := w.store.Host(t.Context(), orphan.ID)
	w.must(err)
	if h.State != model.HostReleasing || *h.IronicNodeID != orphan.NodeID {
		t.Errorf("host %+v, want it on its way back", h)
	}
	if report, err = sweeper.Sweep(t.Context(), true); err != nil || len(report.Orphans) > 0 {
		t.Errorf("once more: %+v, %v", report, err)
	}
}

// A node without a cluster goes with its machine and what it holds.
func TestSweepRemovesNodesWithoutCluster(t *testing.T) {
	connection := storetest.SQLite(t)
	s := storetest.Open(t, connection)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, s)
	stop := w.conduct()
	cluster, create := w.create("demo", 1, 0)
	w.ended(create.UUID)
	stop()
	db, err := sql.Open("sqlite", strings.TrimPrefix(connection, "sqlite:///"))
	w.must(err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "DELETE FROM clusters WHERE uuid = ?", cluster.UUID) // a hand in the database
	w.must(err)
	sweeper := w.sweeper()
	sweeper.Grace = -time.Minute
	report, err := sweeper.Sweep(t.Context(), true)
	w.must(err)
	for _, o := range report.Orphans {
		if !o.Removed {
			t.Errorf("%+v", o)
		}
	}
	if len(report.Orphans) != 4 { // the node, two groups, the certificates
		t.Errorf("%+v", report.Orphans)
	}
	w.nothingLeft()
}

// By itself the conductor only tells of orphans, unless it is to remove them.
func TestConductorSweepsAndPrunes(t *testing.T) {
	for _, remove := range []bool{false, true} {
		w := newWorld(t, storetest.New(t))
		w.options.SweepEvery, w.options.SweepRemoves = 20*time.Millisecond, remove
		w.options.PruneEvery, w.options.HistoryKept, w.options.HistoryLeast = 20*time.Millisecond, time.Nanosecond, 1
		w.stray()
		w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		if remove {
			w.eventually("the orphan is gone", func() bool { return w.onHost() == 2 })
		}
		_, err := w.store.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
		w.must(err)
		w.eventually("the operations of the deleted cluster are forgotten", func() bool {
			left, err := w.store.Operations(t.Context(), cluster.UUID)
			w.must(err)
			return len(left) == 0
		})
		if !remove && w.onHost() != 1 {
			t.Errorf("%d nodes on the host, want the orphan alone", w.onHost())
		}
	}
}
