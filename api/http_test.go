// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestVersions_1_3_RootNeedsNoTokenAndNoVersion(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	a := w.ask("", "GET", "/", nil, "OpenStack-API-Version: nonsense 99 x").want(200)
	v := a.items("versions")
	if len(v) != 1 || v[0]["id"] != "v1" || v[0]["status"] != "CURRENT" || v[0]["max_version"] != "1.11" || v[0]["min_version"] != "1.1" {
		t.Errorf("versions: %v", v)
	}
	if link := v[0]["links"].([]any)[0].(map[string]any); link["href"] != "http://magnum.example:9511/v1/" || link["rel"] != "self" {
		t.Errorf("link: %v", link)
	}
	for _, name := range []string{"OpenStack-API-Version", "OpenStack-API-Minimum-Version", "Vary"} {
		if got := a.header.Get(name); got != "" {
			t.Errorf("%s is %q", name, got)
		}
	}
	w.ask("", "POST", "/", object{}).want(405)
}

func TestVersions_1_5_Header(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, test := range []struct {
		row    string
		header string
		status int
		inUse  string // version in the answer; empty: none of the four headers
	}{
		{"absent", "", 200, "1.1"},
		{"container-infra X.Y", "container-infra 1.4", 200, "1.4"},
		{"container-infra X.Y", "container-infra 1.1", 200, "1.1"},
		{"container-infra X.Y", "container-infra 1.11", 200, "1.11"},
		{"container-infra latest", "container-infra latest", 200, "1.11"},
		{"container-infra latest", "container-infra LATEST", 200, "1.11"},
		{"any word + latest", "compute latest", 200, "1.11"},
		{"service word unknown", "compute 1.4", 406, ""},
		{"service word unknown", "Container-Infra 1.4", 406, ""},
		{"container-infrastructure-management X.Y", "container-infrastructure-management 1.9", 200, "1.9"},
		{"container-infrastructure-management X.Y", "container-infrastructure 1.9", 200, "1.9"},
		{"one word, three words, empty", "1.4", 406, ""},
		{"one word, three words, empty", "latest", 406, ""},
		{"one word, three words, empty", "container-infra", 406, ""},
		{"one word, three words, empty", "container-infra 1.4 x", 406, ""},
		{"one word, three words, empty", " ", 406, ""},
		{"not two integers", "container-infra 1", 406, ""},
		{"not two integers", "container-infra abc", 406, ""},
		{"not two integers", "container-infra 1.2.3", 406, ""},
		{"not two integers", "container-infra -1.2", 406, ""},
		{"not two integers", "container-infra 1.99999999999999999999", 406, ""},
		{"out of range", "container-infra 2.0", 406, "2.0"},
		{"out of range", "container-infra 1.0", 406, "1.0"},
		{"out of range", "container-infra 0.0", 406, "0.0"},
		{"out of range", "container-infra 1.12", 406, "1.12"},
		{"out of range", "container-infra 1.99", 406, "1.99"},
	} {
		var headers []string
		if test.header != "" {
			headers = []string{"OpenStack-API-Version: " + test.header}
		}
		a := w.ask("ann", "GET", "/v1/clusters", nil, headers...)
		if a.status != test.status {
			t.Errorf("%s: %q: status %d, want %d", test.row, test.header, a.status, test.status)
		}
		want := map[string]string{"OpenStack-API-Version": "", "OpenStack-API-Minimum-Version": "", "OpenStack-API-Maximum-Version": "", "Vary": ""}
		if test.inUse != "" {
			want = map[string]string{
				"OpenStack-API-Version":         "container-infra " + test.inUse,
				"OpenStack-API-Minimum-Version": "container-infra 1.1",
				"OpenStack-API-Maximum-Version": "container-infra 1.11",
				"Vary":                          "OpenStack-API-Version",
			}
		}
		for name, value := range want {
			if got := a.header.Get(name); got != value {
				t.Errorf("%q: %s is %q, want %q", test.header, name, got, value)
			}
		}
	}
	// An empty header is no absent one.
	w.ask("ann", "GET", "/v1/clusters", nil, "OpenStack-API-Version: ").want(406)
}

func TestVersions_1_5_OutOfRangeHasABodyOfItsOwn(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	e := w.ask("ann", "GET", "/v1/clusters", nil, "OpenStack-API-Version: container-infra 1.99", "Accept: application/json").error()
	hasKeys(t, e, "code", "title", "description", "max_version", "min_version", "links")
	e = w.ask("ann", "GET", "/v1/clusters", nil, "OpenStack-API-Version: container-infra 1.99").error()
	hasKeys(t, e, "code", "title", "max_version", "min_version", "links")
	if e["code"] != "magnum.microversion-unsupported" || e["max_version"] != "1.11" {
		t.Errorf("error: %v", e)
	}
}

