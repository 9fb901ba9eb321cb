// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/store/storetest"
)

const dashboard = "https://dashboard.example.org"

// browser sends a request to the handler as a page of that origin would.
func browser(handler http.Handler, method, origin string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "http://magnum.example:9511/v1/clusters", nil)
	r.Header.Set("Origin", origin)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, r)
	return recorder.Result()
}

func TestCORS_OffUnlessAnOriginIsAllowed(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	config, deps := w.again(nil)
	closed := api.New(config, deps)
	config.AllowedOrigins, config.PreflightAge = []string{dashboard}, time.Hour
	open := api.New(config, deps)
	preflight := []string{"Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: x-auth-token"}

	for _, row := range []struct {
		what    string
		handler http.Handler
		method  string
		origin  string
		headers []string
		status  int
		allowed string
	}{
		{"off: preflight", closed, "OPTIONS", dashboard, preflight, 401, ""},
		{"off: request", closed, "GET", dashboard, []string{"X-Auth-Token: ann"}, 200, ""},
		{"preflight", open, "OPTIONS", dashboard, preflight, 204, dashboard},
		{"preflight of another origin", open, "OPTIONS", "https://evil.example", preflight, 401, ""},
		{"an origin that only begins alike", open, "OPTIONS", dashboard + ".evil.example", preflight, 401, ""},
		{"OPTIONS that is no preflight", open, "OPTIONS", dashboard, []string{"X-Auth-Token: ann"}, 405, dashboard},
		{"request", open, "GET", dashboard, []string{"X-Auth-Token: ann"}, 200, dashboard},
		{"refused request", open, "GET", dashboard, nil, 401, dashboard},
		{"request of another origin", open, "GET", "https://evil.example", []string{"X-Auth-Token: ann"}, 200, ""},
	} {
		a := browser(row.handler, row.method, row.origin, row.headers...)
		if a.StatusCode != row.status || a.Header.Get("Access-Control-Allow-Origin") != row.allowed {
			t.Errorf("%s: status %d, allowed %q", row.what, a.StatusCode, a.Header.Get("Access-Control-Allow-Origin"))
		}
		if a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: cookies are allowed", row.what)
		}
		if varies := slices.Contains(a.Header.Values("Vary"), "Origin"); varies != strings.HasPrefix(row.what, "off") {
			continue
		}
		t.Errorf("%s: Vary is %q", row.what, a.Header.Values("Vary"))
	}

	a := browser(open, "OPTIONS", dashboard, preflight...)
	if h := a.Header; h.Get("Access-Control-Max-Age") != "3600" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "X-Auth-Token") {
		t.Errorf("preflight: %v", h)
	}
	a = browser(open, "GET", dashboard, "X-Auth-Token: ann")
	if h := a.Header; !strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Openstack-Request-Id") || !slices.Contains(h.Values("Vary"), "OpenStack-API-Version") {
		t.Errorf("request: %v", h)
	}
}
