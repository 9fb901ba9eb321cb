// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"regexp"
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

const version12 = "OpenStack-API-Version: container-infra 1.2"

// bayKeys are all fields of a bay, baySummaryKeys those in plain lists.
var (
	baySummaryKeys = []string{
		"uuid", "name", "baymodel_id", "node_count", "master_count", "docker_volume_size", "labels", "master_flavor_id",
		"flavor_id", "bay_create_timeout", "links", "stack_id", "status", "floating_ip_enabled",
	}
	bayKeys = append([]string{
		"status_reason", "discovery_url", "api_address", "coe_version", "container_version", "node_addresses", "master_addresses",
		"fixed_network", "fixed_subnet", "master_lb_enabled", "created_at", "updated_at",
	}, baySummaryKeys...)
)

// keyed is the smallest body of a baymodel.
func keyed() object { return swarm().with("keypair_id", "key") }

func TestBaymodels_12_AreTemplates(t *testing.T) {
	each(t, func(w *world) {
		made := w.ask("ann", "POST", "/v1/baymodels", keyed()).want(201)
		id := made.text("uuid")
		if got, want := made.header.Get("Location"), "http://magnum.example:9511/v1/baymodels/"+id; got != want {
			w.t.Errorf("location %q, want %q", got, want)
		}
		made.is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/baymodels/" + id, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/baymodels/" + id, "rel": "bookmark"},
		})
		template := w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).want(200)
		template.is("keypair_id", "key")
		keys := []string{}
		for key := range template.body {
			if key != "project_id" && key != "user_id" {
				keys = append(keys, key)
			}
		}
		for _, headers := range [][]string{nil, {version12}, {latest}} {
			for _, ident := range []string{id, "swarm"} {
				hasKeys(w.t, w.ask("ann", "GET", "/v1/baymodels/"+ident, nil, headers...).want(200).body, keys...)
			}
			for _, path := range []string{"/v1/baymodels", "/v1/baymodels/detail", "/v1/baymodels/?limit=5", "/baymodels"} {
				list := w.ask("ann", "GET", path, nil, headers...).want(200).items("baymodels")
				if len(list) != 1 || list[0]["uuid"] != id {
					w.t.Errorf("%s: %v", path, list)
				}
				hasKeys(w.t, list[0], keys...)
			}
		}
		next := w.ask("ann", "GET", "/v1/baymodels/detail?limit=1", nil).want(200).text("next")
		if want := "http://magnum.example:9511/v1/baymodels/detail?sort_key=id&sort_dir=asc&limit=1&marker=" + id; next != want {
			w.t.Errorf("next %q, want %q", next, want)
		}
		changed := w.ask("ann", "PATCH", "/v1/baymodels/swarm", patchOf("replace", "/name", "other")).want(200)
		changed.is("name", "other")
		hasKeys(w.t, changed.body, keys...)
		// One that was made as a template can be changed as a baymodel.
		w.template(swarm().with("name", "keyless"))
		w.ask("ann", "PATCH", "/v1/baymodels/keyless", patchOf("replace", "/tags", "x")).want(200).is("keypair_id", nil)

		name := w.ask("ann", "POST", "/v1/baymodels", keyed().with("name", absent{})).want(201).text("name")
		if !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-model$`).MatchString(name) {
			w.t.Errorf("generated name %q", name)
		}
		w.ask("zoe", "GET", "/v1/baymodels/"+id, nil).want(404)
		w.ask("ann", "DELETE", "/v1/baymodels/"+id, nil).want(204)
		w.ask("ann", "DELETE", "/v1/baymodels/"+id, nil).want(404)
		w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).want(404)
	})
}

func TestBays_12_AreClusters(t *testing.T) {
	each(t, func(w *world) {
		model1 := w.ask("ann", "POST", "/v1/baymodels", keyed().with("labels", object{"a": "1"})).want(201).text("uuid")
		body := object{"name": "b", "baymodel_id": "swarm", "node_count": 2, "bay_create_timeout": 15}
		// At 1.1 the whole bay is the answer, from 1.2 on its uuid.
		made := w.ask("ann", "POST", "/v1/bays", body).want(201)
		id := made.text("uuid")
		hasKeys(w.t, made.body, bayKeys...)
		made.is("status", "CREATE_IN_PROGRESS")
		made.is("node_count", 2.0)
		made.is("master_count", 1.0)
		made.is("baymodel_id", model1)
		made.is("bay_create_timeout", 15.0)
		made.is("labels", map[string]any{}) // the baymodel's only for null
		if got, want := made.header.Get("Location"), "http://magnum.example:9511/v1/bays/"+id; got != want {
			w.t.Errorf("location %q, want %q", got, want)
		}
		row := w.row(id)
		if row.Keypair == nil || *row.Keypair != "key" || *row.CreateTimeout != 15 || len(w.operations(id)) != 1 {
			w.t.Errorf("stored: %+v", row)
		}
		second := w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": model1, "labels": nil}, version12).want(202)
		hasKeys(w.t, second.body, "uuid")
		shown := w.ask("ann", "GET", "/v1/bays/"+second.text("uuid"), nil, latest).want(200)
		shown.is("labels", map[string]any{"a": "1"})
		shown.is("bay_create_timeout", 60.0)
		if name := shown.text("name"); !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-bay$`).MatchString(name) {
			w.t.Errorf("generated name %q", name)
		}

		for _, headers := range [][]string{nil, {version12}, {latest}} {
			hasKeys(w.t, w.ask("ann", "GET", "/v1/bays/b", nil, headers...).want(200).body, bayKeys...)
			list := w.ask("ann", "GET", "/v1/bays?limit=1", nil, headers...).want(200)
			hasKeys(w.t, list.items("bays")[0], baySummaryKeys...)
			if want := "http://magnum.example:9511/v1/bays?sort_key=id&sort_dir=asc&limit=1&marker=" + id; list.text("next") != want {
				w.t.Errorf("next %q", list.text("next"))
			}
			detail := w.ask("ann", "GET", "/v1/bays/detail", nil, headers...).want(200).items("bays")
			if len(detail) != 2 {
				w.t.Fatalf("%d bays", len(detail))
			}
			hasKeys(w.t, detail[0], bayKeys...)
			w.ask("ann", "GET", "/v1/clusters/b", nil, headers...).want(200).is("uuid", id)
		}

		w.joined(id, "10.1.0.5", "10.1.0.6")
		w.finish(id, model.CreateComplete)
		shown = w.ask("ann", "GET", "/v1/bays/b", nil).want(200)
		shown.is("api_address", "tcp://10.1.0.5:2376")
		shown.is("node_addresses", []any{"10.1.0.6"})

		patched := w.ask("ann", "PATCH", "/v1/bays/b", patchOf("replace", "/node_count", 3)).want(200)
		hasKeys(w.t, patched.body, bayKeys...)
		patched.is("node_count", 3.0)
		patched.is("status", "UPDATE_IN_PROGRESS")
		w.finish(id, model.UpdateComplete)
		hasKeys(w.t, w.ask("ann", "PATCH", "/v1/bays/b?rollback=true", patchOf("remove", "/node_count", absent{}), latest).want(202).body, "uuid")
		w.finish(id, model.UpdateComplete)
		w.ask("ann", "GET", "/v1/bays/b", nil).is("node_count", 1.0)

		w.ask("zoe", "GET", "/v1/bays/"+id, nil).want(404)
		w.ask("ann", "DELETE", "/v1/baymodels/"+model1, nil).want(400)
		for range 2 {
			w.ask("ann", "DELETE", "/v1/bays/b", nil).want(204)
		}
		w.finish(id, model.DeleteComplete)
		w.ask("ann", "DELETE", "/v1/bays/b", nil).want(404)
	})
}

