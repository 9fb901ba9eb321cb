// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// parcel is one message on its way to an exchange.
type parcel struct {
	exchange string // empty: the default one, whose keys are names of queues
	key      string
	id       string
	body     []byte // JSON
}

// publisher sends parcels over a connection of its own and waits for the
// broker's confirmations. A goroutine owns the connection: run.
type publisher struct {
	link     *link
	declare  func(*amqp.Connection) error // makes what the parcels are sent to
	requests chan publishRequest
	closed   context.Context
}

// newPublisher returns a publisher that works while run does; closed ends it.
func newPublisher(closed context.Context, l *link, declare func(*amqp.Connection) error) *publisher {
	return &publisher{link: l, declare: declare, requests: make(chan publishRequest), closed: closed}
}

func (p *publisher) run() { p.link.run(p.closed, p.serve) }

// publishRequest is one call of publish.
type publishRequest struct {
	ctx     context.Context
	parcels []parcel
	result  chan error // gets exactly one answer
}

// publish keeps the contract of Publisher.
func (p *publisher) publish(ctx context.Context, parcels []parcel) error {
	ctx, cancel := context.WithTimeout(ctx, p.link.PublishTimeout)
	defer cancel()
	for failed := p.link.healthy(); ; {
		r := publishRequest{ctx, parcels, make(chan error, 1)}
		select {
		case p.requests <- r:
			if failed = <-r.result; failed == nil {
				return nil
			}
		case <-p.closed.Done():
			return ErrClosed
		case <-ctx.Done():
			return errors.Join(ctx.Err(), failed)
		}
	}
}

// maxBatch bounds the messages that are on their way unconfirmed.
const maxBatch = 256

// serve serves publish calls over one connection until it ends. After any
// failure it gives the connection up, so that no late confirmation or return
// of one call can be taken for that of the next, and a queue that was deleted
// is declared anew.
func (p *publisher) serve(ctx context.Context, conn *amqp.Connection) error {
	if err := p.declare(conn); err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("opening a channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return fmt.Errorf("asking for confirmations: %w", err)
	}
	// The library's reader writes to these channels and must never wait.
	ended := ch.NotifyClose(make(chan *amqp.Error, 1))
	returns := ch.NotifyReturn(make(chan amqp.Return, maxBatch))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 16))
	p.link.up()
	for {
		select {
		case r := <-p.requests:
			err := send(ctx, r, ch, returns)
			r.result <- err
			if err != nil {
				return err
			}
		case b, ok := <-blocked:
			if ok && b.Active {
				p.link.down(fmt.Errorf("the broker refuses messages for now: %s", b.Reason))
			} else if ok {
				p.link.up()
			} else {
				blocked = nil
			}
		case err := <-ended:
			return reason(err)
		case <-ctx.Done():
			return nil
		}
	}
}

// send sends a call's parcels, batch by batch, until the call's context or
// ctx, the connection's, ends.
func send(ctx context.Context, r publishRequest, ch *amqp.Channel, returns <-chan amqp.Return) error {
	callCtx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	for rest := r.parcels; len(rest) > 0; {
		n := min(len(rest), maxBatch)
		if err := sendBatch(callCtx, rest[:n], ch, returns); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func sendBatch(ctx context.Context, batch []parcel, ch *amqp.Channel, returns <-chan amqp.Return) error {
	confirmations := make([]*amqp.DeferredConfirmation, len(batch))
	for i, p := range batch {
		const mandatory, immediate = true, false
		var err error
		confirmations[i], err = ch.PublishWithDeferredConfirmWithContext(ctx, p.exchange, p.key, mandatory, immediate, amqp.Publishing{
			ContentType:     "application/json",
			ContentEncoding: "utf-8",
			DeliveryMode:    amqp.Persistent,
			MessageId:       p.id,
			Body:            p.body,
		})
		if err != nil {
			return fmt.Errorf("sending a message: %w", err)
		}
	}
	for _, c := range confirmations {
		acked, err := c.WaitContext(ctx)
		if err != nil {
			return fmt.Errorf("waiting for the broker's confirmation: %w", err)
		}
		if !acked && ch.IsClosed() {
			return errors.New("the connection has ended before the broker confirmed a message")
		}
		if !acked {
			return errors.New("the broker has refused a message")
		}
	}
	// A message that no queue takes is returned, and confirmed after that.
	select {
	case back := <-returns:
		return fmt.Errorf("the broker has no queue %s: %s", back.RoutingKey, back.ReplyText)
	default:
		return nil
	}
}
