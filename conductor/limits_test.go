// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// createFor asks for a cluster of one node in a project, and sends the message.
func (w *world) createFor(project, name string) *model.Operation {
	w.Helper()
	w.project = project
	_, op := w.create(name, 1, 0)
	w.must(w.messages.Publish(w.Context(), queue.Message{Operation: op.UUID}))
	return op
}

// A project that asks for 500 clusters at once does not make the next one wait
// for all of them.
func TestOneProjectDoesNotStarveAnother(t *testing.T) {
	for _, c := range []struct {
		perProject int
		many       int // clusters that the greedy project asks for
		hanging    int // of their operations begin
	}{
		{0, 500, 4},
		{3, 20, 3}, // one slot is left for others
	} {
		t.Run(fmt.Sprintf("at most %d at once", c.perProject), func(t *testing.T) {
			s := storetest.New(t)
			w := newWorld(t, s)
			w.options.Workers, w.options.PerProject = 4, c.perProject
			goOn := make(chan struct{})
			w.coe.Inject(fake.StepCertificates, "", fake.Fault{Crash: func() { <-goOn }})
			w.conduct()
			for i := range c.many {
				w.createFor("greedy", fmt.Sprint("g", i))
			}
			w.eventually("the first ones hang", func() bool { return w.coe.Taken(fake.StepCertificates, "") >= c.hanging })
			op := w.createFor("modest", "m")
			started := func() bool {
				var err error
				op, err = s.Operation(t.Context(), op.UUID)
				w.must(err)
				return op.StartedAt != nil
			}
			if c.perProject > 0 {
				w.eventually("the other project's begins at once", started)
			}
			close(goOn)
			w.eventually("the other project's begins", started)
			clusters, err := s.ListClusters(t.Context(), store.Scope{ProjectID: "greedy"}, store.Page{})
			w.must(err)
			before := 0
			for _, cluster := range clusters {
				ops, err := s.Operations(t.Context(), cluster.UUID)
				w.must(err)
				if at := ops[0].StartedAt; at != nil && at.Before(*op.StartedAt) {
					before++
				}
			}
			if before < c.hanging || before > c.hanging+8 {
				t.Errorf("%d operations of the greedy project began before that of the other", before)
			}
		})
	}
}

// On one host only so many nodes are made at once, however many are wanted.
func TestNodesOfAHostAreMadeAFewAtATime(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.StartsPerHost = 2
	var now, most, begun atomic.Int64
	goOn := make(chan struct{})
	w.fault = func(ctx context.Context, call, _ string) error {
		if call != "ensure" {
			return nil
		}
		n := now.Add(1)
		defer now.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		begun.Add(1)
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	w.conduct()
	_, create := w.create("demo", 1, 6)
	w.eventually("two nodes are being made", func() bool { return begun.Load() == 2 })
	w.eventually("the others wait", func() bool {
		steps, err := w.store.Steps(t.Context(), create.UUID)
		w.must(err)
		waiting := 0
		for _, s := range steps {
			if s.Name == fake.StepStart && s.Message == "waiting for other nodes that are being made on host host-1" {
				waiting++
			}
		}
		return waiting > 0
	})
	close(goOn)
	if op := w.ended(create.UUID); op.State != model.OpDone {
		t.Errorf("create ended %s: %v", op.State, op.Reason)
	}
	if most.Load() != 2 {
		t.Errorf("%d nodes were made at once", most.Load())
	}
}

// A conductor that is told to stop lets the step call under way come to its
// end, notes it, begins no other and hands the operation over.
func TestStepUnderWayIsNotCutOffByTheShutdown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.options.Drain, w.options.Lease = time.Minute, time.Second
		begun, finish, cut := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
		w.fault = func(ctx context.Context, call, _ string) error {
			if call != "ensure" {
				return nil
			}
			select {
			case begun <- struct{}{}:
			default:
			}
			select {
			case <-finish:
				return nil
			case <-ctx.Done():
				cut <- struct{}{}
				return ctx.Err()
			}
		}
		stop := w.conduct()
		_, create := w.create("demo", 1, 0)
		<-begun
		stopped := make(chan struct{})
		go func() {
			stop()
			close(stopped)
		}()
		// Longer than the lease: it is renewed meanwhile.
		asked := time.Now()
		w.eventually("the conductor waits for the call", func() bool { return time.Since(asked) > 2*time.Second })
		op, err := s.Operation(t.Context(), create.UUID)
		w.must(err)
		if op.Owner == "" || op.Generation != 1 {
			t.Errorf("operation was handed over while its step was under way: %+v", op)
		}
		if again, err := s.Claimable(t.Context(), 10, 0); len(again) > 0 || err != nil {
			t.Errorf("its lease has run out: %v, %v", again, err)
		}
		close(finish)
		<-stopped
		select {
		case <-cut:
			t.Error("the call was cut off")
		default:
		}
		story := w.story(create.UUID)
		if !slices.Contains(story, "node.start demo-master-0 done") {
			t.Errorf("the step is not noted as done: %v", story)
		}
		if slices.ContainsFunc(story, func(line string) bool { return line[:min(8, len(line))] == "coe.form" }) {
			t.Errorf("another step was begun: %v", story)
		}
		if op, err = s.Operation(t.Context(), create.UUID); err != nil || op.Owner != "" || op.State != model.OpPending {
			t.Errorf("the operation was not handed over: %+v, %v", op, err)
		}
		w.conduct()
		if op := w.ended(create.UUID); op.State != model.OpDone {
			t.Errorf("create ended %s", op.State)
		}
	})
}

// A call that does not end is cut off when Drain is over.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.Drain = 200 * time.Millisecond
	w.coe.Inject(fake.StepForm, "", fake.Fault{Hang: true})
	stop := w.conduct()
	_, create := w.create("demo", 1, 0)
	w.eventually("the step hangs", func() bool { return w.coe.Taken(fake.StepForm, "") > 0 })
	asked := time.Now()
	stop()
	if took := time.Since(asked); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("the conductor stopped after %s", took)
	}
	if op, err := w.store.Operation(t.Context(), create.UUID); err != nil || op.Owner != "" {
		t.Errorf("operation %+v, %v", op, err)
	}
}
