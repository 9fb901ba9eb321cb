// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/keystone"
)

// cloud is an API and a Keystone of few words. The real ones are behind the
// portal in the tests of cmd/keelsond.
type cloud struct {
	mu      sync.Mutex
	calls   []string // "METHOD path token body"
	revoked []string
	entered int
	refuse  *v1.Error // what the next change is answered
	now     time.Time
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if r.Method != http.MethodGet {
		c.calls = append(c.calls, fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("X-Auth-Token"), strings.TrimSpace(string(body))))
		if c.refuse != nil {
			w.WriteHeader(c.refuse.Status)
			_ = json.NewEncoder(w).Encode(v1.Errors{Errors: []v1.Error{*c.refuse}})
			return
		}
	}
	if slices.Contains(c.revoked, r.Header.Get("X-Auth-Token")) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case r.URL.Path == "/v1/clusters/detail":
		_ = json.NewEncoder(w).Encode(v1.Clusters{Clusters: []v1.Cluster{{ClusterSummary: v1.ClusterSummary{UUID: "c1", Name: "<b>demo</b>", Status: "CREATE_COMPLETE"}}}})
	case r.URL.Path == "/v1/clustertemplates":
		_ = json.NewEncoder(w).Encode(v1.ClusterTemplates{ClusterTemplates: []v1.ClusterTemplate{{TemplateFields: v1.TemplateFields{UUID: "t1", COE: "swarm-mode"}}}})
	case r.URL.Path == "/v1/clusters/c1":
		_ = json.NewEncoder(w).Encode(v1.Cluster{ClusterSummary: v1.ClusterSummary{UUID: "c1", Name: "demo", Status: "CREATE_COMPLETE"}})
	case strings.HasSuffix(r.URL.Path, "/nodegroups"):
		_ = json.NewEncoder(w).Encode(v1.NodeGroupSummaries{NodeGroups: []v1.NodeGroupSummary{{Name: "default-worker", NodeCount: 3}, {Name: "default-master", Role: "master"}}})
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/autoscale"):
		_ = json.NewEncoder(w).Encode(v1.Autoscale{ThresholdPercent: 80, SettleSeconds: 300, NodeGroups: []v1.AutoscaleGroup{{Name: "default-worker", Autoscale: true}}})
	case strings.HasSuffix(r.URL.Path, "/bundle"):
		w.Header().Set("Content-Type", "application/zip")
		_, _ = w.Write([]byte("PK zip"))
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"uuid": "c1"}`))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *cloud) token(project string) *keystone.Token {
	return &keystone.Token{UserID: "u", UserName: "ann", ProjectID: project, ProjectName: project, ExpiresAt: c.now.Add(4 * time.Hour)}
}

func (c *cloud) Login(_ context.Context, user keystone.User) (string, *keystone.Token, error) {
	switch user.Password {
	case "right":
		return "unscoped", c.token(""), nil
	case "away":
		return "", nil, keystone.ErrUnavailable
	}
	return "", nil, keystone.ErrLoginRefused
}

func (c *cloud) LoginWithCredential(_ context.Context, id, secret string) (string, *keystone.Token, error) {
	if id != "c-1" || secret != "right" {
		return "", nil, keystone.ErrLoginRefused
	}
	return "of the credential", c.token("one"), nil
}

func (c *cloud) Enter(_ context.Context, _, project string) (string, *keystone.Token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if project != "one" && project != "two" {
		return "", nil, keystone.ErrLoginRefused
	}
	c.entered++
	return fmt.Sprintf("token-%s-%d", project, c.entered), c.token(project), nil
}

func (c *cloud) ProjectsOf(context.Context, string) ([]keystone.Project, error) {
	return []keystone.Project{{ID: "two", Name: "two"}, {ID: "one", Name: "one"}}, nil
}

func (c *cloud) Revoke(_ context.Context, token string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, token)
	return nil
}

// person uses the portal through two processes that share nothing but the
// master key, turn and turn about.
type person struct {
	*testing.T
	cloud   *cloud
	client  *http.Client
	url     string
	portals []*Portal
	turn    atomic.Int64
}

func newPerson(t *testing.T, change ...func(*Options)) *person {
	t.Helper()
	file := filepath.Join(t.TempDir(), "master.key")
	p := &person{T: t, cloud: &cloud{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}}
	for range 2 {
		sealer, err := ca.LoadOrCreateKeyFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{API: p.cloud, Keystone: p.cloud, Sealer: sealer, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return p.cloud.now }}
		for _, c := range change {
			c(&o)
		}
		p.portals = append(p.portals, New(o))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.portals[p.turn.Add(1)%2].ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL + Path
	p.client = server.Client()
	p.client.Jar, _ = cookiejar.New(nil)
	return p
}

type answer struct {
	*http.Response
	text string
}

func (p *person) send(method, path string, form url.Values, headers ...string) answer {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), method, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	got, err := p.client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		p.Fatal(err)
	}
	return answer{got, string(text)}
}

func (p *person) get(path string, headers ...string) answer {
	p.Helper()
	return p.send(http.MethodGet, path, nil, headers...)
}

var secretField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func secretOf(a answer) string {
	if found := secretField.FindStringSubmatch(a.text); found != nil {
		return found[1]
	}
	return ""
}

// submit sends the form that a page holds.
func (p *person) submit(page, to string, fields url.Values, headers ...string) answer {
	p.Helper()
	if fields == nil {
		fields = url.Values{}
	}
	fields.Set("csrf", secretOf(p.get(page)))
	return p.send(http.MethodPost, to, fields, headers...)
}

func (p *person) login() {
	p.Helper()
	if a := p.submit("/login", "/login", credentials("right")); a.StatusCode != http.StatusOK || !strings.HasSuffix(a.Request.URL.Path, "/clusters") {
		p.Fatalf("login: %s at %s", a.Status, a.Request.URL)
	}
}

func credentials(password string) url.Values {
	return url.Values{"user": {"ann"}, "domain": {"Default"}, "password": {password}}
}

// at is the page where the person ended up.
func (a answer) at() string { return strings.TrimPrefix(a.Request.URL.Path, Path) }

func (a answer) want(t *testing.T, status int, texts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s: %s, want %d", a.Request.URL, a.Status, status)
	}
	for _, text := range texts {
		if !strings.Contains(a.text, text) {
			t.Errorf("%s does not say %q:\n%s", a.Request.URL, text, a.text)
		}
	}
}

// Whoever is not logged in is sent to, and comes back to where they wanted.
func TestTheWayIn(t *testing.T) {
	p := newPerson(t)
	first := p.get("/clusters/c1/delete")
	if first.at() != "/login" || !strings.Contains(first.text, `name="next" value="/clusters/c1/delete"`) {
		t.Fatalf("at %s: %s", first.at(), first.text)
	}
	for password, want := range map[string]int{"wrong": 401, "away": 503, "": 422} {
		a := p.submit("/login", "/login", credentials(password))
		a.want(t, want, `role="alert"`)
		if password != "" && strings.Contains(a.text, `value="`+password) {
			t.Error("the page repeats the password")
		}
	}
	fields := credentials("right")
	fields.Set("next", "/clusters/c1/delete")
	if a := p.submit("/login", "/login", fields); a.at() != "/clusters/c1/delete" {
		t.Errorf("after the login at %s", a.at())
	}
	for _, elsewhere := range []string{"//evil.example", `/\evil.example`, "https://evil.example", "/\t/evil.example", ""} {
		if got := inside(elsewhere); got != "/clusters" {
			t.Errorf("next=%q leads to %q", elsewhere, got)
		}
	}
}

