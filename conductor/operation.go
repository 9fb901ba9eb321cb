// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/logging"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Causes for which the work on an operation stops short.
var (
	errCancelled = errors.New("a later operation supersedes this one")
	errShutdown  = errors.New("conductor is shutting down")
	errDeadline  = errors.New("operation ran out of time")
)

// runner works on one claimed operation until it ends, is superseded, is lost
// to another conductor, or the conductor shuts down.
type runner struct {
	*Conductor
	log    *slog.Logger
	op     *model.Operation
	fence  store.Fence
	driver planner

	reading sync.Mutex
	read    records

	// calls is the context of step calls and of their lines in the journal. It
	// outlives the work when the conductor shuts down: a call is not cut off in
	// the middle then, but given Drain to end.
	calls context.Context
}

// planner knows the steps of an operation: the cluster's driver, or [repair].
type planner interface {
	Plan(ctx context.Context, job *drivers.Job) ([]drivers.Step, error)
	Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error)
}

// run is the whole life of a claimed operation in this process. It returns
// its outcome.
func (r *runner) run(ctx context.Context) string {
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	calls, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	r.calls = calls
	defer context.AfterFunc(ctx, func() {
		if sleep(calls, max(r.opts.Drain, 0)) == nil {
			cut(errShutdown)
		}
	})()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		r.keepLease(calls, func(cause error) {
			stop(cause)
			cut(cause)
		})
	}()
	err := r.attempt(work)
	for pause := r.opts.RetryFirst; errors.Is(err, store.ErrUnavailable) && work.Err() == nil; pause = min(2*pause, r.opts.RetryMost) {
		r.log.Warn("the database is away, the operation waits", "error", err, "in", pause)
		if err = sleep(work, jitter(pause)); err == nil {
			err = r.attempt(work)
		}
	}
	cut(nil)
	<-kept

	// The outcome is written even while the conductor shuts down.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.ShutdownTimeout)
	defer cancel()
	ended := r.end(last, err)
	for errors.Is(ended, store.ErrUnavailable) && sleep(last, r.opts.RetryFirst) == nil {
		ended = r.end(last, err)
	}
	if err := ended; err != nil {
		r.log.Error("could not end the operation: when its lease runs out, a conductor takes it again", "error", err)
		return OutcomeLost
	}
	return r.outcome(err)
}

