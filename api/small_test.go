// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

// request makes what `openstack coe cluster config` sends to be signed.
func request(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func parseCertificate(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("not PEM: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificates_8_ShowAndSign(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm())})
		// Before the conductor has begun, too: the authority is made on demand.
		signed := w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": "c", "csr": request(w.t)}, latest).want(201)
		hasKeys(w.t, signed.body, "cluster_uuid", "bay_uuid", "csr", "pem", "links")
		if strings.HasSuffix(signed.text("pem"), "\n") {
			w.t.Error("the signed certificate ends with a newline")
		}
		shown := w.ask("ann", "GET", "/v1/certificates/c", nil).want(200)
		hasKeys(w.t, shown.body, "cluster_uuid", "bay_uuid", "pem", "links")
		shown.is("cluster_uuid", id)
		shown.is("links", []any{
			map[string]any{"href": "http://magnum.example:9511/v1/certificates/" + id, "rel": "self"},
			map[string]any{"href": "http://magnum.example:9511/certificates/" + id, "rel": "bookmark"},
		})
		authority := parseCertificate(w.t, shown.text("pem"))
		if err := parseCertificate(w.t, signed.text("pem")).CheckSignatureFrom(authority); err != nil {
			w.t.Error(err)
		}
		w.ask("ann", "GET", "/v1/certificates/"+id, nil).want(200).is("pem", shown.body["pem"])

		// Three authorities; a word that is not known means the main one.
		etcd := w.ask("ann", "GET", "/v1/certificates/c?ca_cert_type=etcd", nil).want(200)
		w.ask("ann", "GET", "/v1/certificates/c/etcd", nil).want(200).is("pem", etcd.body["pem"])
		front := w.ask("ann", "GET", "/v1/certificates/c/front-proxy", nil).want(200)
		w.ask("ann", "GET", "/v1/certificates/c?ca_cert_type=front_proxy", nil).want(200).is("pem", front.body["pem"])
		w.ask("ann", "GET", "/v1/certificates/c?ca_cert_type=word", nil).want(200).is("pem", shown.body["pem"])
		if etcd.raw == shown.raw || front.raw == shown.raw || etcd.raw == front.raw {
			w.t.Error("the authorities are the same")
		}
		signed = w.ask("ann", "POST", "/v1/certificates", object{"bay_uuid": id, "csr": request(w.t), "ca_cert_type": "etcd", "pem": "x"}).want(201)
		signed.is("ca_cert_type", "etcd")
		if err := parseCertificate(w.t, signed.text("pem")).CheckSignatureFrom(parseCertificate(w.t, etcd.text("pem"))); err != nil {
			w.t.Error(err)
		}
	})
}

