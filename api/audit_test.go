// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// logged returns the lines with that message, which are taken off the log.
func (w *world) logged(message string) (lines []map[string]any) {
	w.t.Helper()
	for line := range strings.Lines(w.log.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		if one["msg"] == message {
			lines = append(lines, one)
		}
	}
	w.log.Reset()
	return lines
}

// jsonWorld is a world whose log is JSON.
func jsonWorld(t *testing.T, s *store.Store, changes ...change) *world {
	t.Helper()
	log := &bytes.Buffer{}
	w := newWorld(t, s, append(changes, func(_ *api.Config, d *api.Deps) {
		d.Logger = slog.New(slog.NewJSONHandler(log, nil))
	})...)
	w.log = log
	return w
}

func TestAuditTellsWhoDidWhat(t *testing.T) {
	w := jsonWorld(t, storetest.New(t), func(c *api.Config, _ *api.Deps) { c.ProxyHeaders = true })
	template := w.ask("ann", "POST", "/v1/clustertemplates", swarm()).want(201).text("uuid")
	made := w.ask("ann", "POST", "/v1/clusters", object{"name": "demo", "cluster_template_id": template},
		"X-Forwarded-For: 192.0.2.9, 10.0.0.1").want(202)
	cluster := made.text("uuid")
	w.ask("ann", "GET", "/v1/clusters/"+cluster, nil).want(200)
	w.ask("zoe", "DELETE", "/v1/clusters/"+cluster, nil).want(404) // not hers to see: nothing happened
	w.ask("ann", "POST", "/v1/clusters", object{"name": "0"}).want(400)
	w.ask("reader", "DELETE", "/v1/clusters/demo", nil).want(403)
	w.ask("ann", "GET", "/v1/mservices", nil).want(403)
	w.ask("ann", "DELETE", "/v1/clusters/demo", nil).want(204)
	w.ask("made up", "DELETE", "/v1/clusters/demo", nil).want(401)

	ops, err := w.store.Operations(t.Context(), cluster)
	if err != nil || len(ops) != 2 {
		t.Fatal(ops, err)
	}
	if strings.Contains(w.log.String(), "made up") {
		t.Error("a token is in the log")
	}
	type line = map[string]any
	common := func(user string, more line) line {
		all := line{
			"level": "INFO", "msg": "audit", "logger": "keelson.audit", "user_id": user, "user_domain_id": "",
			"project_id": "project-1", "address": "192.0.2.1",
		}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	want := []line{
		common("user-ann", line{"outcome": "accepted", "action": "clustertemplate:create", "target": template, "method": "POST", "path": "/v1/clustertemplates", "status": 201.0}),
		common("user-ann", line{"outcome": "accepted", "action": "cluster:create", "target": cluster, "method": "POST", "path": "/v1/clusters", "status": 202.0, "operation": ops[0].UUID, "forwarded_for": "192.0.2.9, 10.0.0.1"}),
		common("user-rea", line{"outcome": "denied", "action": "cluster:delete", "target": cluster, "method": "DELETE", "path": "/v1/clusters/demo", "status": 403.0}),
		common("user-ann", line{"outcome": "denied", "action": "magnum-service:get_all", "target": "", "method": "GET", "path": "/v1/mservices", "status": 403.0}),
		common("user-ann", line{"outcome": "accepted", "action": "cluster:delete", "target": cluster, "method": "DELETE", "path": "/v1/clusters/demo", "status": 204.0, "operation": ops[1].UUID}),
	}
	got := w.logged("audit")
	for i, l := range got {
		if id, _ := l["request_id"].(string); !requestIDForm.MatchString(id) || i == 1 && id != made.header.Get("X-Openstack-Request-Id") {
			t.Errorf("line %d has the request id %q", i, id)
		}
		delete(l, "request_id")
		delete(l, "time")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// The caller's own request id is believed when it looks like one, and is kept
// with the operation.
func TestGlobalRequestID(t *testing.T) {
	const global = "req-12345678-1234-1234-1234-123456789abc"
	each(t, func(w *world) {
		template := w.ask("ann", "POST", "/v1/clustertemplates", swarm()).want(201).text("uuid")
		for i, tt := range []struct{ sent, want string }{
			{global, global},
			{"req-12345678", ""},
			{global + "\n level=ERROR", ""},
			{"", ""},
		} {
			a := w.ask("ann", "POST", "/v1/clusters", object{"name": "demo", "cluster_template_id": template}, "X-OpenStack-Request-ID: "+tt.sent).want(202)
			id := a.header.Get("X-Openstack-Request-Id")
			if id == tt.sent {
				t.Errorf("%d: the answer has the caller's id, not its own", i)
			}
			ops, err := w.store.Operations(t.Context(), a.text("uuid"))
			if err != nil || len(ops) != 1 || ops[0].GlobalRequestID != tt.want || ops[0].RequestID != id {
				t.Errorf("%d: %+v, %v", i, ops, err)
			}
			if tt.want != "" && !strings.Contains(w.log.String(), "request_id="+id+" global_request_id="+tt.want) {
				t.Errorf("%d: the log has not both: %s", i, w.log.String())
			}
		}
	})
}

// ledger writes down what an observer is told.
type ledger struct {
	began int
	ended []string
	sent  int64
}

type tracedKey struct{}

func (l *ledger) Request(r *http.Request) (context.Context, func(string, int, int64)) {
	l.began++
	return context.WithValue(r.Context(), tracedKey{}, "00-trace"), func(route string, status int, sent int64) {
		l.ended = append(l.ended, r.Method+" "+route+" "+http.StatusText(status))
		l.sent = sent
	}
}

func (l *ledger) TraceParent(ctx context.Context) string {
	parent, _ := ctx.Value(tracedKey{}).(string)
	return parent
}

func TestObserverIsToldOfEachRequest(t *testing.T) {
	var l ledger
	w := newWorld(t, storetest.New(t), func(_ *api.Config, d *api.Deps) { d.Observer = &l })
	w.ask("", "GET", "/", nil)
	w.ask("", "GET", "/healthcheck", nil)
	w.ask("", "GET", "/openapi.json", nil)
	template := w.ask("ann", "POST", "/v1/clustertemplates/", swarm()).want(201).text("uuid")
	cluster := w.ask("ann", "POST", "/v1/clusters", object{"name": "demo", "cluster_template_id": template}).want(202).text("uuid")
	shown := w.ask("ann", "GET", "/clusters/demo", nil)
	if l.sent != int64(len(shown.raw)) {
		t.Errorf("%d bytes were sent, not %d", len(shown.raw), l.sent)
	}
	w.ask("ann", "PUT", "/v1/clusters/"+cluster, nil)
	w.ask("ann", "GET", "/v1/nowhere/"+cluster, nil)
	w.ask("made up", "GET", "/v1/clusters/"+cluster, nil)
	want := []string{
		"GET / OK", "GET /healthcheck OK", "GET /openapi.json OK",
		"POST /v1/clustertemplates Created", "POST /v1/clusters Accepted", "GET /v1/clusters/{ident} OK",
		"PUT /v1/clusters/{ident} Method Not Allowed", "GET  Not Found", "GET  Unauthorized",
	}
	if diff := cmp.Diff(want, l.ended); diff != "" || l.began != len(want) {
		t.Errorf("%d began; %s", l.began, diff)
	}
	if ops, err := w.store.Operations(t.Context(), cluster); err != nil || ops[0].TraceParent != "00-trace" {
		t.Errorf("%+v, %v", ops, err)
	}
}

func TestReadiness(t *testing.T) {
	down := errors.New("away")
	w := newWorld(t, storetest.New(t), func(_ *api.Config, d *api.Deps) {
		d.Readiness = health.NewReadiness(d.Logger,
			health.Check{Name: "database", Ask: d.Store.(*store.Store).Ping},
			health.Check{Name: "keystone", Ask: func(context.Context) error { return down }})
	})
	a := w.ask("", "GET", "/healthcheck/ready", nil)
	checks, _ := a.body["checks"].(map[string]any)
	if a.status != 503 || a.body["ready"] != false || checks["database"].(map[string]any)["up"] != true || checks["keystone"].(map[string]any)["up"] != false {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := w.ask("", "GET", "/healthcheck", nil); a.status != 200 {
		t.Errorf("it does not live: %d", a.status)
	}
	ready := newWorld(t, storetest.New(t))
	if a := ready.ask("", "HEAD", "/healthcheck/ready", nil); a.status != 200 {
		t.Errorf("%d", a.status)
	}
}