// The four headers are in all that a controller answers, and in nothing else.
func TestVersions_1_5_WhichAnswersHaveTheHeaders(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	for _, row := range []struct {
		row, person, method, path string
		body                      any
		headers                   []string
		status                    int
		there                     bool
	}{
		{"success", "ann", "GET", "/v1/clusters", nil, nil, 200, true},
		{"success", "ann", "GET", "/v1", nil, nil, 200, true},
		{"success", "ann", "DELETE", "/v1/clusters/c", nil, nil, 204, true},
		{"error of a controller", "ann", "GET", "/v1/clusters/nowhere", nil, nil, 404, true},
		{"error of a controller", "ann", "POST", "/v1/clusters", "{", nil, 400, true},
		{"error of a controller", "reader", "DELETE", "/v1/clusters/c", nil, nil, 403, true},
		{"unknown path", "ann", "GET", "/v1/nowhere", nil, nil, 404, false},
		{"405", "ann", "PUT", "/v1/clusters", nil, nil, 405, false},
		{"plain 406", "ann", "GET", "/v1/clusters", nil, []string{"OpenStack-API-Version: compute 1.4"}, 406, false},
		{"plain 406", "ann", "GET", "/v1/clusters", nil, []string{"Accept: text/html"}, 406, false},
		{"method does not exist at that version", "ann", "GET", groups, nil, []string{"OpenStack-API-Version: container-infra 1.8"}, 406, false},
		{"method does not exist at that version", "ann", "POST", "/v1/clusters/c/actions/resize", object{}, nil, 406, false},
		{"method does not exist at that version", "ann", "POST", "/v1/clusters/c/actions/upgrade", object{}, nil, 406, false},
		{"401", "", "GET", "/v1/clusters", nil, nil, 401, false},
	} {
		a := w.ask(row.person, row.method, row.path, row.body, row.headers...).want(row.status)
		for _, name := range []string{"OpenStack-API-Version", "OpenStack-API-Minimum-Version", "OpenStack-API-Maximum-Version", "Vary"} {
			if there := a.header.Get(name) != ""; there != row.there {
				t.Errorf("%s: %s: %s is there: %v", row.row, a.what, name, there)
			}
		}
		if row.status == 406 && (a.error()["code"] != "" || a.error()["title"] != "") {
			t.Errorf("%s: %v", a.what, a.error())
		}
	}
}

func TestVersions_1_2_WhatEachSwitches(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	at := func(minor int) string { return fmt.Sprintf("OpenStack-API-Version: container-infra 1.%d", minor) }
	id := w.ready()
	w.ask("ann", "POST", "/v1/baymodels", keyed().with("name", "model")).want(201)
	const patch, resize, upgrade = "/v1/clusters/c", "/v1/clusters/c/actions/resize", "/v1/clusters/c/actions/upgrade"
	w.rule("1.1", func() { // the floor, and the default
		if got := w.ask("ann", "GET", "/v1/clusters", nil).want(200).header.Get("OpenStack-API-Version"); got != "container-infra 1.1" {
			w.t.Errorf("version %q", got)
		}
	})
	w.rule("1.2", func() {
		w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": "model"}, at(1)).want(201)
		w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": "model"}, at(2)).want(202)
		w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm"}, at(1)).want(202)
	})
	w.rule("1.3", func() {
		for _, path := range []string{patch, "/v1/bays/c"} {
			w.refused(400, "Unknown argument … rollback", "ann", "PATCH", path+"?rollback=true", "[]", at(2))
			w.ask("ann", "PATCH", path+"?rollback=true", "[]", at(3)).want(202)
		}
	})
	w.rule("1.4", func() { w.ask("ann", "GET", "/v1/stats", nil, at(1)).want(200) })                                    // not gated
	w.rule("1.5", func() { w.refused(404, "Cluster nowhere", "ann", "PATCH", "/v1/certificates/nowhere", nil, at(1)) }) // not gated
	w.rule("1.6", func() { w.ask("ann", "GET", "/v1/quotas/project-1/Cluster", nil, at(1)).want(200) })                 // not gated
	w.rule("1.7", func() {
		w.refused(406, "1.6", "ann", "POST", resize, object{"node_count": 1}, at(6))
		w.ask("ann", "POST", resize, object{"node_count": 1}, at(7)).want(202)
		w.refused(406, "1.6", "ann", "POST", upgrade, object{"cluster_template": "swarm"}, at(6))
		w.refused(400, "1.8", "ann", "POST", upgrade, object{"cluster_template": "swarm"}, at(7))
	})
	w.rule("1.8", func() {
		w.refused(404, "ClusterTemplate nowhere", "ann", "POST", upgrade, object{"cluster_template": "nowhere"}, at(8))
	})
	w.rule("1.9", func() {
		w.refused(406, "1.8", "ann", "GET", groups, nil, at(8))
		w.ask("ann", "GET", groups, nil, at(9)).want(200)
	})
	w.rule("1.10", func() {
		none := object{"cluster_template_id": "swarm", "node_count": 0}
		w.refused(400, "node_count … 1.10", "ann", "POST", "/v1/clusters", none, at(9))
		w.ask("ann", "POST", "/v1/clusters", none, at(10)).want(202)
		w.refused(400, "node_count … 1.10", "ann", "PATCH", patch, patchOf("replace", "/node_count", 0), at(9))
		w.ask("ann", "PATCH", patch, patchOf("replace", "/node_count", 0), at(10)).want(202)
		w.finish(id, model.UpdateComplete)
		w.refused(400, "node_count … 1.10", "ann", "POST", resize, object{"node_count": 0}, at(9))
		w.ask("ann", "POST", resize, object{"node_count": 0}, at(10)).want(202)
		missing := object{"cluster_template_id": "nowhere"}
		w.refused(400, "ClusterTemplate nowhere", "ann", "POST", "/v1/clusters", missing, at(9))
		w.refused(404, "ClusterTemplate nowhere", "ann", "POST", "/v1/clusters", missing, at(10))
	})
	w.rule("1.11", func() {
		for _, path := range []string{"/v1/clusters/c", "/v1/clusters", groups, "/v1/bays/c"} {
			if before, now := w.ask("ann", "GET", path, nil, at(10)).want(200).raw, w.ask("ann", "GET", path, nil, at(11)).want(200).raw; before != now {
				w.t.Errorf("%s differs:\n%s\n%s", path, before, now)
			}
		}
	})
	w.rule("1.12", func() { w.refused(404, "not known", "ann", "PATCH", "/v1/credentials/c", nil, latest) })
	w.rule("1.13", func() {
		shown := w.ask("ann", "GET", "/v1/clusters/c", nil, latest).want(200)
		if _, there := shown.body["stack_id"]; !there {
			w.t.Error("no stack_id at the highest version")
		}
	})
	w.rule("1.14", func() {
		w.refused(400, "node_labels", "ann", "POST", groups, object{"name": "x", "node_labels": object{}}, latest)
	})
}

