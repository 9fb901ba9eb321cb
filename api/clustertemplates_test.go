// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func TestTemplates_4_1_Methods(t *testing.T) {
	each(t, func(w *world) {
		const path = "/v1/clustertemplates"
		var made answer
		var id string
		w.rule("POST /clustertemplates", func() {
			made = w.ask("ann", "POST", path, swarm()).want(201)
			id = made.text("uuid")
			if got := made.header.Get("Location"); got != "http://magnum.example:9511/v1/clustertemplates/"+id {
				w.t.Errorf("Location: %q", got)
			}
			hasKeys(w.t, made.body, slices.Clone(templateKeys)...)
		})
		w.rule("GET /clustertemplates/{ident}", func() {
			for _, ident := range []string{id, "swarm"} {
				if diff := cmp.Diff(made.body, w.ask("ann", "GET", path+"/"+ident, nil).want(200).body); diff != "" {
					w.t.Errorf("shown otherwise than made:\n%s", diff)
				}
			}
		})
		for _, list := range []string{"GET /clustertemplates", "GET /clustertemplates/detail"} {
			w.rule(list, func() { // all fields, in both
				all := w.ask("ann", "GET", "/v1"+strings.TrimPrefix(list, "GET "), nil).want(200)
				if diff := cmp.Diff([]map[string]any{made.body}, all.items("clustertemplates")); diff != "" {
					w.t.Errorf("listed otherwise than made:\n%s", diff)
				}
				hasKeys(w.t, all.body, "clustertemplates") // no next
			})
		}
		w.rule("PATCH /clustertemplates/{ident}", func() {
			for range 2 { // the second changes nothing
				changed := w.ask("ann", "PATCH", path+"/swarm", patchOf("replace", "/tags", "a,b")).want(200)
				changed.is("tags", "a,b")
				hasKeys(w.t, changed.body, slices.Clone(templateKeys)...)
			}
			w.ask("ann", "GET", path+"/swarm", nil).want(200).is("tags", "a,b")
		})
		w.rule("DELETE /clustertemplates/{ident}", func() {
			w.ask("ann", "DELETE", path+"/swarm", nil).want(204)
			w.ask("ann", "DELETE", path+"/swarm", nil).want(404).saying("ClusterTemplate swarm could not be found")
			w.ask("ann", "GET", path+"/"+id, nil).want(404)
		})
	})
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

func TestTemplates_4_5_Visibility(t *testing.T) {
	each(t, func(w *world) {
		make := func(person string, body object) string {
			return w.ask(person, "POST", "/v1/clustertemplates", body).want(201).text("uuid")
		}
		for _, row := range []struct {
			kind   string
			uuid   string
			listed map[string]bool
			shown  map[string]int
		}{
			{
				"private", make("ann", swarm().with("name", "private")),
				map[string]bool{"ann": true, "bob": true, "admin": true},
				map[string]int{"ann": 200, "reader": 200, "zoe": 404, "admin": 200},
			},
			{
				"public", make("admin", swarm().with("name", "public").with("public", true)),
				map[string]bool{"ann": true, "bob": true, "zoe": true, "admin": true},
				map[string]int{"ann": 200, "reader": 200, "zoe": 200, "admin": 200},
			},
			{
				"public + hidden", make("admin", swarm().with("name", "both").with("public", true).with("hidden", true)),
				map[string]bool{"admin": true},
				map[string]int{"ann": 200, "zoe": 200, "admin": 200}, // as in Magnum 15
			},
			{
				"hidden only", make("admin", swarm().with("name", "secret").with("hidden", true)),
				map[string]bool{"admin": true},
				map[string]int{"ann": 404, "zoe": 404, "admin": 200},
			},
		} {
			w.rule(row.kind, func() {
				for _, person := range []string{"ann", "bob", "zoe", "admin"} {
					for _, list := range []string{"/v1/clustertemplates", "/v1/clustertemplates/detail", "/v1/baymodels"} {
						if list == "/v1/baymodels" && person == "admin" {
							continue // no bay crosses projects
						}
						all := w.ask(person, "GET", list, nil).want(200).items(strings.Split(list, "/")[2])
						if listed := slices.ContainsFunc(all, func(one map[string]any) bool { return one["uuid"] == row.uuid }); listed != row.listed[person] {
							w.t.Errorf("%s finds it in %s: %v", person, list, listed)
						}
					}
				}
				for person, status := range row.shown {
					w.ask(person, "GET", "/v1/clustertemplates/"+row.uuid, nil).want(status)
				}
			})
		}
	})
}