func TestCertificates_8_Calls(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	other := w.cluster(object{"name": "twin", "cluster_template_id": "swarm"})
	w.cluster(object{"name": "twin", "cluster_template_id": "swarm"})
	csr := request(t)
	w.rule("GET /certificates/{cluster}", func() {
		w.refused(404, "Cluster nowhere", "ann", "GET", "/v1/certificates/nowhere", nil)
		w.refused(409, "Multiple clusters", "ann", "GET", "/v1/certificates/twin", nil)
		w.refused(404, id, "zoe", "GET", "/v1/certificates/"+id, nil)
		w.refused(404, id, "admin", "GET", "/v1/certificates/"+id, nil) // the own project only
		w.refused(403, "certificate:get", "bob", "GET", "/v1/certificates/c", nil)
		w.refused(400, "colour", "ann", "GET", "/v1/certificates/c?colour=red", nil)
		w.refused(400, "ca_cert_type … given 2 times", "ann", "GET", "/v1/certificates/c?ca_cert_type=etcd&ca_cert_type=ca", nil)
	})
	w.rule("POST /certificates", func() {
		w.refused(400, "object", "ann", "POST", "/v1/certificates", "[]")
		w.refused(400, "Missing argument", "ann", "POST", "/v1/certificates", nil)
		w.refused(409, "Multiple clusters", "ann", "POST", "/v1/certificates", object{"cluster_uuid": "twin", "csr": csr})
		w.refused(403, "certificate:create", "bob", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr})
		w.refused(403, "certificate:create", "reader", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr})
	})
	w.rule("PATCH /certificates/{cluster}", func() {
		w.refused(400, "object", "ann", "PATCH", "/v1/certificates/c", "[]")
		w.refused(400, "Unknown attribute … colour", "ann", "PATCH", "/v1/certificates/c", object{"colour": "red"})
		w.refused(404, "Cluster nowhere", "ann", "PATCH", "/v1/certificates/nowhere", nil)
		w.refused(404, "Cluster "+id, "admin", "PATCH", "/v1/certificates/"+id, nil)
		w.refused(404, "Cluster "+id, "zoe", "PATCH", "/v1/certificates/"+id, nil)
		w.refused(403, "certificate:rotate_ca", "reader", "PATCH", "/v1/certificates/c", nil)
		w.refused(400, "TLS disabled", "ann", "PATCH", "/v1/certificates/"+w.cluster(object{
			"cluster_template_id": w.template(swarm().with("tls_disabled", true)),
		}), nil)
		for _, kind := range []string{"application/octet-stream", "text/plain", ""} { // without a body any type will do
			w.refused(400, "CREATE_IN_PROGRESS", "ann", "PATCH", "/v1/certificates/"+other, nil, "Content-Type: "+kind)
		}
		w.refused(400, "CREATE_IN_PROGRESS", "ann", "PATCH", "/v1/certificates/"+other, object{})
		w.refused(400, "Missing argument", "ann", "PATCH", "/v1/certificates", nil)
	})
	w.rule("no list, no DELETE", func() {
		w.refused(405, "no such method", "ann", "GET", "/v1/certificates", nil)
		w.refused(405, "no such method", "ann", "DELETE", "/v1/certificates/c", nil)
	})
	w.refusesFields("/v1/certificates", object{"cluster_uuid": id, "csr": csr}, []field{
		{name: "cluster_uuid", wrong: append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"}, wrong{strings.Repeat("x", 256), "characters"})},
		{name: "bay_uuid", wrong: text(255)},
		{name: "csr", wrong: []wrong{{absent{}, "required"}, {nil, "required"}, {"", "characters"}, {7, "text"}}},
		{name: "ca_cert_type", wrong: []wrong{{7, "text"}, {strings.Repeat("x", 256), "255"}}},
		{name: "links", wrong: readOnly()},
		{name: "created_at", wrong: readOnly()},
		{name: "updated_at", wrong: readOnly()},
		{name: "colour", wrong: []wrong{{"red", "Unknown attribute"}}},
	})
	w.rule("csr that is none", func() {
		for _, wrong := range []string{"x", "-----BEGIN CERTIFICATE REQUEST-----\nx\n-----END CERTIFICATE REQUEST-----", strings.ReplaceAll(csr, "CERTIFICATE REQUEST", "CERTIFICATE")} {
			w.refused(400, "csr", "ann", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": wrong})
		}
	})
	w.rule("cluster that is not there: 400, not 404", func() {
		w.refused(400, "nowhere … cluster_uuid", "ann", "POST", "/v1/certificates", object{"cluster_uuid": "nowhere", "csr": csr})
		w.refused(400, "nowhere … cluster_uuid", "ann", "POST", "/v1/certificates", object{"bay_uuid": "nowhere", "csr": csr})
		w.refused(400, id+" … cluster_uuid", "zoe", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr})
		w.refused(400, id+" … cluster_uuid", "admin", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr})
	})
	w.rule("pem", func() {
		signed := w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr, "pem": 7}).want(201)
		signed.is("csr", csr)
		parseCertificate(w.t, signed.text("pem"))
	})
}

// Begins with 1.12; 1.11 is the highest that is served.
func TestCredentials_9_AreNotThere(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	w.refused(404, "not known", "ann", "PATCH", "/v1/credentials/c", nil, latest)
	w.refused(404, "not known", "ann", "GET", "/v1/credentials/c", nil, latest)
	a := w.ask("ann", "PATCH", "/v1/certificates/c", nil, "OpenStack-API-Version: container-infra 1.12")
	if a.status != 406 || a.error()["max_version"] != "1.11" {
		t.Errorf("1.12: %d %s", a.status, a.raw)
	}
}