func TestVersions_1_6_PathsWithoutV1(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ask("ann", "GET", "/clusters", nil).want(200)
	w.ask("ann", "GET", "/clusters/detail", nil).want(200)
	w.ask("ann", "GET", "/v2", nil).want(404)
	w.ask("ann", "GET", "/v1/v1/clusters", nil).want(404)
	w.ask("ann", "GET", "/v1.json", nil).want(404)
	w.ask("", "GET", "/clusters", nil).want(401)
}

func TestVersions_1_4_Version1ListsItsCollections(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, path := range []string{"/v1", "/v1/"} {
		a := w.ask("", "GET", path, nil).want(200)
		all := []string{"clustertemplates", "clusters", "quotas", "certificates", "mservices", "stats", "federations", "baymodels", "bays"}
		hasKeys(t, a.body, append([]string{"id", "media_types", "links", "nodegroups"}, all...)...) // no versions
		a.is("id", "v1")
		a.is("media_types", []any{map[string]any{"base": "application/json", "type": "application/vnd.openstack.magnum.v1+json"}})
		links := a.items("links")
		if len(links) != 2 || links[0]["href"] != "http://magnum.example:9511/v1/" || links[0]["rel"] != "self" ||
			links[1]["rel"] != "describedby" || links[1]["type"] != "text/html" || len(links[0]) != 2 {
			t.Errorf("links: %v", links)
		}
		for _, name := range all {
			a.is(name, []any{
				map[string]any{"href": "http://magnum.example:9511/v1/" + name + "/", "rel": "self"},
				map[string]any{"href": "http://magnum.example:9511/" + name + "/", "rel": "bookmark"},
			})
		}
		a.is("nodegroups", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/clusters/{cluster_id}/nodegroups", "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/clusters/{cluster_id}/nodegroups", "rel": "bookmark"},
		})
		if a.header.Get("OpenStack-API-Version") != "container-infra 1.1" {
			t.Errorf("%s: version header %q", path, a.header.Get("OpenStack-API-Version"))
		}
	}
}

