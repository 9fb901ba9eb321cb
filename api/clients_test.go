// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store/storetest"
)

// What `openstack coe cluster config` asks for, in its order, and what it reads
// of the answers.
func TestCertificates_15_4_WhatClusterConfigAsksFor(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	cluster := w.ask("ann", "GET", "/v1/clusters/c", nil, latest).want(200)
	if address := cluster.text("api_address"); !strings.HasPrefix(address, "tcp://") {
		t.Errorf("api_address %q", address)
	}
	cluster.text("name")
	template := w.ask("ann", "GET", "/v1/clustertemplates/"+cluster.text("cluster_template_id"), nil, latest).want(200)
	template.is("coe", "swarm-mode")
	template.is("tls_disabled", false)
	authority := w.ask("ann", "GET", "/v1/certificates/"+cluster.text("uuid"), nil, latest).want(200)
	signed := w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": cluster.text("uuid"), "csr": request(t)}, latest).want(201)
	certificate := parseCertificate(t, signed.text("pem"))
	if err := certificate.CheckSignatureFrom(parseCertificate(t, authority.text("pem"))); err != nil {
		t.Error(err)
	}
	if certificate.Subject.CommonName != "admin" || !slices.Equal(certificate.Subject.Organization, []string{"system:masters"}) || len(certificate.Extensions) != 0 {
		t.Errorf("signed: %s with %d extensions", certificate.Subject, len(certificate.Extensions))
	}
}

func TestPolicy_16_2_RoutesAskForRulesThatThereAre(t *testing.T) {
	var known []string
	for _, r := range policy.Rules() {
		known = append(known, r.Name)
	}
	for _, rule := range api.Rules() {
		if !slices.Contains(known, rule) {
			t.Errorf("no rule is called %s", rule)
		}
	}
	// Asked for within a handler, or of a path that is not served.
	elsewhere := []string{"cluster:update_health_status", "clustertemplate:publish", "baymodel:publish", "credential:rotate"}
	asked := append(api.Rules(), elsewhere...)
	for _, rule := range known {
		if strings.Contains(rule, ":") && !slices.Contains(asked, rule) {
			t.Errorf("nobody asks for %s", rule)
		}
	}
}

