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

func TestBaymodels_12_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, test := range []struct {
		name   string
		value  any
		status int
	}{
		{"keypair_id", absent{}, 400},
		{"keypair_id", nil, 400},
		{"image_id", absent{}, 400},
		{"image_id", "no-such-image", 400},
		{"flavor_id", "no-such-flavor", 400},
		{"network_driver", "no-such-driver", 400},
		{"volume_driver", "no-such-driver", 400},
		{"dns_nameserver", "8.8.8.8,1.1.1.1", 400},
		{"dns_nameserver", "::1", 400},
		{"labels", object{"a": 1}, 400},
		{"project_id", "p", 400},
		{"colour", "red", 400},
		{"public", true, 403},
	} {
		w.ask("ann", "POST", "/v1/baymodels", keyed().with(test.name, test.value)).want(test.status)
	}
	w.ask("ann", "POST", "/v1/baymodels", keyed()).want(201)
	w.ask("ann", "PATCH", "/v1/baymodels/swarm", patchOf("replace", "/public", true)).want(403).saying("baymodel:publish")
	w.ask("ann", "PATCH", "/v1/baymodels/00000000-0000-4000-8000-000000000000", object{}).want(400)
	w.ask("ann", "PATCH", "/v1/baymodels/nowhere", patchOf("replace", "/name", "x")).want(404)
	w.ask("ann", "PATCH", "/v1/baymodels", "[]").want(400)
	w.ask("ann", "DELETE", "/v1/baymodels", nil).want(400)
	w.ask("ann", "DELETE", "/v1/baymodels/nowhere", nil).want(404)
	w.ask("reader", "POST", "/v1/baymodels", keyed()).want(403)
	w.ask("admin", "POST", "/v1/baymodels", keyed().with("public", true)).want(201).is("public", true)
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

func TestBays_12_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ask("ann", "POST", "/v1/baymodels", keyed()).want(201)
	good := object{"name": "b", "baymodel_id": "swarm"}
	for _, test := range []struct {
		name  string
		value any
	}{
		{"baymodel_id", absent{}},
		{"baymodel_id", nil},
		{"baymodel_id", "nowhere"}, // at every version, unlike clusters
		{"node_count", 0},
		{"master_count", 0},
		{"master_count", nil},
		{"master_count", 3}, // without master_lb_enabled
		{"name", "1"},
		{"flavor_id", "no-such-flavor"},
		{"bay_create_timeout", -1},
		{"cluster_template_id", "swarm"},
		{"create_timeout", 3},
		{"keypair", "key"},
		{"keypair_id", "key"},
		{"external_network_id", "public"},
		{"health_status", "HEALTHY"},
		{"merge_labels", true},
		{"faults", object{}},
		{"project_id", "p"},
		{"user_id", "u"},
		{"api_address", "x"},
	} {
		for _, version := range []string{version12, latest} {
			w.ask("ann", "POST", "/v1/bays", good.with(test.name, test.value), version).want(400)
		}
	}
	id := w.ask("ann", "POST", "/v1/bays", good, latest).want(202).text("uuid")
	w.finish(id, model.CreateComplete)
	for _, test := range []struct {
		patch  any
		status int
	}{
		{patchOf("replace", "/node_count", 0), 400},
		{patchOf("replace", "/node_count", "2"), 400},
		{patchOf("replace", "/name", "x"), 400},
		{patchOf("replace", "/bay_create_timeout", 5), 400},
		{patchOf("remove", "/baymodel_id", absent{}), 400},
		{patchOf("replace", "/health_status", "HEALTHY"), 400},
		{patchOf("add", "/keypair", "x"), 400},
		{patchOf("replace", "/api_address", "x"), 400},
		{object{}, 400},
		{nil, 400},
	} {
		w.ask("ann", "PATCH", "/v1/bays/b", test.patch, latest).want(test.status)
	}
	w.untouched(id, "refused", 1)
	w.ask("ann", "PATCH", "/v1/bays/b?rollback=true", "[]", version12).want(400)
	w.ask("ann", "PATCH", "/v1/bays/nowhere", patchOf("replace", "/name", "x")).want(404)
	w.ask("ann", "DELETE", "/v1/bays/nowhere", nil).want(404)
	w.ask("ann", "PATCH", "/v1/bays", "[]").want(400)
	w.ask("ann", "DELETE", "/v1/bays", nil).want(400)
	w.ask("reader", "POST", "/v1/bays", good).want(403)
	// The quota is the same as for clusters.
	w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 1}).want(201)
	w.ask("ann", "POST", "/v1/bays", good).want(403)
}