func TestErrors_2_1_Envelope(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	found := func(headers ...string) map[string]any {
		a := w.ask("ann", "GET", "/v1/clusters/no.where", nil, headers...).want(404)
		if got := a.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("content type %q", got)
		}
		hasKeys(t, a.body, "errors")
		return a.error()
	}
	e := found()
	hasKeys(t, e, "request_id", "code", "status", "title", "detail", "links")
	w.rule("request_id", func() { equal(w.t, e["request_id"], "") })
	w.rule("code", func() {
		equal(w.t, e["code"], "client")
		equal(w.t, w.ask("ann", "GET", "/v1/nowhere", nil).want(404).error()["code"], "")
		equal(w.t, w.ask("ann", "PUT", "/v1/clusters", nil).want(405).error()["code"], "")
		equal(w.t, w.ask("ann", "GET", groups, nil).want(406).error()["code"], "")
	})
	w.rule("status", func() { equal(w.t, e["status"], 404.0) })
	w.rule("title", func() { equal(w.t, e["title"], "Cluster no") }) // a dot in a value cuts, too
	w.rule("detail", func() { equal(w.t, e["detail"], "Cluster no.where could not be found.") })
	w.rule("links", func() { equal(w.t, fmt.Sprint(e["links"]), "[]") })
	w.rule("routing-level errors", func() {
		for path, status := range map[string]int{"/v1/nowhere": 404, "/v1/certificates": 405, groups: 406} {
			e := w.ask("ann", "GET", path, nil).want(status).error()
			equal(w.t, e["title"], "")
			equal(w.t, e["detail"], "")
			e = w.ask("ann", "GET", path, nil, "Accept: application/json").want(status).error()
			equal(w.t, e["title"], http.StatusText(status))
			e = w.ask("ann", "GET", path, nil, "Accept: */*").want(status).error()
			equal(w.t, e["title"], "")
		}
	})
	w.rule("HEAD has no body", func() {
		server := httptest.NewServer(w.handler)
		defer server.Close()
		client := http.Client{Timeout: 10 * time.Second}
		r, err := client.Head(server.URL + "/v1")
		if err != nil {
			w.t.Fatal(err)
		}
		defer r.Body.Close()
		if body, err := io.ReadAll(r.Body); r.StatusCode != 405 || len(body) > 0 || err != nil {
			w.t.Errorf("%d %q %v", r.StatusCode, body, err)
		}
	})
	w.rule("x-openstack-request-id", func() { // ask looks at each answer
		first := w.ask("", "GET", "/v1/clusters", nil, "X-Openstack-Request-Id: req-mine").want(401).header.Get("X-Openstack-Request-Id")
		if second := w.ask("", "GET", "/", nil).want(200).header.Get("X-Openstack-Request-Id"); first == second || first == "req-mine" {
			w.t.Errorf("%s, then %s", first, second)
		}
	})
}

