// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// Keys of a cluster in the plain list, and those that a detailed answer adds.
var (
	summaryKeys = []string{
		"uuid", "name", "cluster_template_id", "keypair", "node_count", "master_count", "docker_volume_size", "labels",
		"flavor_id", "master_flavor_id", "create_timeout", "status", "health_status", "stack_id", "merge_labels", "links",
	}
	detailKeys = append(slices.Clone(summaryKeys),
		"status_reason", "health_status_reason", "discovery_url", "api_address", "coe_version", "container_version",
		"project_id", "user_id", "node_addresses", "master_addresses", "fixed_network", "fixed_subnet",
		"floating_ip_enabled", "master_lb_enabled", "labels_overridden", "labels_added", "labels_skipped",
		"created_at", "updated_at")
)

func TestClusters_5_1_LifeOfACluster(t *testing.T) {
	each(t, func(w *world) {
		template := w.template(swarm().with("labels", object{"l": "t"}))
		made := w.ask("ann", "POST", "/v1/clusters", object{"name": "c1", "cluster_template_id": "swarm", "node_count": 2}).want(202)
		hasKeys(w.t, made.body, "uuid")
		id := made.text("uuid")

		// One transaction stored the cluster, its groups and the operation.
		ops := w.operations(id)
		if len(ops) != 1 || ops[0].Kind != model.OpCreate || ops[0].State != model.OpPending || ops[0].UserID != "user-ann" ||
			ops[0].RequestID != made.header.Get("X-Openstack-Request-Id") {
			w.t.Fatalf("operations: %+v", ops)
		}
		if ops[0].Deadline == nil || ops[0].Deadline.Sub(ops[0].CreatedAt) != time.Hour {
			w.t.Errorf("deadline: %v", ops[0].Deadline)
		}
		if w.announced.Load() != 1 {
			w.t.Errorf("announced %d times", w.announced.Load())
		}

		shown := w.ask("ann", "GET", "/v1/clusters/c1", nil).want(200)
		hasKeys(w.t, shown.body, slices.Clone(detailKeys)...)
		for name, value := range map[string]any{
			"uuid": id, "name": "c1", "cluster_template_id": template, "status": "CREATE_IN_PROGRESS", "status_reason": nil,
			"node_count": 2.0, "master_count": 1.0, "create_timeout": 60.0, "merge_labels": false, "stack_id": nil,
			"api_address": nil, "node_addresses": []any{}, "master_addresses": []any{}, "labels": map[string]any{"l": "t"},
			"health_status": nil, "health_status_reason": map[string]any{}, "project_id": "project-1", "user_id": "user-ann",
			"floating_ip_enabled": true, "master_lb_enabled": false, "updated_at": nil,
		} {
			shown.is(name, value)
		}
		shown.is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/clusters/" + id, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/clusters/" + id, "rel": "bookmark"},
		})
		list := w.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")
		hasKeys(w.t, list[0], slices.Clone(summaryKeys)...)
		detail := w.ask("ann", "GET", "/v1/clusters/detail", nil).want(200).items("clusters")
		if diff := cmp.Diff(shown.body, detail[0]); diff != "" {
			w.t.Errorf("detail and show differ:\n%s", diff)
		}

		w.finish(id, model.CreateComplete)
		for range 2 { // the second asks for the count that is there
			hasKeys(w.t, w.ask("ann", "PATCH", "/v1/clusters/c1", patchOf("replace", "/node_count", 3)).want(202).body, "uuid")
		}
		w.ask("ann", "GET", "/v1/clusters/c1", nil).want(200).is("status", "UPDATE_IN_PROGRESS")
		ops = w.operations(id)
		if len(ops) != 2 || ops[1].Kind != model.OpUpdate || w.announced.Load() != 2 {
			w.t.Fatalf("operations: %+v, announced %d", ops, w.announced.Load())
		}
		w.finish(id, model.UpdateComplete)

		for range 2 { // deleting twice works both times
			w.ask("ann", "DELETE", "/v1/clusters/c1", nil).want(204)
		}
		w.ask("ann", "GET", "/v1/clusters/c1", nil).want(200).is("status", "DELETE_IN_PROGRESS")
		if ops = w.operations(id); len(ops) != 3 || ops[2].Kind != model.OpDelete {
			w.t.Fatalf("operations: %+v", ops)
		}
		w.finish(id, model.DeleteComplete)
		w.ask("ann", "DELETE", "/v1/clusters/c1", nil).want(404)
		w.ask("ann", "GET", "/v1/clusters/c1", nil).want(404)
	})
}

