// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// templateKeys are in every answer that shows a template.
var templateKeys = []string{
	"uuid", "name", "coe", "image_id", "flavor_id", "master_flavor_id", "keypair_id", "external_network_id",
	"fixed_network", "fixed_subnet", "dns_nameserver", "network_driver", "volume_driver", "docker_volume_size",
	"docker_storage_driver", "cluster_distro", "apiserver_port", "http_proxy", "https_proxy", "no_proxy", "labels",
	"registry_enabled", "insecure_registry", "tls_disabled", "public", "hidden", "server_type", "master_lb_enabled",
	"floating_ip_enabled", "tags", "driver", "project_id", "user_id", "links", "created_at", "updated_at",
}

func TestTemplates_4_1_LifeOfATemplate(t *testing.T) {
	each(t, func(w *world) {
		made := w.ask("ann", "POST", "/v1/clustertemplates", swarm()).want(201)
		id := made.text("uuid")
		if got := made.header.Get("Location"); got != "http://magnum.example:9511/v1/clustertemplates/"+id {
			w.t.Errorf("Location: %q", got)
		}
		hasKeys(w.t, made.body, slices.Clone(templateKeys)...)

		shown := w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).want(200)
		if diff := cmp.Diff(made.body, shown.body); diff != "" {
			w.t.Errorf("shown otherwise than made:\n%s", diff)
		}
		shown.is("updated_at", nil)
		if at := shown.text("created_at"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$`).MatchString(at) {
			w.t.Errorf("created_at: %q", at)
		}
		shown.is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/clustertemplates/" + id, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/clustertemplates/" + id, "rel": "bookmark"},
		})
		for _, path := range []string{"/v1/clustertemplates", "/v1/clustertemplates/detail"} {
			all := w.ask("ann", "GET", path, nil).want(200)
			if diff := cmp.Diff([]map[string]any{made.body}, all.items("clustertemplates")); diff != "" {
				w.t.Errorf("%s:\n%s", path, diff)
			}
			if _, there := all.body["next"]; there {
				w.t.Errorf("%s: next is there", path)
			}
		}

		for range 2 { // a second time: the name is that already, which is no change
			w.ask("ann", "PATCH", "/v1/clustertemplates/swarm", `[{"op": "replace", "path": "/tags", "value": "a,b"}]`).want(200).is("tags", "a,b")
		}
		w.ask("ann", "GET", "/v1/clustertemplates/swarm", nil).want(200).is("tags", "a,b")

		w.ask("ann", "DELETE", "/v1/clustertemplates/swarm", nil).want(204)
		w.ask("ann", "DELETE", "/v1/clustertemplates/swarm", nil).want(404).saying("could not be found")
		w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).want(404)
	})
}

func TestTemplates_4_2_Defaults(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	a := w.ask("ann", "POST", "/v1/clustertemplates", object{"coe": "swarm", "image_id": "debian-12"}).want(201)
	if name := a.text("name"); !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-template$`).MatchString(name) {
		t.Errorf("generated name %q", name)
	}
	want := map[string]any{
		"network_driver": "docker", "labels": map[string]any{}, "server_type": "vm", "cluster_distro": "debian",
		"public": false, "hidden": false, "tls_disabled": false, "registry_enabled": false, "master_lb_enabled": false,
		"floating_ip_enabled": true, "flavor_id": nil, "docker_volume_size": nil, "tags": nil, "driver": nil,
		"project_id": "project-1", "user_id": "user-ann",
	}
	for name, value := range want {
		a.is(name, value)
	}
	w.ask("ann", "POST", "/v1/clustertemplates", object{"coe": "kubernetes", "image_id": "debian-12"}).want(201).is("network_driver", "flannel")
}

// What Debian's client sends for `coe cluster template create`.
func TestTemplates_19_2_TheClientsBody(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	body := swarm()
	for _, name := range []string{
		"keypair_id", "external_network_id", "fixed_network", "fixed_subnet", "network_driver", "volume_driver", "master_flavor_id",
		"docker_volume_size", "http_proxy", "https_proxy", "no_proxy", "driver", "insecure_registry",
	} {
		body[name] = nil
	}
	maps.Copy(body, object{
		"dns_nameserver": "8.8.8.8", "flavor_id": "m1.small", "docker_storage_driver": "overlay2", "labels": object{},
		"tls_disabled": false, "public": false, "registry_enabled": false, "server_type": "vm", "master_lb_enabled": false,
	})
	a := w.ask("ann", "POST", "/v1/clustertemplates", body, latest).want(201)
	a.is("network_driver", "docker")
	a.is("dns_nameserver", "8.8.8.8")
}

func TestTemplates_3_1_ValuesAsClientsWriteThem(t *testing.T) {
	each(t, func(w *world) {
		a := w.ask("ann", "POST", "/v1/clustertemplates", swarm().
			with("docker_volume_size", "7").with("apiserver_port", 2376.9).
			with("tls_disabled", "yes").with("registry_enabled", 1).with("floating_ip_enabled", "OFF").
			with("labels", object{"n": 1, "f": 1.5, "whole": 2.0, "b": true, "s": "ü", "": "empty key"})).want(201)
		a.is("docker_volume_size", 7.0)
		a.is("apiserver_port", 2376.0)
		a.is("tls_disabled", true)
		a.is("registry_enabled", true)
		a.is("floating_ip_enabled", false)
		a.is("labels", map[string]any{"n": "1", "f": "1.5", "whole": "2", "b": "True", "s": "ü", "": "empty key"})
		w.ask("ann", "GET", "/v1/clustertemplates/swarm", nil).want(200).is("labels", a.body["labels"])
	})
}

func TestTemplates_4_2_WhatIsRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		name   string
		value  any
		saying string
	}{
		{"name", "", "name"},
		{"name", long, "255"},
		{"name", 5, "text"},
		{"coe", absent{}, "coe"},
		{"coe", nil, "coe"},
		{"coe", "mesos", "mesos"},
		{"coe", "Swarm", "Swarm"},
		{"image_id", absent{}, "image_id"},
		{"image_id", "", "image_id"},
		{"flavor_id", "", "flavor_id"},
		{"dns_nameserver", "", "dns_nameserver"},
		{"dns_nameserver", "::1", "IPv4"},
		{"dns_nameserver", "8.8.8.8,", "IPv4"},
		{"network_driver", "flannel", "flannel"},
		{"volume_driver", "cinder", "cinder"},
		{"docker_volume_size", 0, "1 or more"},
		{"docker_volume_size", "two", "integer"},
		{"docker_volume_size", "2.5", "integer"},
		{"docker_volume_size", 1e300, "integer"},
		{"docker_volume_size", 1 << 40, "or less"},
		{"docker_storage_driver", "devicemapper", "3 GiB"},
		{"apiserver_port", 80, "1024"},
		{"apiserver_port", 70000, "65535"},
		{"labels", "a=b", "object"},
		{"labels", object{"a": nil}, "a"},
		{"labels", object{"a": object{}}, "a"},
		{"labels", object{"a": strings.Repeat("x", 66000)}, "60000"},
		{"labels", object{"a": strings.Repeat("<", 15000)}, "60000"}, // six bytes each, as JSON
		{"labels", object{"swarm_strategy": "spread heaps"}, "heaps"},
		{"public", "maybe", "true or false"},
		{"public", 2, "true or false"},
		{"server_type", "lxc", "server_type"},
		{"project_id", "project-2", "project_id"},
		{"created_at", "2026-11-23T00:00:00+00:00", "created_at"},
		{"links", []string{}, "links"},
		{"uuid", "not-a-uuid", "UUID"},
		{"colour", "red", "colour"},
		{"image_id", "no-such-image", "not supported"},
		{"image_id", "fedora", "(vm, fedora-coreos, swarm-mode) not supported"},
		{"flavor_id", "no-such-flavor", "no-such-flavor"},
		{"master_flavor_id", "no-such-flavor", "no-such-flavor"},
		{"external_network_id", "inner", "inner"},
	} {
		w.ask("ann", "POST", "/v1/clustertemplates", swarm().with(test.name, test.value)).want(400).saying(test.saying)
	}
	if all := w.ask("ann", "GET", "/v1/clustertemplates", nil).items("clustertemplates"); len(all) != 0 {
		t.Errorf("templates were made: %v", all)
	}
}

