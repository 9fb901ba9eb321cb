// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Observer is told what a conductor does, for metrics and traces. Its methods
// are quick and may be called by many goroutines.
type Observer interface {
	// Operation is called when an operation was claimed; all work on it happens
	// in the context returned. let is called once, when this conductor is
	// through with it, with one of the outcomes below.
	Operation(ctx context.Context, op *model.Operation) (_ context.Context, let func(outcome string))

	// Step is called when a step of the operation is begun, which may be one
	// that another conductor began before. ended is called once, with what the
	// step returned last.
	Step(ctx context.Context, op *model.Operation, step, node string) (_ context.Context, ended func(error))

	// Retry is called when a step has failed for now and is to be tried again.
	Retry(ctx context.Context, op *model.Operation, step string, err error)
}

// Outcomes of one conductor's work on an operation.
const (
	OutcomeDone       = "done"
	OutcomeFailed     = "failed"
	OutcomeCancelled  = "cancelled"   // a later operation wanted it out of the way
	OutcomeHandedOver = "handed_over" // the conductor shuts down
	OutcomeGivenBack  = "given_back"  // the database was away, say: to be taken up again
	OutcomeLost       = "lost"        // the lease ran out, or the outcome could not be written
)

// outcome names what end writes for err.
func (r *runner) outcome(err error) string {
	switch {
	case err == nil && !r.op.Undo:
		return OutcomeDone
	case err == nil:
		return OutcomeFailed
	case errors.Is(err, store.ErrSuperseded), errors.Is(err, drivers.ErrSuperseded):
		return OutcomeLost
	case errors.Is(err, errCancelled):
		return OutcomeCancelled
	case errors.Is(err, errShutdown):
		return OutcomeHandedOver
	case !givesUp(err):
		return OutcomeGivenBack
	default:
		return OutcomeFailed
	}
}

// nobody observes.
type nobody struct{}

func (nobody) Operation(ctx context.Context, _ *model.Operation) (context.Context, func(string)) {
	return ctx, func(string) {}
}

func (nobody) Step(ctx context.Context, _ *model.Operation, _, _ string) (context.Context, func(error)) {
	return ctx, func(error) {}
}

func (nobody) Retry(context.Context, *model.Operation, string, error) {}
