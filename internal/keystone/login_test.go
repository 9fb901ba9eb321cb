// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A person logs in, looks at their projects, enters one, and leaves again.
func TestAPersonLogsIn(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		client, ctx := c.client(t), t.Context()
		unscoped, who, err := client.Login(ctx, User{Domain: "Default", Name: c.admin, Password: c.adminPassword})
		if err != nil {
			t.Fatal(err)
		}
		if who.UserName != c.admin || who.ProjectID != "" {
			t.Errorf("logged in as %+v", who)
		}
		projects, err := client.ProjectsOf(ctx, unscoped)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(projects, func(p Project) bool { return p.Name == "admin" })
		if at < 0 {
			t.Fatalf("projects: %+v", projects)
		}
		scoped, inside, err := client.Enter(ctx, unscoped, projects[at].ID)
		if err != nil {
			t.Fatal(err)
		}
		if inside.ProjectID != projects[at].ID || inside.ProjectName != "admin" || !slices.Contains(inside.Roles, "admin") || inside.UserID != who.UserID {
			t.Errorf("in the project: %+v", inside)
		}
		if _, err := client.Validate(ctx, scoped); err != nil {
			t.Errorf("the token of the project: %v", err)
		}
		for _, token := range []string{scoped, unscoped, unscoped} { // leaving twice is leaving
			if err := client.Revoke(ctx, token); err != nil {
				t.Errorf("revoke: %v", err)
			}
		}
		for _, token := range []string{scoped, unscoped} {
			if _, err := client.Validate(ctx, token); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("a revoked token: %v", err)
			}
		}
		if _, _, err := client.Enter(ctx, unscoped, projects[at].ID); !errors.Is(err, ErrLoginRefused) {
			t.Errorf("enter with a revoked token: %v", err)
		}
		if _, err := client.ProjectsOf(ctx, unscoped); !errors.Is(err, ErrLoginRefused) {
			t.Errorf("projects of a revoked token: %v", err)
		}
	})
}

func TestLoginsThatAreRefused(t *testing.T) {
	eachCloud(t, func(t *testing.T, c *cloud) {
		client := c.client(t)
		for what, user := range map[string]User{
			"a wrong password":  {"Default", c.admin, "not " + c.adminPassword},
			"an unknown user":   {"Default", "nobody-knows-me", c.adminPassword},
			"an unknown domain": {"elsewhere", c.admin, c.adminPassword},
		} {
			_, _, err := client.Login(t.Context(), user)
			if !errors.Is(err, ErrLoginRefused) {
				t.Errorf("%s: %v", what, err)
			}
			if err != nil && strings.Contains(err.Error(), c.adminPassword) {
				t.Errorf("%s: the error repeats the password", what)
			}
		}
		token, _, err := client.Login(t.Context(), User{"Default", c.admin, c.adminPassword})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.Enter(t.Context(), token, "0123456789abcdef0123456789abcdef"); !errors.Is(err, ErrLoginRefused) {
			t.Errorf("a project that is not there: %v", err)
		}
	})
}

// A Keystone that is broken is not one that refuses.
func TestLoginWithoutKeystone(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"broken": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"no token": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte("{}"))
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		server := httptest.NewServer(answer)
		client := newClient(t, Options{AuthURL: server.URL + "/v3", Username: "k", Password: "k", ProjectName: "service"})
		if _, _, err := client.Login(t.Context(), User{"Default", "ann", "secret"}); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
		server.Close()
	}
}
