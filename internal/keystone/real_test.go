// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// person is a user of the real Keystone who is there for one test.
type person struct {
	*cloud
	t                        testing.TB
	id, name, password, role string // role is the id of "member"
}

// newPerson makes a user with the role member on the project demo, and on the
// domain Default.
func newPerson(t testing.TB, c *cloud) *person {
	t.Helper()
	p := &person{cloud: c, t: t, name: "keelson-test-" + uuid.NewString(), password: uuid.NewString()}
	made := p.asAdmin("POST", "/users", fmt.Sprintf(`{"user":{"name":%q,"password":%q,"domain_id":"default"}}`, p.name, p.password), 201)
	p.id = made["user"].(map[string]any)["id"].(string)
	t.Cleanup(func() { p.asAdmin("DELETE", "/users/"+p.id, "", 204) })
	p.role = first(p.asAdmin("GET", "/roles?name=member", "", 200)["roles"])
	p.asAdmin("PUT", "/projects/"+p.demo()+"/users/"+p.id+"/roles/"+p.role, "", 204)
	p.asAdmin("PUT", "/domains/default/users/"+p.id+"/roles/"+p.role, "", 204)
	return p
}

func first(list any) string { return list.([]any)[0].(map[string]any)["id"].(string) }

// demo is the id of that project.
func (p *person) demo() string {
	p.t.Helper()
	return first(p.asAdmin("GET", "/projects?name=demo", "", 200)["projects"])
}

func (p *person) asAdmin(method, path, body string, status int) map[string]any {
	p.t.Helper()
	if p.revoker == "" {
		p.revoker = p.cloud.login(p.t)
	}
	return p.call(p.revoker, method, path, body, status)
}

func (p *person) call(token, method, path, body string, status int) map[string]any {
	p.t.Helper()
	answer, text := p.send(p.t, method, path, body, map[string]string{"X-Auth-Token": token})
	if answer.StatusCode != status {
		p.t.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	var decoded map[string]any
	_ = json.Unmarshal([]byte(text), &decoded) // a 204 has no body
	return decoded
}

const inDemo = `{"project":{"name":"demo","domain":{"id":"default"}}}`

// token logs in for a scope, as Keystone writes it.
func (p *person) token(scope string) string {
	p.t.Helper()
	return p.auth(p.t, fmt.Sprintf(`{"identity":{"methods":["password"],"password":{"user":{"id":%q,"password":%q}}},"scope":%s}`, p.id, p.password, scope))
}

// credential makes an application credential with those attributes more and
// returns a token of it.
func (p *person) credential(attributes string) string {
	p.t.Helper()
	made := p.call(p.token(inDemo), "POST", "/users/"+p.id+"/application_credentials",
		fmt.Sprintf(`{"application_credential":{"name":%q,"secret":"s"%s}}`, uuid.NewString(), attributes), 201)
	id := made["application_credential"].(map[string]any)["id"].(string)
	return p.auth(p.t, fmt.Sprintf(`{"identity":{"methods":["application_credential"],"application_credential":{"id":%q,"secret":"s"}}}`, id))
}

// serviceToken is one of the service user.
func (c *cloud) serviceToken(t testing.TB) string {
	t.Helper()
	return c.auth(t, fmt.Sprintf(`{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"id":"default"},"password":%q}}},`+
		`"scope":{"project":{"name":"service","domain":{"id":"default"}}}}`, c.service, c.servicePassword))
}

// What each kind of token of a real Keystone says.
func TestScopesOfARealKeystone(t *testing.T) {
	c := realKeystone(t)
	p := newPerson(t, c)
	client := c.client(t)
	read := func(text string) *Token {
		t.Helper()
		token, err := client.Validate(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	member := func(token *Token) bool {
		return slices.Contains(token.Roles, "member") && slices.Contains(token.Roles, "reader") && !slices.Contains(token.Roles, "admin")
	}
	if got := read(p.token(inDemo)); got.ProjectID != p.demo() || got.ProjectName != "demo" || !member(got) || got.UserID != p.id {
		t.Errorf("project: %+v", got)
	}
	if got := read(p.token(`{"domain":{"id":"default"}}`)); got.DomainID != "default" || got.ProjectID != "" || !member(got) {
		t.Errorf("domain: %+v", got)
	}
	if got := read(p.token(`"unscoped"`)); got.ProjectID != "" || got.DomainID != "" || len(got.Roles) != 0 || got.UserID != p.id {
		t.Errorf("unscoped: %+v", got)
	}
	system := c.auth(t, fmt.Sprintf(`{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":%q}}},`+
		`"scope":{"system":{"all":true}}}`, c.adminPassword))
	if got := read(system); got.SystemScope != "all" || got.ProjectID != "" || !slices.Contains(got.Roles, "admin") {
		t.Errorf("system: %+v", got)
	}
	if got := read(p.credential("")); got.ApplicationCredentialID == "" || got.AccessRules != nil || got.ProjectID != p.demo() || !member(got) {
		t.Errorf("application credential: %+v", got)
	}

	// A trust of the person's for the service user, who then speaks as the person.
	service := read(c.serviceToken(t))
	made := p.call(p.token(inDemo), "POST", "/OS-TRUST/trusts", fmt.Sprintf(
		`{"trust":{"trustor_user_id":%q,"trustee_user_id":%q,"project_id":%q,"impersonation":true,"roles":[{"name":"member"}]}}`,
		p.id, service.UserID, p.demo()), 201)
	trust := made["trust"].(map[string]any)["id"].(string)
	text := c.auth(t, fmt.Sprintf(`{"identity":{"methods":["password"],"password":{"user":{"id":%q,"password":%q}}},"scope":{"OS-TRUST:trust":{"id":%q}}}`,
		service.UserID, c.servicePassword, trust))
	if got := read(text); got.TrustID != trust || got.UserID != p.id || got.ProjectID != p.demo() || !member(got) {
		t.Errorf("trust: %+v", got)
	}
}

// guarded is the middleware as keelsond uses it, before a handler that answers
// with the user's id.
func guarded(v Validator, options ...MiddlewareOption) http.Handler {
	return Middleware(v, "http://keystone:5000/v3", nil, options...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, FromContext(r.Context()).UserID)
	}))
}

