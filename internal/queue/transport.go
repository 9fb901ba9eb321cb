// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// transport is a parsed transport_url.
type transport struct {
	memory bool
	hosts  []broker
	vhost  string
	tls    *tlsFiles // nil: no TLS
}

// broker is one host of a transport_url.
type broker struct {
	host     string // name or address, without brackets
	port     string
	user     string
	password string
}

func (b broker) address() string { return net.JoinHostPort(b.host, b.port) }

// tlsFiles name PEM files; empty names mean none.
type tlsFiles struct{ ca, cert, key string }

// parseTransportURL reads a URL in oslo.messaging's form, which is no URL by
// the RFC: rabbit://user:password@host1:port,user:password@host2:port/vhost?…
// User, password and virtual host are percent-encoded. Hosts without a user
// log in as guest, but either all name a user or none. amqp:// and amqps://
// mean the same, the latter with TLS.
//
// Errors never repeat a part of the URL: when a password is not encoded, it
// may turn up in any part.
func parseTransportURL(text string) (transport, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return transport{}, errors.New("must look like rabbit://user:password@host:port/vhost, or be memory://")
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	netloc, path, _ := strings.Cut(rest, "/")

	var t transport
	switch scheme {
	case "memory":
		if rest != "" && rest != "/" || hasQuery {
			return transport{}, errors.New("memory:// takes no host and no parameters")
		}
		return transport{memory: true}, nil
	case "rabbit", "amqp":
	case "amqps":
		t.tls = new(tlsFiles)
	default:
		return transport{}, errors.New("must start with rabbit://, amqp://, amqps:// or memory://")
	}
	if strings.Contains(text, "#") {
		return transport{}, errors.New(`holds a "#"; inside a password it is written %23`)
	}

	if err := t.readQuery(query); err != nil {
		return transport{}, err
	}
	var err error
	if t.vhost, err = url.PathUnescape(path); err != nil {
		return transport{}, errors.New("has a virtual host with a wrong %-sequence")
	}
	if t.vhost == "" {
		t.vhost = "/"
	}
	if err := t.readHosts(netloc); err != nil {
		return transport{}, err
	}
	return t, nil
}

func (t *transport) readHosts(netloc string) error {
	defaultPort := "5672"
	if t.tls != nil {
		defaultPort = "5671"
	}
	anonymous := 0
	for i, part := range strings.Split(netloc, ",") {
		b, err := parseBroker(part, defaultPort)
		if err != nil {
			return fmt.Errorf("host %d %w", i+1, err)
		}
		if b.user == "" {
			anonymous++
			b.user, b.password = "guest", "guest"
		}
		t.hosts = append(t.hosts, b)
	}
	if anonymous > 0 && anonymous < len(t.hosts) {
		return errors.New("either all hosts need user:password@ or none")
	}
	return nil
}

func parseBroker(part, defaultPort string) (broker, error) {
	b := broker{port: defaultPort}
	hostPort := part
	if at := strings.LastIndex(part, "@"); at >= 0 {
		user, password, _ := strings.Cut(part[:at], ":")
		hostPort = part[at+1:]
		var errUser, errPassword error
		b.user, errUser = url.PathUnescape(user)
		b.password, errPassword = url.PathUnescape(password)
		if errUser != nil || errPassword != nil {
			return broker{}, errors.New("has a user or password with a wrong %-sequence")
		}
		if b.user == "" {
			return broker{}, errors.New("has no user before the @")
		}
	}
	b.host = hostPort
	if inner, found := strings.CutPrefix(hostPort, "["); found {
		address, after, closed := strings.Cut(inner, "]")
		if ip := net.ParseIP(address); !closed || ip == nil || ip.To4() != nil && !strings.Contains(address, ":") {
			return broker{}, errors.New("has no IPv6 address between [ and ]")
		}
		b.host = address
		port, hasPort := strings.CutPrefix(after, ":")
		if after != "" && !hasPort {
			return broker{}, errors.New("has something after ] that is no port")
		}
		if hasPort {
			b.port = port
		}
	} else if host, port, found := strings.Cut(hostPort, ":"); found {
		b.host, b.port = host, port
	}
	if b.host == "" || strings.ContainsAny(b.host, " %@[]\t\r\n\x00") {
		return broker{}, errors.New("has no name or address")
	}
	port, err := strconv.ParseUint(b.port, 10, 16)
	if err != nil || port == 0 {
		return broker{}, errors.New("has no port from 1 to 65535")
	}
	b.port = strconv.FormatUint(port, 10)
	return b, nil
}

func (t *transport) readQuery(query string) error {
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has parameters that are not name=value&name=value")
	}
	last := func(name string) string {
		values := parameters[name]
		delete(parameters, name)
		if len(values) == 0 {
			return ""
		}
		return values[len(values)-1]
	}
	switch strings.ToLower(last("ssl")) {
	case "":
	case "1", "true", "yes", "on":
		t.tls = new(tlsFiles)
	case "0", "false", "no", "off":
		t.tls = nil
	default:
		return errors.New("parameter ssl must be true or false")
	}
	files := tlsFiles{last("ssl_ca_file"), last("ssl_cert_file"), last("ssl_key_file")}
	if len(parameters) > 0 {
		return errors.New("has an unknown parameter; known are ssl, ssl_ca_file, ssl_cert_file, ssl_key_file")
	}
	if files != (tlsFiles{}) {
		if t.tls == nil {
			return errors.New("parameters ssl_… need ssl=true")
		}
		if (files.cert == "") != (files.key == "") {
			return errors.New("parameters ssl_cert_file and ssl_key_file need each other")
		}
		t.tls = &files
	}
	return nil
}

// config reads the files. A nil receiver gives nil: no TLS.
func (f *tlsFiles) config() (*tls.Config, error) {
	if f == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("reading ssl_ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ssl_ca_file holds no certificate")
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("reading ssl_cert_file and ssl_key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
