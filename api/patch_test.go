// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

// operation is one element of a patch, with any keys.
func operation(o object) []object { return []object{o} }

func TestPatch_13_JSONPatch(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.template(swarm().with("labels", object{"a": "1"}).with("tags", "t"))
	path := "/v1/clustertemplates/" + id
	refused := func(words string, patch any) {
		w.t.Helper()
		w.refused(400, words, "ann", "PATCH", path, patch)
	}
	good := object{"op": "replace", "path": "/name", "value": "x"}

	w.rule("an array of operations", func() {
		refused("array", good)
		refused("array", `"text"`)
		refused("array", `null`)
		refused("array", `7`)
		refused("Operation 1 … object", `[1]`)
		refused("Operation 1 … object", `[[]]`)
		refused("Operation 2 … object", []any{good, nil})
		refused("op and path", `[{}]`)
		refused("JSON", `[{"op": "replace"`)
		refused("Missing argument", nil)
	})
	w.rule("application/json only", func() {
		w.refused(415, "application/json", "ann", "PATCH", path, operation(good), "Content-Type: application/json-patch+json")
	})
	w.rule("op", func() {
		refused("op and path", operation(good.with("op", absent{})))
		refused("op and path", operation(good.with("op", nil)))
		refused("op … text", operation(good.with("op", 1)))
		for _, op := range []string{"test", "move", "copy", "Replace", ""} {
			refused("op … not one of add, replace, remove", operation(good.with("op", op)))
		}
	})
	w.rule("path", func() {
		refused("op and path", operation(good.with("path", absent{})))
		refused("path … text", operation(good.with("path", 1)))
		for _, wrong := range []string{"name", "/", "//", "/name/", "/labels/a.b", "/labels/a~1b", "/na me", "/name\n"} {
			refused("path … must match", operation(good.with("path", wrong)))
		}
		refused("path … characters", operation(good.with("path", "")))
	})
	w.rule("value", func() {
		for _, op := range []string{"add", "replace"} {
			refused("/name … needs a value", operation(good.with("op", op).with("value", absent{})))
			refused("/name … needs a value", operation(good.with("op", op).with("value", nil)))
		}
		for _, value := range []any{object{}, []string{}, []string{"x"}, 1.5, 1e300} {
			refused("/name … text, an integer or a boolean", operation(good.with("value", value)))
		}
		// Ignored for remove.
		w.ask("ann", "PATCH", path, operation(object{"op": "remove", "path": "/tags", "value": object{}})).want(200).is("tags", nil)
		w.ask("ann", "PATCH", path, patchOf("add", "/tags", "t")).want(200).is("tags", "t")
	})
	w.rule("any other key", func() {
		refused("Unknown attribute … from", operation(good.with("from", "/tags")))
		refused("Unknown attribute … Value", operation(good.with("Value", "x")))
	})
	w.rule("nothing is saved if one fails", func() {
		refused("/colour", append(operation(good), patchOf("replace", "/colour", "bad")...))
		refused("docker_volume_size", append(operation(good), patchOf("add", "/docker_volume_size", 0)...))
		refused("op", append(operation(good), object{"op": "test", "path": "/name", "value": "x"}))
	})
	w.rule("1 internal attribute", func() {
		for _, op := range []string{"add", "replace", "remove"} {
			refused("/uuid … internal attribute", patchOf(op, "/uuid", "x"))
			refused("/links … internal attribute", patchOf(op, "/links/0", "x"))
		}
	})
	w.rule("2 remove of a mandatory attribute", func() { refused("/coe … mandatory", patchOf("remove", "/coe", absent{})) })
	w.rule("3 add", func() {
		refused("/colour … not allowed", patchOf("add", "/colour", "x"))
		refused("/tags … use replace", patchOf("add", "/tags", "x"))
		w.ask("ann", "PATCH", path, patchOf("add", "/labels/b", "1")).want(200).is("labels", map[string]any{"a": "1", "b": "1"})
		w.ask("ann", "PATCH", path, patchOf("add", "/labels/a", "2")).want(200).is("labels", map[string]any{"a": "2", "b": "1"})
		refused("/labels/a/b … does not exist", patchOf("add", "/labels/a/b", "x"))
		refused("/name/a … does not exist", patchOf("add", "/name/a", "x"))
		refused("/colour/a … does not exist", patchOf("add", "/colour/a", "x"))
	})
	w.rule("4 replace or remove of what is not there", func() {
		for _, op := range []string{"replace", "remove"} {
			for _, what := range []string{"/colour", "/labels/c", "/name/a", "/labels/a/b"} {
				refused(what+" … does not exist", patchOf(op, what, "x"))
			}
		}
	})
	w.rule("5 Python literals", func() {
		const reason = "/labels … not a Python dict: "
		for value, words := range map[any]string{
			"not a dict":             reason + "it does not begin with a brace",
			"":                       reason + "it does not begin with a brace",
			"['a']":                  reason + "it does not begin with a brace",
			"'a'":                    reason + "it does not begin with a brace",
			"7":                      reason + "it does not begin with a brace",
			`{"a": true}`:            reason + `value of "a"`,
			`{'a': None}`:            reason + `value of "a"`,
			`{'a': null}`:            reason + `value of "a"`,
			`{'a': {}}`:              reason + `value of "a"`,
			`{'a': 1`:                reason + "no comma or brace",
			`{'a': 1} {}`:            reason + "something follows",
			5:                        "/labels … text that holds a Python dict",
			true:                     "/labels … text that holds a Python dict",
			`{'swarm_strategy': ''}`: "",
		} {
			if words == "" {
				w.ask("ann", "PATCH", path, patchOf("replace", "/labels", value)).want(200)
				continue
			}
			refused(words, patchOf("replace", "/labels", value))
		}
		for value, want := range map[string]map[string]any{
			`{'a': '1', 'b': 2}`:          {"a": "1", "b": "2"},
			`{"it's": "\"", 'n': '\'\n'}`: {"it's": `"`, "n": "'\n"},
			`{"json": "too", "f": 1.5}`:   {"json": "too", "f": "1.5"},
			`{}`:                          {},
		} {
			w.ask("ann", "PATCH", path, patchOf("replace", "/labels", value)).want(200).is("labels", want)
		}
	})
	w.rule("6 types of the outcome", func() {
		refused("docker_volume_size … integer", patchOf("add", "/docker_volume_size", "3"))
		refused("docker_volume_size … 1 or more", patchOf("add", "/docker_volume_size", 0))
		refused("apiserver_port … 1024", patchOf("add", "/apiserver_port", 80))
		refused("name … text", patchOf("replace", "/name", 5))
		refused("name … characters", patchOf("replace", "/name", ""))
		refused("public … true or false", patchOf("replace", "/public", "maybe"))
		refused("server_type … not one of", patchOf("replace", "/server_type", "lxc"))
		w.ask("ann", "PATCH", path, patchOf("replace", "/floating_ip_enabled", "no")).want(200).is("floating_ip_enabled", false)
	})
	w.rule("7 remove sets null or the default", func() {
		w.ask("ann", "PATCH", path, patchOf("remove", "/floating_ip_enabled", absent{})).want(200).is("floating_ip_enabled", true)
		w.ask("ann", "PATCH", path, patchOf("remove", "/tags", absent{})).want(200).is("tags", nil)
		w.ask("ann", "PATCH", path, patchOf("remove", "/labels", absent{})).want(200).is("labels", map[string]any{})
	})
	w.rule("an empty patch", func() {
		w.ask("ann", "PATCH", path, "[]").want(200)
		w.refused(400, "federation must not be empty", "ann", "PATCH", "/v1/federations/x", "[]")
	})
}

