// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/internal/identity"
	"github.com/keelson/keelson/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cloud is an identity service with an administrator, who serves as the
// service user too where there is no other.
type cloud struct {
	url                      string
	admin, adminPassword     string
	service, servicePassword string
	serviceProject           string
	revoker                  string // a token of the administrator, got when needed
}

// eachCloud runs the test with the built-in identity server and with Keystone.
func eachCloud(t *testing.T, test func(t *testing.T, c *cloud)) {
	t.Run("built-in", func(t *testing.T) { test(t, builtIn(t, identity.Config{})) })
	t.Run("keystone", func(t *testing.T) {
		test(t, realKeystone(t))
	})
}

// realKeystone is the lab's; its service user has the role service and no more.
func realKeystone(t testing.TB) *cloud {
	t.Helper()
	url, password := testenv.Require(t, testenv.Keystone), testenv.Require(t, testenv.KeystonePassword)
	return &cloud{
		url: url, admin: "admin", adminPassword: password,
		service: "keelson", servicePassword: password, serviceProject: "service",
	}
}

func builtIn(t testing.TB, config identity.Config) *cloud {
	t.Helper()
	config.Projects = []identity.Project{{Name: "admin"}, {Name: "service"}}
	config.Users = []identity.User{
		{Name: "admin", Password: "admin-secret", Roles: map[string][]string{"admin": {"admin"}}},
		{Name: "keelson", Password: "keelson-secret", Roles: map[string][]string{"service": {"service"}}},
	}
	s, err := identity.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return &cloud{
		url: server.URL + "/v3", admin: "admin", adminPassword: "admin-secret",
		service: "keelson", servicePassword: "keelson-secret", serviceProject: "service",
	}
}

func (c *cloud) options() Options {
	return Options{AuthURL: c.url, Username: c.service, Password: c.servicePassword, ProjectName: c.serviceProject}
}

func (c *cloud) client(t testing.TB) *Client {
	t.Helper()
	return newClient(t, c.options())
}

func newClient(t testing.TB, options Options) *Client {
	t.Helper()
	client, err := NewClient(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// send makes one call to the identity service.
func (c *cloud) send(t testing.TB, method, path, body string, headers map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, c.url+path, strings.NewReader(body)) // cleanups send too
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	r.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(content)
}

// login returns a token of the administrator, for the project admin.
func (c *cloud) login(t testing.TB) string {
	t.Helper()
	return c.auth(t, fmt.Sprintf(`{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"id":"default"},"password":%q}}},`+
		`"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}`, c.admin, c.adminPassword))
}

func (c *cloud) auth(t testing.TB, auth string) string {
	t.Helper()
	answer, body := c.send(t, "POST", "/auth/tokens", `{"auth":`+auth+`}`, nil)
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("login: %d %s", answer.StatusCode, body)
	}
	return answer.Header.Get("X-Subject-Token")
}

func (c *cloud) revoke(t testing.TB, token string) {
	t.Helper()
	if c.revoker == "" {
		c.revoker = c.login(t)
	}
	answer, body := c.send(t, "DELETE", "/auth/tokens", "", map[string]string{"X-Auth-Token": c.revoker, "X-Subject-Token": token})
	if answer.StatusCode != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", answer.StatusCode, body)
	}
}

func TestValidate(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		client, text := c.client(t), c.login(t)
		got, err := client.Validate(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		want := &Token{
			UserName: "admin", UserDomainID: "default", UserDomainName: "Default",
			ProjectName: "admin", ProjectDomainID: "default", ProjectDomainName: "Default", IsAdminProject: true,
			Roles: []string{"admin", "member", "reader"},
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Token{}, "UserID", "ProjectID", "ExpiresAt"),
			cmpopts.SortSlices(strings.Compare), cmpopts.IgnoreSliceElements(func(role string) bool { return role == "manager" })); diff != "" {
			t.Error(diff)
		}
		if len(got.UserID) != 32 || len(got.ProjectID) != 32 || time.Until(got.ExpiresAt) < time.Minute {
			t.Errorf("user %s, project %s, until %s", got.UserID, got.ProjectID, got.ExpiresAt)
		}

		if exists, err := client.ProjectExists(NewContext(t.Context(), got, text), got.ProjectID); err != nil || !exists {
			t.Errorf("own project: %v, %v", exists, err)
		}
		if exists, err := client.ProjectExists(NewContext(t.Context(), got, text), "nowhere"); err != nil || exists {
			t.Errorf("a project that is not there: %v, %v", exists, err)
		}

		for what, text := range map[string]string{
			"empty": "", "forged": "forged", "with a space": "a b", "with a line": "a\r\nb", "not ASCII": "naïve",
			"cut": text[:len(text)-3], "huge": strings.Repeat("x", maxTokenLength+1),
		} {
			if _, err := client.Validate(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("token %s: %v", what, err)
			}
		}

		c.revoke(t, text)
		for range 2 {
			if _, err := client.Validate(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("after revocation: %v", err)
			}
			if _, err := client.ValidateExpired(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("after revocation, with allow_expired: %v", err)
			}
		}
	})
}

