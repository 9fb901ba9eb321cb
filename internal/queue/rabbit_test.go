// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/keelson/keelson/internal/testenv"
)

func TestRabbitMQ(t *testing.T) {
	url := testenv.Require(t, testenv.RabbitMQ)
	contract(t, func(t *testing.T, o Options) Queue { return openRabbit(t, url, o) })
}

var queues atomic.Int64

// openRabbit opens a queue of its own and deletes it after the test.
func openRabbit(t testing.TB, url string, o Options) Queue {
	t.Helper()
	if o.Queue == "" {
		o.Queue = queueName(t)
	}
	o.MaxBackOff = 200 * time.Millisecond
	return open(t, url, o)
}

func queueName(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("keelson.test.%d.%d", time.Now().UnixNano(), queues.Add(1))
	t.Cleanup(func() {
		_, ch := direct(t)
		for _, n := range []string{name, name + ".dead"} {
			if _, err := ch.QueueDelete(n, false, false, false); err != nil {
				t.Errorf("deleting queue %s: %v", n, err)
			}
		}
	})
	return name
}

// direct returns a plain channel to the broker.
func direct(t testing.TB) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	parsed, err := parseTransportURL(testenv.Require(t, testenv.RabbitMQ))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := newLink("test", parsed, nil, Options{Name: "test"}).dial(context.Background(), parsed.hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, ch
}

func BenchmarkRabbitMQ(b *testing.B) {
	benchmark(b, openRabbit(b, testenv.Require(b, testenv.RabbitMQ), Options{}))
}

// proxy stands before the real broker and cuts, refuses or mutes connections.
type proxy struct {
	url      string
	listener net.Listener
	target   string

	mu      sync.Mutex
	down    bool
	mute    bool // nothing more comes from the broker
	conns   map[net.Conn]bool
	running sync.WaitGroup

	accepted atomic.Int64 // connections so far
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newProxyOn(t, listener)
}

func newProxyOn(t *testing.T, listener net.Listener) *proxy {
	t.Helper()
	parsed, err := parseTransportURL(testenv.Require(t, testenv.RabbitMQ))
	if err != nil {
		t.Fatal(err)
	}
	b := parsed.hosts[0]
	p := &proxy{listener: listener, target: b.address(), conns: map[net.Conn]bool{}}
	p.url = fmt.Sprintf("rabbit://%s:%s@%s/%s", url.PathEscape(b.user), url.PathEscape(b.password), listener.Addr(), url.PathEscape(parsed.vhost))
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.add(client, server) {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		p.accepted.Add(1)
		p.running.Go(func() { p.pipe(server, client, func() bool { return false }) })
		p.running.Go(func() {
			p.pipe(client, server, func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.mute
			})
		})
	}
}

func (p *proxy) pipe(to, from net.Conn, mute func() bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if mute() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.down
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *proxy) stop() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

func (p *proxy) setMute(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = on
}

