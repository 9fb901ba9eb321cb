// SPDX-License-Identifier: Apache-2.0

package api_test

import (
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

func TestNodeGroups_7_3_CreateRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	good := object{"name": "x", "node_count": 2}
	for _, test := range []struct {
		body   object
		status int
		saying string
	}{
		{good.with("name", absent{}), 400, "name"},
		{good.with("name", nil), 400, "name"},
		{good.with("name", ""), 400, "name"},
		{good.with("name", 7), 400, "name"},
		{good.with("colour", "red"), 400, "colour"},
		{good.with("node_count", -1), 400, "node_count"},
		{good.with("node_count", "many"), 400, "node_count"},
		{good.with("min_node_count", -1), 400, "min_node_count"},
		{good.with("max_node_count", -1), 400, "max_node_count"},
		{good.with("docker_volume_size", 0), 400, "docker_volume_size"},
		{good.with("role", ""), 400, "role"},
		{good.with("flavor_id", ""), 400, "flavor_id"},
		{good.with("image_id", ""), 400, "image_id"},
		{good.with("labels", object{"a": object{}}), 400, "labels"},
		{good.with("labels", object{"a": nil}), 400, "labels"},
		{good.with("merge_labels", "perhaps"), 400, "merge_labels"},
		{good.with("is_default", "perhaps"), 400, "is_default"},
		{good.with("status", "FINE"), 400, "status"},
		{good.with("uuid", "x"), 400, "uuid"},
		{good.with("project_id", "p"), 400, "project_id"},
		{good.with("stack_id", "s"), 400, "stack_id"},
		{good.with("node_addresses", []string{}), 400, "node_addresses"},
		{good.with("node_labels", object{}), 400, "node_labels"}, // later than what is served
		{good.with("role", "master"), 400, "master"},
		{good.with("name", "default-worker"), 409, "default-worker"},
		{good.with("max_node_count", 1), 409, "max_node_count"},
		{good.with("min_node_count", 3), 409, "min_node_count"},
		{good.with("min_node_count", 3).with("max_node_count", 2), 409, "min_node_count"},
	} {
		w.ask("ann", "POST", groups, test.body, latest).want(test.status).saying(test.saying)
		w.untouched(id, test.saying, 1)
	}
	for _, body := range []any{nil, "", "[]", "null", `"x"`, "{"} {
		w.ask("ann", "POST", groups, body, latest).want(400)
	}
	w.ask("reader", "POST", groups, good, latest).want(403)
	w.ask("zoe", "POST", groups, good, latest).want(404)
	w.ask("admin", "POST", "/v1/clusters/"+id+"/nodegroups", good, latest).want(404)
	w.ask("ann", "POST", groups, good, version17).want(406)
	w.untouched(id, "refused people", 1)

	// Without an api_address, and in a cluster that is on its way out.
	w.ask("ann", "POST", "/v1/clusters", object{"name": "new", "cluster_template_id": "swarm"}).want(202)
	w.ask("ann", "POST", "/v1/clusters/new/nodegroups", good, latest).want(409).saying("api_address")
	w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
	w.ask("ann", "POST", groups, good, latest).want(409).saying("DELETE_IN_PROGRESS")
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

		for _, test := range []struct {
			patch  any
			status int
		}{
			{patchOf("replace", "/min_node_count", 2), 409}, // node_count is 1
			{patchOf("replace", "/min_node_count", 4), 409},
			{patchOf("replace", "/min_node_count", -1), 400},
			{patchOf("replace", "/min_node_count", "1"), 400},
			{patchOf("replace", "/max_node_count", "x"), 400},
			{patchOf("add", "/max_node_count", 5), 400}, // has a value
			{patchOf("add", "/colour", "red"), 400},
			{patchOf("replace", "/merge_labels", true), 400},
			{patchOf("replace", "/labels_added", "{}"), 400},
			{patchOf("replace", "/uuid", "x"), 400},
			{patchOf("replace", "/name", "x"), 400},
			{patchOf("replace", "/node_count", 3), 400},
			{patchOf("replace", "/labels", "{}"), 400},
			{patchOf("add", "/labels/a", "x"), 400},
			{patchOf("replace", "/is_default", false), 400},
			{patchOf("replace", "/status", "x"), 400},
			{patchOf("replace", "/version", "x"), 400},
			{object{"min_node_count": 1}, 400},
			{nil, 400},
		} {
			w.ask("ann", "PATCH", path, test.patch, latest).want(test.status)
			w.untouched(id, "refused patch", 2)
		}
		w.ask("ann", "PATCH", path, patchOf("remove", "/max_node_count", nil), latest).want(202).is("max_node_count", nil)
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "GET", path, nil, latest).is("max_node_count", nil)

		w.ask("reader", "PATCH", path, "[]", latest).want(403)
		w.ask("zoe", "PATCH", path, "[]", latest).want(404)
		w.ask("admin", "PATCH", "/v1/clusters/"+id+"/nodegroups/default-worker", "[]", latest).want(404)
		w.ask("ann", "PATCH", groups+"/nowhere", "[]", latest).want(404)
		w.ask("ann", "PATCH", groups, "[]", latest).want(400).saying("Missing argument")
		w.untouched(id, "refused people", 3)

		// In another status it is accepted and nothing happens, as in Magnum.
		w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
		w.ask("ann", "PATCH", path, patchOf("add", "/max_node_count", 8), latest).want(202)
		w.ask("ann", "GET", path, nil, latest).is("max_node_count", nil)
		if n := len(w.operations(id)); n != 4 {
			w.t.Errorf("%d operations, want 4", n)
		}
	})
}

func TestNodeGroups_7_Delete(t *testing.T) {
	each(t, func(w *world) {
		id := w.ready()
		gpu := w.ask("ann", "POST", groups, object{"name": "gpu", "node_count": 2}, latest).want(202).text("uuid")
		w.finish(id, model.UpdateComplete)

		for _, name := range []string{"default-worker", "default-master"} {
			w.ask("ann", "DELETE", groups+"/"+name, nil, latest).want(400).saying("default")
		}
		w.ask("ann", "DELETE", groups+"/nowhere", nil, latest).want(404)
		w.ask("ann", "DELETE", groups, nil, latest).want(400).saying("Missing argument")
		w.ask("reader", "DELETE", groups+"/gpu", nil, latest).want(403)
		w.ask("zoe", "DELETE", groups+"/gpu", nil, latest).want(404)
		w.ask("admin", "DELETE", "/v1/clusters/"+id+"/nodegroups/gpu", nil, latest).want(404)
		w.untouched(id, "refused", 2)

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