// An application credential opens its one project, and no other.
func TestTheWayInWithACredential(t *testing.T) {
	p := newPerson(t)
	p.get("/login").want(t, 200, "?with=credential")
	fields := func(secret string) url.Values {
		return url.Values{"with": {"credential"}, "credential": {" c-1 "}, "secret": {secret}, "next": {"/quotas"}}
	}
	for secret, want := range map[string]int{"wrong-secret": 401, "": 422} {
		a := p.submit("/login?with=credential", "/login", fields(secret))
		a.want(t, want, `role="alert"`, `name="secret"`, `value="c-1"`)
		if strings.Contains(a.text, "wrong-secret") {
			t.Error("the page repeats the secret")
		}
	}
	if a := p.submit("/login?with=credential", "/login", fields("right")); a.at() != "/quotas" {
		t.Fatalf("after the login at %s", a.at())
	}
	p.get("/projects").want(t, 200, "<b>one</b>", "works in one project")
	p.submit("/projects", "/projects", url.Values{"project": {"two"}}).want(t, 403, "works in one project")
	p.submit("/clusters/c1/delete", "/clusters/c1/delete", url.Values{"confirm": {"demo"}})
	if diff := cmp.Diff([]string{"DELETE /v1/clusters/c1 of the credential "}, p.cloud.calls); diff != "" || p.cloud.entered > 0 {
		t.Errorf("%d projects were entered; requests (-want +got):\n%s", p.cloud.entered, diff)
	}
	p.submit("/clusters", "/logout", nil).want(t, 200, "You are logged out.")
	if diff := cmp.Diff([]string{"of the credential"}, p.cloud.revoked); diff != "" {
		t.Errorf("revoked (-want +got):\n%s", diff)
	}
}

