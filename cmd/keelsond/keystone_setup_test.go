// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/testenv"
)

// In the real Keystone everything is made once, what is there stays, and what
// is another's is changed only when that is asked for. Names, region and type
// of the service are this test's own.
func TestKeystoneSetup(t *testing.T) {
	name := "keelson-test-" + uuid.NewString()
	auth, adminPassword := testenv.Require(t, testenv.Keystone), testenv.Require(t, testenv.KeystonePassword)
	for key, value := range map[string]string{
		"OS_AUTH_URL": auth, "OS_USERNAME": "admin", "OS_PASSWORD": adminPassword, "OS_PROJECT_NAME": "admin",
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "", "OS_CACERT": "",
	} {
		t.Setenv(key, value)
	}
	admin, err := keystone.NewClient(keystone.Options{AuthURL: auth, Username: "admin", Password: adminPassword, ProjectName: "admin"})
	must(t, err)
	t.Cleanup(admin.Close)
	t.Cleanup(func() { forget(t, admin, name) })

	configure := func(password string) *operator {
		return newOperator(t, "[keystone_authtoken]\nauth_url = "+auth+"\nusername = "+name+"\nproject_name = "+name+"\npassword = "+password+"\nservice_type = "+name+"\n")
	}
	// setup returns the actions, as one word each.
	setup := func(o *operator, args ...string) (string, error) {
		t.Helper()
		out, err := o.run(append([]string{"keystone-setup", "-f", "json", "--region", name}, args...)...)
		var done []setupAction
		if e := json.Unmarshal([]byte(out), &done); e != nil {
			t.Fatalf("%v, %v: %s", err, e, out)
		}
		var actions []string
		for _, a := range done {
			actions = append(actions, a.What+" "+strings.ReplaceAll(a.Action, "is there", "there"))
		}
		if strings.Contains(out, adminPassword) {
			t.Error("a password is told")
		}
		return strings.Join(actions, ", "), err
	}
	o := configure("first-password")
	const here = "http://127.0.0.1:9511/v1"
	for range 2 {
		got, err := setup(o, "--public-url", here, "--dry-run")
		must(t, err)
		if want := "project would be created, user would be created, role would be given, service would be created, endpoint would be created, endpoint would be created, endpoint would be created"; got != want {
			t.Errorf("dry run: %s", got)
		}
	}
	got, err := setup(o, "--public-url", here, "--internal-url", "http://10.0.0.1:9511/v1")
	must(t, err)
	if want := "project created, user created, role given, service created, endpoint created, endpoint created, endpoint created"; got != want {
		t.Errorf("first: %s", got)
	}
	const allThere = "project there, user there, role there, service there, endpoint there, endpoint there, endpoint there"
	for range 2 {
		if got, err := setup(o, "--public-url", here, "--internal-url", "http://10.0.0.1:9511/v1"); err != nil || got != allThere {
			t.Errorf("again: %v, %s", err, got)
		}
	}
	// The doctor, who looks as the service user, agrees.
	found, err := o.examine("--only", "keystone")
	must(t, err)
	if len(found["keystone"]) != 1 || !strings.Contains(found["keystone"][0].Says, "with the roles service") {
		t.Errorf("the doctor says %+v", found)
	}

	if got, err := setup(o, "--public-url", here); err == nil || !strings.Contains(err.Error(), "--replace-endpoints") || !strings.Contains(got, "endpoint there, but leads to http://10.0.0.1:9511/v1") {
		t.Errorf("endpoints that lead elsewhere: %v, %s", err, got)
	}
	for _, want := range []string{"endpoint there, endpoint changed, endpoint changed", "endpoint there, endpoint there, endpoint there"} {
		if got, err := setup(o, "--public-url", here, "--replace-endpoints"); err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("replaced: %v, %s", err, got)
		}
	}
	other := configure("second-password")
	if got, err := setup(other, "--public-url", here); err == nil || !strings.Contains(err.Error(), "--reset-password") {
		t.Errorf("another password: %v, %s", err, got)
	}
	for _, want := range []string{"user changed", "user there"} {
		if got, err := setup(other, "--public-url", here, "--reset-password"); err != nil || !strings.Contains(got, want) {
			t.Errorf("reset: %v, %s", err, got)
		}
	}
	if _, err := other.run("keystone-setup", "--public-url", "cloud:9511"); err == nil || !strings.Contains(err.Error(), "--public-url") {
		t.Errorf("no URL: %v", err)
	}
	t.Setenv("OS_PASSWORD", "wrong")
	if _, err := setup(other, "--public-url", here); err == nil {
		t.Error("a wrong password of the administrator was taken")
	}
}

// forget removes what the test made, as far as it is there.
func forget(t *testing.T, admin *keystone.Client, name string) {
	err := admin.Call(context.Background(), admin.Endpoint(), func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		if pages, err := endpoints.List(sc, endpoints.ListOpts{RegionID: name}).AllPages(ctx); err == nil {
			all, _ := endpoints.ExtractEndpoints(pages)
			for _, e := range all {
				must(t, endpoints.Delete(ctx, sc, e.ID).Err)
			}
			must(t, regions.Delete(ctx, sc, name).Err)
		}
		pages, err := services.List(sc, services.ListOpts{ServiceType: name}).AllPages(ctx)
		must(t, err)
		made, err := services.ExtractServices(pages)
		must(t, err)
		for _, s := range made {
			must(t, services.Delete(ctx, sc, s.ID).Err)
		}
		pages, err = users.List(sc, users.ListOpts{Name: name}).AllPages(ctx)
		must(t, err)
		people, err := users.ExtractUsers(pages)
		must(t, err)
		for _, u := range people {
			must(t, users.Delete(ctx, sc, u.ID).Err)
		}
		pages, err = projects.List(sc, projects.ListOpts{Name: name}).AllPages(ctx)
		must(t, err)
		homes, err := projects.ExtractProjects(pages)
		must(t, err)
		for _, p := range homes {
			must(t, projects.Delete(ctx, sc, p.ID).Err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
