// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests.
const patience = 20 * time.Second

func TestMemory(t *testing.T) {
	contract(t, func(t *testing.T, o Options) Queue { return open(t, "memory://", o) })
}

func open(t testing.TB, url string, o Options) Queue {
	t.Helper()
	q, err := Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// contract is what every Queue must do.
func contract(t *testing.T, open func(*testing.T, Options) Queue) {
	t.Run("each message arrives once", func(t *testing.T) {
		q := open(t, Options{})
		var sent []string
		for batch := range 3 {
			var messages []Message
			for i := range 300 { // more than RabbitMQ's batch
				m := Message{fmt.Sprintf("%d-%d", batch, i)}
				messages, sent = append(messages, m), append(sent, m.Operation)
			}
			publish(t, q, messages...)
		}
		in := consume(t, q)
		var got []string
		for range sent {
			d := in.next(t)
			d.Ack()
			d.Ack() // twice is once
			got = append(got, d.Message.Operation)
		}
		slices.Sort(got)
		slices.Sort(sent)
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("messages (-sent +got):\n%s", diff)
		}
		in.stop(t)
		nothingLeft(t, q)
		if err := q.Healthy(); err != nil {
			t.Errorf("Healthy: %v", err)
		}
	})

	t.Run("sending nothing is no error", func(t *testing.T) {
		publish(t, open(t, Options{}))
	})

	t.Run("a doubled message comes twice", func(t *testing.T) {
		q := open(t, Options{})
		publish(t, q, Message{"a"}, Message{"a"})
		in := consume(t, q)
		for range 2 {
			d := in.next(t)
			d.Ack()
			if d.Message.Operation != "a" {
				t.Errorf("got %v", d.Message)
			}
		}
		in.stop(t)
		nothingLeft(t, q)
	})

	t.Run("what is not acknowledged comes again", func(t *testing.T) {
		q := open(t, Options{RedeliverAfter: time.Millisecond})
		publish(t, q, Message{"a"})
		in := consume(t, q)
		first := in.next(t)
		if first.Redelivered {
			t.Error("the first delivery says it came again")
		}
		in.done(first)
		second := in.next(t)
		if !second.Redelivered || second.Message.Operation != "a" {
			t.Errorf("second delivery: %v, redelivered %t", second.Message, second.Redelivered)
		}
		first.Ack() // too late: changes nothing
		second.Ack()
		in.stop(t)
		nothingLeft(t, q)
	})

	t.Run("a message that nobody acknowledges is put aside", func(t *testing.T) {
		q := open(t, Options{RedeliverAfter: time.Microsecond, Parallel: 1, Prefetch: 1})
		publish(t, q, Message{"poison"})
		var seen atomic.Int32
		good := make(chan struct{})
		stop := inBackground(t, q, func(_ context.Context, d *Delivery) {
			if d.Message.Operation == "poison" {
				seen.Add(1)
				return
			}
			d.Ack()
			close(good)
		})
		eventually(t, "the limit", func() bool { return seen.Load() == deliveryLimit+1 })
		publish(t, q, Message{"good"})
		await(t, "the next message", good)
		stop()
		if n := seen.Load(); n != deliveryLimit+1 {
			t.Errorf("delivered %d times", n)
		}
		nothingLeft(t, q)
	})

	t.Run("Parallel bounds the handlers", func(t *testing.T) {
		q := open(t, Options{Parallel: 3, Prefetch: 10})
		for i := range 12 {
			publish(t, q, Message{fmt.Sprint(i)})
		}
		var running, most, total atomic.Int32
		full, finish := make(chan struct{}, 12), make(chan struct{})
		stop := inBackground(t, q, func(_ context.Context, d *Delivery) {
			d.Ack() // the message is off the queue, but the work goes on
			for n := running.Add(1); ; {
				if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			full <- struct{}{}
			<-finish
			running.Add(-1)
			total.Add(1)
		})
		for range 3 {
			await(t, "a handler", full)
		}
		close(finish)
		eventually(t, "all handlers", func() bool { return total.Load() == 12 })
		stop()
		if most.Load() != 3 {
			t.Errorf("%d handlers ran at once, want 3", most.Load())
		}
	})

	t.Run("two receivers share the messages", func(t *testing.T) {
		q := open(t, Options{Prefetch: 1})
		a, b := consume(t, q), consume(t, q)
		publish(t, q, Message{"1"}, Message{"2"})
		// Neither acknowledges yet, so with a prefetch of 1 each can have one.
		got := []*Delivery{}
		for range 2 {
			select {
			case d := <-a.deliveries:
				got = append(got, d)
			case d := <-b.deliveries:
				got = append(got, d)
			case <-time.After(patience):
				t.Fatal("no message")
			}
		}
		if got[0].Message == got[1].Message {
			t.Error("both got the same message")
		}
		got[0].Ack()
		got[1].Ack()
		a.stop(t)
		b.stop(t)
		nothingLeft(t, q)
	})

	t.Run("the end of ctx waits for handlers and lets them acknowledge", func(t *testing.T) {
		q := open(t, Options{RedeliverAfter: time.Hour})
		publish(t, q, Message{"acknowledged"}, Message{"not"})
		ctx, cancel := context.WithCancel(t.Context())
		entered := make(chan struct{}, 2)
		ended := make(chan error, 1)
		go func() {
			ended <- q.Consume(ctx, func(ctx context.Context, d *Delivery) {
				entered <- struct{}{}
				<-ctx.Done()
				if d.Message.Operation == "acknowledged" {
					d.Ack()
				}
			})
		}()
		await(t, "the first handler", entered)
		await(t, "the second handler", entered)
		select {
		case err := <-ended:
			t.Fatalf("Consume ended before its handlers: %v", err)
		default:
		}
		cancel()
		if err := await(t, "the end", ended); err != nil {
			t.Errorf("Consume: %v", err)
		}
		in := consume(t, q)
		d := in.next(t)
		d.Ack()
		if d.Message.Operation != "not" {
			t.Errorf("%q came again", d.Message.Operation)
		}
		in.stop(t)
		nothingLeft(t, q)
	})

	t.Run("a context that has ended receives nothing", func(t *testing.T) {
		q := open(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Consume(ctx, func(context.Context, *Delivery) { t.Error("called") }); err != nil {
			t.Errorf("Consume: %v", err)
		}
	})

	t.Run("a closed queue says so", func(t *testing.T) {
		q := open(t, Options{})
		ended := make(chan error, 1)
		entered := make(chan struct{}, 1)
		go func() {
			ended <- q.Consume(t.Context(), func(ctx context.Context, d *Delivery) {
				entered <- struct{}{}
				<-ctx.Done()
			})
		}()
		publish(t, q, Message{"a"})
		await(t, "a handler", entered)
		for range 2 {
			if err := q.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if err := await(t, "the end", ended); !errors.Is(err, ErrClosed) {
			t.Errorf("running Consume: %v", err)
		}
		if err := q.Publish(t.Context(), Message{"b"}); !errors.Is(err, ErrClosed) {
			t.Errorf("Publish: %v", err)
		}
		if err := q.Consume(t.Context(), func(context.Context, *Delivery) {}); !errors.Is(err, ErrClosed) {
			t.Errorf("Consume: %v", err)
		}
		if err := q.Healthy(); !errors.Is(err, ErrClosed) {
			t.Errorf("Healthy: %v", err)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	q := open(t, "memory://", Options{Parallel: 2, RedeliverAfter: time.Microsecond})
	full := make([]Message, memoryCapacity)
	for i := range full {
		full[i].Operation = fmt.Sprint(i)
	}
	publish(t, q, full...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := q.Publish(ctx, Message{"one more"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Publish to a full queue: %v", err)
	}
	// A full queue still takes back what was not acknowledged.
	var times atomic.Int32
	stop := inBackground(t, q, func(_ context.Context, d *Delivery) {
		if times.Add(1) > 2*memoryCapacity {
			d.Ack()
		}
	})
	eventually(t, "all acknowledged", func() bool { return times.Load() == 3*memoryCapacity })
	stop()
	nothingLeft(t, q)
}

func TestMessageOnTheWire(t *testing.T) {
	body, err := Message{"0a5c"}.encode()
	if err != nil || string(body) != `{"version":1,"operation":"0a5c"}` {
		t.Errorf("encode: %s, %v", body, err)
	}
	for _, bad := range []string{"", "null", "{}", "[]", `{"version":1}`, `{"version":2,"operation":"a"}`, `{"version":1,"operation":7}`, "\xff"} {
		if m, err := decode([]byte(bad)); err == nil {
			t.Errorf("decode(%q) = %v", bad, m)
		}
	}
	if m, err := decode([]byte(`{"version":1,"operation":"a","later":true}`)); err != nil || m.Operation != "a" {
		t.Errorf("a field of a later release: %v, %v", m, err)
	}
}

// inbox is a running Consume whose handlers hand their delivery over and wait
// until they are told to end.
type inbox struct {
	deliveries chan *Delivery
	cancel     context.CancelFunc
	ended      chan error
	finish     chan *Delivery
}

func consume(t *testing.T, q Queue) *inbox {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in := &inbox{make(chan *Delivery), cancel, make(chan error, 1), make(chan *Delivery)}
	go func() {
		in.ended <- q.Consume(ctx, func(ctx context.Context, d *Delivery) {
			select {
			case in.deliveries <- d:
			case <-ctx.Done():
				return
			}
			for !d.settled.Load() {
				select {
				case ended := <-in.finish:
					if ended == d {
						return
					}
				case <-ctx.Done():
					return
				case <-time.After(time.Millisecond): // look whether it is acknowledged
				}
			}
		})
	}()
	t.Cleanup(cancel)
	return in
}

func (in *inbox) next(t *testing.T) *Delivery {
	t.Helper()
	return await(t, "a message", in.deliveries)
}

// done ends d's handler.
func (in *inbox) done(d *Delivery) { in.finish <- d }

func (in *inbox) stop(t *testing.T) {
	t.Helper()
	in.cancel()
	if err := await(t, "the end of Consume", in.ended); err != nil {
		t.Errorf("Consume: %v", err)
	}
}

// inBackground runs Consume until the returned function is called.
func inBackground(t testing.TB, q Queue, handle func(context.Context, *Delivery)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Consume(ctx, handle) }()
	stop = func() {
		cancel()
		if err := await(t, "the end of Consume", ended); err != nil {
			t.Errorf("Consume: %v", err)
		}
	}
	return stop
}

func publish(t testing.TB, q Publisher, messages ...Message) {
	t.Helper()
	if err := q.Publish(t.Context(), messages...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

// nothingLeft fails if the queue holds a message. A message sent now must be
// the first to come.
func nothingLeft(t *testing.T, q Queue) {
	t.Helper()
	publish(t, q, Message{"sentinel"})
	in := consume(t, q)
	d := in.next(t)
	if d.Message.Operation != "sentinel" {
		t.Errorf("%q was left in the queue", d.Message.Operation)
	}
	d.Ack()
	in.stop(t)
}

func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("not reached")
	}
}

func eventually(t testing.TB, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func BenchmarkMemory(b *testing.B) { benchmark(b, open(b, "memory://", Options{})) }

// benchmark sends and receives b.N messages, 100 at a time as an Outbox does.
func benchmark(b *testing.B, q Queue) {
	var got atomic.Int64
	all := make(chan struct{})
	publish(b, q) // connected
	stop := inBackground(b, q, func(_ context.Context, d *Delivery) {
		d.Ack()
		if got.Add(1) == int64(b.N) {
			close(all)
		}
	})
	defer stop()
	b.ResetTimer()
	batch := make([]Message, 0, 100)
	for i := range b.N {
		batch = append(batch, Message{fmt.Sprintf("00000000-0000-4000-8000-%012d", i)})
		if len(batch) == cap(batch) || i == b.N-1 {
			publish(b, q, batch...)
			batch = batch[:0]
		}
	}
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }
