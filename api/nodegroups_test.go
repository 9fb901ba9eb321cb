// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

// ready makes a complete cluster for Ann with an api_address, named c.
func (w *world) ready() string {
	w.t.Helper()
	id := w.cluster(object{
		"name": "c", "cluster_template_id": w.template(swarm()),
		"labels": object{"a": "1", "b": "2"}, "flavor_id": "m1.small",
	})
	w.joined(id, "10.1.0.5", "10.1.0.6")
	w.finish(id, model.CreateComplete)
	return id
}

const groups = "/v1/clusters/c/nodegroups"

// untouched fails the test when the request changed the cluster, or queued
// anything for it.
func (w *world) untouched(cluster, what string, operations int) {
	w.t.Helper()
	if n := len(w.operations(cluster)); n != operations {
		w.t.Errorf("%s: %d operations, want %d", what, n, operations)
	}
	if got := w.row(cluster).Status; got != model.CreateComplete && got != model.UpdateComplete {
		w.t.Errorf("%s: the cluster is %s", what, got)
	}
}

func TestNodeGroups_7_3_Create(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		before := w.announced.Load()
		made := w.ask("ann", "POST", groups+"/", object{
			"name": "gpu/1 ü", "node_count": "2", "min_node_count": 1, "max_node_count": 4, "role": "gpu",
			"flavor_id": "no-such-flavor", "image_id": "no-such-image", "docker_volume_size": 5,
			"labels": object{"b": 3, "c": true}, "merge_labels": true,
			// accepted, without effect
			"uuid": "11111111-1111-4111-8111-111111111111", "id": 7, "cluster_id": "x", "status": "CREATE_COMPLETE",
			"status_reason": "x", "version": "1", "is_default": true,
		}, latest).want(202)
		hasKeys(w.t, made.body, "uuid", "name", "cluster_id", "project_id", "docker_volume_size", "labels", "flavor_id", "image_id",
			"node_count", "role", "min_node_count", "max_node_count", "merge_labels",
			"labels_overridden", "labels_added", "labels_skipped", "links")
		made.is("labels", map[string]any{"a": "1", "b": "3", "c": "True"})
		made.is("labels_overridden", map[string]any{"b": "2"})
		made.is("labels_added", map[string]any{"c": "True"})
		made.is("labels_skipped", map[string]any{})
		made.is("node_count", 2.0)
		made.is("cluster_id", id)
		made.is("project_id", "project-1")
		if w.announced.Load() != before+1 {
			w.t.Error("the operation was not announced")
		}
		shown := w.ask("ann", "GET", groups+"/"+made.text("uuid"), nil, latest).want(200)
		shown.is("status", "CREATE_IN_PROGRESS")
		shown.is("is_default", false)
		shown.is("min_node_count", 1.0)
		shown.is("max_node_count", 4.0)
		shown.is("node_addresses", []any{})
		shown.is("updated_at", nil)
		w.ask("ann", "GET", "/v1/clusters/c", nil).want(200).is("status", "UPDATE_IN_PROGRESS")
		w.ask("ann", "GET", "/v1/clusters/c", nil).is("node_count", 3.0)

		// All that is optional comes from the cluster and its template; a
		// second group may be asked for while the first is being made.
		plain := w.ask("ann", "POST", groups, object{"name": "plain"}, version19).want(202)
		hasKeys(w.t, plain.body, "uuid", "name", "cluster_id", "project_id", "labels", "flavor_id", "image_id",
			"node_count", "role", "min_node_count", "max_node_count", "merge_labels",
			"labels_overridden", "labels_added", "labels_skipped", "links")
		plain.is("labels", map[string]any{"a": "1", "b": "2"})
		plain.is("flavor_id", "m1.small")
		plain.is("image_id", "debian-12")
		plain.is("node_count", 1.0)
		plain.is("role", "worker")
		plain.is("min_node_count", 0.0)
		plain.is("max_node_count", nil)
		// Labels given as {} stay so, unlike those of clusters.
		w.ask("ann", "POST", groups, object{"name": "1", "labels": object{}, "node_count": 0, "max_node_count": 0}, latest).want(202).
			is("labels", map[string]any{})
		w.ask("ann", "POST", groups, object{"name": "own", "labels": object{"x": "y"}}, latest).want(202).is("labels", map[string]any{"x": "y"})

		w.finish(id, model.UpdateComplete)
		shown = w.ask("ann", "GET", groups+"/"+made.text("uuid"), nil, latest).want(200)
		shown.is("status", "CREATE_COMPLETE")
	})
}