// equal fails the test unless both are the same.
func equal(t testing.TB, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrors_2_2_WithoutAToken(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, row := range []struct{ row, token string }{{"no token", ""}, {"empty token", " "}, {"refused token", "made up"}} {
		w.rule(row.row, func() {
			for _, path := range []string{"/v1/clusters", "/v1/nowhere", "/nowhere", "/v1//", "/v1.json", "/v2", "/clusters"} {
				w.refused(401, "", row.token, "GET", path, nil)
				a := w.ask(row.token, "GET", path, nil).want(401)
				equal(w.t, a.body, map[string]any{"error": map[string]any{
					"code": 401.0, "title": "Unauthorized", "message": "The request you have made requires authentication.",
				}})
				equal(w.t, a.header.Get("WWW-Authenticate"), `Keystone uri="http://keystone.example/v3"`)
				equal(w.t, a.header.Get("Content-Type"), "application/json")
			}
			w.refused(401, "", row.token, "POST", "/v1/clustertemplates", swarm())
			w.refused(401, "", row.token, "DELETE", "/v1/clusters/x", nil)
		})
	}
	w.rule("Keystone unreachable", func() { w.refused(503, "Keystone", "nobody knows", "POST", "/v1/clustertemplates", swarm()) })
}

func TestErrors_2_3_StatusMap(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	twin := w.template(swarm().with("name", "twin"))
	w.template(swarm().with("name", "twin"))
	w.template(object{"name": "k8s", "coe": "kubernetes", "image_id": "debian-12"})
	type request struct {
		words, person, method, path string
		body                        any
	}
	for _, row := range []struct {
		row      string
		status   int
		requests []request
	}{
		{"400", 400, []request{
			{"JSON", "ann", "POST", "/v1/clusters", "{"},
			{"Missing argument", "ann", "POST", "/v1/clusters", nil},
			{"Unknown attribute … colour", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "colour": "red"}},
			{"Unknown argument … colour", "ann", "GET", "/v1/clusters?colour=red", nil},
			{"node_count … integer", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "node_count": "x"}},
			{"master_count … 1 or more", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "master_count": 0}},
			{"name … must match", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "name": "1"}},
			{"server_type … not one of", "ann", "POST", "/v1/clustertemplates", swarm().with("server_type", "x")},
			{"user_id … cannot be set", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "user_id": "x"}},
			{"/colour", "ann", "PATCH", "/v1/clusters/c", patchOf("add", "/colour", "x")},
			{"change name", "ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/name", "x")},
			{"coe", "ann", "POST", "/v1/clustertemplates", swarm().with("coe", "dcos")},
			{"not supported", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "k8s"}},
			{"network_driver", "ann", "POST", "/v1/clustertemplates", swarm().with("network_driver", "x")},
			{"used by", "ann", "DELETE", "/v1/clustertemplates/swarm", nil}, // not 409
			{"image_id", "ann", "POST", "/v1/clustertemplates", swarm().with("image_id", "x").with("cluster_distro", "debian")},
			{"flavor_id", "ann", "POST", "/v1/clustertemplates", swarm().with("flavor_id", "x")},
			{"external_network_id", "ann", "POST", "/v1/clustertemplates", swarm().with("external_network_id", "x")},
			{"csr", "ann", "POST", "/v1/certificates", object{"cluster_uuid": "c", "csr": "x"}},
			{"limit", "ann", "GET", "/v1/clusters?limit=0", nil},
			{"sort_key", "ann", "GET", "/v1/clusters?sort_key=x", nil},
			{"sort_dir", "ann", "GET", "/v1/clusters?sort_dir=x", nil},
		}},
		{"403", 403, []request{
			{"cluster:create", "reader", "POST", "/v1/clusters", object{"cluster_template_id": "swarm"}},
			{"clustertemplate:publish", "ann", "POST", "/v1/clustertemplates", swarm().with("public", true)},
			{"another project", "ann", "GET", "/v1/quotas/project-2/Cluster", nil},
			{"another project", "ann", "GET", "/v1/stats?project_id=project-2", nil},
			{"image_id … not permitted", "ann", "POST", "/v1/clustertemplates", swarm().with("image_id", "forbidden").with("cluster_distro", "debian")},
		}},
		{"404", 404, []request{
			{"Cluster nowhere", "ann", "GET", "/v1/clusters/nowhere", nil},
			{"Cluster " + id, "zoe", "GET", "/v1/clusters/" + id, nil}, // not visible
			{"not known", "ann", "GET", "/v1/nowhere", nil},
			{"keypair", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "keypair": "no-such-key"}},
		}},
		{"405", 405, []request{{"no such method", "ann", "PUT", "/v1/clusters", nil}, {"no such method", "ann", "POST", "/v1/stats", nil}}},
		{"406", 406, []request{{"1.1", "ann", "GET", groups, nil}}},
		{"409", 409, []request{
			{"Multiple clustertemplates", "ann", "GET", "/v1/clustertemplates/twin", nil},
			{"already exists", "ann", "POST", "/v1/clustertemplates", swarm().with("uuid", twin)},
			{"image_id", "ann", "POST", "/v1/clustertemplates", swarm().with("image_id", "twins").with("cluster_distro", "debian")},
		}},
	} {
		w.rule(row.row, func() {
			for _, r := range row.requests {
				w.refused(row.status, r.words, r.person, r.method, r.path, r.body)
			}
		})
	}
	w.rule("401", func() { w.refused(401, "", "", "GET", "/v1/clusters", nil) })
	w.rule("415", func() {
		w.refused(415, "application/json", "ann", "POST", "/v1/clustertemplates", swarm(), "Content-Type: text/plain")
	})
	w.rule("500", func() {
		w := newWorld(w.t, storetest.New(w.t), func(_ *api.Config, d *api.Deps) { d.Flavors = broken{d.Flavors} })
		w.refused(500, "request id", "ann", "POST", "/v1/clustertemplates", swarm().with("flavor_id", "m1.small"))
	})
	w.rule("the 403 of a quota", func() {
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 1}).want(201)
		w.refused(403, "quota of 1 clusters", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm"})
		w.refused(409, "has a quota", "admin", "POST", "/v1/quotas", object{"project_id": "project-1"})
	})
}

func TestErrors_2_3_MethodNotAllowed(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, test := range []struct{ method, path, allow string }{
		{"PUT", "/v1/clusters", "DELETE, GET, PATCH, POST"},
		{"HEAD", "/v1/clusters", "DELETE, GET, PATCH, POST"},
		{"OPTIONS", "/v1/clusters/x", "DELETE, GET, PATCH"},
		{"GET", "/v1/certificates", "PATCH, POST"},
		{"DELETE", "/v1/certificates/x", "GET, PATCH"},
		{"POST", "/v1/mservices", "GET"},
		{"GET", "/v1/clusters/x/actions", ""},
		{"GET", "/v1/clusters/x/actions/resize", ""},
	} {
		a := w.ask("ann", test.method, test.path, nil)
		if a.status != 405 {
			t.Errorf("%s %s: status %d", test.method, test.path, a.status)
		}
		if got, ok := a.header["Allow"]; !ok || got[0] != test.allow {
			t.Errorf("%s %s: Allow is %q, want %q", test.method, test.path, got, test.allow)
		}
	}
}

