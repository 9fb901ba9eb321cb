// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestValues_3_1_AsClientsWriteThem(t *testing.T) {
	each(t, func(w *world) {
		made := func(name string, value, want any) {
			w.t.Helper()
			a := w.ask("ann", "POST", "/v1/clustertemplates", swarm().with(name, value)).want(201)
			a.is(name, want)
			w.ask("ann", "GET", "/v1/clustertemplates/"+a.text("uuid"), nil).want(200).is(name, want)
		}
		w.rule("text", func() {
			made("http_proxy", "x", "x")
			made("http_proxy", strings.Repeat("ü", 255), strings.Repeat("ü", 255)) // characters, not bytes
			made("tags", "", "")
			made("tags", "\x00 \U0001F600", "\x00 \U0001F600")
		})
		w.rule("integer", func() {
			for value, want := range map[any]float64{7: 7, "7": 7, true: 1, 2.9: 2, 2147483647: 2147483647} {
				made("docker_volume_size", value, want)
			}
		})
		w.rule("boolean", func() {
			for _, yes := range []any{true, 1, "1", "t", "true", "on", "y", "yes", "YES", "True"} {
				made("registry_enabled", yes, true)
			}
			for _, no := range []any{false, 0, "0", "f", "false", "off", "n", "no", "OFF", "False"} {
				made("floating_ip_enabled", no, false)
			}
		})
		w.rule("labels", func() {
			made("labels", object{"n": 1, "f": 1.5, "t": true, "no": false, "s": "ü", "": "empty key"},
				map[string]any{"n": "1", "f": "1.5", "t": "True", "no": "False", "s": "ü", "": "empty key"})
		})
		w.rule("enum", func() { made("server_type", "bm", "bm") })
		w.rule("null for an optional field", func() {
			made("http_proxy", nil, nil)
			made("docker_volume_size", nil, nil)
			made("floating_ip_enabled", nil, true)
			made("labels", nil, map[string]any{})
			made("server_type", nil, "vm")
		})
		w.rule("timestamps", func() {
			form := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$`)
			id := w.template(swarm().with("name", "timed"))
			first := w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, patchOf("replace", "/tags", "a")).want(200)
			first.is("updated_at", nil) // as before this change
			if at := first.text("created_at"); !form.MatchString(at) {
				w.t.Errorf("created_at: %q", at)
			}
			if at := w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, patchOf("replace", "/tags", "b")).want(200).text("updated_at"); !form.MatchString(at) {
				w.t.Errorf("updated_at: %q", at)
			}
		})
	})
}

func TestValues_3_1_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	refused := func(name string, all []wrong) {
		for _, v := range all {
			w.refused(400, name+" … "+v.rule, "ann", "POST", "/v1/clustertemplates", swarm().with(name, v.value))
		}
	}
	w.rule("text", func() { refused("http_proxy", text(255)) })
	w.rule("integer", func() { refused("docker_volume_size", integer(1)) })
	w.rule("boolean", func() { refused("registry_enabled", flag()) })
	w.rule("labels", func() { refused("labels", labelled()) })
	w.rule("enum", func() { refused("server_type", oneOf("vm")) })
	w.rule("read-only field in a create body", func() { refused("created_at", readOnly()) })
}

func TestValues_3_2_NullVersusAbsent(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	made := w.ask("ann", "POST", "/v1/clustertemplates", swarm()).want(201)
	for _, name := range []string{"flavor_id", "keypair_id", "docker_volume_size", "apiserver_port", "tags", "updated_at"} {
		if value, there := made.body[name]; !there || value != nil {
			t.Errorf("%s: %v, there %v: want null", name, value, there)
		}
	}
	made.is("labels", map[string]any{}) // {} always, as in Magnum master
	w.ready()
	for path, lacking := range map[string][]string{
		"/v1/clusters/c":            {"faults", "next"},
		"/v1/certificates/c":        {"csr", "ca_cert_type", "created_at", "updated_at"},
		"/v1/clusters":              {"next"},
		"/v1/clusters/c/nodegroups": {"next"},
	} {
		a := w.ask("ann", "GET", path, nil, latest).want(200)
		for _, name := range lacking {
			if _, there := a.body[name]; there {
				t.Errorf("%s shows %s", path, name)
			}
		}
	}
	signed := w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": "c", "csr": request(t), "ca_cert_type": nil}).want(201)
	if _, there := signed.body["ca_cert_type"]; there {
		t.Error("ca_cert_type is shown though it was not sent")
	}
}

func TestLinks_3_3(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	worker := w.ask("ann", "GET", groups+"/default-worker", nil, latest).want(200).text("uuid")
	for path, at := range map[string]string{
		"/v1/clusters/c":             "/clusters/" + id,
		"/v1/clustertemplates/swarm": "/clustertemplates/" + w.row(id).TemplateID,
		"/v1/bays/c":                 "/bays/" + id,
		"/v1/baymodels/swarm":        "/baymodels/" + w.row(id).TemplateID,
		"/v1/certificates/c":         "/certificates/" + id,
		groups + "/default-worker":   "/clusters/" + id + "/nodegroups/" + worker,
	} {
		w.ask("ann", "GET", path, nil, latest).want(200).is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1" + at, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511" + at, "rel": "bookmark"},
		})
	}
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

func TestFinding_3_4_OneResource(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		template := w.row(id).TemplateID
		worker := w.ask("ann", "GET", groups+"/default-worker", nil, latest).want(200)
		w.rule("by uuid, by name", func() {
			for _, path := range []string{"/v1/clusters/" + id, "/v1/clusters/c"} {
				w.ask("ann", "GET", path, nil).want(200).is("uuid", id)
			}
			for _, path := range []string{"/v1/clustertemplates/" + template, "/v1/clustertemplates/swarm"} {
				w.ask("ann", "GET", path, nil).want(200).is("uuid", template)
			}
		})
		w.rule("what looks like a UUID is no name", func() {
			for _, form := range []string{"{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", "")} {
				w.ask("ann", "GET", "/v1/clusters/"+form, nil).want(404) // by exact text only
			}
			w.template(swarm().with("name", strings.ReplaceAll(template, "-", "")))
			w.ask("ann", "GET", "/v1/clustertemplates/"+strings.ReplaceAll(template, "-", ""), nil).want(404)
		})
		w.rule("several of one name", func() {
			first := w.template(swarm().with("name", "twin"))
			w.template(swarm().with("name", "twin"))
			w.ask("ann", "GET", "/v1/clustertemplates/twin", nil).want(409)
			w.ask("ann", "PATCH", "/v1/clustertemplates/twin", patchOf("replace", "/name", "x")).want(409)
			w.ask("ann", "DELETE", "/v1/clustertemplates/twin", nil).want(409)
			w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": "twin"}).want(409)
			w.ask("ann", "DELETE", "/v1/clustertemplates/"+first, nil).want(204)
			w.ask("ann", "GET", "/v1/clustertemplates/twin", nil).want(200)
			w.cluster(object{"name": "c2", "cluster_template_id": "swarm"})
			w.cluster(object{"name": "c2", "cluster_template_id": "swarm"})
			w.ask("ann", "GET", "/v1/clusters/c2", nil).want(409)
			w.ask("ann", "DELETE", "/v1/clusters/c2", nil).want(409)
			w.ask("ann", "PATCH", "/v1/clusters/c2", "[]").want(409)
			w.ask("ann", "GET", "/v1/clusters/c2/nodegroups", nil, latest).want(409)
		})
		w.rule("by the number in the database", func() {
			w.ask("ann", "GET", fmt.Sprint(groups, "/", worker.body["id"]), nil, latest).want(200).is("name", "default-worker")
			w.ask("ann", "POST", "/v1/clusters", object{"name": "numbered", "cluster_template_id": "1"}).want(202)
			w.ask("ann", "GET", "/v1/clusters/numbered", nil).want(200).is("cluster_template_id", template)
		})
	})
}

// crossing are the operations of §3.5: what an administrator of another
// project is answered, and a stranger.
func TestTenancy_3_5_WhoCrossesProjects(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		template := w.row(id).TemplateID
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 30}).want(201)
		cluster, group := "/v1/clusters/"+id, "/v1/clusters/"+id+"/nodegroups/default-worker"
		csr := request(w.t)
		for _, row := range []struct {
			operation    string
			method, path string
			body         any
			admin, zoe   int
		}{
			{"cluster list", "GET", "/v1/clusters", nil, 200, 200},
			{"cluster detail", "GET", "/v1/clusters/detail", nil, 200, 200},
			{"cluster show", "GET", cluster, nil, 200, 404},
			{"cluster PATCH", "PATCH", cluster, "[]", 202, 404},
			{"cluster resize", "POST", cluster + "/actions/resize", object{"node_count": 1}, 404, 404},
			{"cluster upgrade", "POST", cluster + "/actions/upgrade", object{"cluster_template": "nowhere"}, 404, 404},
			{"node group list", "GET", cluster + "/nodegroups", nil, 200, 404},
			{"node group show", "GET", group, nil, 200, 404},
			{"node group create", "POST", cluster + "/nodegroups", object{"name": "x"}, 404, 404},
			{"node group PATCH", "PATCH", group, "[]", 404, 404},
			{"node group DELETE", "DELETE", group, nil, 404, 404},
			{"template list", "GET", "/v1/clustertemplates", nil, 200, 200},
			{"template detail", "GET", "/v1/clustertemplates/detail", nil, 200, 200},
			{"template show", "GET", "/v1/clustertemplates/" + template, nil, 200, 404},
			{"template PATCH", "PATCH", "/v1/clustertemplates/" + template, patchOf("replace", "/name", "other"), 200, 404},
			{"template DELETE", "DELETE", "/v1/clustertemplates/" + template, nil, 400, 404}, // in use
			{"certificates get", "GET", "/v1/certificates/" + id, nil, 404, 404},
			{"certificates rotate", "PATCH", "/v1/certificates/" + id, nil, 404, 404},
			{"certificates sign", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr}, 400, 400},
			{"credentials rotate", "PATCH", "/v1/credentials/" + id, nil, 404, 404},
			{"quotas list", "GET", "/v1/quotas?all_tenants=1", nil, 200, 403},
			{"quotas show", "GET", "/v1/quotas/project-1/Cluster", nil, 200, 403},
			{"quotas update", "PATCH", "/v1/quotas/project-1/Cluster", object{"hard_limit": 31}, 202, 403},
			{"quotas create", "POST", "/v1/quotas", object{"project_id": "project-2"}, 201, 403},
			{"quotas delete", "DELETE", "/v1/quotas/project-1/Cluster", nil, 204, 403},
			{"stats", "GET", "/v1/stats?project_id=project-1", nil, 200, 403},
			{"federations", "POST", "/v1/federations", object{"hostcluster_id": id, "properties": object{"dns-zone": "x"}}, 404, 404},
			{"bays", "GET", "/v1/bays/" + id, nil, 404, 404},
			{"cluster DELETE", "DELETE", cluster, nil, 204, 404},
		} {
			w.rule(row.operation, func() {
				w.ask("zoe", row.method, row.path, row.body, latest).want(row.zoe)
				a := w.ask("admin", row.method, row.path, row.body, latest).want(row.admin)
				if row.method != "GET" || row.admin != 200 {
					return
				}
				// Lists are the same requests, with other contents.
				for _, name := range []string{"clusters", "clustertemplates", "quotas"} {
					if _, list := a.body[name].([]any); !list {
						continue
					}
					if n := len(a.items(name)); n != 1 {
						w.t.Errorf("an administrator sees %d %s", n, name)
					}
					if row.zoe == 200 && len(w.ask("zoe", row.method, row.path, nil, latest).items(name)) != 0 {
						w.t.Errorf("a stranger sees %s", name)
					}
				}
			})
		}
		w.ask("zoe", "GET", "/v1/clusters?marker="+id, nil).want(404)
		if own := w.ask("admin", "GET", "/v1/quotas", nil).want(200).items("quotas"); len(own) != 0 {
			w.t.Errorf("quotas of the own project: %v", own)
		}
	})
}

// A token without a project sees what its user owns; the newer defaults do not
// let it see anything.
func TestTenancy_3_5_TokenWithoutAProject(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s)
	older := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Policy = rules(t, policy.Options{}) })
	mine := &model.ClusterTemplate{UserID: "user-nil", COE: "swarm", ImageID: "debian-12", ServerType: "vm", Name: new("mine")}
	if err := s.CreateTemplate(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	w.template(swarm())
	w.refused(403, "clustertemplate:get_all", "nil", "GET", "/v1/clustertemplates", nil)
	all := older.ask("nil", "GET", "/v1/clustertemplates", nil).want(200).items("clustertemplates")
	if len(all) != 1 || all[0]["name"] != "mine" {
		t.Errorf("seen: %v", all)
	}
}

func TestLists_3_6_Paging(t *testing.T) {
	each(t, func(w *world) {
		var ids []string
		for i := range 5 {
			ids = append(ids, w.template(swarm().with("name", fmt.Sprintf("t%d", i)).with("labels", object{"l": 5 - i})))
		}
		w.rule("next", func() {
			var seen []string
			path := "/v1/clustertemplates?limit=2&sort_key=name&sort_dir=desc"
			for path != "" {
				a := w.ask("ann", "GET", path, nil).want(200)
				for _, one := range a.items("clustertemplates") {
					seen = append(seen, one["uuid"].(string))
				}
				next, _ := a.body["next"].(string)
				path = strings.TrimPrefix(next, "http://magnum.example:9511")
				if len(seen) == 2 && path != "/v1/clustertemplates?sort_key=name&sort_dir=desc&limit=2&marker="+ids[3] {
					w.t.Fatalf("next: %q", path)
				}
			}
			want := slices.Clone(ids)
			slices.Reverse(want)
			equal(w.t, seen, want)
			// A full last page has a next, which is empty and has none.
			a := w.ask("ann", "GET", "/v1/clustertemplates/detail?limit=5", nil).want(200)
			last := strings.TrimPrefix(a.text("next"), "http://magnum.example:9511")
			if !strings.HasPrefix(last, "/v1/clustertemplates/detail?sort_key=id&sort_dir=asc&limit=5&marker=") {
				w.t.Errorf("next: %q", last)
			}
			hasKeys(w.t, w.ask("ann", "GET", last, nil).want(200).body, "clustertemplates")
		})
		w.rule("limit", func() {
			for limit, want := range map[string]int{"1": 1, "%202": 2, "5000": 5, "2147483648": 5} {
				if n := len(w.ask("ann", "GET", "/v1/clustertemplates?limit="+limit, nil).want(200).items("clustertemplates")); n != want {
					w.t.Errorf("limit %s: %d", limit, n)
				}
			}
		})
		w.rule("sort_key", func() {
			for key, first := range map[string]string{"id": ids[0], "labels": ids[4], "name": ids[0], "project_id": ids[0], "flavor_id": ids[0]} {
				if got := w.ask("ann", "GET", "/v1/clustertemplates?sort_key="+key, nil).want(200).items("clustertemplates")[0]["uuid"]; got != first {
					w.t.Errorf("by %s first is %v", key, got)
				}
			}
		})
		w.rule("sort_dir", func() {
			if got := w.ask("ann", "GET", "/v1/clustertemplates?sort_dir=desc", nil).want(200).items("clustertemplates")[0]["uuid"]; got != ids[4] {
				w.t.Errorf("first is %v", got)
			}
		})
		w.rule("marker", func() {
			all := w.ask("ann", "GET", "/v1/clustertemplates?marker="+ids[1], nil).want(200).items("clustertemplates")
			if len(all) != 3 || all[0]["uuid"] != ids[2] {
				w.t.Errorf("behind the second: %v", all)
			}
		})
	})
	// max_limit cuts, and the page is full at that length.
	w := newWorld(t, storetest.New(t), func(c *api.Config, _ *api.Deps) { c.MaxLimit = 2 })
	for range 3 {
		w.template(swarm())
	}
	for _, query := range []string{"", "?limit=3"} {
		a := w.ask("ann", "GET", "/v1/clustertemplates"+query, nil).want(200)
		if len(a.items("clustertemplates")) != 2 || !strings.Contains(a.text("next"), "limit=2&") {
			t.Errorf("%q: %s", query, a.raw)
		}
	}
}

// full is the list of the path in the world of Ann's cluster c.
func full(path string) string {
	return strings.Replace(path, "{ident}", "c", 1)
}

func TestLists_3_6_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	theirs := w.ask("zoe", "POST", "/v1/clustertemplates", swarm()).want(201).text("uuid")
	for _, path := range api.Lists() {
		if path == "/v1/mservices" {
			continue // takes no arguments
		}
		w.rule(path, func() {
			person := "ann"
			if path == "/v1/quotas" {
				person = "admin"
			}
			refused := func(status int, words, query string) {
				w.t.Helper()
				w.refused(status, words, person, "GET", full(path)+"?"+query, nil, latest)
			}
			for _, limit := range []string{"0", "-1", "x", "", "1.5", "1e2", "99999999999999999999"} {
				refused(400, "limit … above 0", "limit="+limit)
			}
			for _, dir := range []string{"ASC", "up", ""} {
				refused(400, "sort_dir … asc or desc", "sort_dir="+dir)
			}
			refused(400, "marker … empty", "marker=")
			refused(400, "marker", "marker=name")
			refused(400, "Unknown argument … colour", "colour=red")
			if path != "/v1/quotas" {
				refused(404, "", "marker=00000000-0000-4000-8000-000000000000")
				refused(404, "", "marker="+theirs) // of another list, or not visible
			} else {
				refused(404, "marker", "marker=4711")
			}
			if !strings.HasPrefix(path, "/v1/federations") { // always empty, whatever it is sorted by
				for _, key := range []string{"nothing", "", "id;", "name desc", "links", "Name", "`name`"} {
					refused(400, "sort_key", "sort_key="+strings.NewReplacer(" ", "%20", ";", "%3B").Replace(key))
				}
			}
		})
	}
	w.refused(400, "sort_key", "ann", "GET", "/v1/clusters?sort_key=node_count", nil) // derived
	w.refused(404, "marker", "ann", "GET", "/v1/clustertemplates?marker="+id, nil)
}

// queries counts what is sent to the database: the store's log has a line for
// each statement.
type queries struct {
	slog.Handler
	n *atomic.Int64
}

func (q queries) Enabled(context.Context, slog.Level) bool { return true }

func (q queries) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "query" || r.Message == "slow query" {
		q.n.Add(1)
	}
	return nil
}

// However long the page and the list, the database is asked as often.
func TestLists_3_6_TakeAConstantNumberOfQueries(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, connection string) {
		var asked atomic.Int64
		s, err := store.Open(t.Context(), connection, store.Options{Logger: slog.New(queries{slog.DiscardHandler, &asked})})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, s, func(c *api.Config, _ *api.Deps) { c.MaxClusters = 1000 })
		w.ready()
		want := map[string]int64{
			"/v1/clusters": 1, "/v1/clusters/detail": 4, "/v1/clusters/{ident}/nodegroups": 2,
			"/v1/clustertemplates": 1, "/v1/clustertemplates/detail": 1,
			"/v1/bays": 2, "/v1/bays/detail": 4, "/v1/baymodels": 1, "/v1/baymodels/detail": 1,
			"/v1/federations": 0, "/v1/federations/detail": 0, "/v1/quotas": 1, "/v1/mservices": 1,
		}
		paths := api.Lists()
		slices.Sort(paths)
		equal(t, paths, slices.Sorted(maps.Keys(want))) // every list there is
		for n := 2; n <= 32; n *= 4 {
			for i := n / 4; i < n; i++ {
				made := w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("name", fmt.Sprint("t", i))).want(201)
				w.cluster(object{"cluster_template_id": made.text("uuid"), "labels": object{"a": i}})
				w.ask("ann", "POST", groups, object{"name": fmt.Sprint("g", i)}, latest).want(202)
				w.ask("admin", "POST", "/v1/quotas", object{"project_id": fmt.Sprint("project-9", i)}).want(201)
				if err := s.Heartbeat(t.Context(), fmt.Sprint("host-", i), "magnum-conductor"); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range paths {
				person, queries := "ann", []string{"", "?limit=1", "?limit=1000&sort_key=id&sort_dir=desc"}
				switch path {
				case "/v1/mservices":
					person, queries = "admin", queries[:1]
				case "/v1/quotas":
					person, queries = "admin", append(queries, "?all_tenants=1")
				}
				for _, query := range queries {
					before := asked.Load()
					w.ask(person, "GET", full(path)+query, nil, latest).want(200)
					if got := asked.Load() - before; got != want[path] {
						t.Errorf("%d rows: GET %s%s asked %d times, want %d", n, path, query, got, want[path])
					}
				}
			}
		}
	})
}