func TestTemplates_4_3_LookUps(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	// The distro is given, so the driver is found before the image is looked at.
	with := func(image string) object { return swarm().with("image_id", image).with("cluster_distro", "debian") }
	w.ask("ann", "POST", "/v1/clustertemplates", with("no-such-image")).want(400).saying("Image no-such-image could not be found")
	w.ask("ann", "POST", "/v1/clustertemplates", with("plain")).want(400).saying("os_distro")
	w.ask("ann", "POST", "/v1/clustertemplates", with("forbidden")).want(403)
	w.ask("ann", "POST", "/v1/clustertemplates", with("twins")).want(409)
	w.ask("ann", "POST", "/v1/clustertemplates", with("fedora")).want(201).is("cluster_distro", "fedora-coreos") // overwritten
	w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("external_network_id", "public")).want(201)
	w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("keypair_id", "no-such-key")).want(201) // looked up with clusters only
}

func TestTemplates_4_3_OrderOfChecks(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	bad := swarm().with("flavor_id", "no-such-flavor").with("public", true)
	w.ask("reader", "POST", "/v1/clustertemplates", bad.with("network_driver", "flannel")).want(400).saying("Network driver")
	w.ask("reader", "POST", "/v1/clustertemplates", bad).want(403).saying("clustertemplate:create")
	w.ask("ann", "POST", "/v1/clustertemplates", bad).want(400).saying("no-such-flavor")
	w.ask("ann", "POST", "/v1/clustertemplates", bad.with("flavor_id", nil)).want(403).saying("clustertemplate:publish")
	w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("hidden", true)).want(403).saying("clustertemplate:publish")
	w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("public", true)).want(201).is("public", true)
}

