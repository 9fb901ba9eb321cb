// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"
	"time"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/store/storetest"
)

// limited lets each project read three times and change once at a time, and
// then twice and half a time a second.
func limited(config *api.Config, _ *api.Deps) {
	config.Reads = api.RateLimit{PerSecond: 2, Burst: 3}
	config.Changes = api.RateLimit{PerSecond: 0.5, Burst: 1}
}

func TestRateLimit_IsEachProjectsOwn(t *testing.T) {
	w := newWorld(t, storetest.New(t), limited)
	for range 3 {
		w.ask("ann", "GET", "/v1/clusters", nil).want(200)
	}
	refused := w.ask("bob", "GET", "/v1/clusters", nil).want(429) // of ann's project
	refused.saying("more reads than the 2 a second")
	if refused.error()["code"] != "client" || refused.header.Get("Retry-After") != "1" || refused.header.Get("OpenStack-API-Version") == "" {
		t.Errorf("%s, Retry-After %q", refused.raw, refused.header.Get("Retry-After"))
	}
	w.ask("zoe", "GET", "/v1/clusters", nil).want(200)
	w.ask("nil", "GET", "/v1/clusters", nil).want(403) // and not 429
	w.ask("", "GET", "/v1/clusters", nil).want(401)
	w.ask("", "GET", "/v1", nil).want(200)
	w.ask("ann", "GET", "/v1/nowhere", nil).want(404)

	// Changes are counted apart, also those that are wrong.
	w.ask("ann", "POST", "/v1/clusters", object{}).want(400)
	refused = w.ask("ann", "DELETE", "/v1/clusters/nowhere", nil).want(429)
	refused.saying("more changes than the 0.5 a second")
	if got := refused.header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q", got)
	}

	// Refused requests do not count: whoever waits as told gets through.
	w.now = w.now.Add(time.Second)
	w.ask("ann", "GET", "/v1/clusters", nil).want(200)
	w.ask("ann", "GET", "/v1/clusters", nil).want(200)
	w.ask("ann", "GET", "/v1/clusters", nil).want(429)
	w.now = w.now.Add(time.Second)
	w.ask("ann", "DELETE", "/v1/clusters/nowhere", nil).want(404)
}

func TestRateLimit_NoneUnlessConfigured(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for range 200 {
		w.ask("ann", "GET", "/v1/clusters/nowhere", nil).want(404)
	}
}