func TestCertificates_8_Rotation(t *testing.T) {
	each(t, func(w *world) {
		id := w.cluster(object{"cluster_template_id": w.template(swarm())})
		path := "/v1/certificates/" + id
		w.ask("ann", "PATCH", path, "[]").want(400)
		w.ask("ann", "PATCH", path, nil).want(400).saying("CREATE_IN_PROGRESS")
		w.finish(id, model.CreateComplete)
		before := w.ask("ann", "GET", path, nil).want(200).text("pem")
		etcd := w.ask("ann", "GET", path+"/etcd", nil).want(200).text("pem")

		w.ask("ann", "PATCH", path, nil, "Content-Type: application/octet-stream").want(202).is("uuid", id)
		w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200).is("status", "UPDATE_IN_PROGRESS")
		after := w.ask("ann", "GET", path, nil).want(200).text("pem")
		if after == before || w.ask("ann", "GET", path+"/etcd", nil).want(200).text("pem") == etcd {
			w.t.Error("the authorities are the old ones")
		}
		w.ask("ann", "PATCH", path, object{}).want(400).saying("UPDATE_IN_PROGRESS")
		w.ask("ann", "GET", path, nil).want(200).is("pem", after)
		if ops := w.operations(id); len(ops) != 2 || ops[1].Kind != model.OpRotateCA {
			w.t.Errorf("operations %+v", ops)
		}

		// One that failed can be tried again.
		w.finish(id, model.UpdateFailed)
		w.ask("ann", "PATCH", path, object{}).want(202)
		w.finish(id, model.UpdateComplete)
		open := w.cluster(object{"cluster_template_id": w.template(swarm().with("name", "open").with("tls_disabled", true))})
		w.ask("ann", "PATCH", "/v1/certificates/"+open, nil).want(400).saying("TLS")
	})
}

func TestQuotas_10_1_LifeOfAQuota(t *testing.T) {
	each(t, func(w *world) {
		shown := w.ask("ann", "GET", "/v1/quotas/project-1/Cluster", nil).want(200)
		if diff := cmp.Diff(map[string]any{"project_id": "project-1", "resource": "Cluster", "hard_limit": 20.0}, shown.body); diff != "" {
			w.t.Errorf("default quota:\n%s", diff)
		}
		w.ask("ann", "GET", "/v1/quotas/project-2/Cluster", nil).want(403)
		w.ask("admin", "GET", "/v1/quotas/project-2/Whatever", nil).want(200)

		body := object{"project_id": "project-1", "resource": "Cluster", "hard_limit": "5"}
		made := w.ask("admin", "POST", "/v1/quotas", body).want(201)
		hasKeys(w.t, made.body, "id", "project_id", "resource", "hard_limit", "created_at", "updated_at")
		w.ask("admin", "POST", "/v1/quotas", body).want(409)
		w.ask("ann", "GET", "/v1/quotas/project-1/Cluster", nil).want(200).is("hard_limit", 5.0)
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-2"}).want(201).is("hard_limit", 1.0)
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "project-3", "id": 77}).want(201).is("id", 77.0)

		path := "/v1/quotas/project-1/Cluster"
		for range 2 {
			w.ask("admin", "PATCH", path, object{"project_id": "ignored", "resource": "Cluster", "hard_limit": 9}).want(202).is("hard_limit", 9.0)
		}
		w.ask("admin", "PATCH", path, object{}).want(202).is("hard_limit", 1.0)
		w.ask("admin", "DELETE", path, nil).want(204)
		w.ask("admin", "DELETE", path, nil).want(404)
	})
}

