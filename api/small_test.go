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

func TestCertificates_8_WhatIsRefused(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.cluster(object{"cluster_template_id": w.template(swarm())})
	csr := request(t)
	for _, body := range []object{
		{},
		{"csr": csr},
		{"cluster_uuid": nil, "csr": csr},
		{"cluster_uuid": id},
		{"cluster_uuid": id, "csr": ""},
		{"cluster_uuid": id, "csr": nil},
		{"cluster_uuid": id, "csr": "-----BEGIN CERTIFICATE REQUEST-----\nx\n-----END CERTIFICATE REQUEST-----"},
		{"cluster_uuid": "nowhere", "csr": csr},
		{"cluster_uuid": id, "csr": csr, "colour": "red"},
		{"cluster_uuid": id, "csr": csr, "links": []string{}},
	} {
		w.ask("ann", "POST", "/v1/certificates", body).want(400)
	}
	w.ask("bob", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr}).want(403)
	w.ask("zoe", "POST", "/v1/certificates", object{"cluster_uuid": id, "csr": csr}).want(400)
	w.ask("ann", "GET", "/v1/certificates/nowhere", nil).want(404)
	w.ask("ann", "GET", "/v1/certificates", nil).want(405)
	w.ask("ann", "DELETE", "/v1/certificates/"+id, nil).want(405)
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

		for _, refused := range []object{
			{},
			{"project_id": nil},
			{"project_id": ""},
			{"project_id": "project-4", "resource": "Node"},
			{"project_id": "project-4", "hard_limit": -1},
			{"project_id": "project-4", "colour": "red"},
		} {
			w.ask("admin", "POST", "/v1/quotas", refused).want(400)
		}
		w.ask("admin", "POST", "/v1/quotas", object{"project_id": "made-up"}).want(404)
		w.ask("ann", "POST", "/v1/quotas", body).want(403)

		path := "/v1/quotas/project-1/Cluster"
		for range 2 {
			w.ask("admin", "PATCH", path, object{"project_id": "ignored", "resource": "Cluster", "hard_limit": 9}).want(202).is("hard_limit", 9.0)
		}
		w.ask("admin", "PATCH", path, object{}).want(202).is("hard_limit", 1.0)
		w.ask("admin", "PATCH", path, "[]").want(400)
		w.ask("admin", "PATCH", "/v1/quotas/project-9/Cluster", object{}).want(404)

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
		w.ask("admin", "GET", "/v1/quotas?marker=x", nil).want(400)
		w.ask("admin", "GET", "/v1/quotas?marker=4711", nil).want(404)
		w.ask("admin", "GET", "/v1/quotas?all_tenants=perhaps", nil).want(400)
		w.ask("ann", "GET", "/v1/quotas?all_tenants=1", nil).want(403)
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
		w.ask("zoe", "GET", "/v1/stats?project_id=project-1", nil).want(403)
		w.ask("ann", "GET", "/v1/stats?type=node", nil).want(400)
	})
}

func TestServices_10_3(t *testing.T) {
	each(t, func(w *world) {
		w.ask("ann", "GET", "/v1/mservices", nil).want(403)
		w.ask("admin", "GET", "/v1/mservices", nil).want(200).is("mservices", []any{})
		for range 2 {
			if err := w.store.Heartbeat(w.t.Context(), "host-1", "magnum-conductor"); err != nil {
				w.t.Fatal(err)
			}
		}
		one := w.ask("admin", "GET", "/v1/mservices", nil).want(200).items("mservices")[0]
		hasKeys(w.t, one, "id", "host", "binary", "state", "report_count", "disabled", "disabled_reason", "created_at", "updated_at")
		if one["id"] != 1.0 || one["state"] != "up" || one["report_count"] != 2.0 || one["binary"] != "magnum-conductor" {
			w.t.Errorf("service: %v", one)
		}
		w.now = w.now.Add(200 * time.Second)
		if one = w.ask("admin", "GET", "/v1/mservices", nil).want(200).items("mservices")[0]; one["state"] != "down" {
			w.t.Errorf("silent for 200 s: %v", one)
		}
		w.ask("admin", "GET", "/v1/mservices?limit=1", nil).want(400)
	})
}

func TestFederations_11_ThereAreNone(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.cluster(object{"name": "c", "cluster_template_id": w.template(swarm())})
	for _, path := range []string{"/v1/federations", "/v1/federations/detail", "/v1/federations?limit=3"} {
		w.ask("ann", "GET", path, nil).want(200).is("federations", []any{})
	}
	w.ask("ann", "GET", "/v1/federations/x", nil).want(404)
	w.ask("ann", "DELETE", "/v1/federations/x", nil).want(404)
	w.ask("ann", "PATCH", "/v1/federations/x", patchOf("add", "/member_ids", id)).want(404)
	w.ask("ann", "PATCH", "/v1/federations/x", "[]").want(400)
	good := object{"name": "f", "hostcluster_id": id, "properties": object{"dns-zone": "example.org"}}
	for _, test := range []struct {
		name   string
		value  any
		status int
	}{
		{"hostcluster_id", absent{}, 400},
		{"hostcluster_id", "nowhere", 404},
		{"properties", absent{}, 400},
		{"properties", object{}, 400},
		{"name", "1", 400},
		{"colour", "red", 400},
	} {
		w.ask("ann", "POST", "/v1/federations", good.with(test.name, test.value)).want(test.status)
	}
	// Accepted, and as in Magnum never seen again.
	made := w.ask("ann", "POST", "/v1/federations", good).want(202)
	hasKeys(t, made.body, "uuid")
	w.ask("ann", "GET", "/v1/federations/"+made.text("uuid"), nil).want(404)
	w.ask("ann", "DELETE", "/v1/federations/"+made.text("uuid"), nil).want(404)
	w.ask("ann", "PATCH", "/v1/federations/x?rollback=true", patchOf("add", "/member_ids", id)).want(404)
	w.ask("ann", "PATCH", "/v1/federations/x?rollback=perhaps", patchOf("add", "/member_ids", id)).want(400)
	w.ask("ann", "POST", "/v1/federations", good.with("name", absent{})).want(202)
	w.ask("reader", "POST", "/v1/federations", good).want(403)
	w.ask("zoe", "POST", "/v1/federations", good).want(404)
	w.ask("ann", "GET", "/v1/federations", nil).want(200).is("federations", []any{})
}
