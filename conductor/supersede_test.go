// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// asks are the requests that may come while an operation runs. Each returns nil
// when it was refused; that one is not told is up to the API.
var asks = map[string]func(w *world, cluster string) *model.Operation{
	"delete": func(w *world, cluster string) *model.Operation {
		op, err := w.store.DeleteCluster(w.Context(), cluster, store.NewOperation{})
		w.must(err)
		return op
	},
	"resize": func(w *world, cluster string) *model.Operation { return w.scaled(cluster, 3, model.Status.Resizable) },
	"patch":  func(w *world, cluster string) *model.Operation { return w.scaled(cluster, 3, model.Status.Ready) },
	"upgrade": func(w *world, cluster string) *model.Operation {
		return w.unlessRefused(w.tryUpgrade(cluster, "newer", model.Status.Renewable))
	},
	"rotate": func(w *world, cluster string) *model.Operation {
		return w.unlessRefused(w.store.RotateAuthorities(w.Context(), cluster, model.Status.Renewable, store.NewOperation{}))
	},
}

func (w *world) unlessRefused(op *model.Operation, err error) *model.Operation {
	w.Helper()
	if errors.Is(err, store.ErrStatus) {
		return nil
	}
	w.must(err)
	return op
}

// scaled asks for that many workers.
func (w *world) scaled(cluster string, count int, allowed func(model.Status) bool) *model.Operation {
	w.Helper()
	group := w.group(cluster, "default-worker")
	return w.unlessRefused(w.store.ScaleNodeGroup(w.Context(), cluster, group.UUID, count, nil, allowed, store.NewOperation{Deadline: time.Minute}))
}