func visit(handler http.Handler, method, path, token, serviceToken string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("X-Auth-Token", token)
	if serviceToken != "" {
		r.Header.Set("X-Service-Token", serviceToken)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// A credential with access rules works for what they list, and for everything
// when a service passes the request on.
func TestAccessRulesOfARealKeystone(t *testing.T) {
	c := realKeystone(t)
	p := newPerson(t, c)
	text := p.credential(`,"access_rules":[{"path":"/v1/clusters","method":"GET","service":"container-infra"},` +
		`{"path":"/v1/clusters/*","method":"GET","service":"container-infra"},{"path":"/v1/quotas","method":"GET","service":"compute"}]`)
	service, plain := c.serviceToken(t), p.token(inDemo)
	validator := NewCache(c.client(t), CacheOptions{})
	here, nameless := guarded(validator, ServiceType("container-infra")), guarded(validator)
	for _, row := range []struct {
		what, method, path, service string
		handler                     http.Handler
		status                      int
	}{
		{"a rule's path", "GET", "/v1/clusters", "", here, 200},
		{"a rule's pattern", "GET", "/v1/clusters/x", "", here, 200},
		{"another method", "POST", "/v1/clusters", "", here, 401},
		{"another path", "GET", "/v1/clustertemplates", "", here, 401},
		{"below the pattern", "GET", "/v1/clusters/x/nodegroups", "", here, 401},
		{"another service's rule", "GET", "/v1/quotas", "", here, 401},
		{"passed on by a service", "POST", "/v1/clusters", service, here, 200},
		{"passed on by a user", "POST", "/v1/clusters", plain, here, 401},
		{"no service_type configured", "GET", "/v1/clusters", "", nameless, 401},
	} {
		for range 2 { // the second answer is from the cache
			if w := visit(row.handler, row.method, row.path, text, row.service); w.Code != row.status {
				t.Errorf("%s: %d %s", row.what, w.Code, w.Body)
			}
		}
	}
}

// A token that ends is refused, unless a service vouches for the request.
// Keystone writes the end of such a token without a time zone.
func TestExpiredTokensOfARealKeystone(t *testing.T) {
	c := realKeystone(t)
	p := newPerson(t, c)
	service, plain := c.serviceToken(t), p.token(inDemo)
	handler := guarded(NewCache(c.client(t), CacheOptions{NegativeTime: time.Millisecond}))
	var text string
	var end time.Time
	for life := 4 * time.Second; ; life *= 2 { // longer if Keystone takes that long to make one
		end = time.Now().Add(life).UTC()
		text = p.credential(end.Format(`,"expires_at":"2006-01-02T15:04:05.000000"`))
		w := visit(handler, "GET", "/v1/clusters", text, "")
		if w.Code == 200 && w.Body.String() == p.id {
			break
		}
		if time.Now().Before(end.Add(-time.Second)) || life > time.Minute {
			t.Fatalf("before its end: %d %s", w.Code, w.Body)
		}
	}
	for visit(handler, "GET", "/v1/clusters", text, "").Code != 401 {
		if time.Since(end) > 10*time.Second {
			t.Fatal("it works for longer than it should")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if time.Until(end) > time.Second {
		t.Errorf("it ended %s early", time.Until(end))
	}
	for _, row := range []struct {
		what, service string
		status        int
	}{
		{"alone", "", 401}, {"from a service", service, 200}, {"from a user", plain, 401},
	} {
		if w := visit(handler, "GET", "/v1/clusters", text, row.service); w.Code != row.status {
			t.Errorf("after its end, %s: %d %s", row.what, w.Code, w.Body)
		}
	}
	if w := visit(guarded(c.client(t), ServiceTokenRoles([]string{"service"}, true)), "GET", "/v1/clusters", plain, plain); w.Code != 401 {
		t.Errorf("service_token_roles_required, and a user's token as service token: %d", w.Code)
	}
}

// gate stands before the real Keystone: it counts validations and may be
// closed or play tricks.
type gate struct {
	url         string
	validations atomic.Int64
	trick       atomic.Pointer[http.HandlerFunc]
}

func newGate(t *testing.T, c *cloud) *gate {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(c.url, "/v3"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	forward := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if trick := g.trick.Load(); trick != nil {
			(*trick)(w, r)
			return
		}
		if r.Method == http.MethodGet && r.URL.Path == "/v3/auth/tokens" {
			g.validations.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	g.url = server.URL + "/v3"
	return g
}

func (g *gate) play(trick http.HandlerFunc) { g.trick.Store(&trick) }
func (g *gate) open()                       { g.trick.Store(nil) }

func (g *gate) client(t *testing.T, c *cloud) *Client {
	t.Helper()
	options := c.options()
	options.AuthURL, options.Timeout = g.url, 2*time.Second
	return newClient(t, options)
}

// Many requests with the same new token are one question to Keystone, and a
// revoked token is refused when the cache time is over, not later.
func TestCacheBeforeARealKeystone(t *testing.T) {
	c := realKeystone(t)
	g, text := newGate(t, c), c.login(t)
	const life = 2 * time.Second
	handler := guarded(NewCache(g.client(t, c), CacheOptions{Time: life, NegativeTime: time.Minute}))
	began := time.Now()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if w := visit(handler, "GET", "/v1/clusters", text, ""); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	group.Wait()
	if n := g.validations.Load(); n != 1 {
		t.Errorf("50 requests at once made %d validations", n)
	}
	c.revoke(t, text)
	if time.Since(began) < life/2 && visit(handler, "GET", "/v1/clusters", text, "").Code != 200 {
		t.Error("the cache was not asked")
	}
	for visit(handler, "GET", "/v1/clusters", text, "").Code != 401 {
		if time.Since(began) > life+5*time.Second { // the questions themselves take time
			t.Fatal("the revoked token still works")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took < life-time.Second {
		t.Errorf("refused after %s: this was not the cache", took)
	}
	if n := g.validations.Load(); n != 2 {
		t.Errorf("%d validations, want 2", n)
	}
}

// However Keystone fails, nobody is let in and nobody is sent away as a
// stranger; who was checked a moment ago may go on. When Keystone is back, so
// is everything.
func TestARealKeystoneFails(t *testing.T) {
	c := realKeystone(t)
	known, stranger := c.login(t), c.login(t)
	for what, trick := range map[string]http.HandlerFunc{
		"connections break": func(w http.ResponseWriter, _ *http.Request) {
			connection, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				connection.(*net.TCPConn).SetLinger(0)
				connection.Close()
			}
		},
		"it hangs": func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // only then the server sees the client leave
			<-r.Context().Done()
		},
		"it answers 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"it answers 503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"it answers 401": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"it answers 403": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"a login page":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in</html>") },
		"empty JSON":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, c)
			cached := guarded(NewCache(g.client(t, c), CacheOptions{Time: time.Hour}))
			uncached := guarded(g.client(t, c))
			for _, handler := range []http.Handler{cached, uncached} {
				if w := visit(handler, "GET", "/v1/clusters", known, ""); w.Code != 200 {
					t.Fatalf("all is well, but %d %s", w.Code, w.Body)
				}
			}
			g.play(trick)
			for _, row := range []struct {
				who, token, service string
				handler             http.Handler
				status              int
			}{
				{"known, with a cache", known, "", cached, 200},
				{"known, without a cache", known, "", uncached, 503},
				{"not known yet", stranger, "", cached, 503},
				{"forged", "forged", "", cached, 503},
				{"a service that is not known yet", known, stranger, cached, 503},
				{"nobody", "", "", cached, 401},
			} {
				w := visit(row.handler, "GET", "/v1/clusters", row.token, row.service)
				if w.Code != row.status {
					t.Errorf("%s: %d %s", row.who, w.Code, w.Body)
				}
				if row.status == 503 && (w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s: header %v", row.who, w.Header())
				}
			}
			g.open()
			for _, handler := range []http.Handler{cached, uncached} {
				if w := visit(handler, "GET", "/v1/clusters", stranger, ""); w.Code != 200 {
					t.Errorf("Keystone is back: %d %s", w.Code, w.Body)
				}
			}
			if w := visit(cached, "GET", "/v1/clusters", "forged", ""); w.Code != 401 {
				t.Errorf("Keystone is back, a forged token: %d", w.Code)
			}
		})
	}
}

// Call speaks for the user, together with the service user's own token, and
// for the service user when there is no user. A service that refuses them
// makes the service user log in again; a user's token that is still refused is
// the user's fault.
func TestCallInAUsersName(t *testing.T) {
	c := realKeystone(t)
	client, user := c.client(t), c.login(t)
	// ward checks both tokens as a service with keystonemiddleware does.
	var seen []string
	ward := httptest.NewServer(Middleware(c.client(t), "", nil, ServiceTokenRoles([]string{"service"}, true))(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			who := FromContext(r.Context()).UserID
			if r.Header.Get("X-Service-Token") != "" {
				who += " through a service"
			}
			seen = append(seen, who)
		})))
	defer ward.Close()
	get := func(token string) error {
		ctx := t.Context()
		if token != "" {
			ctx = NewContext(ctx, nil, token)
		}
		return client.Call(ctx, ward.URL+"/", func(ctx context.Context, s *gophercloud.ServiceClient) error {
			_, err := s.Get(ctx, s.ServiceURL("things"), nil, nil)
			return err
		})
	}
	who := func(text string) string {
		token, err := client.Validate(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		return token.UserID
	}
	admin, service := who(user), who(c.serviceToken(t))
	for range 2 {
		if err := get(user); err != nil {
			t.Fatal(err)
		}
		if err := get(""); err != nil {
			t.Fatal(err)
		}
		c.revoke(t, client.service.Token())
	}
	if want := []string{admin + " through a service", service, admin + " through a service", service}; !slices.Equal(seen, want) {
		t.Errorf("the service saw %v, want %v", seen, want)
	}
	c.revoke(t, user)
	if err := get(user); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a revoked user: %v", err)
	}
}

func TestServiceCatalogue(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		entries, err := c.client(t).Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(entries, func(e tokens.CatalogEntry) bool { return e.Type == "identity" && len(e.Endpoints) > 0 }) {
			t.Errorf("%+v", entries)
		}
	})
}
