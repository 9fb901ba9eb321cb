// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"time"
)

// share does a job about once in every, until ctx ends, when no other conductor
// has done it meanwhile.
func (c *Conductor) share(ctx context.Context, name string, every time.Duration, job func(context.Context) error) error {
	if every < 0 {
		return nil
	}
	ask := min(max(every/60, 10*time.Millisecond), time.Minute)
	for sleep(ctx, jitter(ask)) == nil {
		mine, err := c.Store.ClaimJob(ctx, name, every)
		if err == nil && mine {
			err = job(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("periodic job failed", "job", name, "error", err)
		}
	}
	return nil
}

// sweep looks for orphans and tells the operator, or removes them.
func (c *Conductor) sweep(ctx context.Context) error {
	report, err := c.Sweeper.Sweep(ctx, c.opts.SweepRemoves)
	for _, o := range report.Orphans {
		c.Logger.Warn("orphan found", "kind", o.Kind, "id", o.ID, "where", o.Where, "why", o.Why, "removed", o.Removed)
	}
	if err == nil {
		c.Logger.Info("looked for orphans", "found", len(report.Orphans), "silent_hosts", len(report.Silent))
	}
	return err
}

// How ended operations are forgotten: few at a time, and others may have the
// database in between.
const (
	pruneAtOnce = 200
	prunePause  = 50 * time.Millisecond
)

// prune forgets operations that ended long ago, and events that are as old.
func (c *Conductor) prune(ctx context.Context) error {
	total, after := 0, int64(0)
	for {
		n, next, err := c.Store.PruneOperations(ctx, c.opts.HistoryKept, c.opts.HistoryLeast, pruneAtOnce, after)
		total += n
		if err != nil || next == 0 {
			if total > 0 {
				c.Logger.Info("old operations were forgotten", "operations", total)
			}
			if err != nil {
				return err
			}
			break
		}
		after = next
		if sleep(ctx, prunePause) != nil {
			return nil
		}
	}
	for {
		n, err := c.Store.PruneEvents(ctx, c.opts.HistoryKept, pruneAtOnce)
		if err != nil || n == 0 || sleep(ctx, prunePause) != nil {
			return err
		}
	}
}