func TestRequests_2_4_Rules(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	cluster := w.ready()
	w.rule("trailing slash", func() {
		for _, path := range []string{
			"/v1/clusters/", "/v1/clusters/?limit=1", "/v1/clusters/detail", "/v1/clusters/" + cluster + "/",
			"/v1/clustertemplates/", "/v1/clustertemplates/swarm/", "/v1/stats/", "/clusters/", "/v1/certificates/c/", "/v1/certificates/c/etcd/",
			"/v1/quotas/project-1/Cluster/", "/v1/bays/", "/v1/bays/c/", "/v1/bays/detail", "/v1/baymodels/swarm/", "/v1/federations/",
		} {
			w.ask("ann", "GET", path, nil).want(200)
		}
		w.ask("ann", "GET", groups+"/?limit=1", nil, latest).want(200)
		w.ask("ann", "GET", groups+"/default-worker/", nil, latest).want(200)
		w.ask("ann", "POST", "/v1/clusters/c/actions/resize/", object{"node_count": 2}, latest).want(202)
		for _, path := range []string{"/v1/clusters/detail/", "/v1/clustertemplates/detail/", "/v1/federations/detail/"} {
			w.refused(404, "not known", "ann", "GET", path, nil)
		}
		for _, path := range []string{"/v1//clusters", "/v1/clusters//", "//", "/v1/./clusters", "/v1/clusters/../clusters", "/v1/clusters/%ff"} {
			w.refused(404, "not known", "ann", "GET", path, nil)
		}
	})
	w.rule("Content-Type with a body", func() {
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "text/javascript", "application/javascript"} {
			w.ask("ann", "POST", "/v1/clustertemplates", swarm(), "Content-Type: "+kind).want(201)
		}
		for _, kind := range []string{"text/plain", "application/json-patch+json", "application/octet-stream", "application/xml"} {
			w.refused(415, "Content-Type … application/json", "ann", "POST", "/v1/clustertemplates", swarm(), "Content-Type: "+kind)
		}
		for _, kind := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", ";", "json"} {
			want := 400
			if kind == "json" {
				want = 415
			}
			w.refused(want, "Content-Type … application/json", "ann", "POST", "/v1/clustertemplates", swarm(), "Content-Type: "+kind)
		}
	})
	w.rule("Content-Type without a body", func() {
		for _, kind := range []string{"application/octet-stream", "text/plain", "x", ""} {
			w.refused(404, "Cluster nowhere", "ann", "DELETE", "/v1/clusters/nowhere", nil, "Content-Type: "+kind)
			w.refused(404, "Cluster nowhere", "ann", "PATCH", "/v1/certificates/nowhere", nil, "Content-Type: "+kind)
			w.refused(400, "Missing argument", "ann", "POST", "/v1/clustertemplates", nil, "Content-Type: "+kind)
		}
	})
	w.rule("Accept", func() {
		for _, accept := range []string{"*/*", "application/json", "text/html, application/json;q=0.5", "application/*"} {
			w.ask("ann", "GET", "/v1/clusters", nil, "Accept: "+accept).want(200)
		}
		for _, accept := range []string{"text/html", "application/xml", "text/plain, image/*"} {
			w.refused(406, "", "ann", "GET", "/v1/clusters", nil, "Accept: "+accept)
			w.refused(406, "", "ann", "DELETE", "/v1/clusters/c", nil, "Accept: "+accept)
			w.refused(406, "", "ann", "POST", "/v1/clustertemplates", swarm(), "Accept: "+accept)
		}
	})
	w.rule("body", func() {
		for _, path := range []string{"/v1/clusters", "/v1/clustertemplates", "/v1/certificates", "/v1/quotas", "/v1/federations", "/v1/bays", "/v1/baymodels", groups, "/v1/clusters/c/actions/resize", "/v1/clusters/c/actions/upgrade"} {
			for body, words := range map[string]string{
				`[]`: "object", `"text"`: "object", `null`: "object", `7`: "object", `true`: "object",
				`{`: "JSON", `{"name": }`: "JSON", `{} {}`: "JSON", `{"a": "\x01"}`: "JSON", `{'a': 1}`: "JSON", ``: "Missing argument",
				`{"nick": "x"}`: "", `{"NAME": "x"}`: "",
			} {
				w.refused(400, words, "ann", "POST", path, body, latest)
			}
		}
		w.refused(400, "Unknown attribute … NAME", "ann", "POST", "/v1/clustertemplates", swarm().with("NAME", "x"))
		w.refused(413, "larger than", "ann", "POST", "/v1/clustertemplates", strings.Repeat(" ", 200<<10)+"{}")
	})
	w.rule("query", func() {
		for path, words := range map[string]string{
			"/v1/clusters?all_tenants=1":     "Unknown argument … all_tenants",
			"/v1/clusters?name=x":            "Unknown argument … name",
			"/v1/clusters?Limit=1":           "Unknown argument … Limit",
			"/v1/clusters?limit=1&limit=2":   "limit … given 2 times",
			"/v1/clusters?limit=%zz":         "query",
			"/v1/clusters?limit=1;marker=2":  "query",
			"/v1/clusters?marker=%ff":        "marker … UTF-8",
			"/v1/clusters/c?detail=1":        "Unknown argument … detail",
			"/v1/clusters?role=worker":       "Unknown argument … role",
			"/v1/clustertemplates/swarm?x=":  "Unknown argument … x",
			"/v1/quotas/project-1/Cluster?x": "Unknown argument … x",
			"/v1?x=1":                        "Unknown argument … x",
		} {
			w.refused(400, words, "ann", "GET", path, nil)
		}
		w.refused(400, "Unknown argument … x", "ann", "POST", "/v1/clustertemplates?x=1", swarm())
		w.refused(400, "Unknown argument … x", "ann", "DELETE", "/v1/clusters/c?x=1", nil)
	})
	w.rule("case, extension", func() {
		template := w.template(swarm().with("name", "a/b c.json"))
		w.ask("ann", "GET", "/v1/clustertemplates/a%2Fb%20c.json", nil).want(200).is("uuid", template)
		w.refused(404, "", "ann", "GET", "/v1/clustertemplates/a/b", nil)
		w.refused(404, "", "ann", "GET", "/v1/ClusterTemplates", nil)
		w.refused(404, "swarm.json", "ann", "GET", "/v1/clustertemplates/swarm.json", nil)
	})
	w.rule("HEAD, OPTIONS, PUT", func() {
		for _, method := range []string{"HEAD", "OPTIONS", "PUT", "TRACE", "LOCK"} {
			for _, path := range []string{"/", "/v1", "/v1/clusters", "/v1/clusters/c", "/v1/clusters/detail", groups, "/v1/certificates", "/v1/quotas", "/v1/stats", "/v1/mservices", "/v1/bays"} {
				w.refused(405, "no such method", "ann", method, path, nil)
			}
		}
	})
	w.rule("missing id", func() {
		for _, path := range []string{"/v1/clusters", "/v1/clustertemplates", "/v1/bays", "/v1/baymodels", "/v1/quotas"} {
			for _, method := range []string{"DELETE", "PATCH"} {
				w.refused(400, "Missing argument", "ann", method, path, "[]")
			}
		}
	})
	w.rule("GET where only methods with an id exist", func() {
		w.refused(405, "no such method", "ann", "GET", "/v1/certificates", nil)
		w.refused(400, "Missing argument", "ann", "GET", "/v1/quotas/project-1", nil)
	})
}

