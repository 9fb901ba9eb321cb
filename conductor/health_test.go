// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// health waits until the cluster's health is said to be this.
func (w *world) health(cluster, status string) model.Labels {
	w.Helper()
	var c *model.Cluster
	w.eventually("health is "+status, func() bool {
		c = w.cluster(cluster)
		return c.HealthStatus != nil && *c.HealthStatus == status
	})
	return c.HealthStatusReason
}

// looks waits until the health was looked at that many times more.
func (w *world) looks(more int) {
	w.Helper()
	enough := w.coe.Taken(fake.CallHealth, "") + more
	w.eventually("health is looked at", func() bool { return w.coe.Taken(fake.CallHealth, "") >= enough })
}

func TestHealthIsLookedAtAgainAndAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.options.HealthEvery = 50 * time.Millisecond
		w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.ended(create.UUID)
		want := model.Labels{"api": "ok", "demo-master-0.Ready": "True", "demo-worker-0.Ready": "True"}
		if diff := cmp.Diff(want, w.health(cluster.UUID, "HEALTHY")); diff != "" {
			t.Error(diff)
		}

		// What is not new is not written, once looks that began before are over.
		w.looks(3)
		before := w.cluster(cluster.UUID).UpdatedAt
		w.looks(5)
		if after := w.cluster(cluster.UUID).UpdatedAt; !after.Equal(*before) {
			t.Errorf("updated at %v, then at %v, although nothing changed", before, after)
		}

		nodes, err := s.Nodes(t.Context(), cluster.UUID)
		w.must(err)
		w.coe.Kill(nodes[cluster.UUID][1].UUID)
		if got := w.health(cluster.UUID, "UNHEALTHY")["demo-worker-0.Ready"]; got != "False" {
			t.Errorf("the dead node is said to be %q", got)
		}
		if got := w.cluster(cluster.UUID).Status; got != model.CreateComplete {
			t.Errorf("the look changed the status to %s", got)
		}
	})
}

// A driver that finds nothing out, hangs or panics makes the health unknown,
// and the next look sets it right.
func TestHealthThatCanNotBeFoundOut(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.HealthEvery, w.options.HealthTimeout = 50*time.Millisecond, 200*time.Millisecond
	w.conduct()
	cluster, create := w.create("demo", 1, 0)
	w.ended(create.UUID)
	for _, c := range []struct {
		name string
		f    fake.Fault
		want string
	}{
		{"an error for users", fake.Fault{Permanent: "no manager answers"}, "no manager answers"},
		{"no answer in time", fake.Fault{Hang: true}, "nothing could be found out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.health(cluster.UUID, "HEALTHY")
			w.coe.Inject(fake.CallHealth, "", c.f)
			if got := w.health(cluster.UUID, "UNKNOWN")["api"]; !strings.Contains(got, c.want) {
				t.Errorf("reason %q, want %q", got, c.want)
			}
			w.coe.Heal()
		})
	}
}

// Which clusters are looked at: those that are there, in whatever status, and
// only by us.
func TestHealthOfWhichClusters(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.HealthEvery, w.options.CallTimeout = 20*time.Millisecond, 2*time.Second
	w.conduct()
	w.coe.Inject(fake.StepForm, "failed-master-0", fake.Fault{Permanent: "no"})
	failed, create := w.create("failed", 1, 0)
	w.ended(create.UUID)
	ready, create := w.create("ready", 1, 0)
	w.ended(create.UUID)
	w.health(ready.UUID, "HEALTHY")
	w.looks(5)
	if got := w.cluster(failed.UUID).HealthStatus; got != nil {
		t.Errorf("a cluster that was never made is %s", *got)
	}

	// While an update is under way the nodes that were there before count.
	w.coe.Inject(fake.StepJoin, "", fake.Fault{Hang: true})
	group := w.group(ready.UUID, "default-worker")
	_, err := w.store.ScaleNodeGroup(t.Context(), ready.UUID, group.UUID, 1, nil, anyStatus, store.NewOperation{})
	w.must(err)
	w.eventually("the new node hangs", func() bool { return w.coe.Taken(fake.StepJoin, "") > 0 })
	w.looks(5)
	now := w.cluster(ready.UUID)
	if now.Status != model.UpdateInProgress {
		t.Fatalf("the update has ended: %s", now.Status)
	}
	want := model.Labels{"api": "ok", "ready-master-0.Ready": "True"}
	if diff := cmp.Diff(want, now.HealthStatusReason); diff != "" {
		t.Error(diff)
	}
}