func TestPolicy_16_3_WhoMayDoWhat(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s)
	cluster := w.ready()
	template := w.row(cluster).TemplateID
	csr := request(t)
	type asked struct {
		method, path string
		body         any
		want         map[string]int
	}
	everybody := map[string]int{"reader": 200, "ann": 200, "bob": 200, "admin": 200}
	for _, row := range []struct {
		call string
		all  []asked
	}{
		{"any list, show, stats, own quota", []asked{
			{"GET", "/v1/clusters", nil, everybody},
			{"GET", "/v1/clusters/detail", nil, everybody},
			{"GET", "/v1/clusters/" + cluster, nil, everybody},
			{"GET", "/v1/clustertemplates", nil, everybody},
			{"GET", "/v1/clustertemplates/detail", nil, everybody},
			{"GET", "/v1/clustertemplates/" + template, nil, everybody},
			{"GET", "/v1/clusters/" + cluster + "/nodegroups", nil, everybody},
			{"GET", "/v1/clusters/" + cluster + "/nodegroups/default-worker", nil, everybody},
			{"GET", "/v1/stats", nil, everybody},
			{"GET", "/v1/quotas/project-1/Cluster", nil, everybody},
			{"GET", "/v1/federations", nil, everybody},
			{"GET", "/v1/clusters/" + cluster, nil, map[string]int{"zoe": 404}},
		}},
		{"cluster/template/node group writes, actions", []asked{
			{"PATCH", "/v1/clusters/" + cluster, "[]", map[string]int{"reader": 403, "ann": 202, "bob": 202, "admin": 202, "zoe": 404}},
			{"PATCH", "/v1/clustertemplates/" + template, patchOf("replace", "/name", "x"), map[string]int{"reader": 403, "bob": 200, "zoe": 404}},
			{"POST", "/v1/clustertemplates", swarm(), map[string]int{"reader": 403, "bob": 201}},
			{"POST", "/v1/clusters", object{"cluster_template_id": template}, map[string]int{"reader": 403, "bob": 202}},
			{"POST", "/v1/clusters/" + cluster + "/actions/resize", object{"node_count": 1}, map[string]int{"reader": 403, "bob": 202, "admin": 404, "zoe": 404}},
			{"POST", "/v1/clusters/" + cluster + "/actions/upgrade", object{"cluster_template": "nowhere"}, map[string]int{"reader": 403, "bob": 404, "admin": 404}},
			{"POST", "/v1/clusters/" + cluster + "/nodegroups", object{"name": "x"}, map[string]int{"reader": 403, "bob": 202, "admin": 404, "zoe": 404}},
			{"PATCH", "/v1/clusters/" + cluster + "/nodegroups/x", "[]", map[string]int{"reader": 403, "bob": 202}},
			{"DELETE", "/v1/clusters/" + cluster + "/nodegroups/x", nil, map[string]int{"reader": 403, "bob": 204}},
			{"DELETE", "/v1/clustertemplates/" + template, nil, map[string]int{"reader": 403, "zoe": 404, "bob": 400}},
			{"DELETE", "/v1/clusters/" + cluster, nil, map[string]int{"reader": 403, "zoe": 404}},
		}},
		{"certificate show", []asked{{"GET", "/v1/certificates/" + cluster, nil, map[string]int{"reader": 403, "ann": 200, "bob": 403, "admin": 404, "zoe": 404}}}},
		{"certificate sign", []asked{{"POST", "/v1/certificates", object{"cluster_uuid": cluster, "csr": csr}, map[string]int{"reader": 403, "ann": 201, "bob": 403, "admin": 400, "zoe": 400}}}},
		{"CA rotate", []asked{{"PATCH", "/v1/certificates/" + cluster, nil, map[string]int{"reader": 403, "admin": 404, "zoe": 404}}}},
		{"credential rotate", []asked{{"PATCH", "/v1/credentials/" + cluster, nil, map[string]int{"reader": 404, "ann": 404, "admin": 404}}}}, // not served
		{"mservices, quota list and writes", []asked{
			{"GET", "/v1/mservices", nil, map[string]int{"reader": 403, "ann": 403, "bob": 403, "admin": 200}},
			{"GET", "/v1/quotas", nil, map[string]int{"reader": 403, "ann": 403, "bob": 403, "admin": 200}},
			{"POST", "/v1/quotas", object{"project_id": "project-7"}, map[string]int{"reader": 403, "ann": 403, "admin": 201}},
			{"PATCH", "/v1/quotas/project-7/Cluster", object{}, map[string]int{"reader": 403, "ann": 403, "admin": 202}},
			{"DELETE", "/v1/quotas/project-7/Cluster", nil, map[string]int{"reader": 403, "ann": 403, "admin": 204}},
		}},
	} {
		w.rule(row.call, func() {
			for _, r := range row.all {
				for _, person := range slices.Sorted(maps.Keys(r.want)) {
					if a := w.ask(person, r.method, r.path, r.body, latest); a.status != r.want[person] {
						w.t.Errorf("%s: status %d, want %d\n%s", a.what, a.status, r.want[person], a.raw)
					}
				}
			}
		})
	}
	// An administrator of the project itself may see and sign.
	w.put("UPDATE clusters SET project_id = 'project-0' WHERE uuid = ?", cluster)
	w.ask("admin", "GET", "/v1/certificates/"+cluster, nil).want(200)
	w.ask("admin", "POST", "/v1/certificates", object{"cluster_uuid": cluster, "csr": csr}).want(201)
}

func TestHealthcheck_18(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disable")
	w := newWorld(t, storetest.New(t), func(c *api.Config, _ *api.Deps) { c.DisabledByFile = file })
	for _, token := range []string{"", "nobody knows"} { // outside authentication
		if a := w.ask(token, "GET", "/healthcheck", nil); a.status != 200 || a.raw != "OK" {
			t.Errorf("%d %q", a.status, a.raw)
		}
	}
	if a := w.ask("", "POST", "/healthcheck", nil); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := w.ask("", "GET", "/healthcheck", nil); a.status != 503 {
		t.Errorf("disabled: %d %q", a.status, a.raw)
	}
}

