// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

// lab is the real Keystone; all its users have the administrator's password.
type lab struct {
	t             *testing.T
	url, password string
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// login returns a client of Keystone with a token of that scope.
func (l *lab) login(user string, scope *gophercloud.AuthScope) *gophercloud.ServiceClient {
	l.t.Helper()
	provider, err := openstack.AuthenticatedClient(l.t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: l.url, Username: user, Password: l.password, DomainID: "default", Scope: scope,
	})
	l.must(err)
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	l.must(err)
	return client
}

func (l *lab) project(user, project string) *gophercloud.ServiceClient {
	l.t.Helper()
	return l.login(user, &gophercloud.AuthScope{ProjectName: project, DomainID: "default"})
}

// unscoped is what a login without a scope gives to a user without a default
// project; these users have one.
func (l *lab) unscoped(user string) string {
	l.t.Helper()
	client := l.project(user, user)
	answer, err := client.Post(l.t.Context(), client.ServiceURL("auth", "tokens"), map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{
			"name": user, "domain": map[string]any{"id": "default"}, "password": l.password,
		}}}, "scope": "unscoped",
	}}, nil, &gophercloud.RequestOpts{OmitHeaders: []string{"X-Auth-Token"}})
	l.must(err)
	return answer.Header.Get("X-Subject-Token")
}

// idOf returns the id of the user whose token the client has.
func (l *lab) idOf(client *gophercloud.ServiceClient) string {
	l.t.Helper()
	user, err := tokens.Get(l.t.Context(), client, client.Token()).ExtractUser()
	l.must(err)
	return user.ID
}

// credential returns a token of a new application credential of the user's.
func (l *lab) credential(user string, rules ...applicationcredentials.AccessRule) string {
	l.t.Helper()
	client := l.project(user, user)
	owner, after := l.idOf(client), context.WithoutCancel(l.t.Context())
	made, err := applicationcredentials.Create(l.t.Context(), client, owner, applicationcredentials.CreateOpts{
		Name: uuid.NewString(), AccessRules: rules,
	}).Extract()
	l.must(err)
	l.t.Cleanup(func() { l.must(applicationcredentials.Delete(after, client, owner, made.ID).ExtractErr()) })
	provider, err := openstack.AuthenticatedClient(l.t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: l.url, ApplicationCredentialID: made.ID, ApplicationCredentialSecret: made.Secret,
	})
	l.must(err)
	return provider.Token()
}

// domain returns a token of the user's for the domain Default, where he is a
// member for as long as the test runs.
func (l *lab) domain(user string) string {
	l.t.Helper()
	admin, after := l.project("admin", "admin"), context.WithoutCancel(l.t.Context())
	owner := l.idOf(l.project(user, user))
	page, err := roles.List(admin, roles.ListOpts{Name: "member"}).AllPages(l.t.Context())
	l.must(err)
	found, err := roles.ExtractRoles(page)
	l.must(err)
	l.must(roles.Assign(l.t.Context(), admin, found[0].ID, roles.AssignOpts{UserID: owner, DomainID: "default"}).ExtractErr())
	l.t.Cleanup(func() {
		l.must(roles.Unassign(after, admin, found[0].ID, roles.UnassignOpts{UserID: owner, DomainID: "default"}).ExtractErr())
	})
	return l.login(user, &gophercloud.AuthScope{DomainID: "default"}).Token()
}

// What each kind of token may do, with tokens of a real Keystone. It is the
// table of docs/security.md.
func TestPolicy_16_3_KindsOfTokens(t *testing.T) {
	l := &lab{t, testenv.Require(t, testenv.Keystone), testenv.Require(t, testenv.KeystonePassword)}
	client, err := keystone.NewClient(keystone.Options{AuthURL: l.url, Username: "keelson", Password: l.password, ProjectName: "service"})
	l.must(err)
	defer client.Close()
	authenticate := keystone.Middleware(keystone.NewCache(client, keystone.CacheOptions{}), l.url, nil, keystone.ServiceType("container-infra"))
	s := storetest.New(t)
	with := func(options policy.Options) *world {
		return newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Authenticate, d.Policy = authenticate, rules(t, options) })
	}
	older, newer := with(policy.Options{}), with(policy.Options{EnforceNewDefaults: true})
	scoped := with(policy.Options{EnforceNewDefaults: true, EnforceScope: true})

	type results [4]int // GET clusters, POST clustertemplates, GET mservices, GET stats
	for _, row := range []struct {
		kind                 string
		token                string
		older, newer, scoped results
	}{
		{
			"member of a project", l.project("demo", "demo").Token(),
			results{200, 201, 403, 200},
			results{200, 201, 403, 200},
			results{200, 201, 403, 200},
		},
		{
			"reader of a project", l.project("reader", "demo").Token(),
			results{200, 201, 403, 200},
			results{200, 403, 403, 200},
			results{200, 403, 403, 200},
		},
		{
			"admin of a project", l.project("admin", "admin").Token(),
			results{200, 201, 200, 200},
			results{200, 201, 200, 200},
			results{200, 201, 200, 200},
		},
		{
			"member of a domain", l.domain("alt_demo"),
			results{200, 403, 403, 403},
			results{403, 403, 403, 403},
			results{403, 403, 403, 403},
		},
		{
			"admin of the system", l.login("admin", &gophercloud.AuthScope{System: true}).Token(),
			results{200, 403, 200, 200},
			results{200, 403, 200, 200},
			results{403, 403, 200, 403},
		},
		{
			"no scope", l.unscoped("demo"),
			results{200, 403, 403, 403},
			results{403, 403, 403, 403},
			results{403, 403, 403, 403},
		},
		{
			"application credential of a member", l.credential("demo"),
			results{200, 201, 403, 200},
			results{200, 201, 403, 200},
			results{200, 201, 403, 200},
		},
		{
			"application credential for GET clusters", l.credential("demo", applicationcredentials.AccessRule{
				Path: "/v1/clusters", Method: "GET", Service: "container-infra",
			}),
			results{200, 401, 401, 401},
			results{200, 401, 401, 401},
			results{200, 401, 401, 401},
		},
		{"forged", "forged", results{401, 401, 401, 401}, results{401, 401, 401, 401}, results{401, 401, 401, 401}},
	} {
		for name, against := range map[string]struct {
			w    *world
			want results
		}{"older": {older, row.older}, "newer": {newer, row.newer}, "scoped": {scoped, row.scoped}} {
			ask := func(method, path string, body any) int {
				a := against.w.ask("", method, path, body, "X-Auth-Token: "+row.token)
				if challenge := fmt.Sprintf(`Keystone uri="%s"`, l.url); (a.status == 401) != (a.header.Get("WWW-Authenticate") == challenge) {
					t.Errorf("%s: %d with %v", a.what, a.status, a.header)
				}
				return a.status
			}
			got := results{
				ask("GET", "/v1/clusters", nil), ask("POST", "/v1/clustertemplates", swarm()), ask("GET", "/v1/mservices", nil), ask("GET", "/v1/stats", nil),
			}
			if got != against.want {
				t.Errorf("%s, %s rules: %v, want %v", row.kind, name, got, against.want)
			}
		}
	}
}