// What is shown is escaped, and comes with the headers that keep it in place.
func TestPagesAreSafe(t *testing.T) {
	p := newPerson(t)
	p.login()
	a := p.get("/clusters")
	a.want(t, 200, "&lt;b&gt;demo&lt;/b&gt;")
	policy := a.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy %q has no %s", policy, part)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, forbidden := range []string{"unsafe", "http://", "https://", " style=", "<script>", " on"} {
		if strings.Contains(policy, forbidden) || forbidden != "https://" && forbidden != "http://" && forbidden != " on" && strings.Contains(a.text, forbidden) {
			t.Errorf("%q is there", forbidden)
		}
	}
}

// A form counts when it is one of this session and project, sent by a page of
// the portal.
func TestForgedForms(t *testing.T) {
	p := newPerson(t)
	p.login()
	good := url.Values{"confirm": {"demo"}, "csrf": {secretOf(p.get("/clusters/c1/delete"))}}
	for what, forged := range map[string]answer{
		"no secret":           p.send("POST", "/clusters/c1/delete", url.Values{"confirm": {"demo"}}),
		"another's secret":    p.send("POST", "/clusters/c1/delete", url.Values{"confirm": {"demo"}, "csrf": {(&session{Key: make([]byte, 16)}).secret()}}),
		"a cut secret":        p.send("POST", "/clusters/c1/delete", url.Values{"confirm": {"demo"}, "csrf": {good.Get("csrf")[:20]}}),
		"from another site":   p.send("POST", "/clusters/c1/delete", good, "Sec-Fetch-Site: cross-site"),
		"from another origin": p.send("POST", "/clusters/c1/delete", good, "Origin: https://evil.example"),
		"from a sibling":      p.send("POST", "/clusters/c1/delete", good, "Sec-Fetch-Site: same-site"),
	} {
		if forged.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", what, forged.Status)
		}
	}
	p.submit("/projects", "/projects", url.Values{"project": {"two"}}).want(t, 200, "You are in another project now.")
	p.send("POST", "/clusters/c1/delete", good).want(t, 403, "out of date") // of the project before
	if len(p.cloud.calls) > 0 {
		t.Errorf("forged forms had effect: %q", p.cloud.calls)
	}
	if a := p.submit("/login", "/login", credentials("right"), "Origin: https://evil.example"); a.StatusCode != http.StatusForbidden {
		t.Errorf("a forged login: %s", a.Status)
	}
}

