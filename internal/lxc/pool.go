// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package lxc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/keelson/keelson/internal/fault"
)

const (
	// A host has few workers for its clients' calls.
	callsPerHost = 4

	// How long a call may take whose context has no deadline.
	defaultTimeout = 30 * time.Second

	// How long closing the pool waits for the calls to one host.
	closeTimeout = 5 * time.Second

	// A connection whose host has been silent for interval × count is closed,
	// which ends the calls that wait on it.
	keepAliveInterval = 5 // s
	keepAliveCount    = 3
)

// Pool holds the libvirt connections to hosts, made when they are first needed
// and again after they broke. It is safe for concurrent use.
//
// A connection is in the hands of one call at a time. libvirt's client would
// take several, but when such a connection breaks it reads memory that is not
// its own any more, and ends the process (CVE-2024-4418).
type Pool struct {
	log    *slog.Logger
	pki    string
	events *eventLoop

	mu    sync.Mutex
	hosts map[string]*Host // by URI
}

// NewPool returns an empty pool of hosts on this machine. Close ends it.
func NewPool(log *slog.Logger) (*Pool, error) { return NewPoolWithTLS(log, "") }

// NewPoolWithTLS returns an empty pool that also reaches hosts on other
// machines, by lxc+tls://. The directory pki holds cacert.pem, clientcert.pem
// and clientkey.pem; they are read anew for each connection.
func NewPoolWithTLS(log *slog.Logger, pki string) (*Pool, error) {
	events, err := startEvents()
	if err != nil {
		return nil, err
	}
	return &Pool{log: log, pki: pki, events: events, hosts: map[string]*Host{}}, nil
}

// Host returns the host behind the libvirt URI. It is not asked anything yet.
// Its name is what sentences for users call it.
func (p *Pool) Host(name, uri string) *Host {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[uri]
	if h == nil {
		h = &Host{
			name:  name,
			uri:   uri,
			pki:   p.pki,
			log:   p.log.With("host", name),
			slots: make(chan struct{}, callsPerHost),
			nodes: map[string]chan struct{}{},
		}
		p.hosts[uri] = h
	}
	return h
}

// Close closes all connections and waits a little for calls under way. A call
// that hangs on a silent host ends when the kernel gives that host up.
func (p *Pool) Close() error {
	p.mu.Lock()
	hosts := p.hosts
	p.hosts = map[string]*Host{}
	p.mu.Unlock()
	for _, h := range hosts {
		h.close()
	}
	p.events.stop()
	return nil
}

// Host is one bare-metal host. It is safe for concurrent use; calls that
// change the same node wait for each other.
type Host struct {
	name string
	uri  string
	pki  string // directory of the conductor's certificates
	log  *slog.Logger

	slots chan struct{} // holds one entry per call under way
	calls sync.WaitGroup

	mu     sync.Mutex
	idle   []*libvirt.Connect // that no call has, the one used last at the end
	closed bool
	nodes  map[string]chan struct{} // nodes being changed; closed when done
}

// close disconnects and waits for calls under way, for a while.
func (h *Host) close() {
	h.mu.Lock()
	h.closed = true
	conns := h.idle
	h.idle = nil
	h.mu.Unlock()
	for _, conn := range conns {
		_, _ = conn.Close() // those of calls under way are closed when these end
	}
	idle := make(chan struct{})
	go func() {
		h.calls.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(closeTimeout):
		h.log.Warn("calls to libvirt are still under way")
	}
}

// do runs fn with a connection. libvirt's calls know nothing of contexts, so
// fn runs in a goroutine of its own: when ctx ends first, do returns, and fn
// ends when its present call does, because it asks ctx before each further
// one (see session). Until then it keeps its slot, and its node.
//
// node is the node that fn changes; with "" it only looks.
func (h *Host) do(ctx context.Context, node, what string, fn func(*session) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
	}
	release, err := h.acquire(ctx, node)
	if err != nil {
		return h.explain(err, what)
	}
	done := make(chan error, 1)
	go func() {
		defer release()
		conn, err := h.connect()
		if err == nil {
			err = fn(&session{ctx: ctx, host: h, conn: conn})
			h.putBack(conn)
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return h.explain(err, what)
	}
	return nil
}

// acquire waits for a free slot and, if node is given, for the node.
func (h *Host) acquire(ctx context.Context, node string) (release func(), err error) {
	freeNode := func() {}
	if node != "" {
		if freeNode, err = h.acquireNode(ctx, node); err != nil {
			return nil, err
		}
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		freeNode()
		return nil, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		<-h.slots
		defer freeNode() // takes the lock itself
		return nil, errors.New("the pool of hosts is closed")
	}
	h.calls.Add(1)
	return func() {
		freeNode()
		<-h.slots
		h.calls.Done()
	}, nil
}

