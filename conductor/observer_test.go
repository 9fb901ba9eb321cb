// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// diary is an observer that writes down what it is told.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) has(line string) bool { return d.count(line) > 0 }

func (d *diary) count(line string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lines {
		if l == line {
			n++
		}
	}
	return n
}

type diaryKey struct{}

func (d *diary) Operation(ctx context.Context, op *model.Operation) (context.Context, func(string)) {
	d.write("%s %d taken", op.Kind, op.Generation)
	return context.WithValue(ctx, diaryKey{}, op.UUID), func(outcome string) { d.write("%s %d %s", op.Kind, op.Generation, outcome) }
}

func (d *diary) Step(ctx context.Context, op *model.Operation, step, node string) (context.Context, func(error)) {
	if ctx.Value(diaryKey{}) != op.UUID {
		d.write("step %s %s is not of its operation", step, node)
	}
	return ctx, func(err error) {
		switch {
		case err == nil:
			d.write("step %s %s done", step, node)
		case fault.IsPermanent(err):
			d.write("step %s %s failed", step, node)
		default:
			d.write("step %s %s interrupted", step, node)
		}
	}
}

func (d *diary) Retry(_ context.Context, _ *model.Operation, step string, _ error) {
	d.write("step %s again", step)
}

func TestObserverIsToldWhatBecomesOfOperations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w, d := newWorld(t, s), &diary{}
		w.observer = d
		w.coe.Inject(fake.StepStart, "demo-worker-0", fake.Fault{Temporary: 2})
		w.coe.Inject(fake.StepRecord, "", fake.Fault{Hang: true})
		stop := w.conduct()
		cluster, create := w.create("demo", 1, 1)
		w.eventually("the last step hangs", func() bool { return w.coe.Taken(fake.StepRecord, "") > 0 })
		stop()
		w.coe.Heal()
		w.conduct()
		w.ended(create.UUID)
		w.eventually("the end is told", func() bool { return d.has("create 2 done") })

		w.coe.Inject(fake.StepRebuild, "demo-worker-0", fake.Fault{Permanent: "no such image"})
		w.ended(w.upgrade(cluster.UUID, "newer").UUID)
		w.eventually("the end is told", func() bool { return d.has("upgrade 1 failed") })
		w.coe.Heal()

		w.coe.Inject(fake.StepRebuild, "demo-worker-0", fake.Fault{Hang: true})
		w.upgrade(cluster.UUID, "newer")
		w.eventually("the upgrade hangs", func() bool { return d.has("upgrade 1 taken") && w.coe.Taken(fake.StepRebuild, "demo-worker-0") > 1 })
		_, err := s.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
		w.must(err)
		w.eventually("the end is told", func() bool { return d.has("delete 1 done") })

		var operations []string
		d.mu.Lock()
		for _, l := range d.lines {
			if !strings.HasPrefix(l, "step ") {
				operations = append(operations, l)
			}
		}
		d.mu.Unlock()
		want := []string{
			"create 1 taken", "create 1 " + conductor.OutcomeHandedOver, "create 2 taken", "create 2 " + conductor.OutcomeDone,
			"upgrade 1 taken", "upgrade 1 " + conductor.OutcomeFailed, "upgrade 1 taken", "upgrade 1 " + conductor.OutcomeCancelled,
			"delete 1 taken", "delete 1 " + conductor.OutcomeDone,
		}
		if diff := cmp.Diff(want, operations); diff != "" {
			t.Error(diff)
		}
		for line, n := range map[string]int{
			"step node.start again":                  2,
			"step node.start demo-worker-0 done":     1,
			"step cluster.record  interrupted":       1,
			"step node.rebuild demo-worker-0 failed": 2, // and when it is undone
		} {
			if got := d.count(line); got != n {
				t.Errorf("%q was told %d times, not %d", line, got, n)
			}
		}
		for _, l := range d.lines {
			if strings.HasSuffix(l, "is not of its operation") {
				t.Error(l)
			}
		}
	})
}

// A conductor whose claim is gone hears of it when it renews the lease.
func TestObserverIsToldOfALostClaim(t *testing.T) {
	w, d := newWorld(t, storetest.New(t)), &diary{}
	w.observer = d
	w.coe.Inject(fake.StepRecord, "", fake.Fault{Hang: true})
	w.conduct()
	_, create := w.create("demo", 1, 0)
	w.eventually("the last step hangs", func() bool { return w.coe.Taken(fake.StepRecord, "") > 0 })
	op, err := w.store.Operation(t.Context(), create.UUID)
	w.must(err)
	w.coe.Heal()
	w.must(w.store.Release(t.Context(), store.FenceOf(op), time.Time{}))
	w.ended(create.UUID)
	w.eventually("loss and end are told", func() bool {
		return d.has("create 1 "+conductor.OutcomeLost) && d.has("create 2 "+conductor.OutcomeDone)
	})
}
