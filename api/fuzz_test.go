// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/store/storetest"
)

// What clients may send goes through the whole handler here: whatever it is,
// nothing panics, no answer is a 5xx, and every answer has its form. `make
// fuzz` does that ten million times. For the speed of it the store is a shelf
// (shelf_test.go); FuzzDatabase has a real one.

// fuzzed is an API on a shelf, or on a database with the same records.
func fuzzed(f *testing.F, changes ...change) *world {
	f.Helper()
	return newWorld(f, nil, append([]change{func(c *api.Config, d *api.Deps) {
		c.ProxyHeaders = true
		d.Logger = slog.New(slog.DiscardHandler)
		d.Store = newShelf()
		d.Certificates = authorities(f, &keyring{})
	}}, changes...)...)
}

// send asks in the person's name and checks what comes back.
func (w *world) send(tb testing.TB, person, method, path, body string, headers http.Header) *httptest.ResponseRecorder {
	tb.Helper()
	r := &http.Request{
		Method: method, URL: &url.URL{Path: path}, Host: "magnum.example", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Openstack-Api-Version": {"container-infra latest"}, "X-Auth-Token": {person}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}
	if at, query, ok := strings.Cut(path, "?"); ok {
		r.URL = &url.URL{Path: at, RawQuery: query}
	}
	if unescaped, err := url.PathUnescape(r.URL.Path); err == nil && unescaped != r.URL.Path {
		r.URL.Path, r.URL.RawPath = unescaped, r.URL.Path
	}
	for name, values := range headers {
		r.Header[name] = values
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	w.wire.fail(tb)
	if fault := faultOf(answer); fault != "" {
		tb.Fatalf("%s %s %q %v: %d: %s\n%s", method, path, body, headers, answer.Code, fault, answer.Body)
	}
	return answer
}

// envelope is what all errors look like.
type envelope struct {
	Errors []struct {
		RequestID *string `json:"request_id"`
		Code      *string `json:"code"`
		Status    *int    `json:"status"`
		Title     *string `json:"title"`
		Detail    *string `json:"detail"`
		Links     *[]any  `json:"links"`
	} `json:"errors"`
}

// faultOf tells what is wrong with an answer, whatever was asked.
func faultOf(a *httptest.ResponseRecorder) string {
	if a.Code >= 500 || a.Code < 200 || a.Code == http.StatusUnauthorized {
		return "such an answer must not be"
	}
	if id := a.Header().Get("X-Openstack-Request-Id"); len(id) != len("req-")+36 {
		return "request id " + id
	}
	if a.Code == http.StatusNoContent {
		if a.Body.Len() > 0 {
			return "a 204 has a body"
		}
		return ""
	}
	if a.Header().Get("Content-Type") != "application/json" || !json.Valid(a.Body.Bytes()) {
		return "it is not JSON"
	}
	if a.Code < 400 || bytes.Contains(a.Body.Bytes(), []byte("microversion-unsupported")) {
		return ""
	}
	var e envelope
	d := json.NewDecoder(bytes.NewReader(a.Body.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || len(e.Errors) != 1 {
		return "the error has another form"
	}
	one := e.Errors[0]
	if one.RequestID == nil || one.Code == nil || one.Title == nil || one.Detail == nil || one.Links == nil || one.Status == nil || *one.Status != a.Code {
		return "the error lacks something"
	}
	return ""
}

// calls are all that take a body.
var calls = []struct{ person, method, path string }{
	{"ann", "POST", "/v1/clustertemplates"},
	{"ann", "POST", "/v1/clusters"},
	{"ann", "POST", "/v1/clusters/c/nodegroups"},
	{"ann", "POST", "/v1/clusters/c/actions/resize"},
	{"ann", "POST", "/v1/clusters/c/actions/upgrade"},
	{"ann", "POST", "/v1/certificates"},
	{"ann", "PATCH", "/v1/certificates/c"},
	{"admin", "POST", "/v1/quotas"},
	{"admin", "PATCH", "/v1/quotas/project-1/Cluster"},
	{"ann", "POST", "/v1/federations"},
	{"ann", "POST", "/v1/bays"},
	{"ann", "POST", "/v1/baymodels"},
	{"ann", "PATCH", "/v1/clustertemplates/swarm"},
	{"ann", "PATCH", "/v1/clusters/c"},
	{"ann", "PATCH", "/v1/clusters/c/nodegroups/gpu"},
	{"ann", "PATCH", "/v1/bays/c"},
	{"ann", "PATCH", "/v1/baymodels/swarm"},
	{"ann", "PATCH", "/v1/federations/x"},
}

// patched are the calls above that take a JSON patch.
const patched = 12

var bodies = []string{
	`{"name": "x", "coe": "swarm", "image_id": "debian-12", "labels": {"a": 1.5, "b": true}, "docker_volume_size": "3", "public": "no"}`,
	`{"cluster_template_id": "swarm", "node_count": 1e2, "master_count": 1, "labels": {"min_node_count": 1}, "merge_labels": 1}`,
	`{"name": "g", "node_count": 2, "max_node_count": "3", "role": "gpu", "merge_labels": true, "labels": {}}`,
	`{"node_count": 2, "nodes_to_remove": ["a"], "nodegroup": "default-worker"}`,
	`{"cluster_template": "swarm", "max_batch_size": 1}`,
	`{"cluster_uuid": "c", "csr": "-----BEGIN CERTIFICATE REQUEST-----", "ca_cert_type": "etcd"}`,
	`{}`,
	`{"project_id": "project-1", "hard_limit": 3}`,
	`{"hard_limit": "3"}`,
	`{"hostcluster_id": "c", "properties": {"dns-zone": "x"}}`,
	`{"baymodel_id": "swarm", "bay_create_timeout": 0, "labels": null}`,
	`{"keypair_id": "k", "coe": "swarm", "image_id": "debian-12"}`,
	`[{"op": "replace", "path": "/labels", "value": "{'a': 'b'}"}]`,
	`[{"op": "replace", "path": "/node_count", "value": 3}, {"op": "add", "path": "/health_status", "value": "HEALTHY"}]`,
	`[{"op": "add", "path": "/max_node_count", "value": 3}]`,
	`[{"op": "remove", "path": "/node_count"}]`,
	`[{"op": "add", "path": "/labels/x", "value": true}]`,
	`[]`,
}

func FuzzBodies(f *testing.F) {
	w := fuzzed(f)
	for i, body := range bodies {
		f.Add(byte(i), body)
	}
	for _, body := range []string{`null`, `{"a": {"a": []}}`, "\xff", `{"name": "\ud800"}`} {
		f.Add(byte(0), body)
	}
	f.Fuzz(func(t *testing.T, which byte, body string) {
		c := calls[int(which)%len(calls)]
		w.send(t, c.person, c.method, c.path, body, nil)
	})
}

func quote(t *testing.T, s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func FuzzPatches(f *testing.F) {
	w := fuzzed(f)
	for i, seed := range [][3]string{
		{"replace", "/name", `"x"`},
		{"replace", "/node_count", `3`},
		{"add", "/max_node_count", `3`},
		{"remove", "/labels", `null`},
		{"add", "/labels/x", `1`},
		{"replace", "/health_status_reason", `"{'api': 'ok'}"`},
		{"replace", "/public", `"yes"`},
	} {
		f.Add(byte(i), seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, which byte, op, path, value string) {
		c := calls[patched+int(which)%(len(calls)-patched)]
		body := `[{"op": ` + quote(t, op) + `, "path": ` + quote(t, path) + `, "value": ` + value + `}]`
		w.send(t, c.person, c.method, c.path, body, nil)
	})
}

// FuzzLabels has labels in all the ways that they come: as JSON, and as the
// text of a Python dict.
func FuzzLabels(f *testing.F) {
	w := fuzzed(f)
	for i, seed := range []string{`{'a': '1', 'b': 2}`, `{"it's": True, 'n': 1.5e3}`, `{'\x41': u'\u00e9',}`, `{"a": "b", "n": -1e400}`, `{"min_node_count": 1}`, `{`} {
		f.Add(byte(i), seed)
	}
	f.Fuzz(func(t *testing.T, which byte, labels string) {
		switch which % 6 {
		case 0:
			w.send(t, "ann", "PATCH", "/v1/clustertemplates/swarm", `[{"op": "replace", "path": "/labels", "value": `+quote(t, labels)+`}]`, nil)
		case 1:
			w.send(t, "ann", "PATCH", "/v1/clusters/c", `[{"op": "replace", "path": "/health_status_reason", "value": `+quote(t, labels)+`}]`, nil)
		case 2:
			w.send(t, "ann", "POST", "/v1/clustertemplates", `{"coe": "swarm", "image_id": "debian-12", "labels": `+labels+`}`, nil)
		case 3:
			w.send(t, "ann", "POST", "/v1/clusters", `{"cluster_template_id": "swarm", "merge_labels": true, "labels": `+labels+`}`, nil)
		case 4:
			w.send(t, "ann", "POST", "/v1/clusters/c/nodegroups", `{"name": "x", "labels": `+labels+`}`, nil)
		case 5:
			w.send(t, "ann", "PATCH", "/v1/clustertemplates/swarm", `[{"op": "add", "path": "/labels/x", "value": `+quote(t, labels)+`}]`, nil)
		}
	})
}

// asked are paths with all the kinds of query arguments.
var asked = append([]string{
	"/v1/stats", "/v1/certificates/{ident}", "/v1", "/", "/v1/clusters/{ident}", "/v1/quotas/project-1/Cluster",
}, api.Lists()...)

var queryStrings = []string{
	"type=cluster&project_id=project-1", "ca_cert_type=etcd", "x=1", "", "detail", "a=b&a=c", "limit=1&sort_key=name&sort_dir=desc", "limit=2&sort_key=labels",
	"marker=00000000-0000-4000-8000-000000000001", "sort_key=id;drop", "limit=%zz", "role=worker", "all_tenants=1&marker=7", "rollback=true",
}

func FuzzQueries(f *testing.F) {
	w := fuzzed(f)
	for i, seed := range queryStrings {
		f.Add(byte(i), seed)
	}
	f.Fuzz(func(t *testing.T, which byte, query string) {
		path := full(asked[int(which)%len(asked)])
		person := "ann"
		if path == "/v1/quotas" || path == "/v1/mservices" {
			person = "admin"
		}
		w.send(t, person, "GET", path+"?"+query, "", nil)
	})
}

var identPaths = []string{
	"/v1/clusters/", "/v1/clustertemplates/", "/v1/clusters/c/nodegroups/", "/v1/certificates/c/", "/v1/quotas/project-1/", "/v1/bays/", "/v1/baymodels/",
	"/v1/federations/", "/v1/certificates/", "/",
}

// sendIdent asks for one resource.
func (w *world) sendIdent(t *testing.T, path, ident string) {
	if ident == "/" {
		return // http.ServeMux finds no path for it: 404 as of any that is not known
	}
	w.send(t, "ann", "GET", path+url.PathEscape(ident), "", nil)
}

func FuzzIdents(f *testing.F) {
	w := fuzzed(f)
	for i, seed := range []string{"c", "swarm", "a/b", "..", "%", "\x00", "\xff", "é", "{3f2504e0-4f89-41d3-9a0c-0305e82c3301}", "1"} {
		f.Add(byte(i), seed)
	}
	f.Fuzz(func(t *testing.T, which byte, ident string) {
		w.sendIdent(t, identPaths[int(which)%len(identPaths)], ident)
	})
}

func FuzzHeaders(f *testing.F) {
	w := fuzzed(f)
	f.Add("application/json", "application/json; charset=utf-8", "container-infra 1.4", "cloud.example", "req-1")
	f.Add("*/*;q=0", "multipart/form-data; boundary=", "container-infra 1.99", "a, b", "")
	f.Add("text/html", "", "compute latest", "https", "\xff")
	f.Fuzz(func(t *testing.T, accept, contentType, version, forwarded, id string) {
		headers := http.Header{
			"Accept": {accept}, "Content-Type": {contentType}, "Openstack-Api-Version": {version}, "X-Openstack-Request-Id": {id},
			"X-Forwarded-Host": {forwarded}, "X-Forwarded-Proto": {forwarded}, "X-Forwarded-Prefix": {forwarded},
		}
		if answer := w.send(t, "ann", "POST", "/v1/clustertemplates", bodies[0], headers); answer.Header().Get("X-Openstack-Request-Id") == id {
			t.Errorf("the caller chose the request id %q", id)
		}
	})
}

// FuzzDatabase sends all of that to an API on SQLite: what gets as far as the
// database must not be the first to fail there.
func FuzzDatabase(f *testing.F) {
	s := storetest.New(f)
	w := newWorld(f, s, func(c *api.Config, d *api.Deps) {
		c.MaxClusters = 2 // keeps the database small
		d.Logger = slog.New(slog.DiscardHandler)
	})
	w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm().with("labels", object{"a": "1"}))})
	for i, body := range bodies {
		f.Add(byte(i), body)
	}
	for i, query := range queryStrings {
		f.Add(byte(len(calls)+i), query)
	}
	for i, ident := range []string{"c", "swarm", "1", "\x00", "\xff", "é'"} {
		f.Add(byte(len(calls)+len(asked)+i), ident)
	}
	f.Fuzz(func(t *testing.T, which byte, text string) {
		i := int(which) % (len(calls) + len(asked) + len(identPaths))
		switch {
		case i < len(calls):
			c := calls[i]
			w.send(t, c.person, c.method, c.path, text, nil)
		case i < len(calls)+len(asked):
			w.send(t, "ann", "GET", full(asked[i-len(calls)])+"?"+text, "", nil)
		default:
			w.sendIdent(t, identPaths[i-len(calls)-len(asked)], text)
		}
	})
}