// What nobody owns counts against no quota.
func TestTenancy_3_5_NothingIsMadeWithoutAProject(t *testing.T) {
	s := storetest.New(t)
	w := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Policy = rules(t, policy.Options{}) })
	template := w.ask("admin", "POST", "/v1/clustertemplates", swarm().with("public", true)).want(201).text("uuid")
	baymodel := swarm().with("keypair_id", "key")
	for path, body := range map[string]object{
		"/v1/clusters": {"cluster_template_id": template}, "/v1/bays": {"baymodel_id": template},
		"/v1/clustertemplates": swarm(), "/v1/baymodels": baymodel,
	} {
		for range 2 {
			w.ask("nil", "POST", path, body).want(403).saying("not for a project")
		}
		if w.ask("ann", "POST", path, body).status >= 300 {
			t.Errorf("POST %s does not work at all", path)
		}
	}
}

// failing is a catalogue that has only that error.
type failing struct{ err error }

func (f failing) Flavor(context.Context, string) (catalog.Flavor, error) {
	return catalog.Flavor{}, f.err
}

func (f failing) Image(context.Context, string) (catalog.Image, error) {
	return catalog.Image{}, f.err
}
func (f failing) ExternalNetwork(context.Context, string) error { return f.err }
func (f failing) FixedNetwork(context.Context, string) error    { return f.err }
func (f failing) FixedSubnet(context.Context, string) error     { return f.err }
func (f failing) Keypair(context.Context, string) error         { return f.err }

// What another service says of a name, or that it says nothing, has a status
// of its own; of a keypair that is not there it is 404.
func TestTemplates_4_3_WhatLookUpsComeTo(t *testing.T) {
	kinds := map[string]struct {
		fail func(*api.Deps, failing)
		body object
	}{
		"image":            {func(d *api.Deps, f failing) { d.Images = f }, swarm().with("cluster_distro", "debian")},
		"flavor":           {func(d *api.Deps, f failing) { d.Flavors = f }, swarm().with("flavor_id", "x")},
		"master flavor":    {func(d *api.Deps, f failing) { d.Flavors = f }, swarm().with("master_flavor_id", "x")},
		"external network": {func(d *api.Deps, f failing) { d.Networks = f }, swarm().with("external_network_id", "x")},
		"fixed network":    {func(d *api.Deps, f failing) { d.Networks = f }, swarm().with("fixed_network", "x")},
		"fixed subnet":     {func(d *api.Deps, f failing) { d.Networks = f }, swarm().with("fixed_subnet", "x")},
	}
	outcomes := map[int]error{
		400: catalog.ErrNotFound, 403: catalog.ErrForbidden, 409: catalog.ErrAmbiguous,
		503: fmt.Errorf("Compute: %w: it answered 500", catalog.ErrUnavailable), 401: keystone.ErrInvalidToken,
	}
	s := storetest.New(t)
	check := func(kind string, a answer, status int) {
		t.Helper()
		if a.status != status {
			t.Errorf("%s: %d %s, want %d", kind, a.status, a.raw, status)
		}
		if (status == 503) != (a.header.Get("Retry-After") != "") || (status == 401) != (a.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d with %v", kind, a.status, a.header)
		}
	}
	for status, err := range outcomes {
		for kind, how := range kinds {
			w := newWorld(t, s, func(_ *api.Config, d *api.Deps) { how.fail(d, failing{err}) })
			check(kind, w.ask("ann", "POST", "/v1/clustertemplates", how.body), status)
		}
		plain := newWorld(t, s)
		template := plain.template(swarm())
		w := newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Keypairs = failing{err} })
		if status == 400 {
			status = 404
		}
		check("keypair", w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": template, "keypair": "x"}, latest), status)
		w = newWorld(t, s, func(_ *api.Config, d *api.Deps) { d.Networks = failing{err} })
		if status == 404 {
			status = 400
		}
		check("a cluster's own fixed network", w.ask("ann", "POST", "/v1/clusters", object{"cluster_template_id": template, "fixed_network": "x"}, latest), status)
		if n := len(plain.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")); n != 0 {
			t.Errorf("%d clusters were made", n)
		}
	}
}
