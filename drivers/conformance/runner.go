// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Bounds of the runner: one call of Run, all tries of a step without a
// timeout of its own, and the pause after a temporary failure.
const (
	callTimeout = 20 * time.Second
	stepTimeout = 2 * time.Minute
	retryPause  = 50 * time.Millisecond
)

// ErrStopped is returned by Runner.Run when Stop said so.
var ErrStopped = errors.New("stopped")

// Runner takes the steps of a driver's plan like the conductor does, without
// its database and queue.
type Runner struct {
	// Driver is asked for a driver before each call, so a new one each time
	// shows that nothing is kept in memory between calls.
	Driver func() drivers.Driver
	Cloud  *Cloud
	// Twice takes each step again after it was done, as after a crash before
	// the journal was written.
	Twice bool
	// SideBySide takes each step as soon as its needs are done. Otherwise the
	// steps run one by one, in an order that is the same at every run.
	SideBySide bool
	// Stop, if set, is asked before each step; true ends the run with
	// ErrStopped.
	Stop func(step drivers.Step) bool
	// After, if set, is called when a step is done, with its journal line.
	After func(step drivers.Step, message string, took time.Duration)
}

// Run plans the operation and takes all steps.
func (r *Runner) Run(ctx context.Context, op drivers.Operation) error {
	plan, err := r.Driver().Plan(ctx, r.Cloud.Job(op))
	if err != nil {
		return fmt.Errorf("plan %s: %w", op.Kind, err)
	}
	order, err := Order(plan)
	if err != nil {
		return fmt.Errorf("plan %s: %w", op.Kind, err)
	}
	if r.SideBySide {
		return r.takeAll(ctx, op, order)
	}
	for _, step := range order {
		if err := r.take(ctx, op, step); err != nil {
			return err
		}
	}
	return nil
}

// Order returns the plan's steps so that each comes after what it needs, the
// same order for the same plan. Doubled keys, needs that are not in the plan
// and circles are errors.
func Order(plan []drivers.Step) ([]drivers.Step, error) {
	known := map[drivers.StepKey]bool{}
	for _, s := range plan {
		if known[s.Key()] {
			return nil, fmt.Errorf("step %v is there twice", s.Key())
		}
		known[s.Key()] = true
	}
	for _, s := range plan {
		for _, need := range s.Needs {
			if !known[need] {
				return nil, fmt.Errorf("step %v needs %v, which is not in the plan", s.Key(), need)
			}
		}
	}
	done := map[drivers.StepKey]bool{}
	notDone := func(k drivers.StepKey) bool { return !done[k] }
	order := make([]drivers.Step, 0, len(plan))
	for len(order) < len(plan) {
		before := len(order)
		for _, s := range plan {
			if !done[s.Key()] && !slices.ContainsFunc(s.Needs, notDone) {
				done[s.Key()] = true
				order = append(order, s)
			}
		}
		if len(order) == before {
			return nil, errors.New("the needs of its steps go round in a circle")
		}
	}
	return order, nil
}

// takeAll takes each step as soon as what it needs is done.
func (r *Runner) takeAll(ctx context.Context, op drivers.Operation, steps []drivers.Step) error {
	done := make(map[drivers.StepKey]chan struct{}, len(steps))
	for _, s := range steps {
		done[s.Key()] = make(chan struct{})
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range steps {
		group.Go(func() error {
			for _, need := range s.Needs {
				select {
				case <-done[need]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := r.take(ctx, op, s); err != nil {
				return err
			}
			close(done[s.Key()])
			return nil
		})
	}
	return group.Wait()
}

// take takes one step until it is done.
func (r *Runner) take(ctx context.Context, op drivers.Operation, step drivers.Step) error {
	if r.Stop != nil && r.Stop(step) {
		return ErrStopped
	}
	times := 1
	if r.Twice {
		times = 2
	}
	for range times {
		if err := r.untilDone(ctx, op, step); err != nil {
			return fmt.Errorf("step %s %s: %w", step.Name, step.NodeID, err)
		}
	}
	return nil
}

func (r *Runner) untilDone(ctx context.Context, op drivers.Operation, step drivers.Step) error {
	limit := step.Timeout
	if limit == 0 {
		limit = stepTimeout
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := "" // what the step said last
	for {
		outcome, err := r.call(ctx, op, step)
		pause := outcome.After
		switch {
		case err == nil && outcome.After == 0:
			if r.After != nil {
				r.After(step, outcome.Message, time.Since(begun))
			}
			return nil
		case err != nil && (fault.IsPermanent(err) || errors.Is(err, drivers.ErrSuperseded)):
			return err
		case err == nil:
			last = outcome.Message
		case ctx.Err() == nil:
			last = err.Error()
			pause = retryPause
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not done after %s: %w; last it said: %s", time.Since(begun).Round(time.Second), ctx.Err(), last)
		case <-time.After(pause):
		}
	}
}

func (r *Runner) call(ctx context.Context, op drivers.Operation, step drivers.Step) (drivers.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.Driver().Run(ctx, r.Cloud.Job(op), step)
}
