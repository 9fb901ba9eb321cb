// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	want401 = `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`
	want503 = `{"errors": [{"request_id": "", "code": "server", "status": 503, "title": "The Keystone service is temporarily unavailable", ` +
		`"detail": "The Keystone service is temporarily unavailable.", "links": []}]}`
)

// whoami answers with the user of the request's token.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if t := FromContext(r.Context()); t != nil {
		w.Write([]byte(t.UserID + " " + UserToken(r.Context())))
	}
})

func isPublic(r *http.Request) bool { return r.URL.Path == "/v1" }

func testLedger() *ledger {
	l := newLedger("ann", "service", "plain")
	l.valid["service"].Roles = []string{"service"}
	l.expired["old"] = &Token{UserID: "old"}
	return l
}

// TestMiddleware is §2.2 of the contract: authentication failures.
func TestMiddleware(t *testing.T) {
	rows := []struct {
		name, path, token, serviceToken string
		required, down                  bool
		status                          int
		body                            string
	}{
		{name: "a valid token", path: "/v1/clusters", token: "ann", status: 200, body: "ann ann"},
		{name: "with white space", path: "/v1/clusters", token: " ann ", status: 200, body: "ann ann"},
		{name: "no token", path: "/v1/clusters", status: 401, body: want401},
		{name: "an empty token", path: "/v1/clusters", token: " ", status: 401, body: want401},
		{name: "a refused token", path: "/v1/clusters", token: "forged", status: 401, body: want401},
		{name: "a path that does not exist", path: "/nowhere", status: 401, body: want401},
		{name: "a public path", path: "/v1", status: 200},
		{name: "a public path with a bad token", path: "/v1", token: "forged", status: 200},
		{name: "a public path, Keystone down", path: "/v1", token: "ann", down: true, status: 200},
		{name: "Keystone down", path: "/v1/clusters", token: "ann", down: true, status: 503, body: want503},
		{name: "Keystone down, no token", path: "/v1/clusters", down: true, status: 401, body: want401},
		{name: "an expired token", path: "/v1/clusters", token: "old", status: 401, body: want401},
		{name: "an expired token from a service", path: "/v1/clusters", token: "old", serviceToken: "service", status: 200, body: "old old"},
		{name: "an expired token from anybody", path: "/v1/clusters", token: "old", serviceToken: "plain", status: 401, body: want401},
		{name: "a valid token from a service", path: "/v1/clusters", token: "ann", serviceToken: "service", status: 200, body: "ann ann"},
		{name: "a service token alone", path: "/v1/clusters", serviceToken: "service", status: 401, body: want401},
		{name: "a refused service token", path: "/v1/clusters", token: "ann", serviceToken: "forged", status: 401, body: want401},
		{name: "a service token without the role", path: "/v1/clusters", token: "ann", serviceToken: "plain", status: 200, body: "ann ann"},
		{name: "a service token without the role, which is required", path: "/v1/clusters", token: "ann", serviceToken: "plain", required: true, status: 401, body: want401},
		{name: "a service, Keystone down", path: "/v1/clusters", token: "ann", serviceToken: "service", down: true, status: 503, body: want503},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := testLedger()
			l.down = row.down
			handler := Middleware(l, "http://keystone:5000/v3", isPublic, ServiceTokenRoles([]string{"service"}, row.required))(whoami)
			r := httptest.NewRequest("GET", row.path, nil)
			if row.token != "" {
				r.Header.Set("X-Auth-Token", row.token)
			}
			if row.serviceToken != "" {
				r.Header.Set("X-Service-Token", row.serviceToken)
			}
			for range 2 {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != row.status || w.Body.String() != row.body {
					t.Errorf("%d %s, want %d %s", w.Code, w.Body, row.status, row.body)
				}
				want := http.Header{}
				switch row.status {
				case 401:
					want = http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {`Keystone uri="http://keystone:5000/v3"`}}
				case 503:
					want = http.Header{"Content-Type": {"application/json"}, "Retry-After": {"5"}}
				}
				got := w.Header()
				if row.status == 200 {
					got.Del("Content-Type")
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestMiddlewareLogsNoToken(t *testing.T) {
	var log bytes.Buffer
	l := testLedger()
	l.valid["s3cret"] = &Token{UserID: "ann"}
	handler := Middleware(l, "http://keystone:5000/v3", nil,
		Logger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))(whoami)
	for _, down := range []bool{false, true} {
		l.down = down
		for _, text := range []string{"s3cret", "s3cret-forged"} {
			r := httptest.NewRequest("GET", "/v1/clusters", nil)
			r.Header.Set("X-Auth-Token", text)
			handler.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	if !strings.Contains(log.String(), "can not be validated") || !strings.Contains(log.String(), "without a valid token") {
		t.Errorf("what is logged: %s", log.String())
	}
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log has a token: %s", log.String())
	}
}

func TestFromContextOfNothing(t *testing.T) {
	if FromContext(context.Background()) != nil || UserToken(context.Background()) != "" {
		t.Error("a token out of nothing")
	}
}

func BenchmarkMiddleware(b *testing.B) {
	text := "gAAAAAB" + strings.Repeat("x", 176)
	handler := Middleware(NewCache(newLedger(text), CacheOptions{}), "http://keystone:5000/v3", isPublic)(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/v1/clusters", nil)
	r.Header.Set("X-Auth-Token", text)
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(w, r)
	}
}
