// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/internal/config"
)

// putCertificate writes a self-signed certificate of that name, and its key.
func putCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		must(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600))
	}
}

// greet serves "hello" on the API's listener until the test ends.
func greet(t *testing.T, p *process, readTimeout time.Duration) (address string) {
	t.Helper()
	p.log = slog.New(slog.DiscardHandler)
	l, err := p.listenAPI()
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return serveHTTP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
				return
			}
			_, _ = io.WriteString(w, "hello")
		}), readTimeout, time.Second, p.log)
	})
	p.startReloads(ctx, group)
	t.Cleanup(func() { stop(); must(t, group.Wait()) })
	return l.Addr().String()
}

// hello makes a request over the connection.
func hello(t *testing.T, conn net.Conn) {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
}

func TestCertificateIsReadAgainWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	putCertificate(t, dir, "first")
	p := &process{cfg: &config.Config{API: config.API{
		Host: "127.0.0.1", EnabledSSL: true, SSLCertFile: filepath.Join(dir, "cert.pem"), SSLKeyFile: filepath.Join(dir, "key.pem"),
	}}}
	p.heedHangups()
	defer p.close()
	address := greet(t, p, time.Minute)
	dial := func() (*tls.Conn, string) {
		t.Helper()
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) // the certificate is looked at below
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	old, name := dial()
	if name != "first" {
		t.Fatalf("certificate of %q", name)
	}
	hello(t, old)

	// Half of a new pair changes nothing.
	keep, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	must(t, err)
	putCertificate(t, dir, "second")
	half, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), keep, 0o600))
	reload := p.reloads[0].reload
	if changed, err := reload(false); changed || err == nil {
		t.Errorf("a certificate with another key was taken: %v, %v", changed, err)
	}
	if _, name := dial(); name != "first" {
		t.Errorf("certificate of %q", name)
	}

	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), half, 0o600))
	if changed, err := reload(false); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
	if changed, err := reload(false); changed || err != nil {
		t.Errorf("nothing has changed since: %v, %v", changed, err)
	}
	if _, name := dial(); name != "second" {
		t.Errorf("certificate of %q", name)
	}
	hello(t, old) // goes on

	putCertificate(t, dir, "third")
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, name := dial(); name == "third" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("SIGHUP has no effect")
		}
	}
	hello(t, old)

	if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// A client that is slow on purpose can not keep a connection.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	p := &process{cfg: &config.Config{API: config.API{Host: "127.0.0.1"}}}
	address := greet(t, p, 500*time.Millisecond)
	for what, begin := range map[string]string{
		"says nothing":                 "",
		"stops in the headers":         "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"stops in the body":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
		"sends headers without an end": "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat(fmt.Sprintf("X-Long: %01000d\r\n", 0), 80),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			must(t, err)
			defer conn.Close()
			must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			_, _ = io.WriteString(conn, begin) // may be refused before all of it is sent
			answer, err := io.ReadAll(conn)
			if t, timeout := err.(net.Error); timeout && t.Timeout() {
				err = fmt.Errorf("the connection is still open: %w", err)
			} else {
				err = nil
			}
			must(t, err)
			if strings.Contains(string(answer), "hello") {
				t.Errorf("answered: %s", answer)
			}
		})
	}
}
