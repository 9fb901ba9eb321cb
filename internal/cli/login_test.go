// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// variables of a login by password, all taken away.
var withoutLogin = []string{
	"OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME", "OS_REGION_NAME",
}

func (p *person) write(name, content string) string {
	p.Helper()
	file := filepath.Join(p.home, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		p.Fatal(err)
	}
	return file
}

func TestLoginByCloudsYAML(t *testing.T) {
	p := somebody(t).with(withoutLogin...)
	p.write(".config/openstack/clouds.yaml", `clouds:
  here:
    auth: {auth_url: "`+p.cloud.keystone+`", username: demo, project_name: demo, user_domain_name: Default, project_domain_name: Default}
    region_name: RegionOne
  careless:
    auth: {auth_url: "`+p.cloud.keystone+`", username: demo, password: demo, project_name: demo, user_domain_name: Default, project_domain_name: Default}
    verify: false
`)
	p.write(".config/openstack/secure.yaml", "clouds:\n  here:\n    auth: {password: demo}\n")
	p.must("list", "--os-cloud", "here")
	p.with("OS_CLOUD=here").must("list")
	p.fails(2, "always verifies", "list", "--os-cloud", "careless")
	p.fails(2, "nowhere", "list", "--os-cloud", "nowhere")
}

func TestLoginByApplicationCredential(t *testing.T) {
	p := somebody(t)
	credential := p.applicationCredential()
	app := p.with(withoutLogin...).with("OS_AUTH_URL="+p.cloud.keystone, "OS_AUTH_TYPE=v3applicationcredential", "OS_REGION_NAME=RegionOne",
		"OS_APPLICATION_CREDENTIAL_ID="+credential.ID, "OS_APPLICATION_CREDENTIAL_SECRET="+credential.Secret)
	app.must("list")
	app.with("OS_APPLICATION_CREDENTIAL_SECRET=wrong", "KEELSON_TOKEN_CACHE=off").fails(6, "application credential", "list")
}

// TestLoginByToken takes a token that somebody else got.
func TestLoginByToken(t *testing.T) {
	p := somebody(t)
	token := p.session()["token"].(string)
	p.with("OS_USERNAME", "OS_PASSWORD", "OS_TOKEN="+token).must("list")
}

// TestKeptToken saves calls, is nobody else's to read, and can be done without.
func TestKeptToken(t *testing.T) {
	p := somebody(t)
	file := p.sessionFile()
	for _, path := range []string{file, filepath.Dir(file)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v: others can read it", path, info.Mode(), err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "demo") {
		t.Errorf("the session tells too much (%v): %s", err, text)
	}

	// With it, Keystone is not asked: here it could not be.
	away := p.with("OS_PASSWORD=not needed")
	p.cloud.seen()
	away.must("list")
	if requests, _ := p.cloud.seen(); !slices.Equal(requests, []string{"GET /v1/clusters"}) {
		t.Errorf("list made the calls %v, want one", requests)
	}
	var best time.Duration
	for range 5 {
		began := time.Now()
		p.must("list")
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	t.Logf("keelson list: %s", best)
	if best > 100*time.Millisecond {
		t.Errorf("keelson list takes %s, at best", best)
	}

	// One that is not good any more is replaced, and so is one that others can read.
	session := p.session()
	session["token"] = "gone"
	text, err := json.Marshal(session)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("list")
	if p.session()["token"] == "gone" {
		t.Error("a token that the API refuses is kept on")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	before := p.session()["token"]
	p.must("list")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || p.session()["token"] == before {
		t.Errorf("a session that others could read is trusted: %v, %v", info.Mode(), err)
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.with("KEELSON_TOKEN_CACHE=off").must("list")
	if _, err := os.Stat(file); err == nil {
		t.Error("a token was kept though it was not to be")
	}
	p.must("list") // for those who clean up
}

// TestCertificatesAreVerified, and with OS_CACERT they can be.
func TestCertificatesAreVerified(t *testing.T) {
	p := somebody(t).with("KEELSON_TOKEN_CACHE=off")
	target, err := url.Parse(p.cloud.keystone)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	secure := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer secure.Close()
	ca := p.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	p = p.with("OS_AUTH_URL=" + secure.URL + "/v3")
	p.fails(7, "OS_CACERT", "list")
	p.with("OS_CACERT=" + ca).must("list")
	p.with("OS_CACERT="+p.home).fails(2, "OS_CACERT", "list")
}