func TestTemplates_4_2_ChosenUUID(t *testing.T) {
	each(t, func(w *world) {
		body := swarm().with("uuid", "3F2504E0-4F89-41D3-9A0C-0305E82C3301")
		w.ask("ann", "POST", "/v1/clustertemplates", body).want(201).is("uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301")
		w.ask("ann", "POST", "/v1/clustertemplates", body).want(409)
	})
}

func TestTemplates_3_4_NamesNeedNotBeUnique(t *testing.T) {
	each(t, func(w *world) {
		first := w.template(swarm())
		w.template(swarm())
		w.ask("ann", "GET", "/v1/clustertemplates/swarm", nil).want(409)
		w.ask("ann", "DELETE", "/v1/clustertemplates/swarm", nil).want(409)
		w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm"}).want(409)
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+first, nil).want(204)
		w.ask("ann", "GET", "/v1/clustertemplates/swarm", nil).want(200)
	})
}

func TestTemplates_4_5_Visibility(t *testing.T) {
	each(t, func(w *world) {
		private := w.template(swarm().with("name", "private"))
		public := w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("name", "public").with("public", true)).want(201).text("uuid")
		hidden := w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("name", "both").with("public", true).with("hidden", true)).want(201).text("uuid")
		secret := w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("name", "secret").with("hidden", true)).want(201).text("uuid")
		for person, want := range map[string]struct {
			listed []string
			shown  map[string]int
		}{
			"ann":   {[]string{"private", "public"}, map[string]int{private: 200, public: 200, hidden: 200, secret: 404}},
			"zoe":   {[]string{"public"}, map[string]int{private: 404, public: 200, hidden: 200, secret: 404}},
			"admin": {[]string{"private", "public", "both", "secret"}, map[string]int{private: 200, public: 200, hidden: 200, secret: 200}},
		} {
			var names []string
			for _, one := range w.ask(person, "GET", "/v1/clustertemplates", nil).want(200).items("clustertemplates") {
				names = append(names, one["name"].(string))
			}
			if diff := cmp.Diff(want.listed, names); diff != "" {
				w.t.Errorf("%s sees:\n%s", person, diff)
			}
			for id, status := range want.shown {
				w.ask(person, "GET", "/v1/clustertemplates/"+id, nil).want(status)
			}
		}
		// Visible, so 403 and not 404.
		w.ask("zoe", "DELETE", "/v1/clustertemplates/"+public, nil).want(403)
		w.ask("zoe", "PATCH", "/v1/clustertemplates/"+public, `[{"op": "replace", "path": "/name", "value": "mine"}]`).want(403)
	})
}

