// SPDX-License-Identifier: Apache-2.0

// Package badnet is a network that goes wrong when it is told to: a proxy
// between a program and the database, broker or service it works with. Tests
// cut, freeze and refuse its connections without touching what is behind it,
// so that many tests can share one real part.
package badnet

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Proxy passes connections on. It may be used from several goroutines at once.
type Proxy struct {
	listener         net.Listener
	network, address string // behind it

	mu     sync.Mutex
	cond   *sync.Cond // told of each change below
	links  map[*link]bool
	refuse bool
	frozen bool
	closed bool
	budget int64 // bytes until the connections are cut; negative: none is set
	owned  sync.WaitGroup
}

// link is one connection with its other half.
type link struct{ near, far net.Conn }

func (l *link) close() {
	_ = l.near.Close()
	if l.far != nil {
		_ = l.far.Close()
	}
}

// Listen opens a proxy on a free loopback port for what listens at address
// (network is "tcp" or "unix"). Close it.
func Listen(network, address string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, network: network, address: address, links: make(map[*link]bool), budget: -1}
	p.cond = sync.NewCond(&p.mu)
	p.owned.Go(p.accept)
	return p, nil
}

// Addr is where clients connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of that.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Close cuts all connections and ends the proxy.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.owned.Wait()
	return err
}

// Cut ends the connections there are, in the middle of whatever they carry. New
// ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for l := range p.links {
		l.close()
	}
	p.budget = -1
	p.cond.Broadcast()
}

// CutAfter ends the connections there are after that many more bytes have
// passed, counted over all and in both directions.
func (p *Proxy) CutAfter(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = bytes
}

// Down ends the connections and takes no new ones until Up, as a service does
// that is being restarted.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	p.cut()
}

// Freeze lets nothing pass until Up, while all connections stay open, as a
// network does that drops packets.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// Up makes all well again. What was frozen goes on.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.frozen, p.budget = false, false, -1
	p.cond.Broadcast()
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.owned.Go(func() { p.serve(near) })
	}
}

func (p *Proxy) serve(near net.Conn) {
	l := &link{near: near}
	defer l.close()
	if !p.admit(l) {
		return
	}
	defer p.forget(l)
	far, err := net.Dial(p.network, p.address)
	if err != nil {
		return
	}
	p.mu.Lock()
	l.far = far
	gone := p.closed || p.refuse || !p.links[l]
	p.mu.Unlock()
	if gone {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(l, far, near) })
	both.Go(func() { p.pass(l, near, far) })
	both.Wait()
}

func (p *Proxy) admit(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return false
	}
	p.links[l] = true
	return true
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	p.cond.Broadcast()
}

// pass copies until one end closes.
func (p *Proxy) pass(l *link, to io.Writer, from io.Reader) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			n, ok := p.allow(n)
			if _, err := to.Write(buffer[:n]); err != nil || !ok {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// allow waits while the proxy is frozen, and tells how many of n bytes may pass
// and whether the connection lives on.
func (p *Proxy) allow(n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.refuse && !p.closed {
		p.cond.Wait()
	}
	if p.refuse || p.closed {
		return 0, false
	}
	if p.budget >= 0 {
		if int64(n) >= p.budget {
			n = int(p.budget)
			p.cut()
			return n, false
		}
		p.budget -= int64(n)
	}
	return n, true
}
