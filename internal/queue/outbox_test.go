// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rows stands for the database: operations in order, and which are announced.
type rows struct {
	mu        sync.Mutex
	waiting   []string
	announced []string
	failReads int // this many calls fail
	failMarks int
	looks     int
}

func (r *rows) add(uuids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, uuids...)
}

func (r *rows) Unpublished(_ context.Context, limit int) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	if r.failReads > 0 {
		r.failReads--
		return nil, errors.New("database is down")
	}
	return slices.Clone(r.waiting[:min(limit, len(r.waiting))]), nil
}

func (r *rows) MarkPublished(_ context.Context, uuids ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failMarks > 0 {
		r.failMarks--
		return errors.New("database is down")
	}
	r.announced = append(r.announced, uuids...)
	r.waiting = slices.DeleteFunc(r.waiting, func(u string) bool { return slices.Contains(uuids, u) })
	return nil
}

// state returns what is announced, and how often Unpublished was called.
func (r *rows) state() (announced []string, looks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.announced), r.looks
}

// line stands for the broker; it notes what was sent when.
type line struct {
	mu   sync.Mutex
	sent []string
	down bool
}

func (l *line) Publish(_ context.Context, messages ...Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return errors.New("broker is down")
	}
	for _, m := range messages {
		l.sent = append(l.sent, m.Operation)
	}
	return nil
}

func (l *line) got() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func runOutbox(t *testing.T, o *Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestOutboxAnnouncesAtOnceWhenKicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, broker := &rows{}, &line{}
		o := NewOutbox(db, broker, slog.New(slog.DiscardHandler))
		o.Kick()
		o.Kick() // never blocks, not even before Run
		stop := runOutbox(t, o)
		defer stop()
		synctest.Wait()
		began := time.Now()
		db.add("a")
		o.Kick()
		synctest.Wait()
		if got := broker.got(); !slices.Equal(got, []string{"a"}) || time.Since(began) > 0 {
			t.Errorf("sent %v after %s", got, time.Since(began))
		}
		o.Kick()
		synctest.Wait()
		if got := broker.got(); len(got) != 1 {
			t.Errorf("an announced operation is sent again: %v", got)
		}
	})
}

func TestOutboxFindsWhatNobodyKickedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, broker := &rows{}, &line{}
		o := NewOutbox(db, broker, slog.New(slog.DiscardHandler))
		stop := runOutbox(t, o)
		defer stop()
		synctest.Wait()
		for i := range 2*o.Batch + 1 { // left behind by a process that died
			db.add(fmt.Sprint(i))
		}
		time.Sleep(o.Interval)
		synctest.Wait()
		announced, _ := db.state()
		if got := broker.got(); len(got) != 2*o.Batch+1 || !slices.Equal(got, announced) {
			t.Errorf("sent %d, announced %d", len(got), len(announced))
		}
	})
}

func TestOutboxSendsUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, broker := &rows{failReads: 2, failMarks: 2}, &line{down: true}
		o := NewOutbox(db, broker, slog.New(slog.DiscardHandler))
		db.add("a")
		stop := runOutbox(t, o)
		defer stop()
		for range 600 { // ten minutes of kicks without a broker
			o.Kick()
			time.Sleep(time.Second)
		}
		announced, looks := db.state()
		if len(announced) > 0 {
			t.Error("marked as announced without a broker")
		}
		if looks < 60 || looks > 600 {
			t.Errorf("%d attempts in ten minutes", looks)
		}
		broker.mu.Lock()
		broker.down = false
		broker.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		// Twice the row could not be marked, so the message went out thrice.
		if got := broker.got(); !slices.Equal(got, []string{"a", "a", "a"}) {
			t.Errorf("sent %v", got)
		}
		if announced, _ := db.state(); !slices.Equal(announced, []string{"a"}) {
			t.Errorf("announced %v", announced)
		}
	})
}

func TestOutboxOverAQueue(t *testing.T) {
	db := &rows{}
	q := open(t, "memory://", Options{})
	o := NewOutbox(db, q, slog.New(slog.DiscardHandler))
	db.add("a", "b")
	if n, err := o.PublishBatch(t.Context()); n != 2 || err != nil {
		t.Fatalf("PublishBatch: %d, %v", n, err)
	}
	if n, err := o.PublishBatch(t.Context()); n != 0 || err != nil {
		t.Fatalf("PublishBatch again: %d, %v", n, err)
	}
	in := consume(t, q)
	in.next(t).Ack()
	in.next(t).Ack()
	in.stop(t)
	nothingLeft(t, q)
}