func TestNodeGroups_7_4_Patch(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		path := groups + "/default-worker"
		before := w.ask("ann", "GET", path, nil, latest).want(200)
		w.ask("ann", "PATCH", path, "[]", latest).want(202)
		w.ask("ann", "PATCH", path, patchOf("replace", "/min_node_count", 0), latest).want(202)
		w.untouched(id, "no change", 1)

		a := w.ask("ann", "PATCH", path, patchOf("add", "/max_node_count", 3), latest).want(202)
		a.is("max_node_count", 3.0)
		a.is("updated_at", before.body["updated_at"])
		hasKeys(w.t, a.body, keysOf(before.body)...)
		shown := w.ask("ann", "GET", path, nil, latest).want(200)
		shown.is("max_node_count", 3.0)
		shown.is("status", "UPDATE_IN_PROGRESS")
		w.ask("ann", "GET", "/v1/clusters/c", nil).is("status", "UPDATE_IN_PROGRESS")
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "GET", path, nil, latest).want(200).is("status", "UPDATE_COMPLETE")

		// The limits hold for resizes.
		w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": 4}, latest).want(400).saying("max_node_count")

		w.ask("ann", "PATCH", path, patchOf("remove", "/max_node_count", nil), latest).want(202).is("max_node_count", nil)
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "GET", path, nil, latest).is("max_node_count", nil)

		// In another status it is accepted and nothing happens, as in Magnum.
		w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
		w.ask("ann", "PATCH", path, patchOf("add", "/max_node_count", 8), latest).want(202)
		w.ask("ann", "GET", path, nil, latest).is("max_node_count", nil)
		if n := len(w.operations(id)); n != 4 {
			w.t.Errorf("%d operations, want 4", n)
		}
	})
}

func TestNodeGroups_7_1_Delete(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		gpu := w.ask("ann", "POST", groups, object{"name": "gpu", "node_count": 2}, latest).want(202).text("uuid")
		w.finish(id, model.UpdateComplete)

		for range 2 {
			w.ask("ann", "DELETE", groups+"/gpu", nil, latest, "Content-Type: application/octet-stream").want(204)
		}
		if n := len(w.operations(id)); n != 3 {
			w.t.Errorf("%d operations, want 3: the second delete asks for nothing", n)
		}
		shown := w.ask("ann", "GET", groups+"/"+gpu, nil, latest).want(200)
		shown.is("status", "DELETE_IN_PROGRESS")
		shown.is("node_count", 0.0)
		w.ask("ann", "GET", "/v1/clusters/c", nil).is("status", "UPDATE_IN_PROGRESS")
		// It can not be filled again.
		w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": 4, "nodegroup": "gpu"}, latest).want(202)
		if n := len(w.operations(id)); n != 3 {
			w.t.Errorf("%d operations, want 3: a group that goes is not resized", n)
		}
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "GET", groups+"/"+gpu, nil, latest).want(404)
		w.ask("ann", "DELETE", groups+"/"+gpu, nil, latest).want(404)
		var names []any
		for _, g := range w.ask("ann", "GET", groups, nil, latest).want(200).items("nodegroups") {
			names = append(names, g["name"])
		}
		if diff := cmp.Diff([]any{"default-master", "default-worker"}, names); diff != "" {
			w.t.Error(diff)
		}
		w.ask("ann", "GET", "/v1/clusters/c", nil).is("status", "UPDATE_COMPLETE")
	})
}

// keysOf are the names of an object's members.
func keysOf(o map[string]any) []string {
	var keys []string
	for key := range o {
		keys = append(keys, key)
	}
	return keys
}

