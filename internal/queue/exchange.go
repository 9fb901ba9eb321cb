// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Exchange publishes to a topic exchange at RabbitMQ that other programs use
// too, in the manner of oslo.messaging: each key has a queue of its own name,
// so that nothing is lost while nobody listens.
type Exchange struct {
	name      string
	publisher *publisher
	close     context.CancelFunc
	done      sync.WaitGroup
}

// ExchangeOptions say what to make of an exchange and its queues where they do
// not exist. What exists is used as it is: oslo.messaging, which declares the
// same, insists on its own settings, so these follow [oslo_messaging_rabbit].
type ExchangeOptions struct {
	Name    string   // control_exchange: "magnum"
	Keys    []string // "notifications.info"
	Durable bool     // amqp_durable_queues: outlive a restart of the broker
	Quorum  bool     // rabbit_quorum_queue; implies Durable
}

// Letter is one message to an exchange.
type Letter struct {
	Key  string // one of ExchangeOptions.Keys
	ID   string
	Body []byte // JSON
}

// OpenExchange connects, and stays connected, in the background. It fails only
// on a bad URL, unreadable TLS files, or memory://, where nobody else could
// listen.
func OpenExchange(transportURL string, e ExchangeOptions, o Options) (*Exchange, error) {
	t, err := parseTransportURL(transportURL)
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	if t.memory {
		return nil, errors.New("transport_url: memory:// reaches no other program, this needs RabbitMQ")
	}
	tlsConfig, err := t.tls.config()
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	closed, cancel := context.WithCancel(context.Background())
	x := &Exchange{name: e.Name, close: cancel}
	x.publisher = newPublisher(closed, newLink("publish to "+e.Name, t, tlsConfig, o.withDefaults()), e.declare)
	x.done.Go(x.publisher.run)
	return x, nil
}

// Publish keeps the contract of Publisher.Publish.
func (x *Exchange) Publish(ctx context.Context, letters ...Letter) error {
	parcels := make([]parcel, len(letters))
	for i, l := range letters {
		parcels[i] = parcel{x.name, l.Key, l.ID, l.Body}
	}
	return x.publisher.publish(ctx, parcels)
}

// Healthy is as that of a Queue.
func (x *Exchange) Healthy() error { return x.publisher.link.healthy() }

// Close ends everything. It may be called again.
func (x *Exchange) Close() error {
	x.close()
	x.done.Wait()
	return nil
}

// declare makes the exchange and its queues as far as they are missing.
func (e ExchangeOptions) declare(conn *amqp.Connection) error {
	const autoDelete, internal, exclusive, noWait = false, false, false, false
	durable := e.Durable || e.Quorum
	err := unlessThere(conn,
		func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(e.Name, amqp.ExchangeTopic, durable, autoDelete, internal, noWait, nil)
		},
		func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(e.Name, amqp.ExchangeTopic, durable, autoDelete, internal, noWait, nil)
		})
	if err != nil {
		return fmt.Errorf("declaring exchange %s: %w", e.Name, err)
	}
	var arguments amqp.Table
	if e.Quorum {
		arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	}
	for _, key := range e.Keys {
		err := unlessThere(conn,
			func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclarePassive(key, durable, autoDelete, exclusive, noWait, nil)
				return err
			},
			func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(key, durable, autoDelete, exclusive, noWait, arguments)
				return err
			})
		if err == nil {
			err = over(conn, func(ch *amqp.Channel) error { return ch.QueueBind(key, key, e.Name, noWait, nil) })
		}
		if err != nil {
			return fmt.Errorf("declaring queue %s: %w", key, err)
		}
	}
	return nil
}

// unlessThere looks and, when the broker says that there is no such thing,
// makes it.
func unlessThere(conn *amqp.Connection, look, make func(*amqp.Channel) error) error {
	err := over(conn, look)
	if answer := (*amqp.Error)(nil); errors.As(err, &answer) && answer.Code == amqp.NotFound {
		return over(conn, make)
	}
	return err
}

// over runs fn over a channel of its own: the broker closes a channel over
// which something went wrong.
func over(conn *amqp.Connection, fn func(*amqp.Channel) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("opening a channel: %w", err)
	}
	defer func() { _ = ch.Close() }()
	return fn(ch)
}