func TestClusters_5_2_DefaultsFromTheTemplate(t *testing.T) {
	each(t, func(w *world) {
		template := w.template(swarm().with("keypair_id", "key").with("flavor_id", "m1.small").with("master_flavor_id", "m1.large").
			with("docker_volume_size", 5).with("fixed_network", "net").with("fixed_subnet", "sub").with("floating_ip_enabled", false).
			with("master_lb_enabled", true).with("labels", object{"min_node_count": "1"}))
		id := w.cluster(object{"cluster_template_id": template})
		shown := w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200)
		if name := shown.text("name"); !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-cluster$`).MatchString(name) {
			w.t.Errorf("generated name %q", name)
		}
		for name, value := range map[string]any{
			"keypair": "key", "flavor_id": "m1.small", "master_flavor_id": "m1.large", "docker_volume_size": 5.0, "fixed_network": "net",
			"fixed_subnet": "sub", "floating_ip_enabled": false, "master_lb_enabled": true, "node_count": 1.0, "master_count": 1.0,
		} {
			shown.is(name, value)
		}
		groups, err := w.store.NodeGroups(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		for i, want := range []model.NodeGroup{
			{Name: "default-master", Role: "master", FlavorID: new("m1.large")},
			{Name: "default-worker", Role: "worker", FlavorID: new("m1.small")},
		} {
			g := groups[id][i]
			if g.Name != want.Name || g.Role != want.Role || *g.FlavorID != *want.FlavorID || *g.ImageID != "debian-12" || !g.IsDefault ||
				g.NodeCount != 1 || g.MinNodeCount != 1 || *g.DockerVolumeSize != 5 || g.Labels["min_node_count"] != "1" || g.Status != model.CreateInProgress {
				w.t.Errorf("group: %+v", g)
			}
		}

		other := w.ask("ann", "POST", "/v1/clusters", object{
			"cluster_template_id": template, "keypair": "other", "flavor_id": "m1.large", "floating_ip_enabled": true, "create_timeout": nil,
			"uuid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "status": "CREATE_COMPLETE", "discovery_url": "",
			"labels_added": object{}, "node_count": 4, "docker_volume_size": 9,
		}).want(202).text("uuid")
		shown = w.ask("ann", "GET", "/v1/clusters/"+other, nil).want(200)
		if other == "3f2504e0-4f89-41d3-9a0c-0305e82c3301" {
			w.t.Error("the client chose the uuid")
		}
		for name, value := range map[string]any{
			"keypair": "other", "flavor_id": "m1.large", "floating_ip_enabled": true, "create_timeout": nil, "status": "CREATE_IN_PROGRESS",
			"discovery_url": "", "node_count": 4.0, "docker_volume_size": 9.0,
		} {
			shown.is(name, value)
		}
	})
}

// What Debian's client sends for `coe cluster create`.
func TestClusters_19_2_TheClientsBody(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	template := w.template(swarm())
	w.ask("ann", "POST", "/v1/clusters", object{
		"name": "demo", "cluster_template_id": template, "create_timeout": 60, "discovery_url": nil, "keypair": nil,
		"master_count": 1, "node_count": 1,
	}, latest).want(202)
}

func TestClusters_5_2_WhatIsRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	good := object{"cluster_template_id": w.template(swarm())}
	for _, test := range []struct {
		name   string
		value  any
		saying string
	}{
		{"name", "", "name"},
		{"name", "1st", "match"},
		{"name", "a b", "match"},
		{"name", "a\n", "match"},
		{"name", strings.Repeat("a", 243), "242"},
		{"cluster_template_id", absent{}, "cluster_template_id"},
		{"node_count", -1, "0 or more"},
		{"node_count", 0, "1 or more"},
		{"node_count", "many", "integer"},
		{"node_count", 1 << 40, "or less"},
		{"master_count", 0, "1 or more"},
		{"master_count", nil, "null"},
		{"master_count", 2, "odd"},
		{"master_count", 3, "master_lb_enabled"},
		{"docker_volume_size", 0, "1 or more"},
		{"create_timeout", -1, "0 or more"},
		{"keypair", "", "keypair"},
		{"flavor_id", "no-such-flavor", "no-such-flavor"},
		{"master_flavor_id", "no-such-flavor", "no-such-flavor"},
		{"labels", []string{}, "labels"},
		{"labels", object{"min_node_count": "few"}, "min_node_count"},
		{"labels", object{"swarm_strategy": "heap"}, "swarm_strategy"},
		{"merge_labels", "perhaps", "merge_labels"},
		{"discovery_url", strings.Repeat("x", 256), "255"},
		{"status", "DONE", "status"},
		{"health_status", "FINE", "health_status"},
		{"stack_id", "x", "stack_id"},
		{"api_address", "x", "api_address"},
		{"user_id", "x", "user_id"},
		{"node_addresses", []string{}, "node_addresses"},
		{"created_at", "x", "created_at"},
		{"bay_create_timeout", 5, "bay_create_timeout"},
	} {
		w.ask("ann", "POST", "/v1/clusters", good.with(test.name, test.value)).want(400).saying(test.saying)
	}
	w.ask("ann", "POST", "/v1/clusters", good.with("keypair", "no-such-key")).want(404).saying("no-such-key")
	if all := w.ask("ann", "GET", "/v1/clusters", nil).items("clusters"); len(all) != 0 || w.announced.Load() != 0 {
		t.Errorf("clusters were made: %v", all)
	}
}

func TestClusters_5_3_OrderOfChecks(t *testing.T) {
	each(t, func(w *world) {
		id := w.template(swarm())
		kubernetes := w.template(object{"name": "k8s", "coe": "kubernetes", "image_id": "debian-12"})
		// Every fault at once; each is mended in turn.
		body := object{
			"colour": "red", "cluster_template_id": "nowhere", "node_count": 0, "flavor_id": "no-such-flavor",
			"keypair": "no-such-key", "master_count": 3,
		}
		ask := func(person string, headers ...string) answer {
			return w.ask(person, "POST", "/v1/clusters", body, headers...)
		}
		ask("reader").want(400).saying("colour")
		body = body.with("colour", absent{})
		ask("reader").want(400).saying("ClusterTemplate nowhere could not be found") // 1.1
		ask("reader", version19).want(400)
		ask("reader", latest).want(404).saying("ClusterTemplate nowhere could not be found")
		for _, none := range []any{nil, ""} {
			w.ask("ann", "POST", "/v1/clusters", body.with("cluster_template_id", none)).want(400)
			w.ask("ann", "POST", "/v1/clusters", body.with("cluster_template_id", none), latest).want(404)
		}
		body = body.with("cluster_template_id", kubernetes)
		ask("reader").want(400).saying("(vm, debian, kubernetes) not supported")
		body = body.with("cluster_template_id", id)
		ask("reader").want(400).saying("node_count")
		body = body.with("node_count", 1)
		ask("reader").want(403).saying("cluster:create")
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 0}).want(201)
		ask("ann").want(403).saying("quota")
		w.ask("admin", "DELETE", "/v1/quotas/project-1/Cluster", nil).want(204)
		ask("ann").want(400).saying("no-such-flavor")
		body = body.with("flavor_id", absent{})
		ask("ann").want(404).saying("no-such-key")
		body = body.with("keypair", absent{})
		ask("ann").want(400).saying("master_lb_enabled")
		body = body.with("master_lb_enabled", true)
		ask("ann").want(202)
	})
}

func TestClusters_1_2_ZeroNodesFrom1_10(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	body := object{"cluster_template_id": w.template(swarm()), "node_count": 0}
	w.ask("ann", "POST", "/v1/clusters", body, version19).want(400)
	id := w.ask("ann", "POST", "/v1/clusters", body, latest).want(202).text("uuid")
	w.finish(id, model.CreateComplete)
	w.ask("ann", "PATCH", "/v1/clusters/"+id, patchOf("replace", "/node_count", 1), version19).want(202)
	w.finish(id, model.UpdateComplete)
	w.ask("ann", "PATCH", "/v1/clusters/"+id, patchOf("replace", "/node_count", 0), version19).want(400)
	w.ask("ann", "POST", "/v1/clusters/"+id+"/actions/resize", object{"node_count": 0}, version19).want(400)
	w.ask("ann", "PATCH", "/v1/clusters/"+id, patchOf("replace", "/node_count", 0), latest).want(202)
}

func TestClusters_5_4_Labels(t *testing.T) {
	each(t, func(w *world) {
		template := w.template(swarm().with("labels", object{"same": "1", "other": "t", "only": "t"}))
		for _, test := range []struct {
			body                      object
			labels, overridden, added map[string]any
			skipped                   map[string]any
		}{
			{
				object{},
				map[string]any{"same": "1", "other": "t", "only": "t"},
				map[string]any{},
				map[string]any{},
				map[string]any{},
			},
			{
				object{"labels": object{}, "merge_labels": true},
				map[string]any{"same": "1", "other": "t", "only": "t"},
				map[string]any{},
				map[string]any{},
				map[string]any{},
			},
			{
				object{"labels": object{"same": 1, "other": "c", "new": true}},
				map[string]any{"same": "1", "other": "c", "new": "True"},
				map[string]any{"other": "t"},
				map[string]any{"new": "True"},
				map[string]any{"only": "t"},
			},
			{
				object{"labels": object{"other": "c", "new": "c"}, "merge_labels": true},
				map[string]any{"same": "1", "other": "c", "only": "t", "new": "c"},
				map[string]any{"other": "t"},
				map[string]any{"new": "c"},
				map[string]any{},
			},
		} {
			id := w.cluster(test.body.with("cluster_template_id", template))
			shown := w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200)
			shown.is("labels", test.labels)
			shown.is("labels_overridden", test.overridden)
			shown.is("labels_added", test.added)
			shown.is("labels_skipped", test.skipped)
			shown.is("merge_labels", false)
		}
	})
}

func TestClusters_5_5_Patch(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm()), "node_count": 2})
		path := "/v1/clusters/" + id
		w.finish(id, model.CreateComplete)

		for _, nothing := range []any{"[]", patchOf("replace", "/name", "c"), patchOf("replace", "/node_count", 2), patchOf("replace", "/floating_ip_enabled", "yes")} {
			w.ask("ann", "PATCH", path, nothing).want(202)
		}
		for _, refused := range []any{
			object{},
			patchOf("replace", "/name", "d"), patchOf("add", "/node_count", 3), patchOf("replace", "/node_count", "3"), patchOf("replace", "/node_count", -1),
			patchOf("replace", "/node_count", 0), patchOf("replace", "/master_count", 3), patchOf("replace", "/health_status", "FINE"),
			patchOf("replace", "/health_status_reason", "fine"), patchOf("add", "/labels/x", "y"), patchOf("remove", "/cluster_template_id", absent{}),
			patchOf("replace", "/api_address", "x"), patchOf("replace", "/stack_id", "x"), patchOf("replace", "/trust_id", "x"),
			patchOf("add", "/faults", "x"), patchOf("replace", "/merge_labels", true), patchOf("replace", "/labels_added", "{}"),
			patchOf("replace", "/status", "CREATE_FAILED"), patchOf("replace", "/coe_version", "1"), patchOf("remove", "/name", absent{}),
		} {
			w.ask("ann", "PATCH", path, refused).want(400)
		}
		w.ask("ann", "PATCH", path, patchOf("replace", "/master_count", 3)).want(400).saying("master_count")
		if n := len(w.operations(id)); n != 1 || w.row(id).UpdatedAt == nil {
			w.t.Errorf("%d operations", n)
		}

		// Health: by an outside controller, both fields.
		w.ask("ann", "PATCH", path, append(
			patchOf("add", "/health_status", "UNHEALTHY"),
			patchOf("replace", "/health_status_reason", `{'api': 'ok', 'n1.Ready': 'False'}`)...)).want(202)
		shown := w.ask("ann", "GET", path, nil).want(200)
		shown.is("health_status", "UNHEALTHY")
		shown.is("health_status_reason", map[string]any{"api": "ok", "n1.Ready": "False"})
		shown.is("status", "CREATE_COMPLETE")
		w.ask("ann", "PATCH", path, patchOf("remove", "/health_status", absent{})).want(202)
		w.ask("ann", "GET", path, nil).want(200).is("health_status", nil)

		// Removing the count means one node.
		w.ask("ann", "PATCH", path, patchOf("remove", "/node_count", absent{})).want(202)
		w.ask("ann", "GET", path, nil).want(200).is("node_count", 1.0)

		// An update is under way: accepted, and nothing happens.
		w.ask("ann", "PATCH", path, append(patchOf("replace", "/node_count", 5), patchOf("add", "/health_status", "HEALTHY")...)).want(202)
		shown = w.ask("ann", "GET", path, nil).want(200)
		shown.is("node_count", 1.0)
		shown.is("health_status", nil)
		if n := len(w.operations(id)); n != 2 {
			w.t.Errorf("%d operations", n)
		}

		w.ask("ann", "PATCH", "/v1/clusters/fooo", patchOf("replace", "/name", "x")).want(404) // not found comes before not changeable
		w.ask("zoe", "PATCH", path, "[]").want(404)
		w.ask("admin", "PATCH", path, "[]").want(202)
	})
}

func TestClusters_5_5_Rollback(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	path := "/v1/clusters/" + w.cluster(object{"cluster_template_id": w.template(swarm())})
	w.ask("ann", "PATCH", path+"?rollback=True", "[]").want(400).saying("rollback")
	w.ask("ann", "PATCH", path+"?rollback=True", "[]", version19).want(202)
	w.ask("ann", "PATCH", path+"/?rollback=true", "[]", latest).want(202)
	w.ask("ann", "PATCH", path+"?rollback=perhaps", "[]", latest).want(400)
}

func TestClusters_5_2_FaultsAndAddresses(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm())})
		w.joined(id, "10.1.0.5", "10.1.0.6")
		shown := w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
		shown.is("master_addresses", []any{"10.1.0.5"})
		shown.is("node_addresses", []any{"10.1.0.6"})
		shown.is("api_address", "tcp://10.1.0.5:2376")
		group := w.ask("ann", "GET", "/v1/clusters/c/nodegroups/default-worker", nil, latest).want(200)
		group.is("node_addresses", []any{"10.1.0.6"})

		w.finish(id, model.CreateFailed)
		shown = w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
		shown.is("status_reason", "no host has room")
		faults := shown.body["faults"].(map[string]any)
		hasKeys(w.t, faults, "default-master", "default-worker")
		for _, path := range []string{"/v1/clusters", "/v1/clusters/detail"} {
			if _, there := w.ask("ann", "GET", path, nil).items("clusters")[0]["faults"]; there {
				w.t.Errorf("%s shows faults", path)
			}
		}
	})
}

// joined plays the conductor up to the point where all nodes have joined.
func (w *world) joined(cluster string, addresses ...string) {
	w.t.Helper()
	ctx := w.t.Context()
	op := w.operations(cluster)[0]
	claimed, err := w.store.Claim(ctx, op.UUID, "test", time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	fence := store.Fence{Operation: op.UUID, Owner: "test", Generation: claimed.Generation}
	groups, err := w.store.NodeGroups(ctx, cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, address := range addresses {
		g := groups[cluster][i]
		node := model.Node{UUID: fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", i), ClusterID: cluster, NodeGroupID: g.UUID, Name: g.Name + "-0", Role: g.Role, State: model.NodeWanted}
		if err := w.store.AddNodes(ctx, fence, []model.Node{node}); err != nil {
			w.t.Fatal(err)
		}
		one := slices.Values([]netip.Addr{netip.MustParseAddr(address)})
		if _, err := w.store.ClaimAddress(ctx, fence, node.UUID, "tenants", one); err != nil {
			w.t.Fatal(err)
		}
		if err := w.store.NodeState(ctx, fence, node.UUID, model.NodeReady, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.store.ObserveCluster(ctx, fence, "", "tcp://"+addresses[0]+":2376", "28", "28"); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Release(ctx, fence, time.Time{}); err != nil {
		w.t.Fatal(err)
	}
}

func TestTenancy_3_5_WhoReachesOverProjects(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm())})
		for _, ident := range []string{id, "c"} {
			w.ask("zoe", "GET", "/v1/clusters/"+ident, nil).want(404)
			w.ask("zoe", "DELETE", "/v1/clusters/"+ident, nil).want(404)
			w.ask("admin", "GET", "/v1/clusters/"+ident, nil).want(200)
			w.ask("admin", "POST", "/v1/clusters/"+ident+"/actions/resize", object{"node_count": 1}, latest).want(404)
			w.ask("admin", "GET", "/v1/clusters/"+ident+"/nodegroups", nil, latest).want(200)
			w.ask("admin", "GET", "/v1/certificates/"+ident, nil).want(404)
			w.ask("admin", "POST", "/v1/certificates", object{"cluster_uuid": ident, "csr": "x"}).want(400)
		}
		if n := len(w.ask("zoe", "GET", "/v1/clusters/detail", nil).items("clusters")); n != 0 {
			w.t.Errorf("zoe sees %d clusters", n)
		}
		if n := len(w.ask("admin", "GET", "/v1/clusters", nil).items("clusters")); n != 1 {
			w.t.Errorf("admin sees %d clusters", n)
		}
		w.ask("zoe", "GET", "/v1/clusters?marker="+id, nil).want(404)
		w.ask("admin", "DELETE", "/v1/clusters/"+id, nil).want(204)
	})
}

func TestClusters_3_4_SeveralOfOneName(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	template := w.template(swarm())
	first := w.cluster(object{"name": "c", "cluster_template_id": template})
	w.cluster(object{"name": "c", "cluster_template_id": template})
	w.ask("ann", "GET", "/v1/clusters/c", nil).want(409)
	w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(409)
	w.ask("ann", "PATCH", "/v1/clusters/c", "[]").want(409)
	w.ask("ann", "GET", "/v1/clusters/"+first, nil).want(200)
}

func TestQuotas_10_1_Enforcement(t *testing.T) {
	each(t, func(w *world) {
		body := object{"cluster_template_id": w.template(swarm())}
		w.cluster(body)
		id := w.cluster(body)
		w.ask("ann", "POST", "/v1/clusters", body).want(403).saying("quota of 2")
		// A project's own quota counts instead of the default.
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 3}).want(201)
		w.cluster(body)
		w.ask("ann", "POST", "/v1/clusters", body).want(403).saying("quota of 3")
		// In any status: one that is being deleted counts until it is gone.
		w.ask("ann", "DELETE", "/v1/clusters/"+id, nil).want(204)
		w.ask("ann", "POST", "/v1/clusters", body).want(403)
	}, func(c *api.Config, _ *api.Deps) { c.MaxClusters = 2 })
}

func TestQuotas_10_1_NoOvershootWhenManyComeAtOnce(t *testing.T) {
	each(t, func(w *world) {
		body := object{"cluster_template_id": w.template(swarm())}
		var lock sync.Mutex
		count := map[int]int{}
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				a := w.ask("ann", "POST", "/v1/clusters", body)
				lock.Lock()
				defer lock.Unlock()
				count[a.status]++
			})
		}
		all.Wait()
		if diff := cmp.Diff(map[int]int{202: 3, 403: 9}, count); diff != "" {
			w.t.Errorf("statuses:\n%s", diff)
		}
	}, func(c *api.Config, _ *api.Deps) { c.MaxClusters = 3 })
}

func TestActions_6_1_Resize(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm()), "labels": object{"min_node_count": 1}})
		path := "/v1/clusters/c/actions/resize"
		// Accepted while it is being created, and nothing happens.
		w.ask("ann", "POST", path, object{"node_count": 3}, version17).want(202)
		if n := len(w.operations(id)); n != 1 {
			w.t.Fatalf("%d operations", n)
		}
		w.finish(id, model.CreateComplete)
		for _, refused := range []object{
			{},
			{"node_count": nil},
			{"node_count": -1},
			{"node_count": "many"},
			{"node_count": 2, "nodes_to_remove": "n1"},
			{"node_count": 2, "nodes_to_remove": []int{1}},
			{"node_count": 2, "nodegroup": ""},
			{"node_count": 2, "nodegroup": "default-master"},
			{"node_count": 2, "colour": "red"},
			{"node_count": 0},
		} {
			w.ask("ann", "POST", path, refused, latest).want(400)
		}
		w.ask("ann", "POST", path, object{"node_count": 2, "nodes_to_remove": slices.Repeat([]string{"node"}, 10000)}, latest).want(400)
		w.ask("ann", "POST", path, object{"node_count": 2, "nodegroup": "nowhere"}, latest).want(404)
		w.ask("ann", "POST", "/v1/clusters/nowhere/actions/resize", object{"node_count": 2}, latest).want(404)

		for range 2 {
			w.ask("ann", "POST", path, object{"node_count": 3, "nodes_to_remove": nil}, latest).want(202).is("uuid", id)
		}
		// Allowed while an update is under way.
		w.ask("ann", "POST", path, object{"node_count": 2, "nodegroup": "default-worker", "nodes_to_remove": []string{"n2"}}, latest).want(202)
		ops := w.operations(id)
		if len(ops) != 3 || len(ops[2].Spec.NodesToRemove) != 1 {
			w.t.Fatalf("operations: %+v", ops)
		}
		w.ask("ann", "GET", "/v1/clusters/c", nil).want(200).is("node_count", 2.0)
	})
}

func TestActions_6_2_UpgradeBody(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	template := w.template(swarm())
	id := w.cluster(object{"name": "c", "cluster_template_id": template})
	path := "/v1/clusters/c/actions/upgrade"
	w.ask("ann", "POST", path, object{"cluster_template": template}, version17).want(400).saying("1.8")
	w.ask("ann", "POST", path, object{}, latest).want(400).saying("cluster_template")
	w.ask("ann", "POST", path, object{"cluster_template": template, "max_batch_size": 0}, latest).want(400).saying("max_batch_size")
	w.ask("ann", "POST", path, object{"cluster_template": template, "rollback": true}, latest).want(400).saying("rollback")
	w.ask("ann", "POST", path, object{"cluster_template": "nowhere"}, latest).want(404)
	w.ask("ann", "POST", path, object{"cluster_template": template, "nodegroup": "nowhere"}, latest).want(404)
	w.ask("ann", "POST", path, object{"cluster_template": template, "max_batch_size": 1}, latest).want(400).saying("CREATE_IN_PROGRESS")
	w.finish(id, model.CreateComplete)
	other := w.template(swarm().with("name", "other").with("coe", "swarm"))
	w.ask("ann", "POST", path, object{"cluster_template": other}, latest).want(400).saying("coe")
	if ops := w.operations(id); len(ops) != 1 || w.row(id).Status != model.CreateComplete {
		t.Errorf("refused upgrades left %d operations, the cluster %v", len(ops), w.row(id).Status)
	}
}

func TestActions_6_2_Upgrade(t *testing.T) {
	each(t, func(w *world) {
		old, newer := w.template(swarm()), w.template(swarm().with("name", "newer"))
		id := w.cluster(object{"name": "c", "cluster_template_id": old})
		w.joined(id, "10.1.0.5")
		w.finish(id, model.CreateComplete)
		path := "/v1/clusters/c/actions/upgrade"
		w.ask("ann", "POST", path, object{"cluster_template": "newer", "max_batch_size": 2}, latest).want(202).is("uuid", id)
		shown := w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
		shown.is("status", "UPDATE_IN_PROGRESS")
		shown.is("cluster_template_id", newer)
		ops := w.operations(id)
		if op := ops[len(ops)-1]; op.Kind != model.OpUpgrade || op.Spec.MaxBatchSize != 2 || len(op.Spec.NodeGroups) != 2 || op.Spec.Before.TemplateID != old {
			w.t.Errorf("operation %+v", op)
		}
		// The same again waits for nobody: it is refused.
		w.ask("ann", "POST", path, object{"cluster_template": "newer"}, latest).want(400).saying("UPDATE_IN_PROGRESS")
		if len(w.operations(id)) != len(ops) {
			w.t.Error("a refused upgrade was queued")
		}
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+old, nil).want(400)

		// One that failed can be tried again.
		w.finish(id, model.UpdateFailed)
		w.ask("ann", "POST", path, object{"cluster_template": newer, "nodegroup": "default-master"}, latest).want(202)
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+old, nil).want(204)

		w.ask("ann", "POST", "/v1/clusters/c/nodegroups", object{"name": "gpu"}, latest).want(202)
		w.finish(id, model.UpdateComplete)
		third := w.template(swarm().with("name", "third"))
		w.ask("ann", "POST", path, object{"cluster_template": third, "nodegroup": "gpu"}, latest).want(409)
		w.ask("ann", "POST", path, object{"cluster_template": newer, "nodegroup": "gpu"}, latest).want(202)
		ops = w.operations(id)
		if op := ops[len(ops)-1]; op.Kind != model.OpUpgrade || op.Spec.MaxBatchSize != 1 || len(op.Spec.NodeGroups) != 1 {
			w.t.Errorf("operation %+v", op)
		}
		w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204) // supersedes it
	})
}

func TestNodeGroups_7_ListAndShow(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm()), "node_count": 3, "labels": object{"min_node_count": "1"}})
		a := w.ask("ann", "GET", "/v1/clusters/c/nodegroups", nil, latest).want(200)
		groups := a.items("nodegroups")
		if len(groups) != 2 || groups[0]["name"] != "default-master" || groups[1]["node_count"] != 3.0 {
			w.t.Fatalf("groups: %v", groups)
		}
		hasKeys(w.t, groups[1], "uuid", "name", "flavor_id", "image_id", "node_count", "role", "min_node_count", "max_node_count",
			"is_default", "stack_id", "status", "merge_labels")
		if groups[1]["min_node_count"] != 0.0 {
			w.t.Error("lists show min_node_count as 0")
		}
		shown := w.ask("ann", "GET", "/v1/clusters/c/nodegroups/default-worker", nil, latest).want(200)
		hasKeys(w.t, shown.body, "uuid", "id", "name", "cluster_id", "project_id", "docker_volume_size", "labels", "flavor_id", "image_id",
			"node_count", "role", "min_node_count", "max_node_count", "is_default", "stack_id", "status", "status_reason", "version",
			"node_addresses", "merge_labels", "labels_overridden", "labels_added", "labels_skipped", "links", "created_at", "updated_at")
		shown.is("cluster_id", id)
		shown.is("min_node_count", 1.0)
		worker := shown.text("uuid")
		shown.is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/clusters/" + id + "/nodegroups/" + worker, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/clusters/" + id + "/nodegroups/" + worker, "rel": "bookmark"},
		})
		for _, ident := range []string{worker, fmt.Sprint(shown.body["id"])} {
			w.ask("ann", "GET", "/v1/clusters/c/nodegroups/"+ident, nil, latest).want(200).is("uuid", worker)
		}
		w.ask("ann", "GET", "/v1/clusters/c/nodegroups/detail", nil, latest).want(404)
		w.ask("ann", "GET", "/v1/clusters/nowhere/nodegroups", nil, latest).want(404)

		for query, want := range map[string][]string{
			"role=master":                       {"default-master"},
			"role=nothing":                      {},
			"sort_key=node_count&sort_dir=desc": {"default-worker", "default-master"},
			"sort_key=max_node_count":           {"default-master", "default-worker"},
			"marker=" + worker:                  {},
			"sort_dir=desc&marker=" + worker:    {"default-master"},
			"limit=1":                           {"default-master"},
		} {
			names := []string{}
			for _, g := range w.ask("ann", "GET", "/v1/clusters/c/nodegroups/?"+query, nil, latest).want(200).items("nodegroups") {
				names = append(names, g["name"].(string))
			}
			if diff := cmp.Diff(want, names); diff != "" {
				w.t.Errorf("%s:\n%s", query, diff)
			}
		}
		next := w.ask("ann", "GET", "/v1/clusters/c/nodegroups?limit=2&role=worker", nil, latest).want(200)
		if _, there := next.body["next"]; there {
			w.t.Error("one of two: no next")
		}
		next = w.ask("ann", "GET", "/v1/clusters/c/nodegroups?limit=1&role=worker", nil, latest).want(200)
		if got := next.text("next"); got != "http://magnum.example:9511/v1/clusters/"+id+"/nodegroups?sort_key=id&sort_dir=asc&limit=1&marker="+worker {
			w.t.Errorf("next: %q", got)
		}
		for _, bad := range []string{"sort_key=nothing", "limit=0", "marker=x", "colour=red"} {
			w.ask("ann", "GET", "/v1/clusters/c/nodegroups?"+bad, nil, latest).want(400)
		}
		w.ask("ann", "GET", "/v1/clusters/c/nodegroups?marker="+id, nil, latest).want(404)
	})
}

// However long the list, the database is asked as often.
func TestLists_TakeAConstantNumberOfQueries(t *testing.T) {
	s := storetest.New(t)
	counting := &countingStore{Store: s}
	w := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Store = counting })
	template := w.template(swarm())
	for n := 1; n <= 8; n *= 2 {
		for len(w.ask("ann", "GET", "/v1/clusters", nil).items("clusters")) < n {
			w.cluster(object{"cluster_template_id": template})
		}
		for path, want := range map[string]int{
			"/v1/clusters": 2, "/v1/clusters/detail": 4, "/v1/clustertemplates": 1,
			"/v1/bays": 2, "/v1/bays/detail": 4, "/v1/baymodels": 1,
			"/v1/clusters/" + w.ask("ann", "GET", "/v1/clusters", nil).items("clusters")[0]["uuid"].(string): 4,
		} {
			counting.calls = 0
			w.ask("ann", "GET", path, nil).want(200)
			if counting.calls != want {
				t.Errorf("%d clusters: GET %s asked %d times, want %d", n, path, counting.calls, want)
			}
		}
	}
}

// countingStore counts the reads that lists are made of; each is one query.
type countingStore struct {
	api.Store
	calls int
}

func (c *countingStore) ListClusters(ctx context.Context, scope store.Scope, page store.Page) ([]model.Cluster, error) {
	c.calls++
	return c.Store.ListClusters(ctx, scope, page)
}

func (c *countingStore) Cluster(ctx context.Context, scope store.Scope, ident string) (*model.Cluster, error) {
	c.calls++
	return c.Store.Cluster(ctx, scope, ident)
}

func (c *countingStore) ListTemplates(ctx context.Context, scope store.Scope, page store.Page) ([]model.ClusterTemplate, error) {
	c.calls++
	return c.Store.ListTemplates(ctx, scope, page)
}

func (c *countingStore) NodeGroups(ctx context.Context, ids ...string) (map[string][]model.NodeGroup, error) {
	c.calls++
	return c.Store.NodeGroups(ctx, ids...)
}

func (c *countingStore) Nodes(ctx context.Context, ids ...string) (map[string][]model.Node, error) {
	c.calls++
	return c.Store.Nodes(ctx, ids...)
}

func (c *countingStore) TemplatesByID(ctx context.Context, ids []string) (map[string]*model.ClusterTemplate, error) {
	c.calls++
	return c.Store.TemplatesByID(ctx, ids)
}