// The table of §12: what the calls answer at 1.1, and from 1.2 on.
func TestBays_12_Calls(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, version := range []string{"", version12, latest} {
		var headers []string
		old := version == ""
		if !old {
			headers = []string{version}
		}
		w.rule("baymodels", func() {
			made := w.ask("ann", "POST", "/v1/baymodels", keyed(), headers...).want(201)
			if made.header.Get("Location") == "" {
				w.t.Error("no Location")
			}
			path := "/v1/baymodels/" + made.text("uuid")
			w.ask("ann", "GET", path, nil, headers...).want(200)
			w.ask("ann", "PATCH", path, patchOf("replace", "/name", "other"), headers...).want(200)
			w.ask("ann", "DELETE", path, nil, headers...).want(204)
		})
		model := w.ask("ann", "POST", "/v1/baymodels", keyed(), headers...).want(201).text("uuid")
		var id string
		w.rule("POST /bays", func() {
			if old {
				made := w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": model}).want(201)
				hasKeys(w.t, made.body, bayKeys...)
				id = made.text("uuid")
				return
			}
			made := w.ask("ann", "POST", "/v1/bays", object{"baymodel_id": model}, version).want(202)
			hasKeys(w.t, made.body, "uuid")
			id = made.text("uuid")
		})
		w.rule("PATCH /bays/{ident}", func() {
			if old {
				hasKeys(w.t, w.ask("ann", "PATCH", "/v1/bays/"+id, "[]").want(200).body, bayKeys...)
				return
			}
			hasKeys(w.t, w.ask("ann", "PATCH", "/v1/bays/"+id, "[]", version).want(202).body, "uuid")
		})
		w.rule("GET /bays, /bays/detail, /bays/{ident}", func() {
			for _, path := range []string{"/v1/bays", "/v1/bays/detail", "/v1/bays/" + id} {
				w.ask("ann", "GET", path, nil, headers...).want(200)
			}
		})
		w.rule("DELETE /bays/{ident}", func() { w.ask("ann", "DELETE", "/v1/bays/"+id, nil, headers...).want(204) })
	}
}