func TestKeystone_18_Pipeline(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.rule("public paths", func() {
		for _, path := range []string{"/", "/v1", "/v1/"} {
			for _, token := range []string{"", "made up", "nobody knows"} {
				w.ask(token, "GET", path, nil).want(200)
			}
		}
		w.ask("", "GET", "/v1.json", nil).want(401)
	})
	w.rule("identity headers", func() {
		// Whoever sends them himself is who the token says.
		forged := []string{
			"X-User-Id: user-adm", "X-Project-Id: project-0", "X-Roles: admin", "X-Identity-Status: Confirmed", "X-User-Name: admin",
			"X-Is-Admin-Project: True",
		}
		w.refused(401, "", "", "GET", "/v1/mservices", nil, forged...)
		w.refused(403, "magnum-service:get_all", "ann", "GET", "/v1/mservices", nil, forged...)
		made := w.ask("ann", "POST", "/v1/clustertemplates", swarm(), forged...).want(201)
		made.is("project_id", "project-1")
		made.is("user_id", "user-ann")
	})
	w.rule("admin", func() { // by role name, in any project
		w.ask("admin", "GET", "/v1/clustertemplates/swarm", nil).want(200)
		w.ask("zoe", "GET", "/v1/clustertemplates/swarm", nil).want(404)
	})
	w.rule("project check", func() {
		w.refused(404, "Project made-up", "admin", "POST", "/v1/quotas", object{"project_id": "made-up"})
	})
	w.rule("defaults visible in the API", func() {
		if got := w.ask("ann", "GET", "/v1/quotas/project-1/Cluster", nil).want(200).body["hard_limit"]; got != 20.0 {
			w.t.Errorf("hard_limit %v", got)
		}
		w.ask("ann", "GET", "/v1/clusters?limit=1001", nil).want(200)
	})
}

func TestClients_19_1_Transport(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	w.rule("version header on every call", func() {
		for _, path := range []string{"/v1/clusters", "/v1/clustertemplates/swarm", "/v1/stats", "/v1/bays", groups + "/"} {
			w.ask("ann", "GET", path, nil, latest).want(200)
		}
	})
	w.rule("no version discovery", func() { w.ask("ann", "GET", "/clusters/c", nil, latest).want(200) })
	w.rule("octet-stream without a body", func() {
		w.refused(404, "Cluster nowhere", "ann", "PATCH", "/v1/certificates/nowhere", nil, latest, "Content-Type: application/octet-stream")
		w.ask("ann", "DELETE", "/v1/clusters/c", nil, latest, "Content-Type: application/octet-stream").want(204)
	})
	w.rule("errors[0].title", func() {
		a := w.ask("ann", "GET", "/v1/clusters/nowhere", nil, latest, "Accept: application/json").want(404)
		if title, _ := a.error()["title"].(string); title == "" {
			w.t.Errorf("no title: %s", a.raw)
		}
		if a = w.ask("", "GET", "/v1/clusters", nil, latest).want(401); a.body["error"].(map[string]any)["title"] == "" {
			w.t.Errorf("no title: %s", a.raw)
		}
	})
	w.rule("paging", func() {
		w.cluster(object{"cluster_template_id": "swarm"})
		next := w.ask("ann", "GET", "/v1/clusters/?limit=1&sort_key=name", nil, latest).want(200).text("next")
		path := next[strings.Index(next, "/v1"):]
		w.ask("ann", "GET", strings.TrimPrefix(path, "/v1"), nil, latest).want(200)
	})
	w.rule("slash before the question mark", func() {
		w.ask("ann", "GET", "/v1/clusters/?limit=2", nil, latest).want(200)
		w.ask("ann", "GET", groups+"/?role=worker", nil, latest).want(200)
	})
}

