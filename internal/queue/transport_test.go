// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTransportURL(t *testing.T) {
	all := cmp.AllowUnexported(transport{}, broker{}, tlsFiles{})
	for text, want := range map[string]transport{
		"memory://":  {memory: true},
		"memory:///": {memory: true},
		"rabbit://u:p@h": {
			hosts: []broker{{"h", "5672", "u", "p"}}, vhost: "/",
		},
		"rabbit://u:p@h:05/": {
			hosts: []broker{{"h", "5", "u", "p"}}, vhost: "/",
		},
		"amqp://h//": {
			hosts: []broker{{"h", "5672", "guest", "guest"}}, vhost: "/",
		},
		"rabbit://u:p@h1:1,v:q@h2:2/keel%2Fson": {
			hosts: []broker{{"h1", "1", "u", "p"}, {"h2", "2", "v", "q"}}, vhost: "keel/son",
		},
		"rabbit://us%40er:p%3a%2F%2C%25@[::1]:5,u:@[fe80::1]/v": {
			hosts: []broker{{"::1", "5", "us@er", "p:/,%"}, {"fe80::1", "5672", "u", ""}}, vhost: "v",
		},
		"rabbit://u:a:b@c@h": {
			hosts: []broker{{"h", "5672", "u", "a:b@c"}}, vhost: "/",
		},
		"amqps://u:p@h/v": {
			hosts: []broker{{"h", "5671", "u", "p"}}, vhost: "v", tls: &tlsFiles{},
		},
		"rabbit://u:p@h/v?ssl=1&ssl_ca_file=%2Fca.pem&ssl_cert_file=/c&ssl_key_file=/k": {
			hosts: []broker{{"h", "5671", "u", "p"}}, vhost: "v", tls: &tlsFiles{"/ca.pem", "/c", "/k"},
		},
		"rabbit://u:p@h?ssl=off": {
			hosts: []broker{{"h", "5672", "u", "p"}}, vhost: "/",
		},
	} {
		got, err := parseTransportURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if diff := cmp.Diff(want, got, all); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestBadTransportURLs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "must look like",
		"hunter2":                              "must look like",
		"kafka://u:hunter2@h":                  "must start with",
		"memory://hunter2":                     "takes no host",
		"memory://?x=hunter2":                  "takes no host",
		"rabbit://":                            "host 1 has no name",
		"rabbit://u:p@h,":                      "host 2 has no name",
		"rabbit://u:p@h,h2":                    "either all hosts",
		"rabbit://:hunter2@h":                  "host 1 has no user",
		"rabbit://u:hunter2%zz@h":              "host 1 has a user or password",
		"rabbit://u:hunter2/x@h":               "host 1 has no port",
		"rabbit://u:hunter2#x@h":               "%23",
		"rabbit://u:p@h:0":                     "host 1 has no port",
		"rabbit://u:p@h:65536":                 "host 1 has no port",
		"rabbit://u:p@[::1":                    "host 1 has no IPv6",
		"rabbit://u:p@[127.0.0.1]":             "host 1 has no IPv6",
		"rabbit://u:p@[::1]x":                  "host 1 has something",
		"rabbit://u:p@h/%hunter2":              "virtual host",
		"rabbit://u:p@h/?ssl=hunter2":          "parameter ssl",
		"rabbit://u:p@h/?hunter2=1":            "unknown parameter",
		"rabbit://u:p@h/?%zz":                  "parameters",
		"rabbit://u:p@h/?ssl_ca_file=/x":       "need ssl=true",
		"amqps://u:p@h/?ssl_key_file=/x":       "need each other",
		"amqps://u:p@h/?ssl_ca_file=/dev/null": "holds no certificate",
		"amqps://u:p@h/?ssl_ca_file=/none":     "no such file",
	} {
		q, err := Open(text, Options{})
		if err == nil {
			q.Close()
		}
		if !contains(err, want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzTransportURL: what is accepted means the same when it is written anew.
func FuzzTransportURL(f *testing.F) {
	f.Add("rabbit://u:p@h1:1,u:p@[::1]:2/v%2Fh?ssl=1&ssl_ca_file=/ca")
	f.Add("amqps://us%40er:p%3a@h//")
	f.Add("memory://")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTransportURL(text)
		if err != nil || parsed.memory {
			return
		}
		var hosts []string
		for _, b := range parsed.hosts {
			if b.user == "" || b.host == "" || b.port == "" {
				t.Fatalf("%q: incomplete host %+v", text, b)
			}
			escape := strings.NewReplacer(",", "%2C", "@", "%40", ":", "%3A", "/", "%2F").Replace
			hosts = append(hosts, fmt.Sprintf("%s:%s@%s", escape(url.PathEscape(b.user)), escape(url.PathEscape(b.password)), b.address()))
		}
		again := "rabbit://" + strings.Join(hosts, ",") + "/" + url.PathEscape(parsed.vhost)
		if parsed.tls != nil {
			again += "?" + url.Values{"ssl": {"1"}, "ssl_ca_file": {parsed.tls.ca}, "ssl_cert_file": {parsed.tls.cert}, "ssl_key_file": {parsed.tls.key}}.Encode()
		}
		reread, err := parseTransportURL(again)
		if err != nil {
			t.Fatalf("%q written as %q: %v", text, again, err)
		}
		if diff := cmp.Diff(parsed, reread, cmp.AllowUnexported(transport{}, broker{}, tlsFiles{})); diff != "" {
			t.Fatalf("%q written as %q:\n%s", text, again, diff)
		}
	})
}
