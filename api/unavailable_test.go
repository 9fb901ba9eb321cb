// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// question is a request that a client may make.
type question struct {
	who, method, path string
	body              any
}

// questions has a good request for each route that asks the database.
func questions(template, cluster, group string) []question {
	resize := patchOf("replace", "/node_count", 3)
	quota := object{"project_id": "project-1", "resource": "Cluster", "hard_limit": 10}
	q := []question{
		{"ann", "POST", "/v1/clusters", object{"cluster_template_id": template}},
		{"ann", "PATCH", "/v1/clusters/" + cluster, resize},
		{"ann", "POST", "/v1/clusters/" + cluster + "/actions/resize", object{"node_count": 3}},
		{"ann", "POST", "/v1/clusters/" + cluster + "/actions/upgrade", object{"cluster_template": template}},
		{"ann", "GET", "/v1/clusters/" + cluster + "/nodegroups", nil},
		{"ann", "GET", "/v1/clusters/" + cluster + "/nodegroups/" + group, nil},
		{"ann", "POST", "/v1/clusters/" + cluster + "/nodegroups", object{"name": "gpu"}},
		{"ann", "PATCH", "/v1/clusters/" + cluster + "/nodegroups/" + group, patchOf("replace", "/max_node_count", 9)},
		{"ann", "DELETE", "/v1/clusters/" + cluster + "/nodegroups/" + group, nil},
		{"ann", "GET", "/v1/certificates/" + cluster, nil},
		{"ann", "PATCH", "/v1/certificates/" + cluster, nil},
		{"admin", "GET", "/v1/quotas?all_tenants=true", nil},
		{"ann", "GET", "/v1/quotas/project-1/Cluster", nil},
		{"admin", "POST", "/v1/quotas", quota},
		{"admin", "PATCH", "/v1/quotas/project-1/Cluster", quota},
		{"admin", "DELETE", "/v1/quotas/project-1/Cluster", quota},
		{"ann", "GET", "/v1/stats", nil},
		{"admin", "GET", "/v1/mservices", nil},
		{"ann", "POST", "/v1/clustertemplates", swarm()},
		{"ann", "PATCH", "/v1/clustertemplates/" + template, patchOf("replace", "/name", "other")},
	}
	for _, path := range []string{"/v1/clusters", "/v1/clustertemplates"} {
		ident := map[string]string{"/v1/clusters": cluster, "/v1/clustertemplates": template}[path]
		q = append(q, question{"ann", "GET", path, nil}, question{"ann", "GET", path + "?marker=" + ident, nil},
			question{"ann", "GET", path + "/detail", nil}, question{"ann", "GET", path + "/" + ident, nil},
			question{"ann", "DELETE", path + "/" + ident, nil})
	}
	return q
}

// While the database is away every route that needs it answers 503 and when to
// come back, with the id of a request that the log tells more of. It is the
// same when a connection breaks in the middle of a request, wherever that is;
// and no such request is half done.
func TestDatabaseAway(t *testing.T) {
	direct := storetest.MariaDB(t)
	through, network := storetest.BadNet(t, direct)
	if err := storetest.Open(t, direct).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, storetest.Open(t, through))
	template := w.template(swarm())
	cluster := w.cluster(object{"cluster_template_id": template})
	w.finish(cluster, "CREATE_COMPLETE")
	group := w.ask("ann", "GET", "/v1/clusters/"+cluster+"/nodegroups", nil, latest).want(200).items("nodegroups")[1]["uuid"].(string)
	ask := func(q question) answer {
		version := latest
		if strings.HasSuffix(q.path, "/mservices") {
			version = "X-None: 0"
		}
		return w.ask(q.who, q.method, q.path, q.body, version)
	}
	unavailable := func(a answer) {
		t.Helper()
		if a.want(503).header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", a.what)
		}
		a.saying("The database is temporarily unavailable")
	}

	all := questions(template, cluster, group)
	network.Down()
	for _, q := range all {
		unavailable(ask(q))
	}
	for _, q := range everyRoute(template, cluster, group) {
		switch a := ask(q); {
		case a.status == 503:
			unavailable(a)
		case a.status >= 500, q.method == "GET" && a.status < 400 && !rowless(q.path):
			t.Errorf("%s: %d without a database: %s", a.what, a.status, a.raw)
		}
	}
	id := ask(all[0]).header.Get("X-Openstack-Request-Id")
	if told := w.log.String(); !strings.Contains(told, "request_id="+id) || !strings.Contains(told, "the database is not available") {
		t.Error("the log says nothing of the request")
	}
	network.Up()

	for _, q := range all {
		broken := 0
		for _, bytes := range []int64{1, 250, 700, 1500, 3000, 6000} {
			ask(question{"ann", "GET", "/v1/clusters", nil}) // there is a connection
			network.CutAfter(bytes)
			a := ask(q)
			network.Up()
			if a.status != 503 {
				if a.status >= 500 {
					t.Errorf("%s: %d when the connection broke after %d bytes: %s", a.what, a.status, bytes, a.raw)
				}
				break
			}
			unavailable(a)
			broken++
		}
		if broken == 0 && q.method != "GET" && !strings.HasPrefix(q.path, "/v1/clusters/"+cluster) {
			t.Errorf("%s %s: no break was met", q.method, q.path)
		}
	}
	w.consistent()
}

// rowless reports whether a GET of the path is answered without a row: the
// versions, the federations, of which there are none, and the drivers.
func rowless(path string) bool {
	return len(path) <= len("/v1") || strings.Contains(path, "federations") || path == "/v1/drivers"
}

// everyRoute asks every route, without a body or with one that says nothing.
func everyRoute(template, cluster, group string) []question {
	var all []question
	for _, route := range api.Routes() {
		method, path, _ := strings.Cut(route, " ")
		ident := cluster
		if strings.Contains(path, "clustertemplates") || strings.Contains(path, "baymodels") {
			ident = template
		}
		path = strings.NewReplacer("{ident}", ident, "{group}", group, "{project}", "project-1", "{resource}", "Cluster", "{kind}", "kubernetes").Replace(path)
		q := question{"admin", method, path, nil}
		if method != "GET" && method != "DELETE" {
			q.body = object{}
		}
		all = append(all, q)
	}
	return all
}

// consistent fails unless all clusters, groups and operations belong together.
func (w *world) consistent() {
	w.t.Helper()
	clusters, err := w.store.ListClusters(w.t.Context(), store.Scope{All: true}, store.Page{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range clusters {
		groups, err := w.store.NodeGroups(w.t.Context(), c.UUID)
		if err != nil {
			w.t.Fatal(err)
		}
		if open := len(w.operations(c.UUID)); len(groups[c.UUID]) < 2 || open == 0 {
			w.t.Errorf("cluster %s in %s has %d groups and %d operations", c.Name, c.Status, len(groups[c.UUID]), open)
		}
	}
}

// A database that does not answer at all is 503 before the client has gone.
func TestDatabaseHangs(t *testing.T) {
	w := newWorld(t, storetest.New(t), func(_ *api.Config, d *api.Deps) { d.Store = hanging{d.Store} })
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		a := w.ask("ann", "GET", "/v1/clusters/c", nil).want(503)
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if took := time.Since(began); took > 45*time.Second {
			t.Errorf("answered after %s", took)
		}
	})
}

// hanging is a store whose database says nothing.
type hanging struct{ api.Store }

func (hanging) Cluster(ctx context.Context, _ store.Scope, _ string) (*model.Cluster, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("find the cluster: %w", ctx.Err())
}
