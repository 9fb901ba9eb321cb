// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keelson/keelson/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{
		Projects: []Project{{Name: "admin"}, {Name: "service"}, {Name: "demo", Description: "For everybody"}},
		Users: []User{
			{
				Name: "admin", Password: "admin-secret", DefaultProject: "admin",
				Roles: map[string][]string{"admin": {"admin"}}, SystemRoles: []string{"admin"},
			},
			{Name: "keelson", Password: "keelson-secret", Roles: map[string][]string{"service": {"service"}}},
			{Name: "demo", Password: "demo-secret", Roles: map[string][]string{"demo": {"member"}}},
			{Name: "other", Password: "other-secret", DefaultProject: "demo", Roles: map[string][]string{"demo": {"reader"}}},
		},
		Services: []Service{{Type: "container-infra", Name: "keelson", URL: "http://127.0.0.1:9511/v1"}},
	}
}

func newTestServer(t *testing.T, config Config) (*Server, string) {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL + "/v3"
}

func passwordAuth(user, password, scope string) string {
	return fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":`+
		`{"name":%q,"domain":{"id":"default"},"password":%q}}}%s}}`, user, password, scope)
}

func call(h http.Handler, method, path, token, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestBadConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"URL without v3":        func(c *Config) { c.URL = "http://127.0.0.1:5000" },
		"project twice":         func(c *Config) { c.Projects = append(c.Projects, Project{Name: "demo"}) },
		"project without name":  func(c *Config) { c.Projects = append(c.Projects, Project{}) },
		"user twice":            func(c *Config) { c.Users = append(c.Users, User{Name: "DEMO", Password: "x"}) },
		"user without password": func(c *Config) { c.Users = append(c.Users, User{Name: "new"}) },
		"role on nothing":       func(c *Config) { c.Users[0].Roles = map[string][]string{"nowhere": {"admin"}} },
		"default without role":  func(c *Config) { c.Users[0].DefaultProject = "demo" },
		"service without URL":   func(c *Config) { c.Services = []Service{{Type: "baremetal"}} },
		"service twice":         func(c *Config) { c.Services = append(c.Services, c.Services[0]) },
	} {
		config := testConfig()
		change(&config)
		if _, err := New(config); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message has a password: %v", name, err)
		}
	}
}

// Projects own clusters in another database, so their ids must survive a
// restart of a server that stores nothing.
func TestIDsAreTheSameAtEachStart(t *testing.T) {
	var ids [2]string
	for i := range ids {
		s, err := New(testConfig())
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = s.projectByName("demo").id + s.userByName("demo").id
	}
	if ids[0] != ids[1] || len(ids[0]) != 64 {
		t.Errorf("ids %s and %s", ids[0], ids[1])
	}
}

