// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/keelson/keelson/internal/testenv"
)

// TestContract runs the same story against the built-in server and against
// real Keystone, driven by gophercloud.
func TestContract(t *testing.T) {
	t.Run("built-in", func(t *testing.T) {
		s, url := newTestServer(t, testConfig())
		testContract(t, &cloud{
			url:     url,
			project: "demo", projectID: s.projectByName("demo").id,
			member:  account{"demo", s.userByName("demo").id, "demo-secret"},
			reader:  account{"other", s.userByName("other").id, "other-secret"},
			service: account{"keelson", s.userByName("keelson").id, "keelson-secret"}, serviceProject: "service",
			admin: account{"admin", s.userByName("admin").id, "admin-secret"},
		})
	})
	t.Run("keystone", func(t *testing.T) {
		testContract(t, realCloud(t, testenv.Require(t, testenv.Keystone), testenv.Require(t, testenv.KeystonePassword)))
	})
}

type account struct{ name, id, password string }

// cloud is what the story needs: a member of the project, a reader whose
// default project it is, a service user, and the administrator.
type cloud struct {
	url                            string
	project, projectID             string
	serviceProject                 string
	member, reader, service, admin account
}

// realCloud makes the accounts in Keystone and removes them after the test.
func realCloud(t *testing.T, url, password string) *cloud {
	t.Helper()
	suffix := randomText(6)
	c := &cloud{
		url: url, project: "p-" + suffix, serviceProject: "s-" + suffix,
		admin:   account{name: "admin", password: password},
		member:  account{name: "m-" + suffix, password: "demo-secret"},
		reader:  account{name: "r-" + suffix, password: "other-secret"},
		service: account{name: "k-" + suffix, password: "keelson-secret"},
	}
	keystone := c.client(t)
	if err := openstack.AuthenticateV3(t.Context(), keystone.ProviderClient, c.login(c.admin, "admin"), gophercloud.EndpointOpts{}); err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	atEnd := func(remove func(context.Context) error) {
		t.Cleanup(func() {
			if err := remove(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	roleID := func(name string) string {
		pages, err := roles.List(keystone, roles.ListOpts{Name: name}).AllPages(t.Context())
		check(err)
		found, err := roles.ExtractRoles(pages)
		check(err)
		if len(found) > 0 {
			return found[0].ID
		}
		made, err := roles.Create(t.Context(), keystone, roles.CreateOpts{Name: name}).Extract()
		check(err)
		return made.ID
	}
	newProject := func(name string) string {
		p, err := projects.Create(t.Context(), keystone, projects.CreateOpts{Name: name, DomainID: domainID}).Extract()
		check(err)
		atEnd(func(ctx context.Context) error { return projects.Delete(ctx, keystone, p.ID).Err })
		return p.ID
	}
	newUser := func(a *account, projectID, defaultProject, role string) {
		u, err := users.Create(t.Context(), keystone, users.CreateOpts{
			Name: a.name, Password: a.password, DomainID: domainID, DefaultProjectID: defaultProject,
		}).Extract()
		check(err)
		a.id = u.ID
		atEnd(func(ctx context.Context) error { return users.Delete(ctx, keystone, u.ID).Err })
		check(roles.Assign(t.Context(), keystone, roleID(role), roles.AssignOpts{UserID: u.ID, ProjectID: projectID}).Err)
	}
	c.projectID = newProject(c.project)
	serviceProject := newProject(c.serviceProject)
	newUser(&c.member, c.projectID, "", "member")
	newUser(&c.reader, c.projectID, c.projectID, "reader")
	newUser(&c.service, serviceProject, "", "service")
	return c
}

func (c *cloud) client(t *testing.T) *gophercloud.ServiceClient {
	t.Helper()
	provider, err := openstack.NewClient(c.url)
	if err != nil {
		t.Fatal(err)
	}
	provider.HTTPClient.Timeout = 30 * time.Second
	// uWSGI closes connections without a word, and a POST on a closed one fails.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	provider.HTTPClient.Transport = transport
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (c *cloud) login(a account, project string) *tokens.AuthOptions {
	options := &tokens.AuthOptions{Username: a.name, Password: a.password, DomainName: domainName}
	if project != "" {
		options.Scope = tokens.Scope{ProjectName: project, DomainName: domainName}
	}
	return options
}

type tokenBody struct {
	ExpiresAt string `json:"expires_at"`
	Methods   []string
	AuditIDs  []string `json:"audit_ids"`
	User      tokens.User
	Project   *tokens.Project
	Roles     []tokens.Role
	Catalog   []tokens.CatalogEntry
}

func (b *tokenBody) roleNames() []string {
	var names []string
	for _, r := range b.Roles {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

func testContract(t *testing.T, c *cloud) {
	ctx := t.Context()
	client := c.client(t)

	issue := func(t *testing.T, options tokens.AuthOptionsBuilder) (string, tokenBody) {
		t.Helper()
		result := tokens.Create(ctx, client, options)
		var body tokenBody
		if err := result.ExtractInto(&body); err != nil {
			t.Fatal(err)
		}
		text, err := result.ExtractTokenID()
		if err != nil || text == "" {
			t.Fatalf("token %q, %v", text, err)
		}
		return text, body
	}
	as := func(t *testing.T, text string) *gophercloud.ServiceClient {
		t.Helper()
		client := c.client(t)
		client.SetToken(text)
		return client
	}
	wantStatus := func(t *testing.T, what string, err error, status int) {
		t.Helper()
		if !gophercloud.ResponseCodeIs(err, status) {
			t.Errorf("%s: %v, want status %d", what, err, status)
		}
	}

	t.Run("discovery finds v3 from either URL", func(t *testing.T) {
		for _, endpoint := range []string{c.url, strings.TrimSuffix(c.url, "v3")} {
			client := c.client(t).ProviderClient
			client.IdentityBase, client.IdentityEndpoint = strings.TrimSuffix(c.url, "v3"), endpoint
			err := openstack.Authenticate(ctx, client, gophercloud.AuthOptions{
				Username: c.member.name, Password: c.member.password, DomainName: domainName,
				Scope: &gophercloud.AuthScope{ProjectName: c.project, DomainName: domainName},
			})
			if err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
	})

	t.Run("password login to a project", func(t *testing.T) {
		_, body := issue(t, c.login(c.member, c.project))
		if body.User.Name != c.member.name || body.User.ID != c.member.id || body.User.Domain.ID != domainID {
			t.Errorf("user %+v", body.User)
		}
		if body.Project == nil || body.Project.ID != c.projectID || body.Project.Domain.Name != domainName {
			t.Errorf("project %+v", body.Project)
		}
		if diff := cmp.Diff([]string{"member", "reader"}, body.roleNames()); diff != "" {
			t.Errorf("roles: %s", diff)
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000000Z", body.ExpiresAt); err != nil || time.Until(at) < time.Minute {
			t.Errorf("expires_at %s", body.ExpiresAt)
		}
		if len(body.AuditIDs) != 1 || !slices.Equal(body.Methods, []string{"password"}) {
			t.Errorf("audit_ids %v, methods %v", body.AuditIDs, body.Methods)
		}
	})

	t.Run("the catalogue has identity on three interfaces", func(t *testing.T) {
		_, body := issue(t, c.login(c.member, c.project))
		i := slices.IndexFunc(body.Catalog, func(e tokens.CatalogEntry) bool { return e.Type == "identity" })
		if i < 0 || len(body.Catalog[i].Endpoints) != 3 {
			t.Fatalf("catalogue %+v", body.Catalog)
		}
		for _, endpoint := range body.Catalog[i].Endpoints {
			if !strings.HasSuffix(endpoint.URL, "/v3") || endpoint.RegionID == "" || endpoint.Region == "" || endpoint.ID == "" {
				t.Errorf("endpoint %+v", endpoint)
			}
		}
	})

	t.Run("login by ids", func(t *testing.T) {
		_, body := issue(t, &tokens.AuthOptions{
			UserID: c.member.id, Password: c.member.password, Scope: tokens.Scope{ProjectID: c.projectID},
		})
		if body.Project == nil || body.Project.Name != c.project {
			t.Errorf("project %+v", body.Project)
		}
	})

	t.Run("a login that asks for no scope", func(t *testing.T) {
		_, body := issue(t, c.login(c.member, ""))
		if body.Project != nil || len(body.Roles) > 0 || len(body.Catalog) > 0 {
			t.Errorf("not unscoped: %+v", body)
		}
		_, body = issue(t, c.login(c.reader, ""))
		if body.Project == nil || body.Project.ID != c.projectID {
			t.Errorf("the default project was not taken: %+v", body)
		}
	})

	t.Run("refused logins are 401", func(t *testing.T) {
		for what, options := range map[string]*tokens.AuthOptions{
			"wrong password":  c.login(account{name: c.member.name, password: "wrong"}, c.project),
			"unknown user":    c.login(account{name: "nobody-here", password: "wrong"}, c.project),
			"unknown project": c.login(c.member, "nowhere"),
			"other project":   c.login(c.member, c.serviceProject),
			"other domain":    {Username: c.member.name, Password: c.member.password, DomainName: "Elsewhere"},
		} {
			for range 2 {
				wantStatus(t, what, tokens.Create(ctx, client, options).Err, http.StatusUnauthorized)
			}
		}
	})

	t.Run("the shape of a 401", func(t *testing.T) {
		err := tokens.Create(ctx, client, c.login(account{name: c.member.name, password: "wrong"}, "")).Err
		unexpected, ok := err.(gophercloud.ErrUnexpectedResponseCode)
		if !ok {
			t.Fatal(err)
		}
		var answer map[string]map[string]any
		if err := json.Unmarshal(unexpected.Body, &answer); err != nil {
			t.Fatal(err)
		}
		want := map[string]map[string]any{"error": {
			"code": 401.0, "title": "Unauthorized", "message": "The request you have made requires authentication.",
		}}
		if diff := cmp.Diff(want, answer); diff != "" {
			t.Error(diff)
		}
		if got := unexpected.ResponseHeader.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Keystone uri="http`) {
			t.Errorf("WWW-Authenticate: %s", got)
		}
	})

	t.Run("a token gets another scope", func(t *testing.T) {
		first, unscoped := issue(t, c.login(c.member, ""))
		_, scoped := issue(t, &tokens.AuthOptions{TokenID: first, Scope: tokens.Scope{ProjectID: c.projectID}})
		if scoped.Project == nil || scoped.ExpiresAt != unscoped.ExpiresAt {
			t.Errorf("%+v after %+v", scoped, unscoped)
		}
		if !slices.Contains(scoped.Methods, "token") || !slices.Contains(scoped.Methods, "password") || len(scoped.AuditIDs) != 2 {
			t.Errorf("methods %v, audit_ids %v", scoped.Methods, scoped.AuditIDs)
		}
	})

	t.Run("a service validates a user's token", func(t *testing.T) {
		userToken, want := issue(t, c.login(c.member, c.project))
		serviceToken, _ := issue(t, c.login(c.service, c.serviceProject))
		var got tokenBody
		if err := tokens.Get(ctx, as(t, serviceToken), userToken).ExtractInto(&got); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(want.Roles, func(a, b tokens.Role) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(got.Roles, func(a, b tokens.Role) int { return strings.Compare(a.Name, b.Name) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("not the token that was issued: %s", diff)
		}
		valid, err := tokens.Validate(ctx, as(t, userToken), userToken) // HEAD
		if err != nil || !valid {
			t.Errorf("HEAD: %v, %v", valid, err)
		}
		wantStatus(t, "a forged token", tokens.Get(ctx, as(t, serviceToken), "forged").Err, http.StatusNotFound)
		wantStatus(t, "no subject", tokens.Get(ctx, as(t, serviceToken), "").Err, http.StatusNotFound)
		wantStatus(t, "a forged service token", tokens.Get(ctx, as(t, "forged"), userToken).Err, http.StatusUnauthorized)
	})

	t.Run("a user validates only his own token", func(t *testing.T) {
		mine, _ := issue(t, c.login(c.member, c.project))
		hers, _ := issue(t, c.login(c.reader, c.project))
		if err := tokens.Get(ctx, as(t, mine), mine).Err; err != nil {
			t.Error(err)
		}
		wantStatus(t, "another user's token", tokens.Get(ctx, as(t, mine), hers).Err, http.StatusForbidden)
		wantStatus(t, "revoking it", tokens.Revoke(ctx, as(t, mine), hers).Err, http.StatusForbidden)
	})

	t.Run("a revoked token is gone", func(t *testing.T) {
		userToken, _ := issue(t, c.login(c.member, c.project))
		serviceToken, _ := issue(t, c.login(c.service, c.serviceProject))
		if err := tokens.Get(ctx, as(t, serviceToken), userToken).Err; err != nil {
			t.Fatal(err)
		}
		if err := tokens.Revoke(ctx, as(t, userToken), userToken).Err; err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wantStatus(t, "validation", tokens.Get(ctx, as(t, serviceToken), userToken).Err, http.StatusNotFound)
			wantStatus(t, "use", tokens.Get(ctx, as(t, userToken), userToken).Err, http.StatusUnauthorized)
		}
	})

	t.Run("what a user may see", func(t *testing.T) {
		text, _ := issue(t, c.login(c.member, c.project))
		mine := as(t, text)
		pages, err := projects.ListAvailable(mine).AllPages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		available, err := projects.ExtractProjects(pages)
		if err != nil || len(available) != 1 || available[0].ID != c.projectID {
			t.Errorf("projects %+v, %v", available, err)
		}
		if _, err := projects.Get(ctx, mine, c.projectID).Extract(); err != nil {
			t.Errorf("own project: %v", err)
		}
		if u, err := users.Get(ctx, mine, c.member.id).Extract(); err != nil || u.Name != c.member.name {
			t.Errorf("own user: %v", err)
		}
		_, err = projects.List(mine, nil).AllPages(ctx)
		wantStatus(t, "all projects", err, http.StatusForbidden)
		_, err = users.List(mine, nil).AllPages(ctx)
		wantStatus(t, "all users", err, http.StatusForbidden)
		wantStatus(t, "another user", users.Get(ctx, mine, c.reader.id).Err, http.StatusForbidden)
	})

	t.Run("what an administrator may see", func(t *testing.T) {
		text, _ := issue(t, c.login(c.admin, "admin"))
		admin := as(t, text)
		pages, err := projects.List(admin, projects.ListOpts{Name: c.project}).AllPages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		found, err := projects.ExtractProjects(pages)
		if err != nil || len(found) != 1 || found[0].ID != c.projectID {
			t.Errorf("projects %+v, %v", found, err)
		}
		wantStatus(t, "a project that is not there", projects.Get(ctx, admin, "nowhere").Err, http.StatusNotFound)
		if err := users.Get(ctx, admin, c.member.id).Err; err != nil {
			t.Error(err)
		}
	})

	t.Run("application credentials", func(t *testing.T) {
		text, _ := issue(t, c.login(c.member, c.project))
		mine := as(t, text)
		options := applicationcredentials.CreateOpts{Name: fmt.Sprintf("ci-%s", randomText(4))}
		credential, err := applicationcredentials.Create(ctx, mine, c.member.id, options).Extract()
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, "the name again", applicationcredentials.Create(ctx, mine, c.member.id, options).Err, http.StatusConflict)
		wantStatus(t, "for another user", applicationcredentials.Create(ctx, mine, c.reader.id, options).Err, http.StatusForbidden)

		byID, body := issue(t, &tokens.AuthOptions{ApplicationCredentialID: credential.ID, ApplicationCredentialSecret: credential.Secret})
		if body.Project == nil || body.Project.ID != c.projectID || !slices.Equal(body.roleNames(), []string{"member", "reader"}) {
			t.Errorf("token %+v", body)
		}
		issue(t, &tokens.AuthOptions{
			ApplicationCredentialName: credential.Name, ApplicationCredentialSecret: credential.Secret,
			Username: c.member.name, DomainName: domainName,
		})
		wantStatus(t, "a wrong secret", tokens.Create(ctx, client, &tokens.AuthOptions{
			ApplicationCredentialID: credential.ID, ApplicationCredentialSecret: "wrong",
		}).Err, http.StatusUnauthorized)
		wantStatus(t, "breeding", applicationcredentials.Create(ctx, as(t, byID), c.member.id,
			applicationcredentials.CreateOpts{Name: "child"}).Err, http.StatusForbidden)
		// Keystone 22 answers 403, or breaks inside, by what its cache holds: no
		// token in either case.
		if err := tokens.Create(ctx, client, &tokens.AuthOptions{
			TokenID: byID, Scope: tokens.Scope{ProjectID: c.projectID},
		}).Err; err == nil {
			t.Error("a token of an application credential was rescoped")
		}

		pages, err := applicationcredentials.List(mine, c.member.id, nil).AllPages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		listed, err := applicationcredentials.ExtractApplicationCredentials(pages)
		if err != nil || len(listed) != 1 || listed[0].Secret != "" {
			t.Errorf("listed %d, %v", len(listed), err)
		}
		if err := applicationcredentials.Delete(ctx, mine, c.member.id, credential.ID).Err; err != nil {
			t.Fatal(err)
		}
		wantStatus(t, "deleting it again", applicationcredentials.Delete(ctx, mine, c.member.id, credential.ID).Err, http.StatusNotFound)
		// Keystone says 404 here, as if the credential had been asked for.
		err = tokens.Create(ctx, client, &tokens.AuthOptions{
			ApplicationCredentialID: credential.ID, ApplicationCredentialSecret: credential.Secret,
		}).Err
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			wantStatus(t, "login with a deleted one", err, http.StatusUnauthorized)
		}
		wantStatus(t, "a token of a deleted one", tokens.Get(ctx, mine, byID).Err, http.StatusNotFound)
	})
}