// The tests of magnum-tempest-plugin 1.7.0 that build no cluster, by their
// names, and the life of the one that does. No version header is sent, but for
// certificates.
func TestTempest_20_1(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	const nowhere = "/00000000-0000-4000-8000-000000000000"
	rename := patchOf("replace", "/name", "renamed")
	publish := patchOf("replace", "/public", true)
	for _, kind := range []struct{ collection, test, publish string }{
		{"/v1/clustertemplates", "cluster_template", "clustertemplate:publish"}, {"/v1/baymodels", "baymodel", "baymodel:publish"},
	} {
		path, test := kind.collection, kind.test
		body := func() object {
			return object{
				"name": "tempest", "coe": "kubernetes", "image_id": "debian-12", "flavor_id": "m1.small", "master_flavor_id": "m1.small",
				"external_network_id": "public", "keypair_id": "default", "dns_nameserver": "8.8.8.8", "network_driver": "flannel",
				"labels": object{"K1": "V1"}, "docker_volume_size": 3, "public": false, "tls_disabled": false, "fixed_network": "192.168.0.0/24",
			}
		}
		var id string
		w.rule("test_create_"+test, func() { id = w.ask("ann", "POST", path, body()).want(201).text("uuid") })
		w.rule("test_list_"+test+"s", func() {
			all := w.ask("ann", "GET", path, nil).want(200).items(strings.TrimPrefix(path, "/v1/"))
			if !slices.ContainsFunc(all, func(one map[string]any) bool { return one["uuid"] == id }) {
				w.t.Error("not listed")
			}
		})
		w.rule("test_create_get_public_"+test, func() { w.refused(403, kind.publish, "ann", "POST", path, body().with("public", true)) })
		w.rule("test_update_"+test+"_public_by_uuid", func() { w.refused(403, kind.publish, "ann", "PATCH", path+"/"+id, publish) })
		w.rule("test_update_"+test+"_by_uuid", func() {
			w.ask("ann", "PATCH", path+"/"+id, rename).want(200)
			w.ask("ann", "GET", path+"/"+id, nil).want(200).is("name", "renamed")
		})
		w.rule("test_delete_"+test+"_by_uuid", func() { w.ask("ann", "DELETE", path+"/"+id, nil).want(204) })
		w.rule("test_delete_"+test+"_by_name", func() {
			w.ask("ann", "POST", path, body().with("name", "byname")).want(201)
			w.ask("ann", "DELETE", path+"/byname", nil).want(204)
		})
		w.rule("404 by uuid and by name", func() {
			for _, ident := range []string{nowhere, "/fooo"} {
				w.refused(404, "could not be found", "ann", "GET", path+ident, nil)
				w.refused(404, "could not be found", "ann", "DELETE", path+ident, nil)
				w.refused(404, "could not be found", "ann", "PATCH", path+ident, rename)
			}
		})
		w.rule("test_create_"+test+"_missing_image", func() { w.refused(400, "", "ann", "POST", path, body().with("image_id", "missing")) })
		w.rule("test_create_"+test+"_missing_flavor", func() {
			w.refused(400, "flavor_id", "ann", "POST", path, body().with("flavor_id", "missing"))
		})
		w.rule("test_create_"+test+"_missing_keypair", func() {
			w.ask("ann", "POST", path, body().with("keypair_id", "no-such-key")).want(201)
		})
		w.rule("test_update_"+test+"_invalid_patch", func() { w.refused(400, "array", "ann", "PATCH", path+nowhere, object{"path": "/name"}) })
		w.rule("test_create_"+test+"_invalid_network_driver", func() {
			w.refused(400, "network_driver", "ann", "POST", path, body().with("network_driver", "invalid_network_driver"))
		})
		w.rule("test_create_"+test+"_invalid_volume_driver", func() {
			w.refused(400, "volume_driver", "ann", "POST", path, body().with("volume_driver", "invalid_volume_driver"))
		})
		w.rule("admin: test_create_get_public_"+test, func() {
			made := w.ask("admin", "POST", path, body().with("public", true)).want(201)
			made.is("public", true)
			w.ask("admin", "GET", path+"/"+made.text("uuid"), nil).want(200).is("public", true)
		})
		w.rule("admin: test_update_"+test+"_public_by_uuid", func() {
			made := w.ask("admin", "POST", path, body()).want(201)
			w.ask("admin", "PATCH", path+"/"+made.text("uuid"), publish).want(200).is("public", true)
		})
	}
	w.rule("test_magnum_service_list_needs_admin", func() { w.refused(403, "", "ann", "GET", "/v1/mservices", nil) })
	w.rule("test_magnum_service_list", func() {
		if err := w.store.Heartbeat(w.t.Context(), "host", "magnum-conductor"); err != nil {
			w.t.Fatal(err)
		}
		all := w.ask("admin", "GET", "/v1/mservices", nil).want(200).items("mservices")
		if len(all) != 1 || all[0]["id"] != 1.0 || all[0]["state"] != "up" || all[0]["binary"] != "magnum-conductor" || all[0]["report_count"].(float64) < 1 {
			w.t.Errorf("services: %v", all)
		}
	})
	template := w.template(swarm().with("name", "valid").with("keypair_id", "default"))
	cluster := object{"name": "tempest", "cluster_template_id": template, "keypair": "default", "node_count": 1, "create_timeout": 15}
	w.rule("test_create_cluster_for_nonexisting_cluster_template", func() {
		w.refused(400, "cluster_template_id", "ann", "POST", "/v1/clusters", cluster.with("cluster_template_id", "this-does-not-exist"))
	})
	w.rule("test_create_cluster_with_zero_masters", func() {
		w.refused(400, "master_count", "ann", "POST", "/v1/clusters", cluster.with("master_count", 0))
	})
	w.rule("test_create_cluster_with_zero_nodes", func() { // fails on real Magnum as well
		w.refused(400, "node_count", "ann", "POST", "/v1/clusters", cluster.with("node_count", 0))
	})
	w.rule("test_create_cluster_with_nonexisting_flavor", func() {
		one := w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("name", "flavored")).want(201).text("uuid")
		w.refused(400, "flavor_id", "ann", "POST", "/v1/clusters", object{"cluster_template_id": one, "flavor_id": "this-does-not-exist"})
		w.ask("ann", "DELETE", "/v1/clustertemplates/"+one, nil).want(204)
	})
	w.rule("test_update_cluster_for_nonexisting_cluster", func() { w.refused(404, "fooo", "ann", "PATCH", "/v1/clusters/fooo", rename) })
	w.rule("test_delete_cluster_for_nonexisting_cluster", func() { w.refused(404, "fooo", "ann", "DELETE", "/v1/clusters/fooo", nil) })
	w.rule("test_create_list_sign_delete_clusters", func() {
		made := w.ask("ann", "POST", "/v1/clusters", cluster).want(202)
		hasKeys(w.t, made.body, "uuid") // no status
		id := made.text("uuid")
		w.finish(id, model.CreateComplete)
		w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200).is("status", "CREATE_COMPLETE")
		if len(w.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")) != 1 {
			w.t.Error("not listed")
		}
		w.ask("ann", "GET", "/v1/certificates/"+id, nil, latest).want(200)
		csr, err := os.ReadFile("../internal/ca/testdata/tempest-sha1-1024.csr")
		if err != nil {
			w.t.Fatal(err)
		}
		w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": string(csr)}, latest).want(201)
		w.ask("ann", "DELETE", "/v1/clusters/"+id, nil).want(204)
		w.finish(id, model.DeleteComplete)
		w.refused(404, id, "ann", "GET", "/v1/clusters/"+id, nil)
		w.refused(404, id, "ann", "GET", "/v1/certificates/"+id, nil, latest)
	})
	bay := object{"name": "tempest", "baymodel_id": template, "node_count": 1, "master_count": 1, "bay_create_timeout": 15}
	for test, change := range map[string]object{
		"test_create_bay_for_nonexisting_baymodel":          {"baymodel_id": "this-does-not-exist"},
		"test_create_bay_with_node_count_0":                 {"node_count": 0},
		"test_create_bay_with_zero_masters":                 {"master_count": 0},
		"test_create_bay_with_nonexisting_flavor":           {"flavor_id": "this-does-not-exist"},
		"test_create_bay_with_nonexisting_keypair":          {"keypair_id": "this-does-not-exist"},
		"test_create_bay_with_nonexisting_external_network": {"external_network_id": "this-does-not-exist"},
	} {
		w.rule(test, func() {
			for name, value := range change {
				w.refused(400, name, "ann", "POST", "/v1/bays", bay.with(name, value))
			}
		})
	}
	w.rule("test_update_bay_for_nonexisting_bay", func() { w.refused(404, "fooo", "ann", "PATCH", "/v1/bays/fooo", rename) })
	w.rule("test_delete_bay_for_nonexisting_bay", func() { w.refused(404, "fooo", "ann", "DELETE", "/v1/bays/fooo", nil) })
}