func TestScopes(t *testing.T) {
	c := builtIn(t, identity.Config{})
	client := c.client(t)
	text := c.auth(t, `{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":"admin-secret"}}},"scope":"unscoped"}`)
	got, err := client.Validate(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	if got.ProjectID != "" || len(got.Roles) != 0 {
		t.Errorf("not unscoped: %+v", got)
	}

	body := tokenBody{System: map[string]bool{"all": true}, Trust: &named{ID: "t"}, Domain: &named{ID: "d", Name: "D"}}
	if got := body.token(); got.SystemScope != "all" || got.TrustID != "t" || got.DomainID != "d" || got.DomainName != "D" {
		t.Errorf("%+v", got)
	}
}

// The service user's own token ends now and then: the client logs in again,
// also over a connection that the server has closed.
func TestServiceUserLogsInAgain(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		client := c.client(t)
		for range 2 {
			user := c.login(t)
			if _, err := client.Validate(t.Context(), user); err != nil {
				t.Fatal(err)
			}
			own := client.service.Token()
			c.revoke(t, own)
			if _, err := client.Validate(t.Context(), user); err != nil {
				t.Errorf("after the service user's token ended: %v", err)
			}
			if client.service.Token() == own {
				t.Error("there was no new login")
			}
			c.revoke(t, client.service.Token())
			if _, err := client.Validate(t.Context(), "forged"); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("a forged token after the service user's ended: %v", err)
			}
		}
	})
}

func TestApplicationCredentials(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		client, admin := c.client(t), c.login(t)
		owner, err := client.Validate(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		credentials := "/users/" + owner.UserID + "/application_credentials"
		answer, body := c.send(t, "POST", credentials, `{"application_credential":{"name":"keelson-test","secret":"cred-secret"}}`,
			map[string]string{"X-Auth-Token": admin})
		if answer.StatusCode != http.StatusCreated {
			t.Fatalf("%d %s", answer.StatusCode, body)
		}
		_, id, _ := strings.Cut(body, `"id":`)
		id = strings.Split(id, `"`)[1]
		remove := func() int {
			answer, _ := c.send(t, "DELETE", credentials+"/"+id, "", map[string]string{"X-Auth-Token": admin})
			return answer.StatusCode
		}
		text := c.auth(t, `{"identity":{"methods":["application_credential"],"application_credential":{"id":"`+id+`","secret":"cred-secret"}}}`)
		got, err := client.Validate(t.Context(), text)
		if err != nil {
			remove()
			t.Fatal(err)
		}
		if got.ApplicationCredentialID != id || got.ProjectID != owner.ProjectID {
			t.Errorf("%+v", got)
		}
		if _, _, err := client.LoginWithCredential(t.Context(), id, "not cred-secret"); !errors.Is(err, ErrLoginRefused) || strings.Contains(err.Error(), "cred-secret") {
			t.Errorf("a wrong secret: %v", err)
		}
		if mine, who, err := client.LoginWithCredential(t.Context(), id, "cred-secret"); err != nil || who.ProjectID != owner.ProjectID || who.UserName != "admin" {
			t.Errorf("a login with it: %+v, %v", who, err)
		} else if _, _, err := client.Enter(t.Context(), mine, owner.ProjectID); !errors.Is(err, ErrLoginRefused) {
			t.Errorf("a token of it gets another one: %v", err)
		}
		if status := remove(); status != http.StatusNoContent {
			t.Errorf("delete: %d", status)
		}
		if _, err := client.Validate(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("a token of a deleted credential: %v", err)
		}
	})
}

