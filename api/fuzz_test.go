// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/store/storetest"
)

// fuzzed is an API with one template and one cluster that all executions of a
// fuzz target share.
func fuzzed(f *testing.F) (w *world, template, cluster string) {
	f.Helper()
	w = newFuzzWorld(f)
	made := w.send(f, "POST", "/v1/clustertemplates", `{"name": "swarm", "coe": "swarm", "image_id": "debian-12", "labels": {"a": "1"}}`, nil)
	template = made.Header().Get("Location")
	template = template[strings.LastIndex(template, "/")+1:]
	answer := w.send(f, "POST", "/v1/clusters", `{"cluster_template_id": "swarm", "name": "c"}`, nil)
	_, cluster, _ = strings.Cut(answer.Body.String(), `"uuid":"`)
	cluster, _, _ = strings.Cut(cluster, `"`)
	if template == "" || cluster == "" {
		f.Fatalf("no template or cluster: %s", answer.Body)
	}
	return w, template, cluster
}

func newFuzzWorld(f *testing.F) *world {
	return newWorld(f, storetest.New(f), func(c *api.Config, d *api.Deps) {
		c.MaxClusters = 2 // keeps the database small
		d.Logger = slog.New(slog.DiscardHandler)
	})
}

// send asks as Ann and fails on a panic's or any other 5xx.
func (w *world) send(tb testing.TB, method, path, body string, headers http.Header) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequest(method, "http://magnum.example"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("OpenStack-API-Version", "container-infra latest")
	for name, values := range headers {
		r.Header[name] = values
	}
	r.Header.Set("X-Auth-Token", "ann")
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	w.wire.fail(tb)
	if recorder.Code >= 500 {
		tb.Fatalf("%s %s %q: %d %s", method, path, body, recorder.Code, recorder.Body)
	}
	return recorder
}

func FuzzBodies(f *testing.F) {
	w, template, cluster := fuzzed(f)
	for _, seed := range []string{
		`{"name": "x", "coe": "swarm", "image_id": "debian-12", "labels": {"a": 1.5, "b": true}, "docker_volume_size": "3", "public": "no"}`,
		`{"cluster_template_id": "swarm", "node_count": 1e2, "labels": {"min_node_count": 1}, "merge_labels": 1}`,
		`{"cluster_uuid": "c", "csr": "-----BEGIN CERTIFICATE REQUEST-----", "ca_cert_type": "etcd"}`,
		`{"node_count": 2, "nodes_to_remove": ["a"], "nodegroup": "default-worker"}`,
		`{"cluster_template": "swarm", "max_batch_size": 1}`,
		`{"name": "g", "node_count": 2, "max_node_count": "3", "role": "gpu", "merge_labels": true, "labels": {}}`,
		`{"baymodel_id": "swarm", "bay_create_timeout": 0, "labels": null}`, `{"keypair_id": "k", "coe": "swarm", "image_id": "debian-12"}`,
		`{"project_id": "p", "hard_limit": 3}`, `[]`, `null`, `{"a": {"a": []}}`, "\xff",
	} {
		f.Add(seed)
	}
	paths := []string{
		"/v1/clustertemplates", "/v1/clusters", "/v1/certificates", "/v1/clusters/" + cluster + "/actions/resize",
		"/v1/clusters/" + cluster + "/actions/upgrade", "/v1/quotas", "/v1/federations",
		"/v1/clusters/" + cluster + "/nodegroups", "/v1/bays", "/v1/baymodels",
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range paths {
			w.send(t, "POST", path, body, nil)
		}
		w.send(t, "PATCH", "/v1/clustertemplates/"+template, body, nil)
	})
}

func FuzzPatches(f *testing.F) {
	w, template, cluster := fuzzed(f)
	f.Add("replace", "/name", `"x"`)
	f.Add("add", "/labels/x", `1`)
	f.Add("remove", "/labels", `null`)
	f.Add("replace", "/labels", `"{'a': 'b'}"`)
	f.Add("replace", "/node_count", `3`)
	f.Add("add", "/max_node_count", `3`)
	f.Add("replace", "/health_status_reason", `"{'api': 'ok'}"`)
	f.Fuzz(func(t *testing.T, op, path, value string) {
		quote := func(s string) string {
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		body := `[{"op": ` + quote(op) + `, "path": ` + quote(path) + `, "value": ` + value + `}]`
		w.send(t, "PATCH", "/v1/clustertemplates/"+template, body, nil)
		w.send(t, "PATCH", "/v1/clusters/"+cluster, body, nil)
		w.send(t, "PATCH", "/v1/clusters/"+cluster+"/nodegroups/default-worker", body, nil)
		w.send(t, "PATCH", "/v1/baymodels/"+template, body, nil)
		w.send(t, "PATCH", "/v1/bays/"+cluster, body, nil)
		w.send(t, "PATCH", "/v1/federations/x", body, nil)
	})
}

func FuzzQueries(f *testing.F) {
	w, _, cluster := fuzzed(f)
	for _, seed := range []string{
		"limit=1&sort_key=name&sort_dir=desc", "marker=" + cluster, "sort_key=labels", "sort_key=id;drop", "limit=%zz", "role=worker", "all_tenants=1",
		"type=cluster&project_id=project-1", "ca_cert_type=etcd", "rollback=true",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{
			"/v1/clusters", "/v1/clusters/detail", "/v1/clustertemplates", "/v1/clusters/" + cluster + "/nodegroups", "/v1/stats",
			"/v1/certificates/" + cluster, "/v1/bays", "/v1/bays/detail", "/v1/baymodels", "/v1/federations",
		} {
			r := httptest.NewRequest("GET", "http://magnum.example"+path, nil)
			r.URL.RawQuery = query
			r.Header.Set("X-Auth-Token", "ann")
			r.Header.Set("OpenStack-API-Version", "container-infra latest")
			recorder := httptest.NewRecorder()
			w.handler.ServeHTTP(recorder, r)
			w.wire.fail(t)
			if recorder.Code >= 500 {
				t.Fatalf("%s?%s: %d %s", path, query, recorder.Code, recorder.Body)
			}
		}
	})
}

func FuzzIdents(f *testing.F) {
	w, _, _ := fuzzed(f)
	for _, seed := range []string{"c", "a/b", "..", "%", "\x00", "\xff", "é", "{3f2504e0-4f89-41d3-9a0c-0305e82c3301}", "1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ident string) {
		escaped := url.PathEscape(ident)
		for _, path := range []string{"/v1/clusters/", "/v1/clustertemplates/", "/v1/clusters/c/nodegroups/", "/v1/certificates/c/", "/v1/quotas/project-1/", "/v1/bays/", "/v1/baymodels/", "/v1/federations/"} {
			w.send(t, "GET", path+escaped, "", nil)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	w, _, _ := fuzzed(f)
	f.Add("application/json", "application/json; charset=utf-8", "container-infra 1.4")
	f.Add("*/*;q=0", "multipart/form-data; boundary=", "container-infra 1.99")
	f.Fuzz(func(t *testing.T, accept, contentType, version string) {
		w.send(t, "POST", "/v1/clustertemplates", `{"name": ""}`, http.Header{
			"Accept": {accept}, "Content-Type": {contentType}, "Openstack-Api-Version": {version},
		})
	})
}
