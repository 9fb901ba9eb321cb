// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/queue"
)

// Store keeps the notifications that wait. *store.Store is one.
type Store interface {
	// TakeNotifications returns some to be sent by the caller within the lease.
	TakeNotifications(ctx context.Context, limit int, lease time.Duration) ([]model.Notification, error)
	// ReturnNotifications gives back those that could not be sent.
	ReturnNotifications(ctx context.Context, uuids ...string) error
	// RemoveNotifications forgets those that the broker keeps safe.
	RemoveNotifications(ctx context.Context, uuids ...string) error
}

// Publisher sends; *queue.Exchange is one.
type Publisher interface {
	// Publish returns nil once the broker keeps all letters safe.
	Publish(ctx context.Context, letters ...queue.Letter) error
}

// Sender sends the notifications that wait in the database, oldest first, each
// until the broker has confirmed it. Any number may run; a notification is
// lost by no crash, and sent twice only when its sender died in between.
type Sender struct {
	Store       Store
	Publisher   Publisher
	Logger      *slog.Logger
	Topics      []string      // each gets every notification; usually one, "notifications"
	PublisherID string        // container-infra.<host>
	Batch       int           // notifications at a time
	Interval    time.Duration // between looks into the database without a Kick

	kick chan struct{}
}

// NewSender returns a sender with usual settings; fields may be changed before
// Run.
func NewSender(s Store, p Publisher, log *slog.Logger, host string, topics ...string) *Sender {
	return &Sender{
		Store: s, Publisher: p, Logger: log, Topics: topics, PublisherID: "container-infra." + host,
		Batch: 100, Interval: 5 * time.Second, kick: make(chan struct{}, 1),
	}
}

// Keys are those under which notifications of these topics are sent.
func Keys(topics ...string) (keys []string) {
	for _, t := range topics {
		for _, p := range Priorities {
			keys = append(keys, t+"."+p)
		}
	}
	return keys
}

// Kick makes Run look into the database at once. It never blocks.
func (s *Sender) Kick() {
	select {
	case s.kick <- struct{}{}:
	default: // one waits already; it will see this notification too
	}
}

// Run sends until ctx ends; then it returns nil. After a failure it pauses,
// longer each time.
func (s *Sender) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = max(s.Interval, pause.InitialInterval)
	for {
		n, err := s.SendBatch(ctx)
		wait := s.Interval
		kick := s.kick
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			wait, kick = pause.NextBackOff(), nil
			s.Logger.Warn("notifications are not sent", "error", err, "retry_in", wait.Round(time.Millisecond).String())
		case n == s.Batch:
			pause.Reset()
			continue // there may be more
		default:
			pause.Reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-kick:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// SendBatch sends one batch and returns its size.
func (s *Sender) SendBatch(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	batch, err := s.Store.TakeNotifications(ctx, s.Batch, 2*sendTime)
	if err != nil || len(batch) == 0 {
		return 0, err
	}
	uuids := make([]string, 0, len(batch))
	letters := make([]queue.Letter, 0, len(batch)*len(s.Topics))
	for i := range batch {
		n := &batch[i]
		body, err := Encode(n, s.PublisherID)
		if err != nil {
			return 0, fmt.Errorf("encoding notification %s: %w", n.UUID, err)
		}
		for _, topic := range s.Topics {
			letters = append(letters, queue.Letter{Key: topic + "." + priority(n.Outcome), ID: n.UUID, Body: body})
		}
		uuids = append(uuids, n.UUID)
	}
	if err := s.Publisher.Publish(ctx, letters...); err != nil {
		// Whoever reaches the broker next may send them, also when ctx has ended.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if lost := s.Store.ReturnNotifications(last, uuids...); lost != nil {
			s.Logger.Debug("notifications rest until their time is up", "error", lost)
		}
		return 0, fmt.Errorf("sending %d notifications: %w", len(batch), err)
	}
	return len(batch), s.Store.RemoveNotifications(ctx, uuids...)
}