func TestBaymodels_12_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.refusesFields("/v1/baymodels", keyed(), []field{
		{name: "keypair_id", wrong: append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{name: "name", wrong: text(255)},
		{name: "coe", wrong: []wrong{{absent{}, "required"}, {"mesos", "not supported"}}},
		{name: "image_id", wrong: append(text(255), wrong{absent{}, "required"})},
		{name: "flavor_id", wrong: []wrong{{"no-such-flavor", "could not be found"}}},
		{name: "network_driver", wrong: []wrong{{"none", "not supported"}}},
		{name: "volume_driver", wrong: []wrong{{"none", "not supported"}}},
		{name: "dns_nameserver", wrong: []wrong{{"8.8.8.8,1.1.1.1", "one IPv4 address"}, {"8.8.8.8 ", "one IPv4 address"}, {"::1", "IPv4"}, {"", "characters"}}},
		{name: "labels", wrong: append(labelled(), wrong{object{"a": 1}, `"a" must be text`}, wrong{object{"a": true}, `"a" must be text`})},
		{name: "project_id", wrong: readOnly()},
		{name: "user_id", wrong: readOnly()},
		{name: "colour", wrong: []wrong{{"red", "Unknown attribute"}}},
	})
	w.ask("ann", "POST", "/v1/baymodels", keyed()).want(201)
	const path = "/v1/baymodels/swarm"
	for _, image := range []string{"no-such-image", "plain"} { // one without os_distro
		w.refused(400, "(vm, None, swarm-mode) not supported", "ann", "POST", "/v1/baymodels", keyed().with("image_id", image))
	}
	w.refused(403, "baymodel:publish", "ann", "POST", "/v1/baymodels", keyed().with("public", true))
	w.refused(403, "baymodel:create", "reader", "POST", "/v1/baymodels", keyed())
	w.refused(403, "baymodel:publish", "ann", "PATCH", path, patchOf("replace", "/public", true))
	w.refused(403, "baymodel:update", "reader", "PATCH", path, patchOf("replace", "/name", "x"))
	w.refused(403, "baymodel:delete", "reader", "DELETE", path, nil)
	w.refused(400, "dns_nameserver … one IPv4 address", "ann", "PATCH", path, patchOf("add", "/dns_nameserver", "8.8.8.8,1.1.1.1"))
	w.refused(400, "array", "ann", "PATCH", "/v1/baymodels/00000000-0000-4000-8000-000000000000", object{})
	w.refused(404, "nowhere", "ann", "PATCH", "/v1/baymodels/nowhere", patchOf("replace", "/name", "x"))
	w.refused(404, "swarm", "zoe", "PATCH", path, patchOf("replace", "/name", "x"))
	w.refused(404, "swarm", "admin", "GET", path, nil) // no bay and no baymodel crosses projects
	w.refused(404, "nowhere", "ann", "DELETE", "/v1/baymodels/nowhere", nil)
	w.refused(400, "Missing argument", "ann", "PATCH", "/v1/baymodels", "[]")
	w.refused(400, "Missing argument", "ann", "DELETE", "/v1/baymodels", nil)
	w.ask("admin", "POST", "/v1/baymodels", keyed().with("public", true)).want(201).is("public", true)
}