func TestQuotas_10_1_Lists(t *testing.T) {
	each(t, func(w *world) {
		for i := range 3 {
			w.ask("admin", "POST", "/v1/quotas", object{"project_id": fmt.Sprintf("project-%d", i)}).want(201)
		}
		if all := w.ask("admin", "GET", "/v1/quotas", nil).want(200).items("quotas"); len(all) != 1 || all[0]["project_id"] != "project-0" {
			w.t.Errorf("own quotas: %v", all)
		}
		all := w.ask("admin", "GET", "/v1/quotas?all_tenants=True&limit=2", nil).want(200)
		ids := all.items("quotas")
		if len(ids) != 2 {
			w.t.Fatalf("quotas: %v", ids)
		}
		if want := fmt.Sprintf("http://magnum.example:9511/v1/quotas?sort_key=id&sort_dir=asc&limit=2&marker=%v", ids[1]["id"]); all.text("next") != want {
			w.t.Errorf("next: %q, want %q", all.text("next"), want)
		}
		rest := w.ask("admin", "GET", fmt.Sprintf("/v1/quotas?all_tenants=1&marker=%v", ids[1]["id"]), nil).want(200).items("quotas")
		if len(rest) != 1 || rest[0]["project_id"] != "project-2" {
			w.t.Errorf("second page: %v", rest)
		}
	})
}

func TestQuotas_10_1_Refused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	good := object{"project_id": "project-4", "resource": "Cluster", "hard_limit": 5}
	w.ask("admin", "POST", "/v1/quotas", good.with("project_id", "project-1")).want(201)
	const one = "/v1/quotas/project-1/Cluster"
	fields := []field{
		{name: "id", wrong: append(integer(1), wrong{"x", "integer"})},
		{name: "project_id", wrong: append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{name: "resource", wrong: []wrong{{"Node", "not one of Cluster"}, {"cluster", "not one of Cluster"}, {"", "not one of Cluster"}, {1, "text"}}},
		{name: "hard_limit", wrong: integer(0)},
		{name: "created_at", wrong: readOnly()},
		{name: "updated_at", wrong: readOnly()},
		{name: "colour", wrong: []wrong{{"red", "Unknown attribute"}}},
	}
	for _, f := range fields {
		w.rule(f.name, func() {
			for _, v := range f.wrong {
				w.refused(400, f.name+" … "+v.rule, "admin", "POST", "/v1/quotas", good.with(f.name, v.value))
				if v.rule != "required" {
					w.refused(400, f.name+" … "+v.rule, "admin", "PATCH", one, good.with(f.name, v.value))
				}
			}
		})
	}
	w.rule("GET /quotas", func() {
		w.refused(403, "quota:get_all", "ann", "GET", "/v1/quotas", nil)
		w.refused(403, "quota:get_all", "ann", "GET", "/v1/quotas?all_tenants=1", nil)
		w.refused(400, "all_tenants … true or false", "admin", "GET", "/v1/quotas?all_tenants=perhaps", nil)
		w.refused(400, "marker", "admin", "GET", "/v1/quotas?marker=x", nil)
		w.refused(400, "marker", "admin", "GET", "/v1/quotas?marker=00000000-0000-4000-8000-000000000000", nil)
		w.refused(404, "marker", "admin", "GET", "/v1/quotas?all_tenants=1&marker=4711", nil)
	})
	w.rule("GET /quotas/{project_id}/{resource}", func() {
		w.refused(403, "another project", "ann", "GET", "/v1/quotas/project-2/Cluster", nil)
		w.refused(400, "Missing argument", "ann", "GET", "/v1/quotas/project-1", nil)
	})
	w.rule("POST /quotas", func() {
		w.refused(403, "quota:create", "ann", "POST", "/v1/quotas", good)
		w.refused(409, "project-1 has a quota for Cluster already", "admin", "POST", "/v1/quotas", good.with("project_id", "project-1"))
		w.refused(404, "Project made-up", "admin", "POST", "/v1/quotas", good.with("project_id", "made-up"))
		w.refused(400, "object", "admin", "POST", "/v1/quotas", "[]")
		w.refused(400, "Missing argument", "admin", "POST", "/v1/quotas", nil)
	})
	w.rule("PATCH /quotas/{project_id}/{resource}", func() {
		w.refused(403, "quota:update", "ann", "PATCH", one, good)
		w.refused(400, "object", "admin", "PATCH", one, "[]") // no JSON patch
		w.refused(404, "project-9 has no quota for Cluster", "admin", "PATCH", "/v1/quotas/project-9/Cluster", object{})
		w.refused(404, "no quota for Node", "admin", "PATCH", "/v1/quotas/project-1/Node", object{})
		w.refused(400, "Missing argument", "admin", "PATCH", "/v1/quotas/project-1", object{})
		w.refused(400, "Missing argument", "admin", "PATCH", "/v1/quotas", object{})
	})
	w.rule("DELETE /quotas/{project_id}/{resource}", func() {
		w.refused(403, "quota:delete", "ann", "DELETE", one, nil)
		w.refused(404, "project-9 has no quota", "admin", "DELETE", "/v1/quotas/project-9/Cluster", nil)
		w.refused(400, "Missing argument", "admin", "DELETE", "/v1/quotas/project-1", nil)
		w.refused(400, "Missing argument", "admin", "DELETE", "/v1/quotas", nil)
	})
	w.rule("enforcement", func() { // hard_limit 0 forbids all
		w.ask("admin", "PATCH", one, object{"hard_limit": 0}).want(202)
		w.refused(403, "quota of 0 clusters", "ann", "POST", "/v1/clusters", object{"cluster_template_id": w.template(swarm())})
	})
}