// attempt does the work and, when that fails for good, removes what it half
// made. The error says why it stopped; nil means there is nothing left to do.
func (r *runner) attempt(ctx context.Context) error {
	if !r.op.Undo {
		err := r.workUntilDeadline(ctx)
		if err == nil || !givesUp(err) || r.op.Kind == model.OpDelete || r.op.Kind == model.OpRepair || r.op.Kind == model.OpRebuild {
			return err
		}
		reason := r.reason(err)
		r.log.Error("operation failed, undoing what it half did", "error", err, "reason", reason)
		if err := r.Store.SetUndo(ctx, r.fence, reason); err != nil {
			return err
		}
		r.op.Undo, r.op.Reason = true, &reason
	}
	err := r.work(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func (r *runner) workUntilDeadline(ctx context.Context) error {
	if r.op.Deadline != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, *r.op.Deadline, errDeadline)
		defer cancel()
	}
	err := r.work(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// givesUp tells whether an operation that stopped with err has failed. Other
// errors (the database is away, say) end this attempt only.
func givesUp(err error) bool {
	return fault.IsPermanent(err) || errors.Is(err, errDeadline)
}

// end writes what became of the operation.
func (r *runner) end(ctx context.Context, err error) error {
	switch {
	case err == nil && r.op.Undo:
		return r.fail(ctx, r.failure())
	case err == nil:
		r.log.Info("operation done", "took", r.opts.Now().Sub(r.op.CreatedAt).Round(time.Millisecond))
		return r.Store.Finish(ctx, r.fence, model.OpDone, r.op.Kind.After(), nil, nil)
	case errors.Is(err, store.ErrSuperseded), errors.Is(err, drivers.ErrSuperseded):
		r.log.Warn("operation was taken over by another conductor")
		return nil
	case errors.Is(err, errCancelled):
		r.log.Info("operation cancelled")
		return r.Store.FinishCancelled(ctx, r.fence)
	case errors.Is(err, errShutdown):
		r.log.Info("handing the operation over")
		return r.Store.Release(ctx, r.fence, r.opts.Now())
	case !givesUp(err):
		r.log.Warn("operation stopped, will be taken up again", "error", err)
		return r.Store.Release(ctx, r.fence, r.opts.Now().Add(r.opts.RetryMost))
	case r.op.Undo:
		r.log.Error("could not undo the operation", "error", err)
		return r.fail(ctx, r.failure()+"; what was half made could not be removed ("+r.reason(err)+"): delete the cluster to try again")
	default:
		return r.fail(ctx, r.reason(err))
	}
}

// work brings the cluster to where the operation wants it.
func (r *runner) work(ctx context.Context) error {
	r.read = records{}
	job, err := r.job(ctx)
	if err != nil {
		return err
	}
	if r.op.Kind == model.OpRepair {
		r.driver = repair{r}
	} else if r.driver, err = r.driverFor(job); err != nil {
		if r.op.Kind != model.OpDelete || len(job.Nodes) > 0 {
			return err
		}
		return nil // nothing was ever made
	}
	switch {
	case r.op.Kind == model.OpRepair, r.op.Kind == model.OpRebuild:
	case renewsRoots(r.op.Kind):
		err = r.reconcileImages(ctx)
	case !r.op.Undo:
		err = r.reconcileNodes(ctx)
	}
	if err != nil {
		return err
	}
	if job, err = r.job(ctx); err != nil {
		return err
	}
	plan, err := r.driver.Plan(ctx, job)
	if err != nil {
		return fmt.Errorf("planning the %s: %w", r.op.Kind, err)
	}
	steps, err := r.Store.Steps(ctx, r.op.UUID)
	if err != nil {
		return err
	}
	done := make(map[drivers.StepKey]bool)
	lines := make(map[drivers.StepKey]model.Step)
	for _, s := range steps {
		if s.Undo != r.op.Undo {
			continue
		}
		key := drivers.StepKey{Name: s.Name, NodeID: s.NodeID}
		done[key] = s.State == model.StepDone
		lines[key] = s
	}
	journal := newJournal(func(changes ...store.StepChange) error {
		return r.Store.WriteSteps(r.calls, r.fence, changes...)
	})
	err = takeAll(ctx, plan, done, r.opts.StepsAtOnce, func(ctx context.Context, s drivers.Step) func() error {
		return r.begin(ctx, journal, job, s, lines[s.Key()])
	}, journal.flush)
	if unwritten := journal.close(); unwritten != nil {
		err = errors.Join(err, unwritten)
	}
	if err != nil || r.op.Kind != model.OpRotateCA {
		return err
	}
	// All nodes trust the present authority only: the key of the other one is
	// of no more use to anybody.
	return r.Store.ForgetOtherAuthorities(ctx, r.fence)
}

// begin notes that a step begins, and returns what takes it: that calls it until
// it is done, fails for good or runs out of time, and keeps its line in the
// journal. planned is the job that the step was planned for, line what the
// journal has of it, if anything.
func (r *runner) begin(ctx context.Context, journal *journal, planned *drivers.Job, step drivers.Step, line model.Step) (take func() error) {
	now := r.opts.Now()
	first := line.Attempts == 0
	line.Name, line.NodeID, line.Undo = step.Name, step.NodeID, r.op.Undo
	line.State, line.Attempts = model.StepRunning, line.Attempts+1
	where := "the cluster"
	if node := planned.Node(step.NodeID); node != nil {
		line.NodeName, where = node.Name, "node "+node.Name
	}
	change := store.StepChange{}
	if first {
		line.StartedAt, change.Event = now, model.EventStepStart
	}
	change.Step = line
	begun := journal.add(change)
	return func() error { return r.take(ctx, journal, step, line, where, begun) }
}

// take is the rest of begin.
func (r *runner) take(ctx context.Context, journal *journal, step drivers.Step, line model.Step, where string, begun *entry) (taken error) {
	timeout := step.Timeout
	if timeout == 0 {
		timeout = r.opts.StepTimeout
	}
	ctx, ended := r.Observer.Step(ctx, r.op, step.Name, line.NodeName)
	defer func() { ended(taken) }()
	ctx = logging.With(ctx, slog.String(logging.Step, step.Name), slog.String(logging.Node, line.NodeName))
	log := r.log.With(logging.Step, step.Name, logging.Node, line.NodeName)
	note := func(state model.StepState, message string, event model.EventKind) *entry {
		line.State, line.Message = state, message
		return journal.add(store.StepChange{Step: line, Event: event})
	}
	if err := begun.wait(ctx); err != nil {
		return err
	}
	// A step resumed after a crash gets at least one try, however late.
	deadline := line.StartedAt.Add(timeout)
	pause := r.opts.RetryFirst
	said := ""
	for {
		outcome, err := r.call(ctx, step)
		switch {
		case errors.Is(err, drivers.ErrSuperseded), errors.Is(err, store.ErrSuperseded):
			return store.ErrSuperseded
		case err == nil && outcome.After == 0 && r.calls.Err() == nil:
			log.Info("step done", "took", r.opts.Now().Sub(line.StartedAt).Round(time.Millisecond), "message", outcome.Message)
			note(model.StepDone, outcome.Message, model.EventStepEnd)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && fault.IsPermanent(err):
			log.Error("step failed", "error", err)
			note(model.StepFailed, r.reason(err), model.EventStepError)
			return err
		}
		wait, message := outcome.After, outcome.Message
		if err != nil {
			log.Warn("step will be tried again", "error", err, "in", pause)
			r.Observer.Retry(ctx, r.op, step.Name, err)
			wait, message = jitter(pause), r.reason(err)
			pause = min(2*pause, r.opts.RetryMost)
		}
		if r.opts.Now().Add(wait).After(deadline) {
			late := fault.Permanent(err, "step %s of %s did not end within %s: %s", step.Name, where, timeout, message)
			log.Error("step ran out of time", "error", late)
			note(model.StepFailed, r.reason(late), model.EventStepError)
			return late
		}
		if message != said {
			said = message
			waiting := note(model.StepRunning, message, "")
			journal.flush()
			if err := waiting.wait(ctx); err != nil {
				return err
			}
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// call runs the step once, on fresh copies of the cluster's records. A panic
// in a driver fails the operation, not the conductor. When ctx ends the call is
// cut off, unless that is because the conductor shuts down: see runner.calls.
func (r *runner) call(ctx context.Context, step drivers.Step) (outcome drivers.Outcome, err error) {
	work := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), r.opts.CallTimeout)
	defer cancel()
	defer context.AfterFunc(r.calls, cancel)()
	defer context.AfterFunc(work, func() {
		if !errors.Is(context.Cause(work), errShutdown) {
			cancel()
		}
	})()
	job, err := r.job(ctx)
	if err != nil {
		return drivers.Outcome{}, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fault.Permanent(fmt.Errorf("driver panicked: %v", p), "driver failed in step %s", step.Name)
		}
	}()
	return r.driver.Run(ctx, job, step)
}

// fail ends the operation as failed. An update leaves the node counts at what
// is really there.
func (r *runner) fail(ctx context.Context, reason string) error {
	var counts map[string]int
	if r.op.Kind == model.OpUpdate {
		nodes, err := r.Store.Nodes(ctx, r.op.ClusterID)
		if err != nil {
			return err
		}
		counts = make(map[string]int)
		for group := range r.op.Spec.NodeCounts {
			counts[group] = 0
		}
		for _, n := range nodes[r.op.ClusterID] {
			if _, touched := counts[n.NodeGroupID]; touched {
				counts[n.NodeGroupID]++
			}
		}
	}
	return r.Store.Finish(ctx, r.fence, model.OpFailed, r.op.Kind.Broken(), &reason, counts)
}

// failure is why the operation that was undone had failed.
func (r *runner) failure() string {
	if r.op.Reason == nil {
		return "failed for an unknown reason"
	}
	return *r.op.Reason
}

// reason turns an error into words that the user may read.
func (r *runner) reason(err error) string {
	if errors.Is(err, errDeadline) {
		if r.op.Reason != nil { // the operator has ended its time
			return *r.op.Reason
		}
		return "the cluster was not finished within its time limit (create_timeout); the operator's log has operation " + r.op.UUID
	}
	return fault.Reason(err, "internal error; the operator finds it in the log under operation "+r.op.UUID)
}

// keepLease renews the claim until ctx ends. It stops the work when the claim
// is lost or a later operation wants this one out of the way.
func (r *runner) keepLease(ctx context.Context, stop context.CancelCauseFunc) {
	every := min(r.opts.Lease/3, r.opts.CancelCheck)
	lost := r.opts.Now().Add(r.opts.Lease)
	for sleep(ctx, every) == nil {
		cancelled, err := r.Store.Renew(ctx, r.fence, r.opts.Lease)
		switch {
		case err == nil && cancelled:
			stop(errCancelled)
			return
		case err == nil:
			lost = r.opts.Now().Add(r.opts.Lease)
		case errors.Is(err, store.ErrSuperseded):
			stop(store.ErrSuperseded)
			return
		case r.opts.Now().After(lost):
			r.log.Error("lease could not be renewed in time", "error", err)
			stop(store.ErrSuperseded)
			return
		default:
			r.log.Warn("lease not renewed, trying again", "error", err)
		}
	}
}

// jitter spreads d by up to a quarter so that retries do not march in step.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/4+1)
}

// sleep waits for d or until ctx ends; then it returns the context's cause.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