func TestAnswers_2_5_Success(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	located := map[string]bool{"/v1/clustertemplates": true, "/v1/baymodels": true}
	for _, row := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"POST", "/v1/clustertemplates", swarm(), 201},
		{"POST", "/v1/baymodels", keyed().with("name", "model"), 201},
		{"POST", "/v1/clusters", object{"name": "c", "cluster_template_id": "swarm"}, 202},
		{"GET", "/v1/clusters", nil, 200},
		{"GET", "/v1/clusters/c", nil, 200},
		{"PATCH", "/v1/clusters/c", "[]", 202},
		{"PATCH", "/v1/baymodels/model", "[]", 200},
		{"POST", "/v1/certificates", object{"cluster_uuid": "c", "csr": request(t)}, 201},
		{"POST", "/v1/federations", object{"hostcluster_id": "c", "properties": object{"dns-zone": "x"}}, 202},
		{"DELETE", "/v1/clusters/c", nil, 204},
		{"DELETE", "/v1/baymodels/model", nil, 204},
	} {
		a := w.ask("ann", row.method, row.path, row.body).want(row.status) // of 204, no body and no type
		if row.status != 204 && (a.body == nil || a.header.Get("Content-Type") != "application/json") {
			t.Errorf("%s: %q %s", a.what, a.header.Get("Content-Type"), a.raw)
		}
		if there := a.header.Get("Location") != ""; there != (row.status == 201 && located[row.path]) {
			t.Errorf("%s: Location %q", a.what, a.header.Get("Location"))
		}
	}
	if a := w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": "swarm"}).want(201); a.header.Get("Location") == "" {
		t.Error("a bay at 1.1 has no Location")
	}
}

func TestErrors_2_3_UnforeseenOnesStayInside(t *testing.T) {
	w := newWorld(t, storetest.New(t), func(_ *api.Config, d *api.Deps) { d.Flavors = broken{d.Flavors} })
	a := w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("flavor_id", "m1.small")).want(500)
	if e := a.error(); e["code"] != "server" || strings.Contains(a.raw, "10.0.0.1") {
		t.Errorf("error: %v", e)
	}
	id := a.header.Get("X-Openstack-Request-Id")
	if log := w.log.String(); !strings.Contains(log, "10.0.0.1") || !strings.Contains(log, id) {
		t.Errorf("the log does not tell of %s:\n%s", id, log)
	}
}

func TestErrors_2_3_APanicIsA500(t *testing.T) {
	w := newWorld(t, storetest.New(t), func(_ *api.Config, d *api.Deps) { d.Flavors = nil })
	w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("flavor_id", "m1.small")).want(500)
	w.ask("ann", "GET", "/v1/clustertemplates", nil).want(200)
}