func TestExpiredTokens(t *testing.T) {
	c := builtIn(t, identity.Config{TokenLifetime: time.Second})
	client, text := c.client(t), c.login(t)
	deadline := time.Now().Add(2 * time.Minute)
	// The service user's own token lives as short and may end in the middle of
	// a question, which then has no answer.
	until := func(what string, question func() bool) {
		t.Helper()
		for !question() {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("the token does not expire", func() bool {
		_, err := client.Validate(t.Context(), text)
		return errors.Is(err, ErrInvalidToken)
	})
	until("the expired token is not found", func() bool {
		got, err := client.ValidateExpired(t.Context(), text)
		return err == nil && got.UserName == "admin" && time.Now().After(got.ExpiresAt)
	})
}

// Whatever is wrong with Keystone, the token is neither valid nor refused.
func TestUnavailable(t *testing.T) {
	good := builtIn(t, identity.Config{})
	text := good.login(t)

	// broken passes logins on and answers validations itself.
	broken := func(t *testing.T, validate http.HandlerFunc) Options {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				validate(w, r)
				return
			}
			r.RequestURI = ""
			r.URL.Scheme, r.URL.Host = "http", strings.TrimSuffix(strings.TrimPrefix(good.url, "http://"), "/v3")
			r.Close = true
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer answer.Body.Close()
			for name := range answer.Header {
				w.Header().Set(name, answer.Header.Get(name))
			}
			w.WriteHeader(answer.StatusCode)
			io.Copy(w, answer.Body)
		}))
		t.Cleanup(server.Close)
		options := good.options()
		options.AuthURL = server.URL + "/v3"
		return options
	}
	status := func(code int, body string) func(*testing.T) Options {
		return func(t *testing.T) Options {
			return broken(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(code)
				fmt.Fprint(w, body, r.Header.Get("X-Subject-Token"))
			})
		}
	}
	for what, options := range map[string]func(t *testing.T) Options{
		"nobody listens": func(t *testing.T) Options {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			options := good.options()
			options.AuthURL = "http://" + listener.Addr().String() + "/v3"
			return options
		},
		"it does not answer": func(t *testing.T) Options {
			release := make(chan struct{})
			options := broken(t, func(http.ResponseWriter, *http.Request) { <-release })
			t.Cleanup(func() { close(release) }) // before the server closes
			options.Timeout = 100 * time.Millisecond
			return options
		},
		"wrong service password": func(*testing.T) Options {
			options := good.options()
			options.Password = "wrong-secret"
			return options
		},
		"wrong path": func(*testing.T) Options {
			options := good.options()
			options.AuthURL = strings.TrimSuffix(good.url, "/v3") + "/identity/v3"
			return options
		},
		"401 for ever": status(401, "{}"),
		"403":          status(403, "{}"),
		"429":          status(429, "{}"),
		"500":          status(500, "boom "),
		"503":          status(503, ""),
		"a redirect": func(t *testing.T) Options {
			return broken(t, http.RedirectHandler("/v3/elsewhere", http.StatusFound).ServeHTTP)
		},
		"no JSON":       status(200, "<html>"),
		"half JSON":     status(200, `{"token":{"user":{"id":"u"`),
		"no user":       status(200, `{"token":{"expires_at":"2999-01-01T00:00:00.000000Z"}}`),
		"an empty body": status(200, `{}`),
	} {
		t.Run(what, func(t *testing.T) {
			client := newClient(t, options(t))
			for range 2 {
				got, err := client.Validate(t.Context(), text)
				if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalidToken) || got != nil {
					t.Fatalf("%+v, %v", got, err)
				}
				if strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "secret") {
					t.Errorf("the error has a secret: %v", err)
				}
			}
		})
	}

	t.Run("the caller leaves", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := good.client(t).Validate(ctx, text); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("an expired token is refused even if Keystone hands it out", func(t *testing.T) {
		client := newClient(t, status(200, `{"token":{"user":{"id":"u"},"expires_at":"2001-01-01T00:00:00.000000Z"}}`)(t))
		if _, err := client.Validate(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
			t.Error(err)
		}
	})
}

// Keystone that comes back is used again, without a restart.
func TestKeystoneComesBack(t *testing.T) {
	up := builtIn(t, identity.Config{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	options := up.options()
	options.AuthURL = "http://" + address + "/v3"
	client := newClient(t, options)
	if _, err := client.Validate(t.Context(), "x"); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}

	s, err := identity.New(identity.Config{
		Projects: []identity.Project{{Name: "service"}},
		Users:    []identity.User{{Name: "keelson", Password: "keelson-secret", Roles: map[string][]string{"service": {"service"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, listener) }()
	if _, err := client.Validate(t.Context(), "x"); !errors.Is(err, ErrInvalidToken) {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	client.Close()
	if _, err := client.Validate(t.Context(), "x"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestCAFile(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused certificate is expected
	server.StartTLS()
	defer server.Close()
	var authority bytes.Buffer
	pem.Encode(&authority, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, authority.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	validate := func(options Options) string {
		options.AuthURL, options.Username, options.Password, options.ProjectName = server.URL, "keelson", "x", "service"
		_, err := newClient(t, options).Validate(t.Context(), "x")
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%+v: %v", options, err)
		}
		return err.Error()
	}
	if got := validate(Options{CAFile: trusted}); !strings.Contains(got, "404") {
		t.Errorf("with the authority: %s", got)
	}
	if got := validate(Options{Insecure: true}); !strings.Contains(got, "404") {
		t.Errorf("insecure: %s", got)
	}
	if got := validate(Options{}); !strings.Contains(got, "certificate") {
		t.Errorf("without the authority: %s", got)
	}
	for what, options := range map[string]Options{
		"missing file": {AuthURL: server.URL, Username: "keelson", Password: "x", ProjectName: "service", CAFile: trusted + ".missing"},
		"not PEM":      {AuthURL: server.URL, Username: "keelson", Password: "x", ProjectName: "service", CAFile: "client_test.go"},
		"no URL":       {AuthURL: "controller:5000", Username: "keelson", Password: "x", ProjectName: "service"},
		"no user":      {AuthURL: server.URL, Password: "x", ProjectName: "service"},
		"nothing":      {},
	} {
		if _, err := NewClient(options); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestPing(t *testing.T) {
	client := builtIn(t, identity.Config{}).client(t)
	for range 2 {
		if err := client.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	options := Options{AuthURL: sick.URL + "/v3", Username: "keelson", Password: "secret", ProjectName: "service"}
	if err := newClient(t, options).Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("sick: %v", err)
	}
	sick.Close()
	if err := newClient(t, options).Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("gone: %v", err)
	}
}