// TestRequestsDuringOperations holds every kind of operation, half done,
// against every request. What waits is done when the operation is; what is
// refused leaves no trace.
func TestRequestsDuringOperations(t *testing.T) {
	type outcome struct {
		Asked   string // done, refused, same (the operation that runs is returned)
		Running model.OperationState
		Status  model.Status // at the end; empty: the cluster is gone
		Workers int
		Image   string
	}
	refused := func(status model.Status, workers int, image string) outcome {
		return outcome{"refused", model.OpDone, status, workers, image}
	}
	deleted := outcome{Asked: "done", Running: model.OpCancelled}
	updated := func(workers int, image string) outcome {
		return outcome{"done", model.OpDone, model.UpdateComplete, workers, image}
	}
	for running, want := range map[string]map[string]outcome{
		"create": {
			"delete":  deleted,
			"resize":  refused(model.CreateComplete, 1, "node"),
			"patch":   refused(model.CreateComplete, 1, "node"),
			"upgrade": refused(model.CreateComplete, 1, "node"),
			"rotate":  refused(model.CreateComplete, 1, "node"),
		},
		"update": { // to two workers
			"delete":  deleted,
			"resize":  updated(3, "node"),
			"patch":   refused(model.UpdateComplete, 2, "node"),
			"upgrade": refused(model.UpdateComplete, 2, "node"),
			"rotate":  refused(model.UpdateComplete, 2, "node"),
		},
		"upgrade": {
			"delete":  deleted,
			"resize":  updated(3, "node-2"),
			"patch":   refused(model.UpdateComplete, 1, "node-2"),
			"upgrade": refused(model.UpdateComplete, 1, "node-2"),
			"rotate":  refused(model.UpdateComplete, 1, "node-2"),
		},
		"rotate": {
			"delete":  deleted,
			"resize":  updated(3, "node"),
			"patch":   refused(model.UpdateComplete, 1, "node"),
			"upgrade": refused(model.UpdateComplete, 1, "node"),
			"rotate":  refused(model.UpdateComplete, 1, "node"),
		},
		"repair": { // nobody asked for it, so it is in nobody's way
			"delete":  deleted,
			"resize":  updated(3, "node"),
			"patch":   updated(3, "node"),
			"upgrade": updated(1, "node-2"),
			"rotate":  updated(1, "node"),
		},
		"delete": {
			"delete":  {Asked: "same", Running: model.OpDone},
			"resize":  {Asked: "refused", Running: model.OpDone},
			"patch":   {Asked: "refused", Running: model.OpDone},
			"upgrade": {Asked: "refused", Running: model.OpDone},
			"rotate":  {Asked: "refused", Running: model.OpDone},
		},
	} {
		for asked, want := range want {
			t.Run(asked+" during "+running, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, storetest.New(t))
				w.options.CallTimeout = time.Second
				cluster, op, goOn := w.halfDone(running)
				before := w.cluster(cluster)
				got := outcome{Asked: "done"}
				later := asks[asked](w, cluster)
				switch {
				case later == nil:
					got.Asked = "refused"
					after := w.cluster(cluster)
					after.NextCheck = before.NextCheck
					if diff := cmp.Diff(before, after); diff != "" {
						t.Errorf("what was refused has changed the cluster:\n%s", diff)
					}
				case later.UUID == op.UUID:
					got.Asked = "same"
				}
				if want.Running == model.OpCancelled {
					w.ended(op.UUID) // or it might be done before it hears of that
				}
				goOn()
				got.Running = w.ended(op.UUID).State
				if later != nil {
					if later = w.ended(later.UUID); later.State != model.OpDone {
						t.Errorf("what was asked for ended %s: %v", later.State, later.Reason)
					}
				}
				c, err := w.store.Cluster(t.Context(), store.Scope{All: true}, cluster)
				if errors.Is(err, store.ErrNotFound) {
					w.nothingLeft()
				} else {
					w.must(err)
					got.Status, got.Workers = c.Status, w.group(cluster, "default-worker").NodeCount
					images := w.images()
					got.Image = images["demo-master-0"]
					if len(images) != 1+got.Workers || len(w.coe.Members(cluster)) != 1+got.Workers {
						t.Errorf("%d workers wanted, on the host are %v, in the COE %v", got.Workers, images, w.coe.Members(cluster))
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// halfDone has an operation of that kind hang in the middle, on a cluster of a
// master and a worker, until goOn is called.
func (w *world) halfDone(kind string) (cluster string, op *model.Operation, goOn func()) {
	w.Helper()
	var still atomic.Bool
	w.fault = func(ctx context.Context, call, _ string) error {
		if call != "start" || !still.Load() {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	hang := func(step, node string) {
		w.coe.Inject(step, node, fake.Fault{Hang: true})
	}
	hung := func(step string) {
		before := w.coe.Taken(step, "")
		w.eventually("it hangs", func() bool { return w.coe.Taken(step, "") > before })
	}
	if kind == "create" {
		hang(fake.StepForm, "")
	}
	if kind == "repair" {
		w.options.MachinesEvery = 20 * time.Millisecond
	}
	w.conduct()
	c, create := w.create("demo", 1, 1)
	if kind == "create" {
		hung(fake.StepForm)
		return c.UUID, create, w.coe.Heal
	}
	w.ended(create.UUID)
	switch kind {
	case "update":
		hang(fake.StepJoin, "demo-worker-1")
		op = w.scaled(c.UUID, 2, model.Status.Resizable)
		hung(fake.StepJoin)
	case "upgrade":
		hang(fake.StepRebuild, "demo-worker-0")
		op = w.upgrade(c.UUID, "newer")
		w.eventually("it hangs", func() bool { return w.coe.Taken(fake.StepRebuild, "demo-worker-0") > 0 })
	case "rotate":
		hang(fake.StepRebuild, "demo-worker-0")
		op = w.rotate(c.UUID)
		w.eventually("it hangs", func() bool { return w.coe.Taken(fake.StepRebuild, "demo-worker-0") > 0 })
	case "repair":
		still.Store(true)
		w.must(w.host().Stop(w.node(c.UUID, "demo-worker-0").UUID))
		w.eventually("the repair has begun", func() bool {
			repairs := w.repairs(c.UUID)
			return len(repairs) > 0 && repairs[0].State == model.OpRunning
		})
		op = &w.repairs(c.UUID)[0]
	case "delete":
		hang(fake.StepDelete, "demo-worker-0")
		op = asks["delete"](w, c.UUID)
		w.eventually("it hangs", func() bool { return w.coe.Taken(fake.StepDelete, "demo-worker-0") > 0 })
	}
	return c.UUID, op, func() {
		still.Store(false)
		w.coe.Heal()
	}
}

func TestCreateThatTakesTooLongFails(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.deadline = time.Second
	w.options.CallTimeout = 300 * time.Millisecond
	w.coe.Inject(fake.StepForm, "", fake.Fault{Hang: true})
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	if op := w.ended(create.UUID); op.State != model.OpFailed {
		t.Errorf("create ended %s", op.State)
	}
	got := w.cluster(cluster.UUID)
	if got.Status != model.CreateFailed || got.StatusReason == nil || !strings.Contains(*got.StatusReason, "create_timeout") {
		t.Errorf("cluster is %s: %v", got.Status, got.StatusReason)
	}
	w.nothingLeft()
}

// A cluster whose last operation failed is not lost: it can be deleted, and a
// resize, be it to the count that it has, gets it out of the failed status.
func TestFailedClustersCanBeRepairedAndDeleted(t *testing.T) {
	for _, failed := range []struct {
		name string
		make func(w *world, cluster string) *model.Operation
		want model.Status // after the failure
		then model.Status // after the resize
	}{
		{"create", nil, model.CreateFailed, model.CreateComplete},
		{"resize", func(w *world, cluster string) *model.Operation {
			w.coe.Inject(fake.StepJoin, "demo-worker-1", fake.Fault{Permanent: "no"})
			return w.scaled(cluster, 2, model.Status.Resizable)
		}, model.UpdateFailed, model.UpdateComplete},
		{"upgrade", func(w *world, cluster string) *model.Operation {
			w.coe.Inject(fake.StepRebuild, "demo-worker-0", fake.Fault{Permanent: "no"})
			op := w.upgrade(cluster, "newer")
			w.eventually("it is being undone", func() bool {
				now, err := w.store.Operation(w.Context(), op.UUID)
				w.must(err)
				return now.Undo
			})
			w.coe.Heal()
			return op
		}, model.UpdateFailed, model.UpdateComplete},
	} {
		for _, then := range []string{"deleted", "resized"} {
			t.Run(failed.name+", then "+then, func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, s *store.Store) {
					w := newWorld(t, s)
					if failed.make == nil {
						w.coe.Inject(fake.StepRecord, "", fake.Fault{Permanent: "no"}) // after all has been seen and kept
					}
					w.conduct()
					cluster, op := w.create("demo", 1, 1)
					if failed.make != nil {
						w.ended(op.UUID)
						op = failed.make(w, cluster.UUID)
					}
					if op = w.ended(op.UUID); op.State != model.OpFailed {
						t.Fatalf("%s ended %s", failed.name, op.State)
					}
					if got := w.cluster(cluster.UUID).Status; got != failed.want {
						t.Fatalf("cluster is %s", got)
					}
					w.coe.Heal()
					if then == "deleted" {
						if op := w.ended(asks["delete"](w, cluster.UUID).UUID); op.State != model.OpDone {
							t.Errorf("delete ended %s: %v", op.State, op.Reason)
						}
						w.nothingLeft()
						return
					}
					repair := w.scaled(cluster.UUID, 1, model.Status.Resizable)
					if repair == nil {
						t.Fatal("the resize does nothing")
					}
					if op := w.ended(repair.UUID); op.State != model.OpDone {
						t.Errorf("resize ended %s: %v", op.State, op.Reason)
					}
					got := w.cluster(cluster.UUID)
					if got.Status != failed.then || got.StatusReason != nil || got.APIAddress == nil {
						t.Errorf("cluster is %s: %v", got.Status, got.StatusReason)
					}
					for _, g := range []string{"default-master", "default-worker"} {
						if got := w.group(cluster.UUID, g); got.Status.Failed() || got.NodeCount != 1 {
							t.Errorf("%s is %s with %d nodes", g, got.Status, got.NodeCount)
						}
					}
					if n := len(w.coe.Members(cluster.UUID)); n != 2 || w.onHost() != 2 {
						t.Errorf("%d members, %d nodes on the host", n, w.onHost())
					}
					if again := w.scaled(cluster.UUID, 1, model.Status.Resizable); again != nil {
						t.Error("to resize a good cluster to what it has does something")
					}
				})
			})
		}
	}
}

func TestDeleteThatFailedIsTriedAgain(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	w.coe.Inject(fake.StepDelete, "demo-worker-0", fake.Fault{Permanent: "the host is on fire"})
	if op := w.ended(asks["delete"](w, cluster.UUID).UUID); op.State != model.OpFailed {
		t.Errorf("delete ended %s", op.State)
	}
	got := w.cluster(cluster.UUID)
	if got.Status != model.DeleteFailed || got.StatusReason == nil || !strings.Contains(*got.StatusReason, "on fire") {
		t.Errorf("cluster is %s: %v", got.Status, got.StatusReason)
	}
	for _, other := range []string{"resize", "patch", "upgrade", "rotate"} {
		if op := asks[other](w, cluster.UUID); op != nil {
			t.Errorf("%s is accepted", other)
		}
	}
	w.coe.Heal()
	if op := w.ended(asks["delete"](w, cluster.UUID).UUID); op.State != model.OpDone {
		t.Errorf("the second delete ended %s: %v", op.State, op.Reason)
	}
	w.nothingLeft()
}

// An operation that the operator gives up fails for the operator's reason, and
// nothing of it is left: whether a conductor has it in hand or not. Asked for
// anew, a create is done.
func TestTheOperatorCancelsAndRetries(t *testing.T) {
	for _, at := range []string{"running", "pending"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t, storetest.New(t))
			w.coe.Inject(fake.StepForm, "", fake.Fault{Hang: true})
			if at == "running" {
				w.conduct()
			}
			cluster, create := w.create("demo", 1, 1)
			if at == "running" {
				w.eventually("the step hangs", func() bool { return w.coe.Taken(fake.StepForm, "") > 0 })
			}
			for range 2 {
				_, err := w.store.CancelOperation(t.Context(), create.UUID, "the rack is to be moved", 100*time.Millisecond)
				w.must(err)
			}
			w.coe.Heal()
			if at == "pending" {
				w.conduct()
			}
			if op := w.ended(create.UUID); op.State != model.OpFailed || op.Reason == nil || *op.Reason != "the rack is to be moved" {
				t.Errorf("create ended %s: %v", op.State, op.Reason)
			}
			if got := w.cluster(cluster.UUID).Status; got != model.CreateFailed {
				t.Errorf("the cluster is %s", got)
			}
			w.nothingLeft()
			if _, err := w.store.CancelOperation(t.Context(), create.UUID, "", 0); !errors.Is(err, store.ErrOperation) {
				t.Errorf("cancelled after its end: %v", err)
			}
			again, err := w.store.RetryCreate(t.Context(), create.UUID, store.NewOperation{UserID: "u", Deadline: time.Minute})
			w.must(err)
			if _, err := w.store.RetryCreate(t.Context(), create.UUID, store.NewOperation{}); !errors.Is(err, store.ErrOperation) {
				t.Errorf("asked for twice: %v", err)
			}
			if op := w.ended(again.UUID); op.State != model.OpDone || w.cluster(cluster.UUID).Status != model.CreateComplete || w.onHost() != 2 {
				t.Errorf("again: %s, %v, %d nodes", op.State, op.Reason, w.onHost())
			}
		})
	}
}
