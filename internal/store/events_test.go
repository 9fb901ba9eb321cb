// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestEventsTellTheStoryOfACluster(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		c, _, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		step := model.Step{Name: "node.start", NodeID: "node-1", NodeName: "demo-0"}
		begun(t, s, f, step)
		step.Attempts = 2
		for _, change := range []store.StepChange{ // tried twice, begun once
			{Step: model.Step{State: model.StepRunning}},
			{Step: model.Step{State: model.StepRunning, Message: "waits"}},
			{Step: model.Step{State: model.StepDone, Message: "runs"}, Event: model.EventStepEnd},
		} {
			step.State, step.Message = change.Step.State, change.Step.Message
			must(t, s.WriteSteps(ctx, f, store.StepChange{Step: step, Event: change.Event}))
		}
		if err := s.Finish(ctx, f, model.OpDone, model.CreateComplete, nil, nil); err != nil {
			t.Fatal(err)
		}
		for range 2 { // only what is new is told
			err := s.SetHealth(ctx, c.UUID, new("UNHEALTHY"), model.Labels{"api": "ok", "demo-0.Ready": "False: down"})
			if err != nil {
				t.Fatal(err)
			}
		}

		events, err := s.Events(ctx, c.UUID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, e := range events {
			got = append(got, strings.Join([]string{string(e.Kind), e.Level, e.Step, e.Node, e.Message}, "|"))
			if i > 0 && e.ID <= events[i-1].ID {
				t.Errorf("event %d comes after %d", e.ID, events[i-1].ID)
			}
			if e.Kind != model.EventClusterHealth && (e.OperationID != op.UUID || e.UserID != op.UserID || e.RequestID != op.RequestID) {
				t.Errorf("the event does not say by whom: %+v", e)
			}
		}
		want := []string{
			"cluster.status|info|||CREATE_IN_PROGRESS: Creation was asked for.",
			"operation.start|info|||Creation begins.",
			"step.start|info|node.start|demo-0|Node demo-0: starting",
			"step.end|info|node.start|demo-0|Node demo-0: starting is done: runs",
			"cluster.status|info|||CREATE_COMPLETE.",
			"operation.end|info|||Creation is done.",
			"cluster.health|warning|||UNHEALTHY: demo-0.Ready: False: down",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		rest, err := s.Events(ctx, c.UUID, events[4].ID, 1)
		if err != nil || len(rest) != 1 || rest[0].ID != events[5].ID {
			t.Errorf("after %d comes %v, %v", events[4].ID, rest, err)
		}
		newest, err := s.NewestEvents(ctx, c.UUID, events[1].ID, 2)
		if err != nil || len(newest) != 2 || newest[0].ID != events[6].ID || newest[1].ID != events[5].ID {
			t.Errorf("the newest are %v, %v", newest, err)
		}
		if none, err := s.NewestEvents(ctx, c.UUID, events[6].ID, 2); err != nil || len(none) != 0 {
			t.Errorf("newer than the newest are %v, %v", none, err)
		}
		latest, gone, err := s.LatestEvents(ctx, []string{c.UUID, "nobody"})
		if err != nil || latest[c.UUID] != events[6].ID || gone[c.UUID] || !gone["nobody"] {
			t.Errorf("the latest are %v, gone is %v, %v", latest, gone, err)
		}
	})
}

func TestEventsOutliveTheirClusterAndArePruned(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		c, _, op := created(t, s, "p1")
		if err := s.Finish(ctx, claim(t, s, op, "c1"), model.OpDone, model.CreateComplete, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.SetHealth(ctx, c.UUID, new("HEALTHY"), nil); err != nil {
			t.Fatal(err)
		}
		del, err := s.DeleteCluster(ctx, c.UUID, store.NewOperation{UserID: "user-ann"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(ctx, claim(t, s, del, "c1"), model.OpDone, model.DeleteComplete, nil, nil); err != nil {
			t.Fatal(err)
		}
		events, err := s.Events(ctx, c.UUID, 0, 100)
		if err != nil || len(events) == 0 || events[len(events)-1].Message != "Deletion is done." {
			t.Fatalf("the last event of a deleted cluster: %v, %v", events, err)
		}
		if _, _, err := s.PruneOperations(ctx, -time.Hour, 0, 100, 0); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := s.PruneEvents(ctx, -time.Hour, 100)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
		if events, err := s.Events(ctx, c.UUID, 0, 100); err != nil || len(events) != 0 {
			t.Errorf("after pruning there are %v, %v", events, err)
		}
	})
}
