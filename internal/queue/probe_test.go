// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"net/url"
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/testenv"
)

func TestProbe(t *testing.T) {
	good := testenv.Require(t, testenv.RabbitMQ)
	u, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	wrong := *u
	wrong.User = url.UserPassword(u.User.Username(), "not-the-password")
	nowhere := strings.TrimSuffix(good, "/") + "," + u.User.String() + "@127.0.0.1:1/"
	for name, tt := range map[string]struct {
		url  string
		errs []string // "" is none
	}{
		"good":           {good, []string{""}},
		"wrong password": {wrong.String(), []string{"not allowed"}},
		"one of two":     {nowhere, []string{"", "connection refused"}},
		"memory":         {"memory://", nil},
	} {
		t.Run(name, func(t *testing.T) {
			states, err := Probe(t.Context(), tt.url, Options{})
			if err != nil || len(states) != len(tt.errs) {
				t.Fatalf("%v, %v", states, err)
			}
			for i, want := range tt.errs {
				got := states[i].Err
				if (got == nil) != (want == "") || got != nil && (!strings.Contains(got.Error(), want) || strings.Contains(got.Error(), "not-the-password")) {
					t.Errorf("%s: %v, want %q", states[i].Address, got, want)
				}
			}
		})
	}
	if _, err := Probe(t.Context(), "http://x", Options{}); err == nil {
		t.Error("a URL of something else was taken")
	}
}
