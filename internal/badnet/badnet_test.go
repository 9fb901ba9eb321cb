// SPDX-License-Identifier: Apache-2.0

package badnet_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/badnet"
)

// echo is a service that says back what it hears.
func echo(t *testing.T) *badnet.Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	p, err := badnet.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func dial(t *testing.T, p *badnet.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say sends the word and returns what comes back.
func say(t *testing.T, c net.Conn, word string, wait time.Duration) (string, error) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	back := make([]byte, len(word))
	n, err := io.ReadFull(c, back)
	return string(back[:n]), err
}

// Each fault hits connections that are open, and Up ends it.
func TestFaults(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	if back, err := say(t, c, "hello", time.Minute); back != "hello" || err != nil {
		t.Fatal(back, err)
	}
	p.Freeze()
	if _, err := say(t, c, "hello", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a frozen connection answers %v", err)
	}
	p.Up()
	if back, err := say(t, c, "", time.Minute); err != nil {
		t.Fatal(back, err)
	}
	p.CutAfter(3)
	p.Up()
	c = dial(t, p)
	if _, err := say(t, c, "hello", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.CutAfter(3)
	if back, err := say(t, c, "hello", time.Minute); err == nil {
		t.Fatalf("%q came through three bytes", back)
	}
	p.Down()
	if back, err := say(t, dial(t, p), "hello", time.Minute); err == nil {
		t.Fatalf("%q came from what is down", back)
	}
	p.Up()
	c = dial(t, p)
	if back, err := say(t, c, "hello", time.Minute); back != "hello" || err != nil {
		t.Fatal(back, err)
	}
	p.Cut()
	if _, err := say(t, c, "hello", time.Minute); err == nil {
		t.Fatal("a connection that was cut lives")
	}
}