func TestBrokerGoesAndComesBack(t *testing.T) {
	p := newProxy(t)
	q := openRabbit(t, p.url, Options{PublishTimeout: 300 * time.Millisecond})
	in := consume(t, q)
	publish(t, q, Message{"before"})
	in.next(t).Ack()
	eventually(t, "health", func() bool { return q.Healthy() == nil })

	p.stop()
	eventually(t, "the loss to be noticed", func() bool { return q.Healthy() != nil })
	if err := q.Publish(t.Context(), Message{"lost"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish without a broker: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Publish(ctx, Message{"lost"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish with a cancelled context: %v", err)
	}

	p.start()
	eventually(t, "health", func() bool { return q.Healthy() == nil })
	publish(t, q, Message{"after"})
	for d := in.next(t); d.Message.Operation != "after"; d = in.next(t) {
		if d.Message.Operation != "before" || !d.Redelivered {
			t.Errorf("got %q", d.Message.Operation)
		}
		d.Ack() // the cut had swallowed the first acknowledgement
	}

	in.stop(t)
}

// TestNothingIsLostOverCuts sends and receives while connections break all
// the time.
func TestNothingIsLostOverCuts(t *testing.T) {
	p := newProxy(t)
	q := openRabbit(t, p.url, Options{})
	const all = 200
	var mu sync.Mutex
	missing := map[string]bool{}
	for i := range all {
		missing[fmt.Sprint(i)] = true
	}
	stop := inBackground(t, q, func(_ context.Context, d *Delivery) {
		d.Ack()
		mu.Lock()
		defer mu.Unlock()
		delete(missing, d.Message.Operation)
	})
	for i := range all {
		if i%20 == 10 {
			p.cut()
		}
		publish(t, q, Message{fmt.Sprint(i)})
	}
	eventually(t, "all messages", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(missing) == 0
	})
	stop()
}

// TestLateAckHitsNoOtherMessage is about tags: the broker counts them from 1 on
// every connection, so the tag of a message from before a cut is also that of
// a message after it.
func TestLateAckHitsNoOtherMessage(t *testing.T) {
	p := newProxy(t)
	q := openRabbit(t, p.url, Options{Prefetch: 1})
	in := consume(t, q)
	publish(t, q, Message{"a"})
	late := in.next(t) // tag 1 of the first connection
	p.cut()
	again := in.next(t) // tag 1 of the second
	if !again.Redelivered || again.Message.Operation != "a" {
		t.Fatalf("got %v, redelivered %t", again.Message, again.Redelivered)
	}
	publish(t, q, Message{"b"}) // so the publishing connection is back, too
	connections := p.accepted.Load()
	late.Ack()
	// Had that acknowledged tag 1, this would be a second time, for which the
	// broker throws the receiver out.
	again.Ack()
	b := in.next(t)
	b.Ack()
	if b.Message.Operation != "b" || p.accepted.Load() != connections {
		t.Errorf("got %q over connection %d, want %d", b.Message.Operation, p.accepted.Load(), connections)
	}
	in.stop(t)
	nothingLeft(t, q)
}

func TestHandlersOutliveTheConnection(t *testing.T) {
	p := newProxy(t)
	q := openRabbit(t, p.url, Options{})
	var interrupted atomic.Bool
	entered, finish, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
	stop := inBackground(t, q, func(ctx context.Context, d *Delivery) {
		d.Ack()
		if d.Message.Operation != "long" || d.Redelivered {
			return
		}
		close(entered)
		<-finish
		interrupted.Store(ctx.Err() != nil)
		close(finished)
	})
	publish(t, q, Message{"long"})
	await(t, "the handler", entered)
	p.cut()
	publish(t, q, Message{"short"})
	close(finish)
	await(t, "the end of the handler", finished)
	stop()
	if interrupted.Load() {
		t.Error("the cut has ended the handler's context")
	}
}

func TestLostConfirmationMeansSendAgain(t *testing.T) {
	p := newProxy(t)
	q := openRabbit(t, p.url, Options{PublishTimeout: 300 * time.Millisecond})
	eventually(t, "health", func() bool { return q.Healthy() == nil })
	p.setMute(true)
	if err := q.Publish(t.Context(), Message{"a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Publish without an answer: %v", err)
	}
	p.setMute(false)
	p.cut()
	publish(t, q, Message{"a"})
	in := consume(t, q)
	in.next(t).Ack()
	in.next(t).Ack() // the first one had arrived
	in.stop(t)
	nothingLeft(t, q)
}

func TestDeletedQueueIsMadeAgain(t *testing.T) {
	o := Options{Queue: queueName(t)}
	q := openRabbit(t, testenv.Require(t, testenv.RabbitMQ), o)
	in := consume(t, q)
	publish(t, q, Message{"a"})
	in.next(t).Ack()

	_, ch := direct(t)
	if _, err := ch.QueueDelete(o.Queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	// The broker returns a message that no queue takes; it is not lost.
	publish(t, q, Message{"b"})
	if d := in.next(t); d.Message.Operation != "b" {
		t.Errorf("got %q", d.Message.Operation)
	} else {
		d.Ack()
	}
	in.stop(t)
}

// TestForeignQueueIsAnError: the name is taken by a queue of another kind.
func TestForeignQueueIsAnError(t *testing.T) {
	o := Options{Queue: queueName(t), PublishTimeout: 500 * time.Millisecond}
	_, ch := direct(t)
	if _, err := ch.QueueDeclare(o.Queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	q := openRabbit(t, testenv.Require(t, testenv.RabbitMQ), o)
	eventually(t, "the broker's word", func() bool {
		return contains(q.Publish(t.Context(), Message{"a"}), "declaring queue "+o.Queue) && contains(q.Healthy(), "PRECONDITION_FAILED")
	})
}

func TestStrangeMessagesArePutAside(t *testing.T) {
	o := Options{Queue: queueName(t)}
	q := openRabbit(t, testenv.Require(t, testenv.RabbitMQ), o)
	publish(t, q, Message{"a"})
	_, ch := direct(t)
	strange := []string{"not json", `{"version":9,"operation":"x"}`}
	for _, body := range strange {
		if err := ch.PublishWithContext(t.Context(), "", o.Queue, true, false, amqp.Publishing{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	in := consume(t, q)
	in.next(t).Ack()
	var dead []string
	eventually(t, "the messages put aside", func() bool {
		d, ok, err := ch.Get(o.Queue+".dead", true)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			dead = append(dead, string(d.Body))
		}
		return len(dead) == 2
	})
	slices.Sort(dead)
	if !slices.Equal(dead, strange) {
		t.Errorf("put aside: %q", dead)
	}
	in.stop(t)
}

func TestNextHostIsTried(t *testing.T) {
	p := newProxy(t)
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing.Close()
	credentials, rest, _ := strings.Cut(strings.TrimPrefix(p.url, "rabbit://"), "@")
	url := fmt.Sprintf("rabbit://%s@%s,%s@%s", credentials, refusing.Addr(), credentials, rest)
	q := openRabbit(t, url, Options{})
	publish(t, q, Message{"a"})
	in := consume(t, q)
	in.next(t).Ack()
	p.cut()
	publish(t, q, Message{"b"})
	in.next(t).Ack()
	in.stop(t)
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certificate := func(name string) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	right := certificate("right.pem")
	certificate("wrong.pem")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{right}})
	if err != nil {
		t.Fatal(err)
	}
	p := newProxyOn(t, listener)

	q := openRabbit(t, p.url+"?ssl=1&ssl_ca_file="+url.QueryEscape(filepath.Join(dir, "right.pem")), Options{})
	publish(t, q, Message{"a"})
	in := consume(t, q)
	in.next(t).Ack()
	in.stop(t)
	nothingLeft(t, q)

	wrong := open(t, p.url+"?ssl=1&ssl_ca_file="+url.QueryEscape(filepath.Join(dir, "wrong.pem")), Options{})
	eventually(t, "the refusal", func() bool { return contains(wrong.Healthy(), "certificate signed by unknown authority") })
	system := open(t, strings.Replace(p.url, "rabbit://", "amqps://", 1), Options{})
	eventually(t, "the refusal", func() bool { return contains(system.Healthy(), "certificate signed by unknown authority") })
}

func TestCloseDoesNotWaitForASilentBroker(t *testing.T) {
	p := newProxy(t)
	p.setMute(true)
	q, err := Open(p.url, Options{Queue: "keelson.test.never"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a connection", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns) > 0
	})
	began := time.Now()
	q.Close()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Close took %s", took)
	}
}

func TestSecretsStayOutOfLogsAndErrors(t *testing.T) {
	p := newProxy(t)
	_, rest, _ := strings.Cut(p.url, "@")
	var log syncBuffer
	q, err := Open("rabbit://nobody:hunter2@"+rest, Options{
		PublishTimeout: 100 * time.Millisecond, MaxBackOff: 50 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	// The broker answers a wrong password late, on purpose.
	eventually(t, "the refusal", func() bool { err = q.Healthy(); return contains(err, "username or password not allowed") })
	err = errors.Join(err, q.Publish(t.Context(), Message{"a"}))
	eventually(t, "a line in the log", func() bool { return strings.Contains(log.String(), "no connection to the message queue") })
	if strings.Contains(log.String()+err.Error(), "hunter2") {
		t.Errorf("password in %q or %q", err, log.String())
	}
}

// syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

var _ io.Writer = (*syncBuffer)(nil)

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
