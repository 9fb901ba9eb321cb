// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// dialTimeout bounds TCP, TLS and AMQP handshakes together.
	dialTimeout = 10 * time.Second
	// heartbeat is the interval at which both sides show that they live; a
	// silent peer is given up after one and a half of it.
	heartbeat = 10 * time.Second
	// closeTimeout bounds the farewell to a broker.
	closeTimeout = time.Second
	// frameSize is RabbitMQ's own default.
	frameSize = 128 << 10
)

// link is one connection to the broker, made anew for ever. Each connection is
// a fresh one of the client library, whose own recovery stays off: it keeps
// channel objects over a reconnect, and an acknowledgement of a message from
// before would then hit another message.
type link struct {
	Options
	purpose string // "publish" or "consume"
	brokers []broker
	vhost   string
	tls     *tls.Config

	mu    sync.Mutex
	why   error // why it is down; nil while it is up
	since time.Time
}

var errNotYet = errors.New("not connected yet")

func newLink(purpose string, t transport, tlsConfig *tls.Config, o Options) *link {
	return &link{Options: o, purpose: purpose, brokers: t.hosts, vhost: t.vhost, tls: tlsConfig, why: errNotYet, since: time.Now()}
}

// run connects to one broker after the other and calls serve with each
// connection, until ctx ends. serve calls up when all is ready for use, and
// returns when the connection has ended or is of no more use.
func (l *link) run(ctx context.Context, serve func(context.Context, *amqp.Connection) error) {
	pause := newBackOff(l.MaxBackOff)
	for attempt := 0; ctx.Err() == nil; attempt++ {
		b := l.brokers[attempt%len(l.brokers)]
		log := l.Logger.With("broker", b.address(), "purpose", l.purpose)
		began := time.Now()
		err := l.serveOnce(ctx, b, log, serve)
		if ctx.Err() != nil {
			break
		}
		l.down(err)
		// A connection that lasted was a good one: begin with short pauses
		// again. One that broke at once may be refused for a reason that stays.
		if time.Since(began) > l.MaxBackOff {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		log.Warn("no connection to the message queue", "error", err, "retry_in", wait.Round(time.Millisecond).String())
		sleep(ctx, wait)
	}
	l.down(ErrClosed)
}

func (l *link) serveOnce(ctx context.Context, b broker, log *slog.Logger, serve func(context.Context, *amqp.Connection) error) error {
	conn, err := l.dial(ctx, b)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.CloseDeadline(time.Now().Add(closeTimeout)) }()
	log.Info("connected to the message queue")
	return serve(ctx, conn)
}

func (l *link) dial(ctx context.Context, b broker) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.address())
	if err != nil {
		return nil, err
	}
	// The AMQP handshake knows no context: closing the socket ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if l.tls != nil {
		config := l.tls.Clone()
		config.ServerName = b.host
		client := tls.Client(conn, config)
		if err := client.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = client
	}
	connection, err := amqp.Open(boundedWrites{conn}, amqp.Config{
		SASL:       []amqp.Authentication{&amqp.PlainAuth{Username: b.user, Password: b.password}},
		Vhost:      l.vhost,
		Heartbeat:  heartbeat,
		FrameSize:  frameSize,
		Locale:     "en_US",
		Properties: amqp.Table{"product": "Keelson", "connection_name": l.Name + " " + l.purpose},
	})
	if err != nil {
		_ = conn.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	if !stop() {
		_ = connection.CloseDeadline(time.Now())
		return nil, ctx.Err()
	}
	return connection, nil
}

// boundedWrites gives each write a deadline: a broker that stops reading must
// not hold up a publisher for ever.
type boundedWrites struct{ net.Conn }

func (c boundedWrites) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(heartbeat)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (l *link) up() { l.down(nil) }

// down notes why the link cannot be used; nil says that it can.
func (l *link) down(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (why == nil) != (l.why == nil) {
		l.since = time.Now()
	}
	l.why = why
}

// healthy returns nil while the link is up.
func (l *link) healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		return nil
	}
	return fmt.Errorf("message queue cannot %s for %s: %w", l.purpose, time.Since(l.since).Round(time.Second), l.why)
}

// newBackOff returns growing, jittered pauses of 100 ms to max.
func newBackOff(max time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = min(100*time.Millisecond, max)
	b.MaxInterval = max
	b.Multiplier = 2
	b.RandomizationFactor = 0.5
	return b
}