func TestBadRequests(t *testing.T) {
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		method, path, body string
		status             int
	}{
		"no JSON":             {"POST", "/v3/auth/tokens", `{"auth":`, 400},
		"nothing":             {"POST", "/v3/auth/tokens", ``, 400},
		"null":                {"POST", "/v3/auth/tokens", `null`, 400},
		"an array":            {"POST", "/v3/auth/tokens", `[]`, 400},
		"no identity":         {"POST", "/v3/auth/tokens", `{"auth":{}}`, 400},
		"no method":           {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":[]}}}`, 400},
		"two methods":         {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password","token"]}}}`, 400},
		"an unknown method":   {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["saml2"]}}}`, 400},
		"a method alone":      {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password"]}}}`, 400},
		"no user":             {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password"],"password":{}}}}`, 401},
		"a scope of a kind":   {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":7`), 400},
		"a domain scope":      {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":{"domain":{"id":"default"}}`), 401},
		"a trust scope":       {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":{"OS-TRUST:trust":{"id":"x"}}`), 401},
		"no right to system":  {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":{"system":{"all":true}}`), 401},
		"system without all":  {"POST", "/v3/auth/tokens", passwordAuth("admin", "admin-secret", `,"scope":{"system":{}}`), 401},
		"a project too far":   {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":{"project":{"name":"admin","domain":{"id":"default"}}}`), 401},
		"no domain":           {"POST", "/v3/auth/tokens", passwordAuth("demo", "demo-secret", `,"scope":{"project":{"name":"demo"}}`), 401},
		"a forged token":      {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}}}}`, 401},
		"a forged credential": {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"x","secret":"y"}}}}`, 401},
		"a huge body":         {"POST", "/v3/auth/tokens", strings.Repeat(" ", maxBody+1), 413},
		"an unknown path":     {"GET", "/v3/trusts", ``, 404},
		"an unknown version":  {"GET", "/v2.0/tokens", ``, 404},
		"no token":            {"GET", "/v3/auth/projects", ``, 401},
	} {
		for range 2 {
			w := call(s, row.method, row.path, "", row.body)
			if w.Code != row.status {
				t.Errorf("%s: %d, want %d: %s", name, w.Code, row.status, w.Body)
				continue
			}
			var answer struct {
				Error struct {
					Code           int
					Title, Message string
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if answer.Error.Code != row.status || answer.Error.Title != http.StatusText(row.status) || answer.Error.Message == "" {
				t.Errorf("%s: not Keystone's error shape: %s", name, w.Body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s: the answer has a password", name)
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") != `Keystone uri="http://example.com/v3"` {
				t.Errorf("%s: WWW-Authenticate is %q", name, w.Header().Get("WWW-Authenticate"))
			}
		}
	}
}

func TestTokensAreBounded(t *testing.T) {
	config := testConfig()
	config.MaxTokens = 3
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for range 5 {
		now := time.Now()
		texts = append(texts, s.issue(&token{user: s.users[0], issuedAt: now, expiresAt: now.Add(time.Hour)}))
	}
	for i, text := range texts {
		if got := s.lookUp(text, false) != nil; got != (i >= 2) {
			t.Errorf("token %d of 5 with room for 3: %v", i, got)
		}
	}
	if len(s.tokens.byKey) != 3 || s.tokens.order.Len() != 3 {
		t.Errorf("%d tokens are kept", len(s.tokens.byKey))
	}
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		config.TokenLifetime = time.Minute
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		login := call(s, "POST", "/v3/auth/tokens", "", passwordAuth("demo", "demo-secret", ""))
		text := login.Header().Get("X-Subject-Token")

		time.Sleep(59 * time.Second)
		if s.lookUp(text, false) == nil {
			t.Error("it expired too early")
		}
		// A token got with it must not outlive it.
		again := call(s, "POST", "/v3/auth/tokens", "",
			`{"auth":{"identity":{"methods":["token"],"token":{"id":"`+text+`"}},"scope":{"project":{"name":"demo","domain":{"id":"default"}}}}}`)
		if again.Code != http.StatusCreated {
			t.Fatalf("rescope: %d %s", again.Code, again.Body)
		}
		time.Sleep(2 * time.Second)
		for _, text := range []string{text, again.Header().Get("X-Subject-Token")} {
			if s.lookUp(text, false) != nil {
				t.Error("it did not expire")
			}
			if s.lookUp(text, true) == nil {
				t.Error("allow_expired does not find it")
			}
		}
		time.Sleep(expiredWindow)
		if s.lookUp(text, true) != nil {
			t.Error("allow_expired finds it for ever")
		}
		call(s, "POST", "/v3/auth/tokens", "", passwordAuth("demo", "demo-secret", ""))
		if len(s.tokens.byKey) != 1 {
			t.Errorf("%d tokens are kept, of which 1 is of use", len(s.tokens.byKey))
		}
	})
}

func TestSystemToken(t *testing.T) {
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	w := call(s, "POST", "/v3/auth/tokens", "", passwordAuth("admin", "admin-secret", `,"scope":{"system":{"all":true}}`))
	if w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), `"system":{"all":true}`) || strings.Contains(w.Body.String(), `"project"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	config := testConfig()
	config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	call(s, "POST", "/v3/auth/tokens", "", passwordAuth("demo", "wrong-secret", ""))
	w := call(s, "POST", "/v3/auth/tokens", "", passwordAuth("demo", "demo-secret", ""))
	call(s, "GET", "/v3/auth/projects", "", "")
	if !strings.Contains(log.String(), "login refused") {
		t.Error("a refused login is not logged")
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), w.Header().Get("X-Subject-Token")) {
		t.Errorf("the log has a secret: %s", log.String())
	}
}

func TestRun(t *testing.T) {
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, listener) }()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + listener.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if r.StatusCode != http.StatusMultipleChoices || !strings.Contains(string(body), "http://"+listener.Addr().String()+"/v3/") {
		t.Errorf("%d %s", r.StatusCode, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context(), listener); err == nil {
		t.Error("serving on a closed listener is no error")
	}
}

// TestOpenStackClient runs the unmodified command-line client.
func TestOpenStackClient(t *testing.T) {
	if _, err := exec.LookPath("openstack"); err != nil {
		testenv.Lacks(t, "python3-openstackclient is missing: apt-get install python3-openstackclient")
	}
	_, url := newTestServer(t, testConfig())
	run := func(user, project, arguments string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "openstack", strings.Fields(arguments)...)
		command.Env = append(os.Environ(), "OS_AUTH_URL="+url, "OS_IDENTITY_API_VERSION=3", "OS_USERNAME="+user,
			"OS_PASSWORD="+user+"-secret", "OS_PROJECT_NAME="+project, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default")
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			t.Errorf("openstack %s: %v\n%s", arguments, err, stderr.String())
		}
		return string(out)
	}
	for _, row := range []struct{ user, project, arguments, shows string }{
		{"demo", "demo", "token issue -f json", `"project_id": "` + stableID("project", "demo") + `"`},
		{"demo", "demo", "catalog list -f json", "http://127.0.0.1:9511/v1"},
		{"demo", "demo", "project list --my-projects -f value", "demo"},
		{"demo", "demo", "application credential create ci -f json", `"secret"`},
		{"admin", "admin", "project show demo -f json", "For everybody"},
		{"admin", "admin", "endpoint list -f value", "container-infra"},
	} {
		if out := run(row.user, row.project, row.arguments); !strings.Contains(out, row.shows) {
			t.Errorf("openstack %s does not show %s:\n%s", row.arguments, row.shows, out)
		}
	}
}

func FuzzCreateToken(f *testing.F) {
	f.Add(passwordAuth("demo", "x", `,"scope":{"project":{"name":"demo","domain":{"id":"default"}}}`))
	f.Add(`{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}},"scope":"unscoped"}}`)
	f.Add(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"name":"x","user":{"id":"y"},"secret":"z"}}}}`)
	s, err := New(Config{Projects: []Project{{Name: "demo"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := call(s, "POST", "/v3/auth/tokens", "", body)
		if w.Code < 400 || w.Code >= 500 {
			t.Errorf("%d for %q", w.Code, body)
		}
	})
}