func TestNodeGroups_7_1_Methods(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	for _, row := range []struct {
		call, path string
		body       any
		status     int
	}{
		{"GET …/nodegroups", groups, nil, 200},
		{"GET …/nodegroups/{ng}", groups + "/default-worker", nil, 200},
		{"POST …/nodegroups", groups, object{"name": "gpu"}, 202},
		{"PATCH …/nodegroups/{ng}", groups + "/gpu", patchOf("replace", "/min_node_count", 1), 202},
		{"DELETE …/nodegroups/{ng}", groups + "/gpu", nil, 204},
	} {
		w.rule(row.call, func() {
			method, _, _ := strings.Cut(row.call, " ")
			w.refused(406, "1.8", "ann", method, row.path, row.body, "OpenStack-API-Version: container-infra 1.8")
			w.ask("ann", method, row.path, row.body, version19).want(row.status)
			missing := strings.Replace(row.path, "/c/", "/nowhere/", 1)
			w.refused(404, "Cluster nowhere", "ann", method, missing, row.body, latest)
		})
	}
	w.rule("role", func() {
		for role, want := range map[string]int{"worker": 2, "master": 1, "nothing": 0, "Worker": 0, "": 0} {
			if all := w.ask("ann", "GET", groups+"?role="+role, nil, latest).want(200).items("nodegroups"); len(all) != want {
				w.t.Errorf("role %q: %d groups, want %d", role, len(all), want)
			}
		}
	})
	w.rule("there is no detail list", func() { w.refused(404, "Nodegroup detail", "ann", "GET", groups+"/detail", nil, latest) })
	w.rule("two default groups", func() {
		w.template(swarm().with("name", "full").with("labels", object{"t": "1"}))
		id := w.cluster(object{
			"cluster_template_id": "full", "flavor_id": "m1.small", "master_flavor_id": "m1.large", "docker_volume_size": 7,
			"labels": object{"min_node_count": "1"}, "merge_labels": true,
		})
		for name, want := range map[string]map[string]any{
			"default-master": {"role": "master", "flavor_id": "m1.large"},
			"default-worker": {"role": "worker", "flavor_id": "m1.small"},
		} {
			shown := w.ask("ann", "GET", "/v1/clusters/"+id+"/nodegroups/"+name, nil, latest).want(200)
			for key, value := range want {
				shown.is(key, value)
			}
			shown.is("is_default", true)
			shown.is("image_id", "debian-12")
			shown.is("docker_volume_size", 7.0)
			shown.is("min_node_count", 1.0) // of both, as in Magnum 15
			shown.is("labels", map[string]any{"t": "1", "min_node_count": "1"})
			w.refused(400, name, "ann", "DELETE", "/v1/clusters/"+id+"/nodegroups/"+name, nil, latest)
		}
	})
	w.rule("who may", func() {
		id := w.row("c").UUID
		for _, call := range []struct {
			method, path string
			body         any
		}{
			{"POST", "", object{"name": "x"}}, {"PATCH", "/default-worker", "[]"}, {"DELETE", "/default-worker", nil},
		} {
			path := "/v1/clusters/" + id + "/nodegroups" + call.path
			w.refused(403, "nodegroup:", "reader", call.method, path, call.body, latest)
			w.refused(404, "Cluster "+id, "zoe", call.method, path, call.body, latest)
			w.refused(404, "Cluster "+id, "admin", call.method, path, call.body, latest)
		}
		for _, method := range []string{"PATCH", "DELETE"} {
			w.refused(400, "Missing argument", "ann", method, groups, "[]", latest)
			w.refused(404, "Nodegroup nowhere", "ann", method, groups+"/nowhere", "[]", latest)
		}
		w.refused(404, "Nodegroup nowhere", "ann", "GET", groups+"/nowhere", nil, latest)
	})
}