func TestChoices_21_1(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.rule("COE values", func() {
		for _, coe := range []string{"kubernetes", "swarm", "swarm-mode"} {
			w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("coe", coe)).want(201)
		}
		for _, coe := range []string{"mesos", "dcos", "docker", "Kubernetes"} {
			w.refused(400, "coe", "ann", "POST", "/v1/clustertemplates", swarm().with("coe", coe))
		}
	})
	w.rule("max microversion", func() {
		w.ask("", "GET", "/", nil).want(200)
		if got := w.ask("ann", "GET", "/v1/clusters", nil, latest).header.Get("OpenStack-API-Maximum-Version"); got != "container-infra 1.11" {
			w.t.Errorf("%q", got)
		}
	})
	w.rule("bays, baymodels", func() { w.ask("ann", "GET", "/v1/bays", nil, latest).want(200) })
	w.rule("answer header's service word", func() {
		a := w.ask("ann", "GET", "/v1/clusters", nil, "OpenStack-API-Version: container-infrastructure-management 1.9")
		if got := a.header.Get("OpenStack-API-Version"); got != "container-infra 1.9" {
			w.t.Errorf("%q", got)
		}
	})
	w.rule("accepted but unknown keys", func() {
		w.ask("ann", "POST", "/v1/clustertemplates", swarm().with("name", "driven").with("driver", nil)).want(201).is("driver", nil)
		id := w.cluster(object{"name": "c", "cluster_template_id": "driven"})
		w.ask("ann", "POST", "/v1/certificates", object{"bay_uuid": id, "csr": request(w.t)}, latest).want(201)
	})
	w.rule("policy", func() { w.refused(403, "cluster:delete", "reader", "DELETE", "/v1/clusters/c", nil) })
	w.rule("server_type", func() {
		w.refused(400, "server_type", "ann", "POST", "/v1/clustertemplates", swarm().with("server_type", "lxc"))
	})
	w.rule("odd masters", func() {
		w.refused(400, "master_count", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "driven", "master_count": 2, "master_lb_enabled": true})
	})
	w.rule("missing template", func() {
		w.refused(400, "nowhere", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "nowhere"}, version19)
		w.refused(404, "nowhere", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "nowhere"}, latest)
	})
}