func TestStats_10_2(t *testing.T) {
	each(t, func(w *world) {
		template := w.template(swarm())
		w.cluster(object{"cluster_template_id": template, "node_count": 3})
		w.cluster(object{"cluster_template_id": template})
		for _, test := range []struct {
			person, query   string
			clusters, nodes float64
		}{
			{"ann", "", 2, 6},
			{"reader", "?project_id=project-1", 2, 6},
			{"ann", "?type=Cluster", 2, 6},
			{"zoe", "", 0, 0},
			{"admin", "", 2, 6},
			{"admin", "?project_id=project-1", 2, 6},
			{"admin", "?project_id=project-2&type=cluster", 0, 0},
		} {
			a := w.ask(test.person, "GET", "/v1/stats"+test.query, nil).want(200)
			hasKeys(w.t, a.body, "clusters", "nodes")
			a.is("clusters", test.clusters)
			a.is("nodes", test.nodes)
		}
	})
	w := newWorld(t, storetest.New(t))
	w.refused(403, "statistics of another project", "zoe", "GET", "/v1/stats?project_id=project-1", nil)
	for _, kind := range []string{"node", "", "clusters"} {
		w.refused(400, "type of statistics", "ann", "GET", "/v1/stats?type="+kind, nil)
	}
	w.refused(400, "Unknown argument … colour", "ann", "GET", "/v1/stats?colour=red", nil)
	w.refused(400, "project_id … given 2 times", "ann", "GET", "/v1/stats?project_id=a&project_id=b", nil)
}