func TestTemplates_3_6_Paging(t *testing.T) {
	each(t, func(w *world) {
		var ids []string
		for i := range 5 {
			ids = append(ids, w.template(swarm().with("name", fmt.Sprintf("t%d", i))))
		}
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
		slices.Reverse(ids)
		if diff := cmp.Diff(ids, seen); diff != "" {
			w.t.Errorf("pages:\n%s", diff)
		}
		// A full last page has a next, which is empty and has none.
		a := w.ask("ann", "GET", "/v1/clustertemplates/detail?limit=5", nil).want(200)
		next := strings.TrimPrefix(a.text("next"), "http://magnum.example:9511")
		if !strings.HasPrefix(next, "/v1/clustertemplates/detail?sort_key=id&sort_dir=asc&limit=5&marker=") {
			w.t.Errorf("next: %q", next)
		}
		hasKeys(w.t, w.ask("ann", "GET", next, nil).want(200).body, "clustertemplates")
		w.ask("zoe", "GET", "/v1/clustertemplates?marker="+ids[0], nil).want(404)
		w.ask("ann", "GET", "/v1/clustertemplates?limit=5000", nil).want(200)
	})
}

func patchOf(op, path string, value any) []object {
	if _, none := value.(absent); none {
		return []object{{"op": op, "path": path}}
	}
	return []object{{"op": op, "path": path, "value": value}}
}

func TestTemplates_4_6_And_13_Patches(t *testing.T) {
	each(t, func(w *world) {
		id := w.template(swarm().with("labels", object{"a": "1"}).with("docker_volume_size", 5).with("floating_ip_enabled", false))
		for _, test := range []struct {
			op, path string
			value    any
			field    string
			want     any
		}{
			{"replace", "/name", "renamed", "name", "renamed"},
			{"add", "/flavor_id", "m1.small", "flavor_id", "m1.small"},
			{"replace", "/flavor_id", "m1.large", "flavor_id", "m1.large"},
			{"remove", "/flavor_id", absent{}, "flavor_id", nil},
			{"replace", "/docker_volume_size", 9, "docker_volume_size", 9.0},
			{"remove", "/docker_volume_size", absent{}, "docker_volume_size", nil},
			{"replace", "/tls_disabled", "True", "tls_disabled", true},
			{"replace", "/master_lb_enabled", true, "master_lb_enabled", true},
			{"remove", "/floating_ip_enabled", absent{}, "floating_ip_enabled", true},
			{"add", "/labels/b", 2, "labels", map[string]any{"a": "1", "b": "2"}},
			{"replace", "/labels/a", true, "labels", map[string]any{"a": "True", "b": "2"}},
			{"remove", "/labels/a", absent{}, "labels", map[string]any{"b": "2"}},
			{"replace", "/labels", `{'x': '1', 'y': 2, "it's": True, 'z': 1.5}`, "labels", map[string]any{"x": "1", "y": "2", "it's": "True", "z": "1.5"}},
			{"remove", "/labels", absent{}, "labels", map[string]any{}},
			{"replace", "/server_type", "bm", "server_type", "bm"},
			{"remove", "/name", absent{}, "name", nil},
		} {
			w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, patchOf(test.op, test.path, test.value)).want(200).is(test.field, test.want)
			shown := w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).want(200)
			shown.is(test.field, test.want)
			shown.text("updated_at")
		}
		w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, "[]").want(200)
	})
}