func TestBays_12_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ask("ann", "POST", "/v1/baymodels", keyed()).want(201)
	good := object{"name": "b", "baymodel_id": "swarm"}
	unknown := []wrong{{"x", "Unknown attribute"}}
	for _, version := range []string{"OpenStack-API-Version: container-infra 1.1", version12, latest} {
		w.refusesFields("/v1/bays", good, []field{
			{name: "baymodel_id", wrong: []wrong{ // at every version, unlike clusters
				{absent{}, "required"},
				{nil, "could not be found"},
				{"", "could not be found"},
				{"nowhere", "could not be found"},
			}},
			{name: "name", wrong: []wrong{{"1", "must match"}, {"", "characters"}, {7, "text"}}},
			{name: "node_count", wrong: integer(1)}, // at every version
			{name: "master_count", wrong: append(integer(1), wrong{nil, "null"}, wrong{2, "odd"}, wrong{3, "master_lb_enabled"})},
			{name: "docker_volume_size", wrong: integer(1)},
			{name: "flavor_id", wrong: append(text(255), wrong{"no-such-flavor", "could not be found"})},
			{name: "master_flavor_id", wrong: append(text(255), wrong{"no-such-flavor", "could not be found"})},
			{name: "bay_create_timeout", wrong: integer(0)},
			{name: "labels", wrong: labelled()},
			{name: "discovery_url", wrong: []wrong{{1, "text"}}},
			{name: "cluster_template_id", wrong: unknown},
			{name: "create_timeout", wrong: unknown},
			{name: "keypair", wrong: unknown},
			{name: "keypair_id", wrong: unknown},
			{name: "external_network_id", wrong: unknown},
			{name: "health_status", wrong: unknown},
			{name: "health_status_reason", wrong: unknown},
			{name: "merge_labels", wrong: unknown},
			{name: "labels_added", wrong: unknown},
			{name: "faults", wrong: unknown},
			{name: "project_id", wrong: unknown},
			{name: "user_id", wrong: unknown},
			{name: "api_address", wrong: readOnly()},
			{name: "stack_id", wrong: readOnly()},
		}, version)
	}
	id := w.ask("ann", "POST", "/v1/bays", good, latest).want(202).text("uuid")
	w.finish(id, model.CreateComplete)
	for _, row := range []struct {
		words string
		patch any
	}{
		{"node_count … 1 or more", patchOf("replace", "/node_count", 0)},
		{"node_count … integer", patchOf("replace", "/node_count", "2")},
		{"change name", patchOf("replace", "/name", "x")},
		{"change bay_create_timeout", patchOf("replace", "/bay_create_timeout", 5)},
		{"baymodel_id … mandatory", patchOf("remove", "/baymodel_id", absent{})},
		{"/health_status does not exist", patchOf("replace", "/health_status", "HEALTHY")},
		{"/keypair", patchOf("add", "/keypair", "x")},
		{"/api_address … internal", patchOf("replace", "/api_address", "x")},
		{"array", object{}},
		{"Missing argument", nil},
	} {
		w.refused(400, row.words, "ann", "PATCH", "/v1/bays/b", row.patch, latest)
	}
	w.refused(400, "rollback", "ann", "PATCH", "/v1/bays/b?rollback=true", "[]", version12)
	w.refused(404, "nowhere", "ann", "PATCH", "/v1/bays/nowhere", patchOf("replace", "/name", "x"))
	w.refused(404, "nowhere", "ann", "DELETE", "/v1/bays/nowhere", nil)
	w.refused(404, id, "zoe", "GET", "/v1/bays/"+id, nil)
	w.refused(404, id, "admin", "GET", "/v1/bays/"+id, nil)
	w.refused(400, "Missing argument", "ann", "PATCH", "/v1/bays", "[]")
	w.refused(400, "Missing argument", "ann", "DELETE", "/v1/bays", nil)
	w.refused(403, "bay:create", "reader", "POST", "/v1/bays", good)
	w.refused(403, "bay:update", "reader", "PATCH", "/v1/bays/b", "[]")
	w.refused(403, "bay:delete", "reader", "DELETE", "/v1/bays/b", nil)
	// The quota is the same as for clusters.
	w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 1}).want(201)
	w.refused(403, "quota of 1 clusters", "ann", "POST", "/v1/bays", good)
}