func TestServices_10_3(t *testing.T) {
	each(t, func(w *world) {
		w.ask("admin", "GET", "/v1/mservices", nil).want(200).is("mservices", []any{})
		for range 2 {
			if err := w.store.Heartbeat(w.t.Context(), "host-1", "magnum-conductor"); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := w.store.Heartbeat(w.t.Context(), "host-2", "magnum-conductor"); err != nil {
			w.t.Fatal(err)
		}
		a := w.ask("admin", "GET", "/v1/mservices/", nil).want(200)
		hasKeys(w.t, a.body, "mservices") // never next
		all := a.items("mservices")
		one := all[0]
		hasKeys(w.t, one, "id", "host", "binary", "state", "report_count", "disabled", "disabled_reason", "created_at", "updated_at")
		for name, want := range map[string]any{
			"id": 1.0, "host": "host-1", "binary": "magnum-conductor", "state": "up", "report_count": 2.0, "disabled": false, "disabled_reason": nil,
		} {
			if one[name] != want {
				w.t.Errorf("%s is %v, want %v", name, one[name], want)
			}
		}
		if len(all) != 2 || all[1]["id"] != 2.0 || all[1]["report_count"] != 1.0 {
			w.t.Errorf("ordered by id: %v", all)
		}
	})
	w := newWorld(t, storetest.New(t))
	w.refused(403, "magnum-service:get_all", "ann", "GET", "/v1/mservices", nil)
	for _, name := range []string{"limit", "marker", "sort_key", "sort_dir", "host"} {
		w.refused(400, "Unknown argument … "+name, "admin", "GET", "/v1/mservices?"+name+"=1", nil)
	}
}

func TestServices_17_3_StateOfAService(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	if err := w.store.Heartbeat(t.Context(), "host-1", "magnum-conductor"); err != nil {
		t.Fatal(err)
	}
	state := func() any {
		return w.ask("admin", "GET", "/v1/mservices", nil).want(200).items("mservices")[0]["state"]
	}
	began := w.now
	for _, row := range []struct {
		rule, change string
		silent       time.Duration
		want         string
	}{
		{"last_seen_up", "", 170 * time.Second, "up"},
		{"last_seen_up, too long ago", "", 200 * time.Second, "down"},
		{"updated_at in its place", "last_seen_up = NULL, updated_at = created_at", 170 * time.Second, "up"},
		{"updated_at, too long ago", "last_seen_up = NULL", 200 * time.Second, "down"},
		{"created_at in their place", "updated_at = NULL", 170 * time.Second, "up"},
		{"created_at, too long ago", "updated_at = NULL", 200 * time.Second, "down"},
		{"forced_down", "forced_down = 1", 0, "down"},
	} {
		w.rule(row.rule, func() {
			if row.change != "" {
				w.put("UPDATE service_records SET " + row.change)
			}
			w.now = began.Add(row.silent)
			if got := state(); got != row.want {
				w.t.Errorf("%v, want %s", got, row.want)
			}
		})
	}
}

func TestFederations_11_ThereAreNone(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm())})
	good := object{"name": "f", "hostcluster_id": id, "properties": object{"dns-zone": "example.org"}}
	const one = "/v1/federations/x"
	w.rule("GET /federations", func() {
		for _, path := range []string{"/v1/federations", "/v1/federations/detail", "/v1/federations?limit=3"} {
			w.ask("ann", "GET", path, nil).want(200).is("federations", []any{})
		}
		w.refused(404, "Federation x", "ann", "GET", one, nil)
		w.refused(404, "Federation 00000000-0000-4000-8000-000000000000", "ann", "GET", "/v1/federations?marker=00000000-0000-4000-8000-000000000000", nil)
	})
	w.rule("POST /federations", func() {
		// Accepted, and as in Magnum never seen again.
		made := w.ask("ann", "POST", "/v1/federations", good).want(202)
		hasKeys(w.t, made.body, "uuid")
		w.ask("ann", "POST", "/v1/federations", good.with("name", absent{})).want(202)
		w.refused(404, "Federation "+made.text("uuid"), "ann", "GET", "/v1/federations/"+made.text("uuid"), nil)
		w.ask("ann", "GET", "/v1/federations", nil).want(200).is("federations", []any{})
		w.refused(403, "federation:create", "reader", "POST", "/v1/federations", good)
		w.refused(404, "Cluster "+id, "zoe", "POST", "/v1/federations", good)
		w.refused(404, "Cluster nowhere", "ann", "POST", "/v1/federations", good.with("hostcluster_id", "nowhere"))
	})
	w.refusesFields("/v1/federations", good, []field{
		{name: "name", wrong: []wrong{{"1", "must match"}, {"", "characters"}, {strings.Repeat("x", 243), "242"}, {5, "text"}}},
		{name: "hostcluster_id", wrong: append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{name: "properties", wrong: append(labelled(), wrong{absent{}, "dns-zone"}, wrong{nil, "dns-zone"}, wrong{object{}, "dns-zone"})},
		{name: "colour", wrong: []wrong{{"red", "Unknown attribute"}}},
	})
	w.rule("PATCH /federations/{ident}", func() {
		patch := patchOf("add", "/member_ids", id)
		w.refused(404, "Federation x", "ann", "PATCH", one, patch)
		w.refused(404, "Federation x", "ann", "PATCH", one+"?rollback=true", patch)
		w.refused(400, "rollback … true or false", "ann", "PATCH", one+"?rollback=perhaps", patch)
		w.refused(400, "array", "ann", "PATCH", one, object{})
		w.refused(400, "must not be empty", "ann", "PATCH", one, "[]")
	})
	w.rule("DELETE /federations/{ident}", func() { w.refused(404, "Federation x", "ann", "DELETE", one, nil) })
	if n := len(w.operations(id)); n != 1 {
		t.Errorf("%d operations on the host cluster", n)
	}
}
