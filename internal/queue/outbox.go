// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Source is where an Outbox finds what to announce: the operations in the
// database.
type Source interface {
	// Unpublished returns the uuids of up to limit operations that wait to be
	// announced, oldest first.
	Unpublished(ctx context.Context, limit int) ([]string, error)
	// MarkPublished notes that the broker keeps their messages safe. Marking
	// again is no error.
	MarkPublished(ctx context.Context, uuids ...string) error
}

// Outbox announces operations that are in the database. An operation and its
// wish to be announced are written in one transaction, so neither the loss of
// this process nor that of the broker loses an announcement; each is sent
// until the broker has confirmed it. Several outboxes on one database may send
// a message twice, which does no harm.
type Outbox struct {
	Source    Source
	Publisher Publisher
	Logger    *slog.Logger
	Batch     int           // operations announced at a time
	Interval  time.Duration // between looks into the database without a Kick
	Timeout   time.Duration // of one look, and of one batch

	kick chan struct{}
}

// NewOutbox returns an outbox with usual settings; fields may be changed
// before Run.
func NewOutbox(source Source, publisher Publisher, logger *slog.Logger) *Outbox {
	return &Outbox{
		Source: source, Publisher: publisher, Logger: logger,
		Batch: 100, Interval: 5 * time.Second, Timeout: 10 * time.Second,
		kick: make(chan struct{}, 1),
	}
}

// Kick makes Run look into the database at once. Call it after the commit of
// a new operation. It never blocks.
func (o *Outbox) Kick() {
	select {
	case o.kick <- struct{}{}:
	default: // a kick is waiting already; it will see this operation too
	}
}

// Run announces operations until ctx ends; then it returns nil. After a
// failure it pauses, longer each time; kicks do not shorten the pause.
func (o *Outbox) Run(ctx context.Context) error {
	pause := newBackOff(o.Interval)
	for {
		n, err := o.PublishBatch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			wait := pause.NextBackOff()
			o.Logger.Warn("operations are not announced", "error", err, "retry_in", wait.Round(time.Millisecond).String())
			sleep(ctx, wait)
			continue
		}
		pause.Reset()
		if n == o.Batch {
			continue // there may be more
		}
		tick := time.NewTimer(o.Interval)
		select {
		case <-o.kick:
		case <-tick.C:
		case <-ctx.Done():
		}
		tick.Stop()
	}
}

// PublishBatch announces one batch and returns its size.
func (o *Outbox) PublishBatch(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	uuids, err := o.Source.Unpublished(ctx, o.Batch)
	if err != nil {
		return 0, fmt.Errorf("looking for operations to announce: %w", err)
	}
	if len(uuids) == 0 {
		return 0, nil
	}
	messages := make([]Message, len(uuids))
	for i, uuid := range uuids {
		messages[i] = Message{Operation: uuid}
	}
	if err := o.Publisher.Publish(ctx, messages...); err != nil {
		return 0, fmt.Errorf("announcing %d operations: %w", len(uuids), err)
	}
	if err := o.Source.MarkPublished(ctx, uuids...); err != nil {
		return 0, fmt.Errorf("marking %d operations as announced: %w", len(uuids), err)
	}
	return len(uuids), nil
}