func TestTemplates_13_PatchesThatAreRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.template(swarm().with("labels", object{"a": "1"}).with("tags", "t"))
	before := w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).raw
	for _, body := range []any{
		object{"op": "replace", "path": "/name", "value": "x"},
		`"text"`, `null`, `[1]`, `[[]]`, `[{}]`,
		[]object{{"op": "replace", "path": "/name"}},
		[]object{{"op": "replace", "path": "/name", "value": nil}},
		[]object{{"op": "replace", "path": "/name", "value": "x", "from": "/tags"}},
		[]object{{"path": "/name", "value": "x"}},
		[]object{{"op": "replace", "value": "x"}},
		patchOf("move", "/name", "x"),
		patchOf("copy", "/name", "x"),
		patchOf("test", "/name", "swarm"),
		patchOf("replace", "name", "x"),
		patchOf("replace", "/", "x"),
		patchOf("replace", "/labels/a.b", "x"),
		patchOf("replace", "/name", object{}),
		patchOf("replace", "/name", []string{}),
		patchOf("replace", "/docker_volume_size", 1.5),
		patchOf("replace", "/docker_volume_size", "3"),
		patchOf("replace", "/docker_volume_size", 0),
		patchOf("replace", "/name", 5),
		patchOf("replace", "/name", ""),
		patchOf("replace", "/public", "maybe"),
		patchOf("replace", "/coe", "mesos"),
		patchOf("replace", "/network_driver", "calico"),
		patchOf("replace", "/image_id", "no-such-image"),
		patchOf("replace", "/flavor_id", "no-such-flavor"),
		patchOf("replace", "/labels", "not a dict"),
		patchOf("replace", "/labels", "['a']"),
		patchOf("replace", "/labels", `{"a": true}`),
		patchOf("replace", "/labels", `{'a': None}`),
		patchOf("replace", "/labels", `{'a': {}}`),
		patchOf("replace", "/labels", 5),
		patchOf("replace", "/labels/b", "x"),
		patchOf("remove", "/labels/b", absent{}),
		patchOf("replace", "/labels/a/b", "x"),
		patchOf("replace", "/name/a", "x"),
		patchOf("replace", "/colour", "x"),
		patchOf("add", "/colour", "x"),
		patchOf("add", "/tags", "x"),
		patchOf("remove", "/colour", absent{}),
		patchOf("replace", "/uuid", "x"),
		patchOf("remove", "/project_id", absent{}),
		patchOf("replace", "/links", "x"),
		patchOf("remove", "/coe", absent{}),
		patchOf("remove", "/image_id", absent{}),
		patchOf("remove", "/public", absent{}),
		patchOf("remove", "/cluster_distro", absent{}),
		append(patchOf("replace", "/name", "good"), patchOf("replace", "/colour", "bad")...),
	} {
		a := w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, body)
		if a.status != 400 {
			t.Errorf("%v: status %d\n%s", body, a.status, a.raw)
		}
	}
	w.ask("ann", "PATCH", "/v1/clustertemplates/"+id, patchOf("replace", "/public", true)).want(403)
	if after := w.ask("ann", "GET", "/v1/clustertemplates/"+id, nil).raw; after != before {
		t.Errorf("the template was changed:\n%s", cmp.Diff(before, after))
	}
	// The body is read before the template is looked for.
	w.ask("ann", "PATCH", "/v1/clustertemplates/nobody", object{}).want(400)
	w.ask("ann", "PATCH", "/v1/clustertemplates/nobody", patchOf("replace", "/name", "x")).want(404)
}

func TestTemplates_4_6_InUse(t *testing.T) {
	each(t, func(w *world) {
		id := w.template(swarm())
		w.cluster(object{"cluster_template_id": id})
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+id, nil).want(400)
		for _, refused := range []any{
			"[]",
			patchOf("replace", "/name", "swarm"), // no change
			patchOf("replace", "/image_id", "fedora"),
			append(patchOf("replace", "/name", "x"), patchOf("replace", "/tags", "y")...),
			patchOf("remove", "/tags", absent{}),
		} {
			w.ask("admin", "PATCH", "/v1/clustertemplates/"+id, refused).want(400)
		}
		for _, allowed := range []any{
			patchOf("replace", "/name", "renamed"),
			patchOf("replace", "/tags", "y"),
			patchOf("replace", "/public", true),
			patchOf("replace", "/hidden", true),
			patchOf("replace", "/hidden", false),
		} {
			w.ask("admin", "PATCH", "/v1/clustertemplates/"+id, allowed).want(200)
		}
		w.ask("admin", "PATCH", "/v1/clustertemplates/"+id, patchOf("replace", "/public", false)).want(400)
		w.ask("admin", "PATCH", "/v1/clustertemplates/"+id, patchOf("remove", "/tags", absent{})).want(400)
		stored, err := w.store.Template(w.t.Context(), store.Scope{All: true}, id)
		if err != nil {
			w.t.Fatal(err)
		}
		if *stored.Name != "renamed" || !stored.Public || stored.Hidden || *stored.Tags != "y" || stored.ImageID != "debian-12" {
			w.t.Errorf("stored: %+v", stored)
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
	w.ask("nil", "GET", "/v1/clustertemplates", nil).want(403)
	all := older.ask("nil", "GET", "/v1/clustertemplates", nil).want(200).items("clustertemplates")
	if len(all) != 1 || all[0]["name"] != "mine" {
		t.Errorf("seen: %v", all)
	}
}