// What no patch may name, by resource.
func TestPatch_13_InternalAndMandatoryAttributes(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	w.ask("ann", "POST", "/v1/baymodels", keyed().with("name", "model")).want(201)
	all := []string{"created_at", "id", "links", "updated_at", "uuid", "project_id", "user_id"}
	cluster := []string{
		"api_address", "node_addresses", "master_addresses", "stack_id", "ca_cert_ref", "magnum_cert_ref", "etcd_ca_cert_ref",
		"front_proxy_ca_cert_ref", "trust_id", "trustee_user_name", "trustee_password", "trustee_user_id",
	}
	for _, row := range []struct {
		kind, path          string
		internal, mandatory []string
	}{
		{"all", "/v1/federations/x", all, nil},
		{"cluster", "/v1/clusters/c", append(cluster, all...), []string{"cluster_template_id"}},
		{"bay", "/v1/bays/c", append(cluster, all...), []string{"baymodel_id"}},
		{
			"template", "/v1/clustertemplates/swarm", all,
			[]string{
				"coe", "image_id", "network_driver", "external_network_id", "tls_disabled", "public", "server_type", "registry_enabled",
				"cluster_distro", "hidden",
			},
		},
		{"baymodel", "/v1/baymodels/model", all, []string{"coe", "image_id"}},
		{
			"node group", groups + "/default-worker",
			append([]string{
				"name", "cluster_id", "docker_volume_size", "labels", "flavor_id", "image_id", "node_addresses", "node_count", "role",
				"is_default", "stack_id", "status", "status_reason", "version",
			}, all...), nil,
		},
		{"federation", "/v1/federations/x", all, nil},
	} {
		w.rule(row.kind, func() {
			for _, name := range row.internal {
				for _, op := range []string{"add", "replace", "remove"} {
					w.refused(400, `"/`+name+`" is an internal attribute`, "ann", "PATCH", row.path, patchOf(op, "/"+name, "x"), latest)
				}
			}
			for _, name := range row.mandatory {
				w.refused(400, `"/`+name+`" is a mandatory attribute`, "ann", "PATCH", row.path, patchOf("remove", "/"+name, absent{}), latest)
			}
		})
	}
	w.rule("what is shown but no field", func() {
		for path, names := range map[string][]string{
			"/v1/clusters/c":           {"faults", "merge_labels", "labels_overridden", "labels_added", "labels_skipped"},
			groups + "/default-worker": {"merge_labels", "labels_overridden", "labels_added", "labels_skipped"},
		} {
			for _, name := range names {
				for _, op := range []string{"add", "replace", "remove"} {
					w.refused(400, "/"+name, "ann", "PATCH", path, patchOf(op, "/"+name, "x"), latest)
				}
			}
		}
	})
	if got := w.row(id).Status; got != model.CreateComplete {
		t.Errorf("the cluster is %s", got)
	}
}