// Forms become requests of the API, in the name of who sent them.
func TestFormsBecomeRequests(t *testing.T) {
	p := newPerson(t)
	p.login()
	p.submit("/clusters/new", "/clusters/new", url.Values{
		"name": {"harbour"}, "cluster_template_id": {"t1"}, "node_count": {"2"}, "master_count": {""}, "labels": {"a=b\r\n c = d=e \r\n"},
	}).want(t, 200)
	p.submit("/clusters/c1/grow", "/clusters/c1/grow", url.Values{"nodegroup": {"default-worker"}, "node_count": {"1"}}).want(t, 422, "Tick the box")
	p.submit("/clusters/c1/grow", "/clusters/c1/grow", url.Values{"nodegroup": {"default-worker"}, "node_count": {"1"}, "consent": {"yes"}})
	p.submit("/clusters/c1/grow", "/clusters/c1/grow", url.Values{"nodegroup": {"default-worker"}, "node_count": {"many"}}).want(t, 422, "whole number")
	p.submit("/clusters/c1/upgrade", "/clusters/c1/upgrade", url.Values{"cluster_template": {"t1"}, "max_batch_size": {"2"}})
	p.submit("/clusters/c1/autoscale", "/clusters/c1/autoscale", url.Values{
		"enabled": {"yes"}, "threshold_percent": {" 75 "}, "settle_seconds": {""},
		"group-0": {"default-worker"}, "part-0": {"yes"}, "min_node_count-0": {"1"}, "max_node_count-0": {"9"}, "group-1": {"gpu"},
	}).want(t, 200, "The settings are kept.")
	p.submit("/clusters/c1/autoscale", "/clusters/c1/autoscale", url.Values{"threshold_percent": {"most"}}).want(t, 422, "whole number", `href="#threshold_percent"`, `value="most"`)
	p.submit("/templates/new", "/templates/new", url.Values{"coe": {"swarm-mode"}, "image_id": {""}}).want(t, 422, `id="image_id-wrong"`)
	p.submit("/templates/new", "/templates/new", url.Values{
		"name": {"mine"}, "coe": {"swarm-mode"}, "image_id": {"node"}, "docker_volume_size": {"20"}, "labels": {"a=b"}, "public": {"yes"}, "project_id": {"x"},
	})
	p.submit("/clusters/c1/delete", "/clusters/c1/delete", url.Values{"confirm": {"Demo"}}).want(t, 422, "Type the name of the cluster")
	p.submit("/clusters/c1/delete", "/clusters/c1/delete", url.Values{"confirm": {"demo"}}).want(t, 200, "is being deleted")
	zip := p.submit("/clusters/c1/delete", "/clusters/c1/bundle", url.Values{"days": {"7"}})
	zip.want(t, 200, "PK zip")
	if got := zip.Header.Get("Content-Disposition"); got != `attachment; filename="demo.zip"` {
		t.Errorf("the bundle is called %s", got)
	}
	want := []string{
		`POST /v1/clusters token-one-1 {"cluster_template_id":"t1","labels":{"a":"b","c":"d=e"},"merge_labels":true,"name":"harbour","node_count":2}`,
		`POST /v1/clusters/c1/actions/resize token-one-1 {"node_count":1,"nodegroup":"default-worker"}`,
		`POST /v1/clusters/c1/actions/upgrade token-one-1 {"cluster_template":"t1","max_batch_size":2}`,
		`PUT /v1/clusters/c1/autoscale token-one-1 {"enabled":true,"nodegroups":[{"name":"default-worker","min_node_count":1,"max_node_count":9,"autoscale":true},{"name":"gpu","autoscale":false}],"threshold_percent":75}`,
		`POST /v1/clustertemplates token-one-1 {"coe":"swarm-mode","docker_volume_size":20,"image_id":"node","labels":{"a":"b"},"name":"mine","public":true}`,
		`DELETE /v1/clusters/c1 token-one-1 `,
		`POST /v1/clusters/c1/credentials/bundle token-one-1 {"ttl_seconds":604800}`,
	}
	if diff := cmp.Diff(want, p.cloud.calls); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// What the API refuses is said at the field that it is about.
func TestRefusalsAreAtTheirField(t *testing.T) {
	for detail, field := range map[string]string{
		`Invalid input for attribute "node_count": it must be 0 or more, not -1.`:  "node_count",
		"ClusterTemplate t9 (cluster_template_id) could not be found.":             "cluster_template_id",
		"The master_count must be 1 when master_lb_enabled is false.":              "master_count",
		`Invalid input for attribute "master_flavor_id": it is not known.`:         "master_flavor_id",
		"The project's quota of 20 clusters is used up. Delete a cluster by name.": "",
	} {
		got := faultsOf(&Refusal{Status: 400, Detail: detail}, clusterFields...)
		if diff := cmp.Diff(faults{field: detail}, got); diff != "" {
			t.Errorf("%s", diff)
		}
	}
	groups := []v1.AutoscaleGroupRequest{{Name: "gpu"}, {Name: "gpu-2"}}
	for detail, field := range map[string]string{
		"The min_node_count 4 of node group gpu is more than the 3 nodes that it has.":    "min_node_count-0",
		"The min_node_count 4 of node group gpu-2 is more than its max_node_count 3.":     "min_node_count-1",
		"The max_node_count 1 of node group gpu-2 is less than the 3 nodes that it has.":  "max_node_count-1",
		`Invalid input for attribute "threshold_percent": it must be from 1 to 100.`:      "",
		"The max_node_count 1 of node group of another page is less than what it may be.": "",
	} {
		var want faults
		if field != "" {
			want = faults{field: detail}
		}
		if diff := cmp.Diff(want, groupFault(&Refusal{Status: 400, Detail: detail}, groups)); diff != "" {
			t.Errorf("%s", diff)
		}
	}
	for _, err := range []error{&Refusal{Status: 500}, &Refusal{Status: 401}, errors.New("other")} {
		if got := faultsOf(err, clusterFields...); got != nil {
			t.Errorf("%v: %v", err, got)
		}
	}
	p := newPerson(t)
	p.login()
	p.cloud.refuse = &v1.Error{Status: 400, Detail: `Invalid input for attribute "name": it must match ^x$.`}
	p.submit("/clusters/new", "/clusters/new", url.Values{"name": {"9"}, "cluster_template_id": {"t1"}, "node_count": {"2"}}).
		want(t, 422, `id="name-wrong"`, `aria-describedby="name-hint name-wrong" aria-invalid="true"`, `value="9"`, `href="#name"`)
}

// A session ends when nobody does anything, when its time is over, and with
// the logout; pages that refresh themselves do not keep it alive.
func TestSessionsEnd(t *testing.T) {
	inside := func(p *person) bool { return p.get("/clusters").at() == "/clusters" }
	pass := func(p *person, d time.Duration) { p.cloud.now = p.cloud.now.Add(d) }
	t.Run("idle", func(t *testing.T) {
		p := newPerson(t)
		p.login()
		for range 3 {
			pass(p, 29*time.Minute)
			if !inside(p) {
				t.Fatal("thrown out while active")
			}
		}
		pass(p, 20*time.Minute)
		p.get("/clusters", "HX-Request: true").want(t, 200)
		pass(p, 11*time.Minute)
		if a := p.get("/clusters", "HX-Request: true"); a.StatusCode != http.StatusUnauthorized || a.Header.Get("HX-Refresh") != "true" {
			t.Errorf("a piece of a page: %s", a.Status)
		}
		if inside(p) {
			t.Error("still inside after half an hour of nothing")
		}
	})
	t.Run("the token's end", func(t *testing.T) {
		p := newPerson(t)
		p.login()
		for range 10 {
			pass(p, 25*time.Minute)
			if !inside(p) {
				return
			}
		}
		t.Error("the session outlives its token")
	})
	t.Run("logout", func(t *testing.T) {
		p := newPerson(t)
		p.login()
		address, _ := url.Parse(p.url)
		stolen := p.client.Jar.Cookies(address)
		p.submit("/projects", "/projects", url.Values{"project": {"two"}})
		p.submit("/clusters", "/logout", nil).want(t, 200, "You are logged out.")
		if diff := cmp.Diff([]string{"token-one-1", "token-two-2", "unscoped"}, p.cloud.revoked); diff != "" {
			t.Errorf("revoked (-want +got):\n%s", diff)
		}
		if inside(p) {
			t.Error("inside after the logout")
		}
		p.client.Jar.SetCookies(address, stolen)
		if inside(p) {
			t.Error("an old cookie still opens the door")
		}
	})
}

// The cookie tells nothing, can not be made, and does not leave the browser
// but to where it came from.
func TestTheCookie(t *testing.T) {
	p := newPerson(t, func(o *Options) { o.ProxyHeaders = true })
	p.login()
	address, _ := url.Parse(p.url)
	cookie := p.client.Jar.Cookies(address)[0]
	if strings.Contains(cookie.Value, "token") || strings.Contains(cookie.Value, "ann") || len(cookie.Value) < 100 {
		t.Errorf("cookie %s", cookie)
	}
	changed := *cookie
	changed.Value = cookie.Value[:50] + "A" + cookie.Value[51:]
	if changed.Value == cookie.Value {
		changed.Value = cookie.Value[:50] + "B" + cookie.Value[51:]
	}
	p.client.Jar.SetCookies(address, []*http.Cookie{&changed})
	if a := p.get("/clusters"); a.at() != "/login" {
		t.Error("a changed cookie is taken")
	}
	set := p.get("/login").Header.Get("Set-Cookie")
	if !strings.HasPrefix(set, "keelson=") || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Lax") || strings.Contains(set, "Domain") {
		t.Errorf("cookie: %s", set)
	}
	set = p.get("/login", "X-Forwarded-Proto: https").Header.Get("Set-Cookie")
	if !strings.HasPrefix(set, "__Host-keelson=") || !strings.Contains(set, "Secure") || !strings.Contains(set, "Path=/;") {
		t.Errorf("cookie over TLS: %s", set)
	}
	a := p.get("/login", "X-Forwarded-Prefix: /container-infra")
	a.want(t, 200, `action="/container-infra/portal/login"`, `href="/container-infra/portal/static/portal.css`)
	if a := p.get("/login", "X-Forwarded-Prefix: //evil.example"); strings.Contains(a.text, "evil") {
		t.Error("a forged prefix is taken")
	}
}

