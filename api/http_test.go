// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/api"
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

func TestVersions_1_4_Version1ListsItsCollections(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, path := range []string{"/v1", "/v1/"} {
		a := w.ask("", "GET", path, nil).want(200)
		a.is("id", "v1")
		a.is("media_types", []any{map[string]any{"base": "application/json", "type": "application/vnd.openstack.magnum.v1+json"}})
		for _, name := range []string{"clustertemplates", "clusters", "quotas", "certificates", "mservices", "stats", "federations", "baymodels", "bays"} {
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

func TestVersions_1_5_Header(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, test := range []struct {
		header string
		status int
		inUse  string // version in the answer; empty: none of the four headers
	}{
		{"", 200, "1.1"},
		{"container-infra 1.4", 200, "1.4"},
		{"container-infra latest", 200, "1.11"},
		{"container-infra LATEST", 200, "1.11"},
		{"compute latest", 200, "1.11"},
		{"container-infrastructure-management 1.9", 200, "1.9"},
		{"container-infrastructure 1.9", 200, "1.9"},
		{"compute 1.4", 406, ""},
		{"1.4", 406, ""},
		{"container-infra 1.4 x", 406, ""},
		{"container-infra", 406, ""},
		{"container-infra 1", 406, ""},
		{"container-infra abc", 406, ""},
		{"container-infra 1.2.3", 406, ""},
		{"container-infra -1.2", 406, ""},
		{"container-infra 2.0", 406, "2.0"},
		{"container-infra 1.0", 406, "1.0"},
		{"container-infra 0.0", 406, "0.0"},
		{"container-infra 1.99", 406, "1.99"},
	} {
		var headers []string
		if test.header != "" {
			headers = []string{"OpenStack-API-Version: " + test.header}
		}
		a := w.ask("ann", "GET", "/v1/clusters", nil, headers...)
		if a.status != test.status {
			t.Errorf("%q: status %d, want %d", test.header, a.status, test.status)
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

func TestVersions_1_5_MethodsThatAVersionDoesNotHave(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, test := range []struct{ method, path, version string }{
		{"GET", "/v1/clusters/x/nodegroups", "1.8"},
		{"POST", "/v1/clusters/x/actions/resize", "1.6"},
		{"POST", "/v1/clusters/x/actions/upgrade", "1.6"},
	} {
		a := w.ask("ann", test.method, test.path, object{}, "OpenStack-API-Version: container-infra "+test.version).want(406)
		if a.header.Get("OpenStack-API-Version") != "" || a.error()["code"] != "" || a.error()["title"] != "" {
			t.Errorf("%s at %s: %v %v", test.path, test.version, a.header, a.error())
		}
	}
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

func TestErrors_2_1_Envelope(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	a := w.ask("ann", "GET", "/v1/clusters/no.where", nil).want(404)
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	e := a.error()
	hasKeys(t, e, "request_id", "code", "status", "title", "detail", "links")
	if e["code"] != "client" || e["title"] != "Cluster no" || e["detail"] != "Cluster no.where could not be found." || len(e["links"].([]any)) != 0 {
		t.Errorf("error: %v", e)
	}
	e = w.ask("ann", "GET", "/v1/nowhere", nil).want(404).error()
	if e["code"] != "" || e["title"] != "" || e["detail"] != "" {
		t.Errorf("error of an unknown path: %v", e)
	}
	e = w.ask("ann", "GET", "/v1/nowhere", nil, "Accept: application/json").want(404).error()
	if e["code"] != "" || e["title"] != "Not Found" {
		t.Errorf("error of an unknown path, JSON wanted: %v", e)
	}
}

func TestErrors_2_2_WithoutAToken(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, path := range []string{"/v1/clusters", "/v1/nowhere", "/nowhere", "/v1//"} {
		a := w.ask("", "GET", path, nil).want(401)
		if a.header.Get("WWW-Authenticate") == "" || a.body["error"] == nil {
			t.Errorf("%s: %v %s", path, a.header, a.raw)
		}
	}
	w.ask("made up", "GET", "/v1/clusters", nil).want(401)
	w.ask("nobody knows", "GET", "/v1/clusters", nil).want(503)
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

func TestRequests_2_4_TrailingSlash(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	template := w.template(swarm())
	cluster := w.cluster(object{"cluster_template_id": template})
	for _, path := range []string{
		"/v1/clusters/", "/v1/clusters/?limit=1", "/v1/clusters/detail", "/v1/clusters/" + cluster + "/",
		"/v1/clustertemplates/", "/v1/clustertemplates/" + template + "/", "/v1/stats/", "/clusters/",
	} {
		w.ask("ann", "GET", path, nil).want(200)
	}
	w.ask("ann", "GET", "/v1/clusters/"+cluster+"/nodegroups/?limit=1", nil, latest).want(200)
	w.ask("ann", "POST", "/v1/clusters/"+cluster+"/actions/resize/", object{"node_count": 2}, latest).want(202)
	for _, path := range []string{"/v1/clusters/detail/", "/v1/clustertemplates/detail/", "/v1/federations/detail/"} {
		w.ask("ann", "GET", path, nil).want(404)
	}
	for _, path := range []string{"/v1//clusters", "/v1/clusters//", "//", "/v1/./clusters", "/v1/clusters/../clusters", "/v1/clusters/%ff"} {
		w.ask("ann", "GET", path, nil).want(404)
	}
}

func TestRequests_2_4_SlashesInNames(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	template := w.template(swarm().with("name", "a/b c.json"))
	w.ask("ann", "GET", "/v1/clustertemplates/a%2Fb%20c.json", nil).want(200).is("uuid", template)
	w.ask("ann", "GET", "/v1/clustertemplates/a/b", nil).want(404)
	w.ask("ann", "GET", "/v1/ClusterTemplates", nil).want(404)
}

func TestRequests_2_4_ContentType(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for kind, status := range map[string]int{
		"application/json":                  201,
		"application/json; charset=utf-8":   201,
		"text/javascript":                   201,
		"application/javascript":            201,
		"text/plain":                        415,
		"application/json-patch+json":       415,
		"application/octet-stream":          415,
		"application/x-www-form-urlencoded": 400,
		"":                                  400,
	} {
		a := w.ask("ann", "POST", "/v1/clustertemplates", swarm(), "Content-Type: "+kind)
		if a.status != status {
			t.Errorf("%q: status %d, want %d", kind, a.status, status)
		}
	}
	// Without a body the type does not matter.
	w.ask("ann", "DELETE", "/v1/clusters/x", nil, "Content-Type: application/octet-stream").want(404)
	w.ask("ann", "POST", "/v1/clustertemplates", nil, "Content-Type: text/plain").want(400).saying("Missing argument")
}

func TestRequests_2_4_Accept(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for accept, status := range map[string]int{
		"*/*": 200, "application/json": 200, "text/html, application/json;q=0.5": 200, "application/*": 200,
		"text/html": 406, "application/xml": 406,
	} {
		a := w.ask("ann", "GET", "/v1/clusters", nil, "Accept: "+accept)
		if a.status != status {
			t.Errorf("%q: status %d, want %d", accept, a.status, status)
		}
	}
	w.ask("ann", "DELETE", "/v1/clusters/x", nil, "Accept: text/plain").want(406)
}

func TestRequests_2_4_Bodies(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, body := range []string{`[]`, `"text"`, `null`, `7`, `{`, `{"name": }`, `{} {}`, ``, `{"nick": "x"}`, `{"NAME": "x"}`, `{"name": 5}`} {
		w.ask("ann", "POST", "/v1/clustertemplates", body).want(400)
		w.ask("ann", "POST", "/v1/clusters", body).want(400)
	}
	w.ask("ann", "POST", "/v1/clustertemplates", strings.Repeat(" ", 200<<10)+"{}").want(413)
	if all := w.ask("ann", "GET", "/v1/clustertemplates", nil).want(200).items("clustertemplates"); len(all) != 0 {
		t.Errorf("templates were made: %v", all)
	}
}

func TestRequests_2_4_Arguments(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, path := range []string{
		"/v1/clusters?all_tenants=1", "/v1/clusters?name=x", "/v1/clusters?limit=1&limit=2", "/v1/clusters?limit=%zz", "/v1/clusters?marker=%ff",
		"/v1/clusters/x?detail=1", "/v1/stats?colour=red", "/v1/clustertemplates?limit=0", "/v1/clustertemplates?limit=-1",
		"/v1/clustertemplates?limit=x", "/v1/clustertemplates?limit=", "/v1/clustertemplates?sort_dir=ASC", "/v1/clustertemplates?sort_key=nothing",
		"/v1/clusters?sort_key=node_count", "/v1/clusters?sort_key=", "/v1/federations?sort_key=", "/v1/clusters?marker=name",
	} {
		w.ask("ann", "GET", path, nil).want(400)
	}
	w.ask("ann", "GET", "/v1/clusters?marker=00000000-0000-4000-8000-000000000000", nil).want(404)
	w.ask("ann", "DELETE", "/v1/clusters", nil).want(400).saying("Missing argument")
	w.ask("ann", "PATCH", "/v1/clusters", "[]").want(400).saying("Missing argument")
	w.ask("ann", "GET", "/v1/quotas/project-1", nil).want(400)
}

func TestLinks_3_3_BehindAProxy(t *testing.T) {
	w := newWorld(t, storetest.New(t), func(c *api.Config, _ *api.Deps) { c.ProxyHeaders = true })
	a := w.ask("", "GET", "/", nil, "X-Forwarded-Proto: https", "X-Forwarded-Host: cloud.example", "X-Forwarded-Prefix: /coe/").want(200)
	if got := a.items("versions")[0]["links"].([]any)[0].(map[string]any)["href"]; got != "https://cloud.example/coe/v1/" {
		t.Errorf("link %v", got)
	}
	w = newWorld(t, storetest.New(t))
	a = w.ask("", "GET", "/", nil, "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example").want(200)
	if got := a.items("versions")[0]["links"].([]any)[0].(map[string]any)["href"]; got != "http://magnum.example:9511/v1/" {
		t.Errorf("link %v", got)
	}
}

func TestHealthcheck_18(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disable")
	w := newWorld(t, storetest.New(t), func(c *api.Config, _ *api.Deps) { c.DisabledByFile = file })
	if a := w.ask("", "GET", "/healthcheck", nil); a.status != 200 || a.raw != "OK" {
		t.Errorf("%d %q", a.status, a.raw)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := w.ask("", "GET", "/healthcheck", nil); a.status != 503 {
		t.Errorf("disabled: %d %q", a.status, a.raw)
	}
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

func TestPolicy_16_3_WhoMayDoWhat(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s)
	template := w.template(swarm())
	cluster := w.cluster(object{"cluster_template_id": template})
	for _, test := range []struct {
		method, path string
		body         any
		want         map[string]int
	}{
		{"GET", "/v1/clusters/" + cluster, nil, map[string]int{"reader": 200, "ann": 200, "bob": 200, "admin": 200, "zoe": 404}},
		{"GET", "/v1/clustertemplates/" + template, nil, map[string]int{"reader": 200, "ann": 200, "bob": 200, "admin": 200, "zoe": 404}},
		{"PATCH", "/v1/clusters/" + cluster, "[]", map[string]int{"reader": 403, "ann": 202, "bob": 202, "admin": 202, "zoe": 404}},
		{"PATCH", "/v1/clustertemplates/" + template, `[{"op": "replace", "path": "/name", "value": "x"}]`, map[string]int{"reader": 403, "admin": 200, "zoe": 404}},
		{"POST", "/v1/clusters/" + cluster + "/actions/resize", object{"node_count": 1}, map[string]int{"reader": 403, "bob": 202, "admin": 404, "zoe": 404}},
		{"GET", "/v1/clusters/" + cluster + "/nodegroups", nil, map[string]int{"reader": 200, "admin": 200, "zoe": 404}},
		{"POST", "/v1/clusters/" + cluster + "/nodegroups", object{"name": "x"}, map[string]int{"reader": 403, "admin": 404, "zoe": 404}},
		{"GET", "/v1/certificates/" + cluster, nil, map[string]int{"reader": 403, "ann": 200, "bob": 403, "admin": 404, "zoe": 404}},
		{"POST", "/v1/certificates", object{"cluster_uuid": cluster, "csr": "x"}, map[string]int{"reader": 403, "ann": 400, "bob": 403, "admin": 400, "zoe": 400}},
		{"PATCH", "/v1/certificates/" + cluster, nil, map[string]int{"reader": 403, "admin": 404, "zoe": 404}},
		{"GET", "/v1/mservices", nil, map[string]int{"reader": 403, "ann": 403, "admin": 200}},
		{"GET", "/v1/quotas", nil, map[string]int{"reader": 403, "ann": 403, "admin": 200}},
		{"GET", "/v1/stats", nil, map[string]int{"reader": 200, "ann": 200, "admin": 200}},
		{"DELETE", "/v1/clustertemplates/" + template, nil, map[string]int{"reader": 403, "zoe": 404, "bob": 400}},
	} {
		for person, status := range test.want {
			if a := w.ask(person, test.method, test.path, test.body, latest); a.status != status {
				t.Errorf("%s: %s %s: status %d, want %d\n%s", person, test.method, test.path, a.status, status, a.raw)
			}
		}
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