func TestHealthWrittenFromOutside(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels model.Labels
		stays  bool
	}{
		{"by anybody", nil, false},
		{"by nobody yet, healing is on", model.Labels{"auto_healing_enabled": "true"}, false},
		{"by another controller", model.Labels{"auto_healing_enabled": "true", "auto_healing_controller": "draino"}, false},
		{"by the controller, healing is off", model.Labels{"auto_healing_enabled": "false", "auto_healing_controller": "magnum-auto-healer"}, false},
		{"by the controller", model.Labels{"auto_healing_enabled": "True", "auto_healing_controller": "magnum-auto-healer"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, storetest.New(t))
			w.options.HealthEvery = 20 * time.Millisecond
			w.labels = c.labels
			w.conduct()
			cluster, create := w.create("demo", 1, 0)
			w.ended(create.UUID)
			status := "UNHEALTHY"
			w.must(w.store.SetHealth(t.Context(), cluster.UUID, &status, model.Labels{"api": "from outside"}))
			w.labels = nil
			_, create = w.create("other", 1, 0)
			w.ended(create.UUID)
			w.looks(5)
			if got := w.cluster(cluster.UUID).HealthStatusReason; maps.Equal(got, model.Labels{"api": "from outside"}) != c.stays {
				t.Errorf("health became %v", got)
			}
		})
	}
}

// meddler is a driver that tries to change something while it looks.
type meddler struct {
	*fake.Driver
	refused atomic.Int64
}

func (m *meddler) Health(ctx context.Context, job *drivers.Job) (drivers.Health, error) {
	node := job.Nodes[0].ID
	s := job.Services
	for _, try := range []func() error{
		func() error { _, err := s.Nodes.Place(ctx, node); return err },
		func() error { _, err := s.Nodes.Start(ctx, node, nil); return err },
		func() error { _, err := s.Nodes.Rebuild(ctx, node, nil); return err },
		func() error { _, err := s.Nodes.Delete(ctx, node); return err },
		func() error { return s.Records.Joined(ctx, node, "other") },
		func() error { return s.Records.Observed(ctx, drivers.Observed{APIAddress: "other"}) },
		func() error { return s.Records.SaveState(ctx, []byte("other")) },
	} {
		if errors.Is(try(), drivers.ErrReadOnly) {
			m.refused.Add(1)
		}
	}
	_, err := s.Certificates.Authority(ctx)
	if err == nil && job.Operation.Kind == "" {
		m.refused.Add(1)
	}
	panic("and then it falls over")
}

func TestLookingChangesNothing(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.HealthEvery = time.Hour
	m := &meddler{Driver: fake.New(w.coe)}
	w.driver = m
	w.conduct()
	cluster, create := w.create("demo", 1, 0)
	w.ended(create.UUID)
	w.health(cluster.UUID, "UNKNOWN")
	if n := m.refused.Load(); n != 8 {
		t.Errorf("%d of 8 calls were answered as they should", n)
	}
	if w.onHost() != 1 {
		t.Error("the node is gone from its host")
	}
}

// Conductors share the looks between them: each cluster is looked at about once
// in the interval, however many there are.
func TestLooksAreShared(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.options.HealthEvery = 300 * time.Millisecond
		w.conduct()
		w.conduct()
		w.conduct()
		_, create := w.create("demo", 1, 0)
		w.ended(create.UUID)
		began := time.Now()
		first := w.coe.Taken(fake.CallHealth, "")
		w.looks(4)
		took := w.coe.Taken(fake.CallHealth, "") - first
		if most := int(time.Since(began)/(270*time.Millisecond)) + 1; took > most {
			t.Errorf("%d looks in %s", took, time.Since(began))
		}
	})
}