func TestLoginsAreLimited(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	a := newAttempts(2)
	for i, want := range []bool{true, true, false, false} {
		if got := a.allow(now, "192.0.2.1", "ann"); got != want {
			t.Errorf("attempt %d of one name: %v", i, got)
		}
	}
	for i, want := range []bool{true, true, false} { // the address has two of six left
		if got := a.allow(now, "192.0.2.1", fmt.Sprint("user", i)); got != want {
			t.Errorf("attempt %d of one address: %v", i, got)
		}
	}
	if !a.allow(now, "192.0.2.2", "bob") {
		t.Error("somebody else is kept out")
	}
	if !a.allow(now.Add(time.Minute), "192.0.2.1", "ann") {
		t.Error("kept out in the next minute")
	}
	for i := range 2 * mostCounters {
		a.allow(now, fmt.Sprint(i), fmt.Sprint(i))
	}
	if len(a.counts) > mostCounters+2 {
		t.Errorf("%d counters", len(a.counts))
	}
	p := newPerson(t, func(o *Options) { o.LoginsPerMinute = 1 })
	for range 2 { // one for each process
		p.submit("/login", "/login", credentials("wrong"))
		p.turn.Add(1)
	}
	p.submit("/login", "/login", credentials("right")).want(t, 429, "Too many attempts")
}