func (h *Host) acquireNode(ctx context.Context, node string) (release func(), err error) {
	for {
		h.mu.Lock()
		busy := h.nodes[node]
		if busy == nil {
			mine := make(chan struct{})
			h.nodes[node] = mine
			h.mu.Unlock()
			return func() {
				h.mu.Lock()
				delete(h.nodes, node)
				h.mu.Unlock()
				close(mine)
			}, nil
		}
		h.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("another call still changes node %s: %w", node, ctx.Err())
		}
	}
}

// connect returns a living connection that nobody else has; putBack takes it
// back.
func (h *Host) connect() (*libvirt.Connect, error) {
	for {
		h.mu.Lock()
		last := len(h.idle) - 1
		if last < 0 {
			h.mu.Unlock()
			break
		}
		conn := h.idle[last]
		h.idle = h.idle[:last]
		h.mu.Unlock()
		if alive, err := conn.IsAlive(); err == nil && alive {
			return conn, nil
		}
		h.lost(conn)
	}
	uri, err := connectURI(h.name, h.uri, h.pki)
	if err != nil {
		return nil, err
	}
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, &connectError{err}
	}
	if err := conn.SetKeepAlive(keepAliveInterval, keepAliveCount); err != nil {
		h.log.Warn("libvirt connection has no keep-alive", "error", err)
	}
	h.log.Debug("connected to libvirt")
	return conn, nil
}

// putBack keeps the connection for the next call, unless it is broken or the
// pool is closed.
func (h *Host) putBack(conn *libvirt.Connect) {
	if alive, err := conn.IsAlive(); err != nil || !alive {
		h.lost(conn)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		_, _ = conn.Close()
		return
	}
	h.idle = append(h.idle, conn)
}

func (h *Host) lost(conn *libvirt.Connect) {
	_, _ = conn.Close()
	h.log.Warn("libvirt connection lost")
}

// connectError is a failure to connect.
type connectError struct{ cause error }

func (e *connectError) Error() string { return "connect: " + e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

// explain gives an error its sentence for the user, unless it has one.
func (h *Host) explain(err error, what string) error {
	if fault.Reason(err, "") != "" {
		return err
	}
	cause := fmt.Errorf("%s on host %s: %w", what, h.name, err)
	var refused *connectError
	var virt libvirt.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Temporary(cause, "host %s did not answer in time to %s", h.name, what)
	case errors.As(err, &refused):
		if errors.As(err, &virt) && virt.Domain == libvirt.FROM_NONE && virt.Code == libvirt.ERR_INTERNAL_ERROR {
			return fault.Permanent(cause, "the libvirt client library is not installed where the conductor runs: install libvirt0")
		}
		if errors.As(err, &virt) && strings.Contains(virt.Message, "certificate") {
			return fault.Temporary(cause, "host %s and the conductor do not accept each other's certificates: the operator finds the cause in the conductor's log", h.name)
		}
		return fault.Temporary(cause, "host %s cannot be reached through libvirt", h.name)
	case errors.Is(err, libvirt.ERR_NO_STORAGE_POOL):
		// prepare.sh makes the pools when libvirt answers already.
		return fault.Temporary(cause, "host %s is not prepared for nodes, or not yet: it lacks a storage pool, run templates/host/prepare.sh there", h.name)
	}
	return fault.Temporary(cause, "host %s failed to %s", h.name, what)
}

// eventLoop runs libvirt's event loop, which keep-alives need. libvirt knows
// one per process, so all pools share it.
type eventLoop struct{}

var events struct {
	sync.Mutex
	registered bool
	users      int
	quit       chan struct{}
	done       chan struct{}
}

func startEvents() (*eventLoop, error) {
	events.Lock()
	defer events.Unlock()
	if !events.registered {
		if err := libvirt.EventRegisterDefaultImpl(); err != nil {
			var virt libvirt.Error
			if errors.As(err, &virt) {
				return nil, fault.Permanent(err, "the libvirt client library cannot be used where the conductor runs: install libvirt0")
			}
			return nil, fmt.Errorf("libvirt event loop: %w", err)
		}
		events.registered = true
	}
	if events.users++; events.users > 1 {
		return &eventLoop{}, nil
	}
	// The loop sleeps until something happens; the timer makes it look at
	// quit now and then.
	timer, err := libvirt.EventAddTimeout(200, func(int) {})
	if err != nil {
		events.users--
		return nil, fmt.Errorf("libvirt event loop: %w", err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	events.quit, events.done = quit, done
	go func() {
		defer close(done)
		defer func() { _ = libvirt.EventRemoveTimeout(timer) }()
		for {
			select {
			case <-quit:
				return
			default:
				_ = libvirt.EventRunDefaultImpl()
			}
		}
	}()
	return &eventLoop{}, nil
}

// stop ends the loop when its last user is gone, and waits for that.
func (*eventLoop) stop() {
	events.Lock()
	defer events.Unlock()
	if events.users--; events.users == 0 {
		close(events.quit)
		<-events.done
	}
}
