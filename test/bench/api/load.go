// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// request is what is asked again and again, as it goes over the wire.
type request struct {
	method, path, token string
	body                func() string // nil: none
}

func (r request) bytes(host string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\nAccept: application/json\r\n"+
		"OpenStack-API-Version: container-infra latest\r\n", r.method, r.path, host, r.token)
	if r.body != nil {
		body := r.body()
		fmt.Fprintf(&out, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	} else {
		out.WriteString("\r\n")
	}
	return out.Bytes()
}

// result is what some slices of load have shown.
type result struct {
	took        []time.Duration // of each request
	elapsed     time.Duration
	cpu         float64 // microseconds of the server
	allocations float64 // of the server
}

func (r *result) rate() float64 { return float64(len(r.took)) / r.elapsed.Seconds() }

func (r *result) perRequest(total float64) float64 { return total / float64(len(r.took)) }

// quantile sorts what was measured.
func (r *result) quantile(q float64) time.Duration {
	slices.Sort(r.took)
	return r.took[int(q*float64(len(r.took)-1))]
}

// tail is how much longer than the median the slowest hundredth takes.
func (r *result) tail() float64 { return float64(r.quantile(0.99)) / float64(r.quantile(0.5)) }

// clients keep connections to one server.
type clients struct {
	address string
	each    []*client
}

type client struct {
	conn   net.Conn
	reader *bufio.Reader
}

func connect(ctx context.Context, address string, connections int) (*clients, error) {
	c := &clients{address: address}
	for range connections {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			c.close()
			return nil, err
		}
		c.each = append(c.each, &client{conn, bufio.NewReaderSize(conn, 64<<10)})
	}
	return c, nil
}

func (c *clients) close() {
	for _, one := range c.each {
		_ = one.conn.Close()
	}
}

// longest is how long one answer may take.
const longest = 60 * time.Second

// ask sends one request and reads the answer to its end.
func (c *client) ask(wire []byte) (status int, body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(longest)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(wire); err != nil {
		return 0, nil, err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode, body, err
}

// load asks over all connections for that long, or (with a limit) that often.
func (c *clients) load(ctx context.Context, what request, duration time.Duration, limit int) (result, error) {
	var (
		all    sync.WaitGroup
		took   = make([][]time.Duration, len(c.each))
		failed = make(chan error, len(c.each))
		began  = time.Now()
	)
	for i, one := range c.each {
		all.Go(func() {
			wire := what.bytes(c.address)
			for n := 0; ctx.Err() == nil; n++ {
				if limit > 0 && n >= limit/len(c.each) || limit == 0 && time.Since(began) >= duration {
					return
				}
				if what.body != nil {
					wire = what.bytes(c.address)
				}
				asked := time.Now()
				status, body, err := one.ask(wire)
				if err == nil && status >= 300 {
					err = fmt.Errorf("%s %s: %d %.300s", what.method, what.path, status, body)
				}
				if err != nil {
					failed <- err
					return
				}
				if limit == 0 {
					took[i] = append(took[i], time.Since(asked))
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return result{}, err
	default:
		return result{took: slices.Concat(took...), elapsed: time.Since(began)}, ctx.Err()
	}
}

// measure loads a server for one slice and adds what it showed to the result.
func (s *server) measure(ctx context.Context, c *clients, what request, duration time.Duration, to *result) error {
	cpu, allocations, err := s.spent(ctx)
	if err != nil {
		return err
	}
	slice, err := c.load(ctx, what, duration, 0)
	if err != nil {
		return err
	}
	cpuAfter, allocationsAfter, err := s.spent(ctx)
	if err != nil {
		return err
	}
	to.took = append(to.took, slice.took...)
	to.elapsed += slice.elapsed
	to.cpu += cpuAfter - cpu
	to.allocations += allocationsAfter - allocations
	return nil
}

// compare measures the yardstick and Keelson by turns.
func (s *site) compare(ctx context.Context, row *row) (yard, ours result, err error) {
	yardClients, err := connect(ctx, row.yardServer.address, s.connections)
	if err != nil {
		return yard, ours, err
	}
	defer yardClients.close()
	ourClients, err := connect(ctx, row.server.address, s.connections)
	if err != nil {
		return yard, ours, err
	}
	defer ourClients.close()
	if row.yardServer == s.yard {
		if err := sameAnswer(row, yardClients, ourClients); err != nil {
			return yard, ours, err
		}
	}
	// Both have their connections, caches and compiled statements before they are measured.
	var warm result
	for range 2 {
		if err := row.yardServer.measure(ctx, yardClients, row.yard, s.slice/2, &warm); err != nil {
			return yard, ours, err
		}
		if err := row.server.measure(ctx, ourClients, row.request, s.slice/2, &warm); err != nil {
			return yard, ours, err
		}
	}
	profiled, err := row.server.profile(ctx, s.profileFile(row), time.Duration(s.turns)*2*s.slice)
	if err != nil {
		return yard, ours, err
	}
	for range s.turns {
		if err := row.yardServer.measure(ctx, yardClients, row.yard, s.slice, &yard); err != nil {
			return yard, ours, err
		}
		if err := row.server.measure(ctx, ourClients, row.request, s.slice, &ours); err != nil {
			return yard, ours, err
		}
	}
	return yard, ours, profiled()
}

// sameAnswer sees to it that the yardstick answers a question as Keelson does,
// to the byte, but for the address in links.
func sameAnswer(row *row, yard, ours *clients) error {
	if row.request.body != nil {
		return nil // each makes something new
	}
	_, want, err := ours.each[0].ask(row.request.bytes(ours.address))
	if err != nil {
		return err
	}
	_, got, err := yard.each[0].ask(row.yard.bytes(ours.address))
	if err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return fmt.Errorf("the yardstick's answer is another one:\n%.600s\n%.600s", got, want)
	}
	return nil
}

// pause waits a moment.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}