// Every route asks the policy: with one that refuses all, nothing but
// discovery and public templates is served.
func TestPolicy_16_EveryRouteAsks(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s)
	template := w.template(swarm())
	cluster := w.cluster(object{"cluster_template_id": template})
	refusing := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Policy = nobody{} })
	patch := `[{"op": "replace", "path": "/name", "value": "x"}]`
	federation := object{"hostcluster_id": cluster, "properties": object{"dns-zone": "x"}}
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/v1/clustertemplates", nil},
		{"GET", "/v1/clustertemplates/detail", nil},
		{"GET", "/v1/clustertemplates/" + template, nil},
		{"POST", "/v1/clustertemplates", swarm()},
		{"PATCH", "/v1/clustertemplates/" + template, patch},
		{"DELETE", "/v1/clustertemplates/" + template, nil},
		{"GET", "/v1/clusters", nil},
		{"GET", "/v1/clusters/detail", nil},
		{"GET", "/v1/clusters/" + cluster, nil},
		{"POST", "/v1/clusters", object{"cluster_template_id": template}},
		{"PATCH", "/v1/clusters/" + cluster, "[]"},
		{"DELETE", "/v1/clusters/" + cluster, nil},
		{"POST", "/v1/clusters/" + cluster + "/actions/resize", object{"node_count": 2}},
		{"POST", "/v1/clusters/" + cluster + "/actions/upgrade", object{"cluster_template": template}},
		{"GET", "/v1/clusters/" + cluster + "/nodegroups", nil},
		{"GET", "/v1/clusters/" + cluster + "/nodegroups/default-worker", nil},
		{"POST", "/v1/clusters/" + cluster + "/nodegroups", object{"name": "x"}},
		{"PATCH", "/v1/clusters/" + cluster + "/nodegroups/default-worker", "[]"},
		{"DELETE", "/v1/clusters/" + cluster + "/nodegroups/default-worker", nil},
		{"GET", "/v1/certificates/" + cluster, nil},
		{"GET", "/v1/certificates/" + cluster + "/etcd", nil},
		{"POST", "/v1/certificates", object{"cluster_uuid": cluster, "csr": "x"}},
		{"PATCH", "/v1/certificates/" + cluster, nil},
		{"GET", "/v1/quotas", nil},
		{"GET", "/v1/quotas/project-1/Cluster", nil},
		{"POST", "/v1/quotas", object{"project_id": "project-1"}},
		{"PATCH", "/v1/quotas/project-1/Cluster", object{}},
		{"DELETE", "/v1/quotas/project-1/Cluster", nil},
		{"GET", "/v1/stats", nil},
		{"GET", "/v1/mservices", nil},
		{"GET", "/v1/baymodels", nil},
		{"GET", "/v1/baymodels/detail", nil},
		{"GET", "/v1/baymodels/" + template, nil},
		{"POST", "/v1/baymodels", swarm().with("keypair_id", "key")},
		{"PATCH", "/v1/baymodels/" + template, patch},
		{"DELETE", "/v1/baymodels/" + template, nil},
		{"GET", "/v1/bays", nil},
		{"GET", "/v1/bays/detail", nil},
		{"GET", "/v1/bays/" + cluster, nil},
		{"POST", "/v1/bays", object{"baymodel_id": template}},
		{"PATCH", "/v1/bays/" + cluster, "[]"},
		{"DELETE", "/v1/bays/" + cluster, nil},
		{"GET", "/v1/federations", nil},
		{"GET", "/v1/federations/detail", nil},
		{"POST", "/v1/federations", federation},
	} {
		a := refusing.ask("ann", r.method, r.path, r.body, latest)
		if a.status != 403 {
			t.Errorf("%s %s: status %d, want 403\n%s", r.method, r.path, a.status, a.raw)
		}
	}
	if c := w.row(cluster); c == nil || len(w.operations(cluster)) != 1 {
		t.Error("the cluster was changed")
	}
}

// With the older defaults, a reader may write; only other users' certificates
// stay closed.
func TestPolicy_16_3_OlderDefaults(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Policy = rules(t, policy.Options{}) })
	cluster := w.cluster(object{"cluster_template_id": w.template(swarm())})
	w.ask("reader", "PATCH", "/v1/clusters/"+cluster, "[]").want(202)
	w.ask("bob", "GET", "/v1/certificates/"+cluster, nil).want(403)
}

// Over a real connection nothing is redirected.
func TestServer_AnswersOverARealConnection(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	server := httptest.NewServer(w.handler)
	defer server.Close()
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("nothing here redirects")
	}}
	for path, status := range map[string]int{"/": 200, "/v1": 200, "/v1//clusters": 401, "/healthcheck": 200} {
		r, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != status {
			t.Errorf("GET %s: %d, want %d", path, r.StatusCode, status)
		}
	}
}

type nobody struct{}

func (nobody) Allow(string, *policy.Caller, map[string]string) bool { return false }
func (nobody) IsAdmin(*policy.Caller) bool                          { return false }
