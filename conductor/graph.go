// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"fmt"

	"github.com/keelson/keelson/drivers"
)

// takeAll takes every step of a plan once what it needs is done, up to limit
// of them side by side. Steps whose keys are in done count as taken. The first
// error stops the plan: steps under way see their context end, and takeAll
// returns that error when the last of them has returned.
//
// begin is called for one step after the other, and what it returns takes the
// step; settled is called when no more can begin for now.
func takeAll(ctx context.Context, plan []drivers.Step, done map[drivers.StepKey]bool, limit int,
	begin func(context.Context, drivers.Step) (take func() error), settled func(),
) error {
	waiting, err := newGraph(plan, done)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	type result struct {
		key drivers.StepKey
		err error
	}
	results := make(chan result)
	running := 0
	for {
		for running < limit && context.Cause(ctx) == nil {
			step, ok := waiting.next()
			if !ok {
				break
			}
			running++
			take := begin(ctx, step)
			go func() { results <- result{step.Key(), take()} }()
		}
		settled()
		if running == 0 {
			return context.Cause(ctx)
		}
		r := <-results
		running--
		if r.err != nil {
			cancel(r.err) // only the first one is kept
			continue
		}
		waiting.finish(r.key)
	}
}

// CheckPlan refuses a plan that can not be taken: with doubled steps, with
// needs that are not in it, or with steps that wait for each other.
func CheckPlan(plan []drivers.Step) error {
	_, err := newGraph(plan, nil)
	return err
}

// graph is the part of a plan that is still to be taken.
type graph struct {
	steps   map[drivers.StepKey]drivers.Step
	open    map[drivers.StepKey]int // needs not done yet
	blocked map[drivers.StepKey][]drivers.StepKey
	ready   []drivers.StepKey
}

func newGraph(plan []drivers.Step, done map[drivers.StepKey]bool) (*graph, error) {
	g := &graph{
		steps:   make(map[drivers.StepKey]drivers.Step, len(plan)),
		open:    make(map[drivers.StepKey]int),
		blocked: make(map[drivers.StepKey][]drivers.StepKey),
	}
	for _, s := range plan {
		if _, twice := g.steps[s.Key()]; twice {
			return nil, fmt.Errorf("plan has two steps %v", s.Key())
		}
		g.steps[s.Key()] = s
	}
	for _, s := range plan {
		for _, need := range s.Needs {
			if _, known := g.steps[need]; !known {
				return nil, fmt.Errorf("step %v needs %v, which is not in the plan", s.Key(), need)
			}
			g.open[s.Key()]++
			g.blocked[need] = append(g.blocked[need], s.Key())
		}
	}
	if err := g.acyclic(plan); err != nil {
		return nil, err
	}
	for _, s := range plan {
		if done[s.Key()] {
			delete(g.steps, s.Key())
			for _, b := range g.blocked[s.Key()] {
				g.open[b]--
			}
		}
	}
	for _, s := range plan {
		if _, left := g.steps[s.Key()]; left && g.open[s.Key()] == 0 {
			g.ready = append(g.ready, s.Key())
		}
	}
	return g, nil
}

// acyclic walks the whole plan as if every step succeeded.
func (g *graph) acyclic(plan []drivers.Step) error {
	open := make(map[drivers.StepKey]int, len(plan))
	var ready []drivers.StepKey
	for _, s := range plan {
		if open[s.Key()] = g.open[s.Key()]; open[s.Key()] == 0 {
			ready = append(ready, s.Key())
		}
	}
	walked := 0
	for ; walked < len(ready); walked++ {
		for _, b := range g.blocked[ready[walked]] {
			if open[b]--; open[b] == 0 {
				ready = append(ready, b)
			}
		}
	}
	if walked < len(plan) {
		return fmt.Errorf("plan has steps that wait for each other: %d of %d can never begin", len(plan)-walked, len(plan))
	}
	return nil
}

// next hands out a step that may begin now.
func (g *graph) next() (drivers.Step, bool) {
	if len(g.ready) == 0 {
		return drivers.Step{}, false
	}
	key := g.ready[0]
	g.ready = g.ready[1:]
	return g.steps[key], true
}

// finish notes that a step is done, which may free others.
func (g *graph) finish(key drivers.StepKey) {
	for _, b := range g.blocked[key] {
		if g.open[b]--; g.open[b] == 0 {
			if _, left := g.steps[b]; left {
				g.ready = append(g.ready, b)
			}
		}
	}
}