func patchOf(op, path string, value any) []object {
	if _, none := value.(absent); none {
		return []object{{"op": op, "path": path}}
	}
	return []object{{"op": op, "path": path, "value": value}}
}

func TestTemplates_4_2_Fields(t *testing.T) {
	same := func(values ...any) (taken [][2]any) {
		for _, v := range values {
			taken = append(taken, [2]any{v, v})
		}
		return taken
	}
	long := strings.Repeat("ü", 255)
	null := [2]any{nil, nil}
	fields := []field{
		{"uuid", absent{}, [][2]any{{"3F2504E0-4F89-41D3-9A0C-0305E82C3301", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"}}, []wrong{{"not-a-uuid", "UUID"}, {5, "text"}}},
		{"name", absent{}, same("ü /%", long), text(255)},
		{"coe", absent{}, same("kubernetes", "swarm", "swarm-mode"), []wrong{
			{absent{}, "required"},
			{nil, "required"},
			{"", "characters"},
			{"mesos", "not supported"},
			{"dcos", "not supported"},
			{"Swarm", "not supported"},
			{strings.Repeat("x", 33), "characters"},
			{1, "text"},
		}},
		{"image_id", absent{}, same("debian-12"), append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{"flavor_id", nil, append(same("m1.small"), null), append(text(255), wrong{"no-such-flavor", "could not be found"})},
		{"master_flavor_id", nil, append(same("m1.large"), null), append(text(255), wrong{"no-such-flavor", "could not be found"})},
		{"keypair_id", nil, append(same("no-such-key", long), null), text(255)}, // looked up with clusters only
		{"external_network_id", nil, append(same("public"), null), append(text(255), wrong{"inner", "could not be found"}, wrong{"none", "could not be found"})},
		{"fixed_network", nil, append(same("any", long), null), text(255)}, // not looked up, as on M15
		{"fixed_subnet", nil, append(same("any", long), null), text(255)},
		{"dns_nameserver", nil, append(same("8.8.8.8", "8.8.8.8,1.1.1.1", "8.8.8.8 , 1.1.1.1"), null), []wrong{
			{"", "characters"},
			{"::1", "IPv4"},
			{"8.8.8.8,", "IPv4"},
			{"8.8.8.8 1.1.1.1", "IPv4"},
			{"dns.example", "IPv4"},
			{8, "text"},
		}},
		{"network_driver", "docker", [][2]any{{"docker", "docker"}, {nil, "docker"}}, append(text(255), wrong{"flannel", "not supported, expecting one of: docker"})},
		{"volume_driver", nil, append(same("rexray"), null), append(text(255), wrong{"cinder", "not supported, expecting one of: rexray"})},
		{"docker_volume_size", nil, [][2]any{{1, 1.0}, {"7", 7.0}, null}, integer(1)},
		{"docker_storage_driver", nil, append(same("overlay2", long), null), append(text(255), wrong{"devicemapper", "docker_volume_size must be 3 GiB"})},
		{"apiserver_port", nil, [][2]any{{1024, 1024.0}, {65535, 65535.0}, null}, append(integer(1024), wrong{65536, "65535 or less"})},
		{"http_proxy", nil, append(same("x", long), null), text(255)},
		{"https_proxy", nil, append(same("x", long), null), text(255)},
		{"no_proxy", nil, append(same("x", long), null), text(255)},
		{"labels", map[string]any{}, [][2]any{
			{object{"a": "x", "n": 1, "f": 1.5, "b": true}, map[string]any{"a": "x", "n": "1", "f": "1.5", "b": "True"}},
			{object{"swarm_strategy": "spread random"}, map[string]any{"swarm_strategy": "spread random"}},
			{object{"docker_refusals": false}, map[string]any{"docker_refusals": "False"}},
			{nil, map[string]any{}},
		}, append(labelled(), wrong{object{"swarm_strategy": "spread heaps"}, `swarm_strategy can not be "heaps"`}, wrong{object{"docker_refusals": "maybe"}, "docker_refusals"},
			wrong{object{"host_traits": "CUSTOM_A, gpu"}, "gpu"}, wrong{object{"host_resource_class": "a b"}, "host_resource_class"})},
		{"registry_enabled", false, [][2]any{{true, true}, {nil, false}}, flag()},
		{"insecure_registry", nil, append(same("x", long), null), text(255)},
		{"tls_disabled", false, [][2]any{{true, true}, {nil, false}}, flag()},
		{"public", false, [][2]any{{"no", false}, {nil, false}}, flag()},
		{"hidden", false, [][2]any{{"no", false}, {nil, false}}, flag()},
		{"server_type", "vm", [][2]any{{"bm", "bm"}, {nil, "vm"}}, append(oneOf("vm, bm"), wrong{"lxc", "not one of vm, bm"})},
		{"master_lb_enabled", false, [][2]any{{true, true}, {nil, false}}, flag()},
		{"floating_ip_enabled", true, [][2]any{{false, false}, {nil, true}}, flag()},
		{"tags", nil, append(same("", "a,b", long), null), []wrong{{strings.Repeat("x", 256), "0 to 255 characters"}, {1, "text"}}},
		{"driver", nil, append(same("k8s_fedora"), null), text(255)},
		{"cluster_distro", "debian", [][2]any{{"debian", "debian"}, {nil, "debian"}}, text(255)},
		{"project_id", "project-1", nil, readOnly()},
		{"user_id", "user-ann", nil, readOnly()},
		{"links", absent{}, nil, readOnly()},
		{"created_at", absent{}, nil, readOnly()},
		{"updated_at", nil, nil, readOnly()},
		{"colour", absent{}, nil, []wrong{{"red", "Unknown attribute"}, {nil, "Unknown attribute"}}},
	}
	each(t, func(w *world) {
		for _, f := range fields {
			w.rule(f.name, func() {
				if _, required := f.unset.(absent); !required {
					w.ask("ann", "POST", "/v1/clustertemplates", swarm().with(f.name, absent{})).want(201).is(f.name, f.unset)
				}
				for _, value := range f.taken {
					body := swarm().with(f.name, value[0])
					if value[0] == "kubernetes" {
						body = body.with("network_driver", "flannel")
					}
					made := w.ask("ann", "POST", "/v1/clustertemplates", body).want(201)
					made.is(f.name, value[1])
					w.ask("ann", "GET", "/v1/clustertemplates/"+made.text("uuid"), nil).want(200).is(f.name, value[1])
				}
			})
		}
		if name := w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("name", nil)).want(201).text("name"); !regexp.MustCompile(`^[a-z]+-([1-9]|1\d|2[0-4])-template$`).MatchString(name) {
			w.t.Errorf("generated name %q", name)
		}
		// Chosen by the client, so it may be taken.
		w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301")).want(409)
	})
	w := newWorld(t, storetest.New(t))
	w.refusesFields("/v1/clustertemplates", swarm(), fields)
	w.template(swarm().with("uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"))
	w.refused(409, "UUID 3f2504e0-4f89-41d3-9a0c-0305e82c3301 already exists", "ann", "POST", "/v1/clustertemplates", swarm().with("uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"))
	for _, name := range []string{"public", "hidden"} {
		w.refused(403, "clustertemplate:publish", "ann", "POST", "/v1/clustertemplates", swarm().with(name, true))
		w.ask("admin", "POST", "/v1/clustertemplates", swarm().with(name, true)).want(201).is(name, true)
	}
	w.template(swarm().with("docker_storage_driver", "devicemapper").with("docker_volume_size", 3))
}

func TestTemplates_4_3_OrderOfChecksOnCreate(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	ask := func(person string, status int, words string, body object) {
		w.t.Helper()
		w.refused(status, words, person, "POST", "/v1/clustertemplates", body)
	}
	// Every fault at once; each is mended in turn.
	body := object{
		"colour": "red", "coe": "swarm", "server_type": "lxc", "network_driver": "flannel", "volume_driver": "cinder",
		"docker_storage_driver": "devicemapper", "image_id": "no-such-image", "cluster_distro": "fedora", "flavor_id": "f", "master_flavor_id": "m",
		"external_network_id": "inner", "labels": object{"swarm_strategy": "heap"}, "public": true,
	}
	w.rule("1 JSON, keys, types", func() {
		w.refused(400, "JSON", "reader", "POST", "/v1/clustertemplates", "{")
		ask("reader", 400, "server_type", body)
		body = body.with("server_type", "bm")
		ask("reader", 400, "colour", body)
		body = body.with("colour", absent{})
		ask("reader", 400, "coe … required", body.with("coe", absent{}))
	})
	w.rule("2 drivers and volume size", func() {
		ask("reader", 400, "network_driver", body)
		body = body.with("network_driver", absent{})
		ask("reader", 400, "volume_driver", body)
		body = body.with("volume_driver", absent{})
		ask("reader", 400, "docker_volume_size", body)
		body = body.with("docker_volume_size", 3)
	})
	w.rule("3 server type, distro, COE", func() {
		ask("reader", 400, "(bm, fedora, swarm) not supported", body)
		ask("reader", 400, "(bm, None, swarm) not supported", body.with("cluster_distro", absent{}))
		body = body.with("cluster_distro", "debian")
	})
	w.rule("4 policy", func() { ask("reader", 403, "clustertemplate:create", body) })
	w.rule("5 OpenStack resources", func() {
		ask("ann", 400, "image_id … Image no-such-image … could not be found", body)
		ask("ann", 403, "image_id … not permitted", body.with("image_id", "forbidden"))
		ask("ann", 409, "Multiple … image_id", body.with("image_id", "twins"))
		ask("ann", 400, "image_id … os_distro", body.with("image_id", "plain"))
		body = body.with("image_id", "debian-12")
		ask("ann", 400, "flavor_id … Flavor f", body)
		body = body.with("flavor_id", "m1.small")
		ask("ann", 400, "master_flavor_id … Flavor m", body)
		body = body.with("master_flavor_id", "m1.small")
		ask("ann", 400, "external_network_id … inner", body)
		body = body.with("external_network_id", "public")
		ask("ann", 400, "swarm_strategy", body)
		body = body.with("labels", object{})
	})
	w.rule("6 publish", func() {
		ask("ann", 403, "clustertemplate:publish", body)
		ask("ann", 403, "clustertemplate:publish", body.with("public", false).with("hidden", true))
		w.ask("admin", "POST", "/v1/clustertemplates", body).want(201).is("public", true)
	})
	w.rule("distro is overwritten with the image's", func() {
		w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("image_id", "fedora").with("cluster_distro", "debian")).want(201).
			is("cluster_distro", "fedora-coreos")
	})
}

// What the real drivers take is tested beside them, under the same section.
func TestTemplates_4_4_DriversPerCOE(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, row := range []struct {
		coe, network, volume string
		wrong                []string
	}{
		{"kubernetes", "flannel", "cinder", []string{"docker", "cilium", "Flannel"}},
		{"swarm", "docker", "rexray", []string{"flannel", "calico"}},
		{"swarm-mode", "docker", "rexray", []string{"flannel", "calico"}},
	} {
		w.rule(row.coe, func() {
			body := swarm().with("coe", row.coe)
			w.ask("ann", "POST", "/v1/clustertemplates", body).want(201).is("network_driver", row.network)
			w.ask("ann", "POST", "/v1/clustertemplates", body.with("volume_driver", row.volume)).want(201).is("volume_driver", row.volume)
			for _, kind := range []string{"vm", "bm"} {
				w.ask("ann", "POST", "/v1/clustertemplates", body.with("server_type", kind)).want(201).is("server_type", kind)
			}
			for _, name := range row.wrong {
				w.refused(400, "network_driver … "+name+" … "+row.network, "ann", "POST", "/v1/clustertemplates", body.with("network_driver", name))
				w.refused(400, "volume_driver … "+name+" … "+row.volume, "ann", "POST", "/v1/clustertemplates", body.with("volume_driver", name))
			}
		})
	}
}

// A driver that the operator has added need not know network drivers.
func TestTemplates_4_4_ACOEWithoutNetworkDrivers(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	body := swarm().with("coe", "pond")
	w.ask("ann", "POST", "/v1/clustertemplates", body).want(201).is("network_driver", nil)
	w.refused(400, "network_driver … docker … none", "ann", "POST", "/v1/clustertemplates", body.with("network_driver", "docker"))
}

func TestTemplates_4_6_Patch(t *testing.T) {
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
			{"replace", "/master_flavor_id", "m1.large", "master_flavor_id", "m1.large"},
			{"add", "/keypair_id", "k", "keypair_id", "k"},
			{"add", "/external_network_id", "public", "external_network_id", "public"},
			{"add", "/fixed_network", "n", "fixed_network", "n"},
			{"add", "/fixed_subnet", "s", "fixed_subnet", "s"},
			{"add", "/dns_nameserver", "8.8.8.8,1.1.1.1", "dns_nameserver", "8.8.8.8,1.1.1.1"},
			{"add", "/volume_driver", "rexray", "volume_driver", "rexray"},
			{"add", "/docker_storage_driver", "overlay2", "docker_storage_driver", "overlay2"},
			{"add", "/apiserver_port", 2376, "apiserver_port", 2376.0},
			{"add", "/http_proxy", "p", "http_proxy", "p"},
			{"add", "/https_proxy", "p", "https_proxy", "p"},
			{"add", "/no_proxy", "p", "no_proxy", "p"},
			{"add", "/insecure_registry", "r", "insecure_registry", "r"},
			{"add", "/driver", "d", "driver", "d"},
			{"replace", "/registry_enabled", true, "registry_enabled", true},
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
			{"replace", "/coe", "swarm", "coe", "swarm"},
			{"replace", "/image_id", "fedora", "cluster_distro", "fedora-coreos"}, // the triple is not checked again
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

func TestTemplates_4_6_PatchAndDeleteRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.template(swarm().with("tags", "t"))
	public := w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("name", "theirs").with("public", true)).want(201).text("uuid")
	path := "/v1/clustertemplates/" + id
	w.rule("not removable", func() {
		for _, name := range []string{
			"coe", "image_id", "network_driver", "external_network_id", "tls_disabled", "public", "server_type", "registry_enabled",
			"cluster_distro", "hidden",
		} {
			w.refused(400, name+" … mandatory attribute and can not be removed", "ann", "PATCH", path, patchOf("remove", "/"+name, absent{}))
		}
	})
	w.rule("drivers and resources are checked again", func() {
		for _, p := range []struct{ name, value, words string }{
			{"network_driver", "flannel", "network_driver … not supported"},
			{"volume_driver", "cinder", "volume_driver … not supported"},
			{"coe", "kubernetes", "network_driver … docker … not supported"},
			{"coe", "mesos", "coe … mesos"},
			{"image_id", "no-such-image", "image_id … could not be found"},
			{"image_id", "plain", "image_id … os_distro"},
			{"flavor_id", "f", "flavor_id … could not be found"},
			{"master_flavor_id", "f", "master_flavor_id … could not be found"},
			{"external_network_id", "inner", "external_network_id … could not be found"},
			{"docker_storage_driver", "devicemapper", "docker_storage_driver … docker_volume_size"},
			{"labels", "{'swarm_strategy': 'heap'}", "swarm_strategy"},
		} {
			w.refused(400, p.words, "ann", "PATCH", path, patchOf("replace", "/"+p.name, p.value))
		}
	})
	w.rule("publish", func() {
		w.refused(403, "clustertemplate:publish", "ann", "PATCH", path, patchOf("replace", "/public", true))
		w.refused(403, "clustertemplate:publish", "ann", "PATCH", path, patchOf("replace", "/hidden", true))
		w.ask("ann", "PATCH", path, patchOf("replace", "/public", false)).want(200) // no change
	})
	w.rule("the body is read first", func() {
		w.refused(400, "array", "ann", "PATCH", "/v1/clustertemplates/nobody", object{})
		w.refused(400, "array", "ann", "PATCH", "/v1/clustertemplates/00000000-0000-4000-8000-000000000000", object{"path": "/name"})
		w.refused(404, "nobody", "ann", "PATCH", "/v1/clustertemplates/nobody", patchOf("replace", "/name", "x"))
		w.refused(404, "nobody", "ann", "DELETE", "/v1/clustertemplates/nobody", nil)
	})
	w.rule("another project's public template", func() {
		w.refused(403, "clustertemplate:update", "ann", "PATCH", "/v1/clustertemplates/"+public, patchOf("replace", "/name", "mine"))
		w.refused(403, "clustertemplate:delete", "ann", "DELETE", "/v1/clustertemplates/"+public, nil)
	})
	w.rule("in use", func() {
		w.cluster(object{"cluster_template_id": id})
		w.refused(400, "used by", "ann", "DELETE", path, nil)
		for _, patch := range []any{
			"[]",
			patchOf("replace", "/name", "swarm"), // no change
			patchOf("replace", "/image_id", "fedora"),
			append(patchOf("replace", "/name", "x"), patchOf("replace", "/tags", "y")...),
			patchOf("remove", "/tags", absent{}),
			patchOf("add", "/labels/x", "y"),
			patchOf("replace", "/docker_volume_size", 3),
		} {
			w.refused(400, "used by", "admin", "PATCH", path, patch)
		}
	})
}

func TestTemplates_4_6_InUse(t *testing.T) {
	each(t, func(w *world) {
		id := w.template(swarm())
		w.cluster(object{"cluster_template_id": id})
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+id, nil).want(400)
		w.ask("admin", "PATCH", "/v1/clustertemplates/"+id, patchOf("replace", "/image_id", "fedora")).want(400)
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