func TestNodeGroups_7_2_Fields(t *testing.T) {
	null := [2]any{nil, nil}
	long := strings.Repeat("ü", 255)
	// unset: absent where the answer to a create does not show it.
	fields := []field{
		{"uuid", absent{}, nil, []wrong{{"x", "UUID"}, {1, "text"}}}, // ignored: see below
		{"id", absent{}, [][2]any{{7, nil}, {"x", nil}}, nil},
		{"name", absent{}, [][2]any{{"1 /ü", "1 /ü"}, {long, long}}, append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{"cluster_id", absent{}, nil, nil},
		{"project_id", "project-1", nil, readOnly()},
		{"docker_volume_size", absent{}, [][2]any{{5, 5.0}, {"5", 5.0}}, integer(1)},
		{"labels", map[string]any{"a": "1", "b": "2"}, [][2]any{
			{object{"x": 1}, map[string]any{"x": "1"}},
			{object{}, map[string]any{}},
			{nil, map[string]any{"a": "1", "b": "2"}},
		}, labelled()},
		{"flavor_id", "m1.small", [][2]any{{"no-such-flavor", "no-such-flavor"}, {nil, "m1.small"}}, text(255)}, // not looked up
		{"image_id", "debian-12", [][2]any{{"no-such-image", "no-such-image"}, {nil, "debian-12"}}, text(255)},
		{"node_count", 1.0, [][2]any{{0, 0.0}, {"2", 2.0}, {nil, 1.0}}, integer(0)},
		{"role", "worker", [][2]any{{"gpu", "gpu"}, {long, long}, {nil, "worker"}}, append(text(255), wrong{"master", "not possible"})},
		{"min_node_count", 0.0, [][2]any{{1, 1.0}, {nil, 0.0}}, integer(0)},
		{"max_node_count", nil, [][2]any{{0, 0.0}, {9, 9.0}, null}, integer(0)},
		{"is_default", absent{}, [][2]any{{true, nil}, {nil, nil}}, flag()}, // without effect
		{"stack_id", absent{}, nil, readOnly()},
		{"status", absent{}, [][2]any{{"DELETE_FAILED", nil}, {nil, nil}}, []wrong{{"FINE", "not one of CREATE_IN_PROGRESS"}, {1, "text"}}},
		{"status_reason", absent{}, [][2]any{{"x", nil}}, nil},
		{"version", absent{}, [][2]any{{"x", nil}}, nil},
		{"node_addresses", absent{}, nil, readOnly()},
		{"merge_labels", false, [][2]any{{true, false}, {nil, false}}, flag()},
		{"labels_overridden", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"labels_added", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"labels_skipped", map[string]any{}, [][2]any{{object{"x": "y"}, map[string]any{}}}, nil},
		{"node_labels", absent{}, nil, []wrong{{object{}, "Unknown attribute"}}}, // from 1.14 on
		{"node_taints", absent{}, nil, []wrong{{[]string{}, "Unknown attribute"}}},
		{"links", absent{}, nil, readOnly()},
		{"created_at", absent{}, nil, readOnly()},
		{"updated_at", absent{}, nil, readOnly()},
		{"colour", absent{}, nil, []wrong{{"red", "Unknown attribute"}}},
	}
	// What a create's answer lacks is shown later.
	later := map[string]any{
		"is_default": false, "stack_id": nil, "status": "CREATE_IN_PROGRESS", "status_reason": nil, "version": nil, "node_addresses": []any{},
		"docker_volume_size": nil, "updated_at": nil,
	}
	each(t, func(w *world) {
		id := w.ready()
		n := 0
		make := func(body object) (made, shown answer) {
			w.t.Helper()
			if _, named := body["name"]; !named {
				n++
				body = body.with("name", fmt.Sprint("g", n))
			}
			made = w.ask("ann", "POST", groups, body, latest).want(202)
			return made, w.ask("ann", "GET", groups+"/"+made.text("uuid"), nil, latest).want(200)
		}
		made, shown := make(object{})
		shown.is("cluster_id", id)
		shown.text("created_at")
		for name, want := range later {
			shown.is(name, want)
		}
		for _, f := range fields {
			w.rule(f.name, func() {
				if _, lacking := f.unset.(absent); lacking {
					if _, there := made.body[f.name]; there && !slices.Contains([]string{"uuid", "name", "cluster_id", "links"}, f.name) {
						w.t.Errorf("the answer to a create shows it")
					}
				} else {
					made.is(f.name, f.unset)
					shown.is(f.name, f.unset)
				}
				for _, value := range f.taken {
					made, shown := make(object{}.with(f.name, value[0]))
					made.is(f.name, value[1])
					if want, only := later[f.name]; only && value[1] == nil {
						shown.is(f.name, want)
					} else if f.name != "id" {
						shown.is(f.name, value[1])
					}
				}
			})
		}
		const chosen = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
		if made, _ := make(object{"uuid": chosen, "id": 4711, "cluster_id": "x"}); made.text("uuid") == chosen {
			w.t.Error("the client chose the uuid")
		}
		w.rule("the list shows other bounds", func() {
			_, shown := make(object{"name": "bounded", "min_node_count": 1, "max_node_count": 4})
			for _, one := range w.ask("ann", "GET", groups, nil, latest).want(200).items("nodegroups") {
				if one["uuid"] == shown.body["uuid"] && (one["min_node_count"] != 0.0 || one["max_node_count"] != nil) {
					w.t.Errorf("listed: %v", one)
				}
				hasKeys(w.t, one, "uuid", "name", "flavor_id", "image_id", "node_count", "role", "min_node_count", "max_node_count",
					"is_default", "stack_id", "status", "merge_labels")
			}
		})
	})
	w := newWorld(t, storetest.New(t))
	w.ready()
	w.refusesFields(groups, object{"name": "x"}, fields, latest)
	w.refused(409, "name default-worker already exists", "ann", "POST", groups, object{"name": "default-worker"}, latest)
}

func TestNodeGroups_7_3_OrderOfChecksOnCreate(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	w.cluster(object{"name": "new", "cluster_template_id": "swarm"})
	body := object{"colour": "red", "name": "default-worker", "node_count": 5, "min_node_count": 4, "max_node_count": 3, "role": "master"}
	at := func(status int, words, person, cluster string) {
		w.t.Helper()
		w.refused(status, words, person, "POST", "/v1/clusters/"+cluster+"/nodegroups", body, latest)
	}
	w.rule("body", func() {
		for _, wrong := range []any{"[]", "null", `"x"`, "7"} {
			w.refused(400, "object", "reader", "POST", groups, wrong, latest)
		}
		w.refused(400, "JSON", "reader", "POST", groups, "{", latest)
		w.refused(400, "Missing argument", "reader", "POST", groups, nil, latest)
		at(400, "colour", "reader", "nowhere")
		body = body.with("colour", absent{})
	})
	w.rule("policy", func() { at(403, "nodegroup:create", "reader", "nowhere") })
	w.rule("cluster", func() {
		at(404, "Cluster nowhere", "ann", "nowhere")
		at(404, "Cluster "+id, "admin", id)
	})
	w.rule("api_address", func() { at(409, "api_address", "ann", "new") })
	w.rule("name taken", func() {
		at(409, "default-worker already exists", "ann", "c")
		body = body.with("name", "gpu")
	})
	w.rule("bounds", func() {
		at(409, "min_node_count 4 … max_node_count 3", "ann", "c")
		body = body.with("min_node_count", 3)
		at(409, "node_count 5 … max_node_count 3", "ann", "c")
		body = body.with("node_count", 2)
		at(409, "node_count 2 … min_node_count 3", "ann", "c")
		body = body.with("max_node_count", 0)
		at(409, "node_count 2 … min_node_count 3", "ann", "c")
		body = body.with("node_count", 3)
	})
	w.rule("role master", func() {
		at(400, "role master", "ann", "c")
		body = body.with("role", "worker")
	})
	w.ask("ann", "POST", groups, body, latest).want(202)
}

func TestNodeGroups_7_4_PatchRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	w.ask("ann", "POST", groups, object{"name": "gpu", "node_count": 2, "min_node_count": 1, "max_node_count": 3}, latest).want(202)
	path := groups + "/gpu"
	for _, row := range []struct {
		words string
		patch any
		as    int
	}{
		{"min_node_count 3", patchOf("replace", "/min_node_count", 3), 409}, // node_count is 2
		{"min_node_count 4 … max_node_count 3", patchOf("replace", "/min_node_count", 4), 409},
		{"max_node_count 1", patchOf("replace", "/max_node_count", 1), 409},
		{"min_node_count … 0 or more", patchOf("replace", "/min_node_count", -1), 400},
		{"max_node_count … 0 or more", patchOf("replace", "/max_node_count", -1), 400},
		{"min_node_count … integer", patchOf("replace", "/min_node_count", "1"), 400},
		{"max_node_count … integer", patchOf("replace", "/max_node_count", "x"), 400},
		{"max_node_count … or less", patchOf("replace", "/max_node_count", 1<<40), 400},
		{"max_node_count … use replace", patchOf("add", "/max_node_count", 5), 400},
		{"/colour", patchOf("add", "/colour", "red"), 400},
		{"/node_labels", patchOf("replace", "/node_labels", "{}"), 400},
		{"/node_taints", patchOf("replace", "/node_taints", "[]"), 400},
		{"/name … internal", patchOf("replace", "/name", "x"), 400},
		{"/labels … internal", patchOf("add", "/labels/a", "x"), 400},
		{"array", object{"min_node_count": 1}, 400},
		{"Missing argument", nil, 400},
	} {
		w.refused(row.as, row.words, "ann", "PATCH", path, row.patch, latest)
	}
}

func TestNodeGroups_7_1_ListAndShow(t *testing.T) {
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
