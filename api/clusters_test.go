// SPDX-License-Identifier: Apache-2.0

package api_test

import (
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

func TestClusters_5_1_Methods(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	for _, row := range []struct {
		call   string
		path   string
		body   any
		status int
		keys   []string
	}{
		{"GET /clusters", "/v1/clusters", nil, 200, []string{"clusters"}},
		{"GET /clusters/detail", "/v1/clusters/detail", nil, 200, []string{"clusters"}},
		{"GET /clusters/{ident}", "/v1/clusters/c", nil, 200, detailKeys},
		{"POST /clusters", "/v1/clusters", object{"cluster_template_id": "swarm"}, 202, []string{"uuid"}},
		{"PATCH /clusters/{ident}", "/v1/clusters/c", patchOf("replace", "/node_count", 2), 202, []string{"uuid"}},
		{"DELETE /clusters/{ident}", "/v1/clusters/c", nil, 204, nil},
	} {
		w.rule(row.call, func() {
			method, _, _ := strings.Cut(row.call, " ")
			for _, version := range []string{"OpenStack-API-Version: container-infra 1.1", latest} { // asynchronous at every version
				a := w.ask("ann", method, row.path, row.body, version).want(row.status)
				hasKeys(w.t, a.body, slices.Clone(row.keys)...)
				if a.header.Get("Location") != "" {
					w.t.Error("it has a Location")
				}
			}
		})
	}
}

func TestClusters_5_6_LifeOfACluster(t *testing.T) {
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

func TestClusters_5_2_Fields(t *testing.T) {
	boolean := [][2]any{{true, true}, {"no", false}, {nil, true}}
	null := [2]any{nil, nil}
	fields := []field{
		{"uuid", absent{}, nil, []wrong{{"x", "UUID"}, {1, "text"}}}, // ignored: see below
		{"name", absent{}, [][2]any{{"a", "a"}, {"Z9_.-", "Z9_.-"}, {strings.Repeat("a", 242), strings.Repeat("a", 242)}}, []wrong{
			{"", "1 to 242 characters"},
			{strings.Repeat("a", 243), "1 to 242 characters"},
			{"1st", "must match"},
			{"-a", "must match"},
			{"a b", "must match"},
			{"a\n", "must match"},
			{"ü", "must match"},
			{5, "text"},
		}},
		{"cluster_template_id", absent{}, nil, []wrong{
			{absent{}, "required"},
			{"nowhere", "ClusterTemplate nowhere … could not be found"},
			{nil, "could not be found"},
			{"", "could not be found"},
			{strings.Repeat("x", 256), "characters"},
			{7, "text"},
		}},
		{"keypair", "key", [][2]any{{"other", "other"}, {nil, "key"}}, text(255)},
		{"node_count", 1.0, [][2]any{{4, 4.0}, {"2", 2.0}, {2.5, 2.0}, {true, 1.0}, {nil, 1.0}}, append(integer(0), wrong{0, "1 or more before version 1.10"})},
		{"master_count", 1.0, [][2]any{{3, 3.0}}, append(integer(1), wrong{nil, "can not be null"}, wrong{2, "odd"})},
		{"docker_volume_size", 5.0, [][2]any{{9, 9.0}, {nil, 5.0}}, integer(1)},
		{"labels", map[string]any{"a": "1"}, [][2]any{
			{object{"b": 1, "c": true}, map[string]any{"b": "1", "c": "True"}},
			{object{"min_node_count": 1}, map[string]any{"min_node_count": "1"}},
			{nil, map[string]any{"a": "1"}},
			{object{}, map[string]any{"a": "1"}},
		}, append(labelled(), wrong{object{"min_node_count": "few"}, "min_node_count must be a whole number"}, wrong{object{"swarm_strategy": "heap"}, "swarm_strategy"},
			wrong{object{"host_traits": "CUSTOM_A, gpu"}, "gpu"}, wrong{object{"host_resource_class": "a b"}, "host_resource_class"})},
		{"flavor_id", "m1.small", [][2]any{{"m1.large", "m1.large"}, {nil, "m1.small"}}, append(text(255), wrong{"no-such-flavor", "could not be found"})},
		{"master_flavor_id", "m1.large", [][2]any{{"m1.small", "m1.small"}, {nil, "m1.large"}}, append(text(255), wrong{"no-such-flavor", "could not be found"})},
		{"create_timeout", 60.0, [][2]any{{0, 0.0}, {15, 15.0}, null}, integer(0)},
		{"status", "CREATE_IN_PROGRESS", [][2]any{{"CREATE_COMPLETE", "CREATE_IN_PROGRESS"}, {nil, "CREATE_IN_PROGRESS"}}, []wrong{{"DONE", "not one of CREATE_IN_PROGRESS"}, {1, "text"}}},
		{"health_status", nil, [][2]any{{"HEALTHY", "HEALTHY"}, {"UNHEALTHY", "UNHEALTHY"}, {"UNKNOWN", "UNKNOWN"}, null}, oneOf("HEALTHY, UNHEALTHY, UNKNOWN")},
		{"stack_id", nil, nil, readOnly()},
		{"merge_labels", false, [][2]any{{true, false}, {nil, false}}, flag()}, // input only
		{"links", absent{}, nil, readOnly()},
		{"status_reason", nil, [][2]any{{"x", nil}, null}, nil},
		{"health_status_reason", map[string]any{}, [][2]any{{object{"api": "ok"}, map[string]any{"api": "ok"}}, {nil, map[string]any{}}}, labelled()},
		{"discovery_url", nil, [][2]any{{"", ""}, {"any text", "any text"}, null}, []wrong{{strings.Repeat("x", 256), "255"}, {1, "text"}}},
		{"api_address", nil, nil, readOnly()},
		{"coe_version", nil, nil, readOnly()},
		{"container_version", nil, nil, readOnly()},
		{"project_id", "project-1", nil, readOnly()},
		{"user_id", "user-ann", nil, readOnly()},
		{"node_addresses", []any{}, nil, readOnly()},
		{"master_addresses", []any{}, nil, readOnly()},
		{"faults", absent{}, [][2]any{{object{"x": "y"}, nil}}, nil}, // accepted; shown only of what has failed
		{"fixed_network", "net", [][2]any{{"other", "other"}, {nil, "net"}}, text(255)},
		{"fixed_subnet", "sub", [][2]any{{"other", "other"}, {nil, "sub"}}, text(255)},
		{"floating_ip_enabled", true, boolean, flag()},
		{"master_lb_enabled", true, boolean, flag()},
		{"labels_overridden", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"labels_added", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"labels_skipped", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"created_at", absent{}, nil, readOnly()},
		{"updated_at", nil, nil, readOnly()},
		{"cluster_id", absent{}, nil, []wrong{{"x", "Unknown attribute"}}}, // from 1.13 on
		{"bay_create_timeout", absent{}, nil, []wrong{{5, "Unknown attribute"}}},
	}
	template := swarm().with("keypair_id", "key").with("docker_volume_size", 5).with("labels", object{"a": "1"}).
		with("flavor_id", "m1.small").with("master_flavor_id", "m1.large").with("fixed_network", "net").with("fixed_subnet", "sub").
		with("floating_ip_enabled", true).with("master_lb_enabled", true)
	each(t, func(w *world) {
		good := object{"cluster_template_id": w.template(template)}
		show := func(body object) answer {
			return w.ask("ann", "GET", "/v1/clusters/"+w.cluster(body), nil).want(200)
		}
		plain := show(good)
		listed := w.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")[0]
		hasKeys(w.t, listed, slices.Clone(summaryKeys)...)
		hasKeys(w.t, plain.body, slices.Clone(detailKeys)...)
		for _, name := range summaryKeys {
			if diff := cmp.Diff(plain.body[name], listed[name]); diff != "" {
				w.t.Errorf("the list shows another %s:\n%s", name, diff)
			}
		}
		for _, f := range fields {
			w.rule(f.name, func() {
				if _, varies := f.unset.(absent); !varies {
					plain.is(f.name, f.unset)
				}
				for _, value := range f.taken {
					show(good.with(f.name, value[0])).is(f.name, value[1])
				}
			})
		}
		const chosen = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
		if id := w.cluster(good.with("uuid", chosen)); id == chosen {
			w.t.Error("the client chose the uuid")
		}
		if name := show(good.with("name", nil)).text("name"); !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-cluster$`).MatchString(name) {
			w.t.Errorf("generated name %q", name)
		}
		// By uuid, by name and by the number in the database; the uuid comes out.
		w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm"}).want(202)
		show(object{"cluster_template_id": "1"}).is("cluster_template_id", good["cluster_template_id"])
	}, func(c *api.Config, _ *api.Deps) { c.MaxClusters = 1000 })

	w := newWorld(t, storetest.New(t))
	good := object{"cluster_template_id": w.template(template)}
	w.refusesFields("/v1/clusters", good, fields)
	w.refused(404, "keypair … Keypair no-such-key", "ann", "POST", "/v1/clusters", good.with("keypair", "no-such-key"))
	w.refused(400, "master_count … master_lb_enabled", "ann", "POST", "/v1/clusters", good.with("master_count", 3).with("master_lb_enabled", false))
}

func TestClusters_5_3_OrderOfChecksOnCreate(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.template(swarm())
	kubernetes := w.template(object{"name": "k8s", "coe": "kubernetes", "image_id": "debian-12"})
	w.template(swarm().with("name", "twin"))
	w.template(swarm().with("name", "twin"))
	stale := w.template(swarm().with("name", "stale").with("external_network_id", "public").with("docker_storage_driver", "devicemapper").with("docker_volume_size", 3))
	// Every fault at once; each is mended in turn.
	body := object{
		"colour": "red", "cluster_template_id": "nowhere", "node_count": 0, "flavor_id": "no-such-flavor",
		"keypair": "no-such-key", "master_count": 3,
	}
	ask := func(person string, status int, words string, headers ...string) {
		w.t.Helper()
		w.refused(status, words, person, "POST", "/v1/clusters", body, headers...)
	}
	w.rule("1 keys and types", func() {
		ask("reader", 400, "colour")
		body = body.with("colour", absent{})
	})
	w.rule("2 template: 400 below 1.10, 404 from then on", func() {
		const words = "ClusterTemplate nowhere … cluster_template_id … could not be found"
		ask("reader", 400, words)
		ask("reader", 400, words, version19)
		ask("reader", 404, words, "OpenStack-API-Version: container-infra 1.10")
		ask("reader", 404, words, latest)
		for _, none := range []any{nil, ""} {
			w.refused(400, "cluster_template_id … could not be found", "ann", "POST", "/v1/clusters", body.with("cluster_template_id", none))
			w.refused(404, "cluster_template_id … could not be found", "ann", "POST", "/v1/clusters", body.with("cluster_template_id", none), latest)
		}
		w.refused(400, "cluster_template_id … required", "ann", "POST", "/v1/clusters", body.with("cluster_template_id", absent{}), latest)
		w.refused(409, "Multiple clustertemplates", "ann", "POST", "/v1/clusters", body.with("cluster_template_id", "twin"))
		w.refused(400, "could not be found", "zoe", "POST", "/v1/clusters", body.with("cluster_template_id", id)) // another project's
	})
	w.rule("3 driver, storage", func() {
		body = body.with("cluster_template_id", kubernetes)
		ask("reader", 400, "(vm, debian, kubernetes) not supported")
		body = body.with("cluster_template_id", stale).with("docker_volume_size", 2)
		ask("reader", 400, "docker_volume_size must be 3 GiB")
		body = body.with("cluster_template_id", id)
	})
	w.rule("4 odd masters", func() {
		w.refused(400, "master_count … odd", "reader", "POST", "/v1/clusters", body.with("master_count", 2))
	})
	w.rule("5 node_count 0 below 1.10", func() {
		ask("reader", 400, "node_count … 1 or more before version 1.10")
		body = body.with("node_count", 1)
	})
	w.rule("6 policy", func() { ask("reader", 403, "cluster:create") })
	w.rule("7 quota", func() {
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 0}).want(201)
		ask("ann", 403, "quota of 0 clusters")
		w.ask("admin", "DELETE", "/v1/quotas/project-1/Cluster", nil).want(204)
	})
	w.rule("11 OpenStack resources, then the keypair", func() {
		ask("ann", 400, "flavor_id … no-such-flavor")
		body = body.with("flavor_id", nil).with("master_flavor_id", "other-flavor")
		ask("ann", 400, "master_flavor_id … other-flavor")
		body = body.with("master_flavor_id", nil).with("labels", object{"swarm_strategy": "heap"})
		ask("ann", 400, "labels … swarm_strategy")
		body = body.with("labels", nil)
		// What the template names may have gone since.
		for column, words := range map[string]string{
			"image_id": "image_id … gone … could not be found", "flavor_id": "flavor_id … gone", "external_network_id": "external_network_id … gone",
		} {
			w.put("UPDATE cluster_templates SET "+column+" = 'gone' WHERE uuid = ?", stale)
			w.refused(400, words, "ann", "POST", "/v1/clusters", object{"cluster_template_id": stale, "keypair": "no-such-key"})
			w.put("UPDATE cluster_templates SET image_id = 'debian-12', flavor_id = NULL, external_network_id = NULL WHERE uuid = ?", stale)
		}
		ask("ann", 404, "keypair … no-such-key")
		body = body.with("keypair", absent{})
	})
	w.rule("12 masters need a load balancer", func() {
		ask("ann", 400, "master_count … master_lb_enabled")
		body = body.with("master_lb_enabled", true)
	})
	w.rule("13 accepted", func() { w.ask("ann", "POST", "/v1/clusters", body).want(202) })
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
		w.rule("the present value", func() {
			for _, nothing := range []any{
				"[]", patchOf("replace", "/name", "c"), patchOf("replace", "/node_count", 2), patchOf("replace", "/floating_ip_enabled", "yes"),
				patchOf("replace", "/master_count", 1),
			} {
				w.ask("ann", "PATCH", path, nothing).want(202)
			}
			if n := len(w.operations(id)); n != 1 || w.row(id).Status != model.CreateComplete {
				w.t.Errorf("%d operations, status %s", n, w.row(id).Status)
			}
		})
		w.rule("health by an outside controller", func() {
			w.ask("ann", "PATCH", path, append(
				patchOf("add", "/health_status", "UNHEALTHY"),
				patchOf("replace", "/health_status_reason", `{'api': 'ok', 'n1.Ready': 'False'}`)...)).want(202)
			shown := w.ask("ann", "GET", path, nil).want(200)
			shown.is("health_status", "UNHEALTHY")
			shown.is("health_status_reason", map[string]any{"api": "ok", "n1.Ready": "False"})
			shown.is("status", "CREATE_COMPLETE")
			w.ask("ann", "PATCH", path, patchOf("remove", "/health_status", absent{})).want(202)
			w.ask("ann", "GET", path, nil).want(200).is("health_status", nil)
		})
		w.rule("remove /node_count sets it to 1", func() {
			w.ask("ann", "PATCH", path, patchOf("remove", "/node_count", absent{})).want(202)
			w.ask("ann", "GET", path, nil).want(200).is("node_count", 1.0)
		})
		w.rule("in a status that does not allow it: 202 and nothing happens", func() {
			w.ask("ann", "PATCH", path, append(patchOf("replace", "/node_count", 5), patchOf("add", "/health_status", "HEALTHY")...)).want(202)
			shown := w.ask("ann", "GET", path, nil).want(200)
			shown.is("node_count", 1.0)
			shown.is("health_status", nil)
			if n := len(w.operations(id)); n != 2 {
				w.t.Errorf("%d operations", n)
			}
		})
		w.rule("rollback", func() {
			w.ask("ann", "PATCH", path+"?rollback=True", "[]", version19).want(202)
			w.ask("ann", "PATCH", path+"/?rollback=false", "[]", latest).want(202)
		})
		w.ask("admin", "PATCH", path, "[]").want(202)
	})
}

func TestClusters_5_5_PatchRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	path := "/v1/clusters/" + id
	refused := func(words string, patch any) {
		w.t.Helper()
		w.refused(400, words, "ann", "PATCH", path, patch)
	}
	w.rule("order of checks", func() {
		name := patchOf("replace", "/name", "x")
		w.refused(400, "array", "reader", "PATCH", "/v1/clusters/fooo", object{}, latest)
		w.refused(400, "uuid … internal", "reader", "PATCH", "/v1/clusters/fooo", patchOf("replace", "/uuid", "x"), latest)
		w.refused(404, "Cluster fooo could not be found", "reader", "PATCH", "/v1/clusters/fooo", name)
		w.refused(404, "could not be found", "zoe", "PATCH", path, name)
		w.refused(403, "cluster:update", "reader", "PATCH", path, name)
		w.cluster(object{"name": "twin", "cluster_template_id": "swarm"})
		w.cluster(object{"name": "twin", "cluster_template_id": "swarm"})
		w.refused(409, "Multiple clusters", "ann", "PATCH", "/v1/clusters/twin", name)
		refused("node_count … integer", append(patchOf("replace", "/node_count", "3"), name...)) // types before what may change
	})
	w.rule("only node_count and health may change", func() {
		for name, value := range map[string]any{
			"name": "d", "master_count": 3, "keypair": "k", "flavor_id": "m1.large", "master_flavor_id": "m1.large", "docker_volume_size": 7,
			"create_timeout": 5, "status": "CREATE_FAILED", "status_reason": "x", "coe_version": "1", "container_version": "1",
			"discovery_url": "x", "fixed_network": "x", "fixed_subnet": "x", "floating_ip_enabled": false, "master_lb_enabled": true,
			"labels": "{}", "cluster_template_id": "x",
		} {
			refused("It is not possible to change "+name, patchOf("replace", "/"+name, value))
		}
		refused("change labels", patchOf("add", "/labels/x", "y"))
		refused("change name", patchOf("remove", "/name", absent{}))
		refused("change master_count, name", append(patchOf("replace", "/master_count", 3), patchOf("replace", "/name", "d")...))
	})
	w.rule("node_count", func() {
		refused("node_count … use replace", patchOf("add", "/node_count", 3))
		refused("node_count … integer", patchOf("replace", "/node_count", "3"))
		refused("node_count … 0 or more", patchOf("replace", "/node_count", -1))
		refused("node_count … or less", patchOf("replace", "/node_count", 1<<40))
		refused("node_count … 1 or more before version 1.10", patchOf("replace", "/node_count", 0))
	})
	w.rule("health_status", func() {
		refused("health_status … not one of HEALTHY", patchOf("replace", "/health_status", "FINE"))
		refused("health_status … text", patchOf("replace", "/health_status", 1))
	})
	w.rule("health_status_reason", func() {
		refused("health_status_reason … Python dict", patchOf("replace", "/health_status_reason", "fine"))
		refused("health_status_reason … Python dict", patchOf("replace", "/health_status_reason", true))
		refused("health_status_reason … 60000", patchOf("replace", "/health_status_reason", "{'a': '"+strings.Repeat("x", 66000)+"'}"))
	})
	w.rule("rollback", func() {
		w.refused(400, "rollback", "ann", "PATCH", path+"?rollback=True", "[]")
		w.refused(400, "rollback", "ann", "PATCH", path+"?rollback=True", "[]", version12)
		w.refused(400, "rollback … true or false", "ann", "PATCH", path+"?rollback=perhaps", "[]", latest)
		w.refused(400, "rollback", "ann", "PATCH", path+"?rollback=1&rollback=0", "[]", latest)
	})
}

func TestClusters_5_6_DeleteInAnyStatus(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.template(swarm())
	for _, status := range statuses {
		w.rule(status, func() {
			id := w.cluster(object{"cluster_template_id": "swarm"})
			w.put("UPDATE clusters SET status = ? WHERE uuid = ?", status, id)
			for range 2 {
				w.ask("ann", "DELETE", "/v1/clusters/"+id, nil, "Content-Type: application/octet-stream").want(204)
			}
			if got := w.row(id).Status; got != model.DeleteInProgress {
				w.t.Errorf("the cluster is %s", got)
			}
			w.put("UPDATE clusters SET project_id = 'gone' WHERE uuid = ?", id) // out of the quota
		})
	}
	w.refused(404, "Cluster nowhere could not be found", "ann", "DELETE", "/v1/clusters/nowhere", nil)
	w.refused(403, "cluster:delete", "reader", "DELETE", "/v1/clusters/"+w.cluster(object{"cluster_template_id": "swarm"}), nil)
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
	claimed, err := w.store.Claim(ctx, op.UUID, "test", time.Minute, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	fence := store.FenceOf(claimed)
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

// With too many operations waiting the API asks clients to come back later, and
// nothing has happened. A cluster can be deleted all the same.
func TestTooMuchWorkIsAnswered503(t *testing.T) {
	each(t, func(w *world) {
		body := object{"cluster_template_id": w.template(swarm())}
		id := w.cluster(body)
		w.finish(id, model.CreateComplete)
		w.cluster(body)
		w.cluster(body)
		announced := w.announced.Load()
		for range 2 {
			a := w.ask("ann", "POST", "/v1/clusters", body).want(503)
			a.saying("Too many operations wait")
			if after := a.header.Get("Retry-After"); after != "10" {
				w.t.Errorf("Retry-After is %q", after)
			}
		}
		w.ask("ann", "POST", "/v1/clusters/"+id+"/actions/resize", object{"node_count": 5}, version17).want(503)
		w.ask("ann", "PATCH", "/v1/clusters/"+id, patchOf("replace", "/node_count", 5)).want(503)
		w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200).is("status", "CREATE_COMPLETE")
		if n := len(w.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")); n != 3 {
			w.t.Errorf("%d clusters", n)
		}
		if now := w.announced.Load(); now != announced {
			w.t.Error("something was announced")
		}
		w.ask("ann", "DELETE", "/v1/clusters/"+id, nil).want(204)
	}, func(c *api.Config, _ *api.Deps) { c.MaxPending = 2 })
}

// A resize gets a cluster out of a failed status, even to the count it has. In
// CREATE_FAILED that is a creation, with the cluster's own time limit.
func TestResizeOfAFailedCluster(t *testing.T) {
	each(t, func(w *world) {
		body := object{"cluster_template_id": w.template(swarm()), "create_timeout": 7}
		for failed, want := range map[model.Status]struct {
			status   string
			kind     model.OperationKind
			deadline time.Duration
		}{
			model.CreateFailed: {"CREATE_IN_PROGRESS", model.OpCreate, 7 * time.Minute},
			model.UpdateFailed: {"UPDATE_IN_PROGRESS", model.OpUpdate, time.Hour},
		} {
			id := w.cluster(body)
			w.finish(id, failed)
			w.ask("ann", "PATCH", "/v1/clusters/"+id, patchOf("replace", "/node_count", 5)).want(202)
			if n := len(w.operations(id)); n != 1 {
				w.t.Errorf("%s: a patch made %d operations", failed, n-1)
			}
			w.ask("ann", "POST", "/v1/clusters/"+id+"/actions/resize", object{"node_count": 1}, version17).want(202)
			w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200).is("status", want.status)
			ops := w.operations(id)
			if len(ops) != 2 {
				w.t.Fatalf("%s: %d operations", failed, len(ops))
			}
			op := ops[1]
			if in := op.Deadline.Sub(op.CreatedAt); op.Kind != want.kind || in != want.deadline {
				w.t.Errorf("%s: %s with %s", failed, op.Kind, in)
			}
		}
	})
}
