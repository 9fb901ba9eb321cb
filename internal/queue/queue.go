// SPDX-License-Identifier: Apache-2.0

// Package queue carries word of new operations from the API to the conductors,
// over RabbitMQ or within one process.
//
// A message is only a hint: the operation's row in the database is the truth.
// So a message may come twice, late or never; a conductor claims the row
// before it works, and looks for rows that no message told of.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Message says that an operation waits in the database.
type Message struct {
	Operation string // the operation's uuid
}

// Publisher sends messages.
type Publisher interface {
	// Publish returns nil once the broker keeps all messages safe. It waits
	// for the broker, and tries again over a new connection, until ctx ends or
	// the queue's PublishTimeout has passed. After an error some messages may
	// have been sent and some not: send all of them again later. It may be
	// called by several goroutines.
	Publish(ctx context.Context, messages ...Message) error
}

// Consumer receives messages.
type Consumer interface {
	// Consume calls handle, in a goroutine of its own, for each message, until
	// ctx ends; then it waits for the calls that still run and returns nil.
	// At most Options.Parallel calls run at once. It survives the loss of the
	// broker: calls that run then go on undisturbed, and their messages, if
	// not yet acknowledged, come again. handle's ctx is Consume's.
	//
	// Several Consumers share the messages of a queue between them.
	Consume(ctx context.Context, handle func(context.Context, *Delivery)) error
}

// Queue is both ends of a message queue.
type Queue interface {
	Publisher
	Consumer

	// Healthy returns nil while every connection in use is up, and else says
	// which is down, for how long and why. It does not touch the network.
	Healthy() error

	// Close ends everything. Publish and Consume return ErrClosed afterwards.
	// It may be called again.
	Close() error
}

// ErrClosed is returned by a Queue that was closed.
var ErrClosed = errors.New("message queue is closed")

// Options of a Queue. The zero value is fit for use.
type Options struct {
	Logger *slog.Logger // default: none

	// Name tells connections apart in the broker's management tools; the
	// conductor's or API's host and process. Default: "keelson".
	Name string

	// Queue is the queue's name at the broker. Default: "keelson.operations".
	Queue string

	// Parallel bounds the calls of a handler that run at once. Default: 16.
	Parallel int

	// Prefetch is how many messages a Consumer takes from the broker before
	// it has acknowledged the first. While all handlers are busy these wait
	// here although another conductor might be free, so it is small.
	// Default: 4.
	Prefetch int

	// PublishTimeout bounds each Publish. Default: 10 s.
	PublishTimeout time.Duration

	// RedeliverAfter is how long a message rests that its handler has not
	// acknowledged. Default: 1 s.
	RedeliverAfter time.Duration

	// MaxBackOff bounds the pause between attempts to reach a broker.
	// Default: 10 s.
	MaxBackOff time.Duration
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		o.Name = "keelson"
	}
	if o.Queue == "" {
		o.Queue = "keelson.operations"
	}
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if o.Prefetch <= 0 {
		o.Prefetch = 4
	}
	if o.PublishTimeout <= 0 {
		o.PublishTimeout = 10 * time.Second
	}
	if o.RedeliverAfter <= 0 {
		o.RedeliverAfter = time.Second
	}
	if o.MaxBackOff <= 0 {
		o.MaxBackOff = 10 * time.Second
	}
	return o
}

// Open returns the queue that transportURL names: rabbit:// connects, and
// stays connected, in the background; memory:// is a new queue within this
// process. It fails only on a bad URL or unreadable TLS files.
func Open(transportURL string, o Options) (Queue, error) {
	t, err := parseTransportURL(transportURL)
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	o = o.withDefaults()
	if t.memory {
		return newMemory(o), nil
	}
	tlsConfig, err := t.tls.config()
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	return newRabbit(t, tlsConfig, o), nil
}

// deliveryLimit is how often a message may come again before it is put aside.
// The conductors then find its operation in the database all the same.
const deliveryLimit = 20

// Delivery is a message at its receiver.
type Delivery struct {
	Message     Message
	Redelivered bool // it may have been delivered before

	settled atomic.Bool
	ack     func()
	release func() // back to the queue
}

// Ack takes the message off the queue. Call it as soon as the operation is
// claimed, or proves to need no claim; do not wait for the work to end, for
// brokers drop receivers that keep a message long.
//
// When the connection that the message came over is gone, Ack does nothing,
// and the message comes again. Ack may be called again.
//
// A message that is not acknowledged when its handler returns goes back to
// the queue and comes again after Options.RedeliverAfter.
func (d *Delivery) Ack() {
	if d.settled.CompareAndSwap(false, true) {
		d.ack()
	}
}

// finish is called when the handler has returned. It puts the message back if
// it was not acknowledged, after a rest; when ctx ends, at once.
func (d *Delivery) finish(ctx context.Context, rest time.Duration) {
	if !d.settled.CompareAndSwap(false, true) {
		return
	}
	sleep(ctx, rest)
	d.release()
}

// envelope is a message's form on the wire.
type envelope struct {
	Version   int    `json:"version"`
	Operation string `json:"operation"`
}

const wireVersion = 1

func (m Message) encode() ([]byte, error) {
	return json.Marshal(envelope{wireVersion, m.Operation})
}

func decode(body []byte) (Message, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return Message{}, fmt.Errorf("is not a message of ours: %w", err)
	}
	if e.Version != wireVersion || e.Operation == "" {
		return Message{}, fmt.Errorf("has version %d, which is unknown, or names no operation", e.Version)
	}
	return Message{e.Operation}, nil
}

// sleep waits for d, or less if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
