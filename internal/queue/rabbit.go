// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbit is a Queue at RabbitMQ: a durable quorum queue. Messages that no
// receiver acknowledges, or understands, end in a second queue called
// <name>.dead.
type rabbit struct {
	Options
	transport transport
	tls       *tls.Config
	publisher *publisher

	closed context.Context
	close  context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	links map[*link]bool // in use
}

func newRabbit(t transport, tlsConfig *tls.Config, o Options) *rabbit {
	q := &rabbit{Options: o, transport: t, tls: tlsConfig, links: map[*link]bool{}}
	q.closed, q.close = context.WithCancel(context.Background())
	q.publisher = newPublisher(q.closed, q.newLink("publish"), func(conn *amqp.Connection) error { return over(conn, q.declare) })
	q.done.Go(q.publisher.run)
	return q
}

// newLink returns a link that Healthy asks.
func (q *rabbit) newLink(purpose string) *link {
	l := newLink(purpose, q.transport, q.tls, q.Options)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.links[l] = true
	return l
}

func (q *rabbit) forget(l *link) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.links, l)
}

func (q *rabbit) Healthy() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for l := range q.links {
		if err := l.healthy(); err != nil {
			return err
		}
	}
	return nil
}

func (q *rabbit) Close() error {
	q.close()
	q.done.Wait()
	return nil
}

// maxDead bounds the queue of messages put aside; the oldest go first.
const maxDead = 10_000

// declare makes the queues unless they exist.
func (q *rabbit) declare(ch *amqp.Channel) error {
	dead := q.Queue + ".dead"
	if _, err := ch.QueueDeclare(dead, true, false, false, false, amqp.Table{
		amqp.QueueTypeArg:   amqp.QueueTypeQuorum,
		amqp.QueueMaxLenArg: maxDead,
	}); err != nil {
		return fmt.Errorf("declaring queue %s: %w", dead, err)
	}
	if _, err := ch.QueueDeclare(q.Queue, true, false, false, false, amqp.Table{
		amqp.QueueTypeArg:           amqp.QueueTypeQuorum,
		"x-delivery-limit":          deliveryLimit,
		"x-dead-letter-exchange":    "", // the default exchange routes by the queue's name
		"x-dead-letter-routing-key": dead,
	}); err != nil {
		return fmt.Errorf("declaring queue %s: %w", q.Queue, err)
	}
	return nil
}

func (q *rabbit) Publish(ctx context.Context, messages ...Message) error {
	parcels := make([]parcel, len(messages))
	for i, m := range messages {
		body, err := m.encode()
		if err != nil {
			return fmt.Errorf("encoding a message: %w", err)
		}
		parcels[i] = parcel{key: q.Queue, id: m.Operation, body: body} // over the default exchange
	}
	return q.publisher.publish(ctx, parcels)
}

func (q *rabbit) Consume(ctx context.Context, handle func(context.Context, *Delivery)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.closed, cancel)()
	l := q.newLink("consume")
	defer q.forget(l)

	r := receiver{rabbit: q, link: l, handle: handle, slots: make(chan struct{}, q.Parallel)}
	l.run(ctx, r.receiveOver)
	r.running.Wait()
	if q.closed.Err() != nil {
		return ErrClosed
	}
	return nil
}

// receiver is one call of Consume. Its handlers outlive connections.
type receiver struct {
	*rabbit
	link    *link
	handle  func(context.Context, *Delivery)
	slots   chan struct{} // holds a token for each running handler
	running sync.WaitGroup
}

// receiveOver starts a handler for each message that comes over conn, until
// conn or ctx ends. In the latter case it waits for the handlers, so that they
// can still acknowledge.
func (r *receiver) receiveOver(ctx context.Context, conn *amqp.Connection) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("opening a channel: %w", err)
	}
	if err := r.declare(ch); err != nil {
		return err
	}
	if err := ch.Qos(r.Prefetch, 0, false); err != nil {
		return fmt.Errorf("setting the prefetch: %w", err)
	}
	ended := ch.NotifyClose(make(chan *amqp.Error, 1))
	const autoAck, exclusive, noLocal, noWait = false, false, false, false
	deliveries, err := ch.Consume(r.Queue, "", autoAck, exclusive, noLocal, noWait, nil)
	if err != nil {
		return fmt.Errorf("subscribing to queue %s: %w", r.Queue, err)
	}
	r.link.up()
	for {
		select {
		case r.slots <- struct{}{}:
		case err := <-ended:
			return reason(err)
		case <-ctx.Done():
			r.running.Wait()
			return nil
		}
		select {
		case d, ok := <-deliveries:
			if !ok { // the channel has ended, or the broker has deleted the queue
				<-r.slots
				select {
				case err := <-ended:
					return reason(err)
				default:
					return fmt.Errorf("the broker has cancelled the subscription to queue %s", r.Queue)
				}
			}
			r.running.Go(func() {
				defer func() { <-r.slots }()
				r.receive(ctx, d)
			})
		case <-ctx.Done():
			<-r.slots
		}
	}
}

// receive handles one message. Acknowledgements go to the channel that the
// message came over and that lives no longer than its connection: with the
// connection gone they fail, which is as it should be.
func (r *receiver) receive(ctx context.Context, d amqp.Delivery) {
	message, err := decode(d.Body)
	if err != nil {
		r.Logger.Warn("message put aside", "error", err)
		const requeue = false
		_ = d.Reject(requeue)
		return
	}
	delivery := &Delivery{
		Message:     message,
		Redelivered: d.Redelivered,
		ack: func() {
			const multiple = false
			if err := d.Ack(multiple); err != nil {
				r.Logger.Debug("message not acknowledged, it will come again", "operation_id", message.Operation, "error", err)
			}
		},
		release: func() {
			const requeue = true
			_ = d.Reject(requeue) // without the connection it comes again anyway
		},
	}
	r.handle(ctx, delivery)
	delivery.finish(ctx, r.RedeliverAfter)
}

// reason makes an error of what NotifyClose tells; it tells nil for a
// connection that was closed in order.
func reason(err *amqp.Error) error {
	if err == nil {
		return errors.New("the connection has ended")
	}
	return err
}