// Where Magnum answers 500, or dies.
func TestErrors_21_2_WhereMagnumFails(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-1", "hard_limit": 9}).want(201)
	csr := request(t)
	for _, row := range []struct {
		row, words, person, method, path string
		body                             any
	}{
		{"body that is no object", "object", "ann", "POST", "/v1/clusters", "[]"},
		{"body that is no object", "object", "ann", "POST", "/v1/clustertemplates", `"x"`},
		{"body that is no object", "object", "ann", "POST", "/v1/quotas", "null"},
		{"null label value", "labels", "ann", "POST", "/v1/clustertemplates", swarm().with("labels", object{"a": nil})},
		{"null label value", "labels", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "labels": object{"a": nil}}},
		{"/labels patched with a non-dict", "/labels", "ann", "PATCH", "/v1/clustertemplates/swarm", patchOf("replace", "/labels", "['a']")},
		{"unknown coe in a template PATCH", "coe", "ann", "PATCH", "/v1/clustertemplates/swarm", patchOf("replace", "/coe", "nomad")},
		{"boolean that is none", "public", "ann", "POST", "/v1/clustertemplates", swarm().with("public", "perhaps")},
		{"boolean that is none", "public", "ann", "PATCH", "/v1/clustertemplates/swarm", patchOf("replace", "/public", "perhaps")},
		{"boolean that is none", "rollback", "ann", "PATCH", "/v1/clusters/c?rollback=perhaps", "[]"},
		{"boolean that is none", "all_tenants", "admin", "GET", "/v1/quotas?all_tenants=perhaps", nil},
		{"master_count: null", "master_count", "ann", "POST", "/v1/clusters", object{"cluster_template_id": "swarm", "master_count": nil}},
		{"node group without name", "name", "ann", "POST", groups, object{}},
		{"upgrade without cluster_template", "cluster_template", "ann", "POST", "/v1/clusters/c/actions/upgrade", object{}},
		{"certificate without cluster_uuid or csr", "cluster_uuid", "ann", "POST", "/v1/certificates", object{"csr": csr}},
		{"certificate without cluster_uuid or csr", "csr", "ann", "POST", "/v1/certificates", object{"cluster_uuid": "c"}},
		{"array as a quota PATCH", "object", "admin", "PATCH", "/v1/quotas/project-1/Cluster", "[]"},
		{"empty federation patch", "empty", "ann", "PATCH", "/v1/federations/x", "[]"},
	} {
		w.refused(http.StatusBadRequest, row.words, row.person, row.method, row.path, row.body, latest)
	}
}
