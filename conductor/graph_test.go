// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/keelson/keelson/drivers"
)

func step(name string, needs ...string) drivers.Step {
	s := drivers.Step{Name: name}
	for _, n := range needs {
		s.Needs = append(s.Needs, drivers.StepKey{Name: n})
	}
	return s
}

// recorder takes steps and remembers their order.
type recorder struct {
	mu    sync.Mutex
	taken []string
	fail  map[string]error
}

func (r *recorder) take(_ context.Context, s drivers.Step) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail[s.Name]; err != nil {
		return err
	}
	r.taken = append(r.taken, s.Name)
	return nil
}

// takeEach is takeAll with steps that begin without more ado.
func takeEach(ctx context.Context, plan []drivers.Step, done map[drivers.StepKey]bool, limit int, take func(context.Context, drivers.Step) error) error {
	begin := func(ctx context.Context, s drivers.Step) func() error {
		return func() error { return take(ctx, s) }
	}
	return takeAll(ctx, plan, done, limit, begin, func() {})
}

func TestPlanWithMistakesIsRefusedBeforeAnyStepIsTaken(t *testing.T) {
	for _, c := range []struct {
		name string
		plan []drivers.Step
		want string
	}{
		{"a key twice", []drivers.Step{step("a"), step("a")}, "two steps"},
		{"an unknown need", []drivers.Step{step("a", "b")}, "not in the plan"},
		{"a circle", []drivers.Step{step("a", "b"), step("b", "a"), step("c")}, "2 of 3 can never begin"},
		{"a step that needs itself", []drivers.Step{step("a", "a")}, "1 of 1 can never begin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			err := takeEach(t.Context(), c.plan, nil, 4, r.take)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if len(r.taken) > 0 {
				t.Errorf("took %v", r.taken)
			}
		})
	}
}

func TestStepsThatDoNotNeedEachOtherRunSideBySide(t *testing.T) {
	together := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(2)
	go func() { arrived.Wait(); close(together) }()
	err := takeEach(t.Context(), []drivers.Step{step("a"), step("b")}, nil, 2, func(ctx context.Context, _ drivers.Step) error {
		arrived.Done()
		select {
		case <-together:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFirstErrorStopsThePlan(t *testing.T) {
	boom := errors.New("boom")
	r := recorder{fail: map[string]error{"b": boom}}
	err := takeEach(t.Context(), []drivers.Step{step("a"), step("b", "a"), step("c", "b")}, nil, 1, r.take)
	if !errors.Is(err, boom) {
		t.Errorf("got %v, want boom", err)
	}
	if !slices.Equal(r.taken, []string{"a"}) {
		t.Errorf("took %v, want only a", r.taken)
	}
}

func TestPlanStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := takeEach(ctx, []drivers.Step{step("a"), step("b", "a")}, nil, 1, func(context.Context, drivers.Step) error {
		cancel(errShutdown)
		return nil
	})
	if !errors.Is(err, errShutdown) {
		t.Errorf("got %v, want the cause of the context's end", err)
	}
}

// Whatever the graph, the limit and the steps already done: every other step
// is taken exactly once, after all that it needs.
func TestEveryStepIsTakenOnceAfterWhatItNeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "steps")
		var plan []drivers.Step
		done := make(map[drivers.StepKey]bool)
		for i := range n {
			s := step(fmt.Sprint(i))
			for j := range i {
				if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
					s.Needs = append(s.Needs, plan[j].Key())
				}
			}
			plan = append(plan, s)
			// A crash leaves done only steps whose needs are done.
			ok := rapid.Bool().Draw(t, "done")
			for _, need := range s.Needs {
				ok = ok && done[need]
			}
			done[s.Key()] = ok
		}
		var r recorder
		if err := takeEach(context.Background(), plan, done, rapid.IntRange(1, 4).Draw(t, "limit"), r.take); err != nil {
			t.Fatal(err)
		}
		for _, s := range plan {
			count := 0
			for _, name := range r.taken {
				if name == s.Name {
					count++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[done[s.Key()]]; count != want {
				t.Fatalf("step %s taken %d times, want %d", s.Name, count, want)
			}
			for _, need := range s.Needs {
				if !done[need] && slices.Index(r.taken, need.Name) > slices.Index(r.taken, s.Name) && !done[s.Key()] {
					t.Fatalf("step %s taken before %s", s.Name, need.Name)
				}
			}
		}
	})
}
