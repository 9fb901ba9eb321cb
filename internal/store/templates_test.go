// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func public(t *model.ClusterTemplate) { t.Public = true }
func hidden(t *model.ClusterTemplate) { t.Hidden = true }
func names(t []model.ClusterTemplate) []string {
	var names []string
	for i := range t {
		names = append(names, *t[i].Name)
	}
	return names
}

func TestTemplateComesBackAsItWasStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		want := &model.ClusterTemplate{
			ProjectID: "p1", UserID: "u1", Name: ptr("Größe 🐳"), COE: "swarm", Driver: ptr("swarm"), ImageID: "img",
			FlavorID: ptr("f"), MasterFlavorID: ptr("mf"), KeypairID: ptr("k"), ExternalNetworkID: ptr("ext"),
			FixedNetwork: ptr("fn"), FixedSubnet: ptr("fs"), DNSNameserver: ptr("192.0.2.1"), NetworkDriver: ptr("overlay"),
			VolumeDriver: ptr("v"), DockerVolumeSize: ptr(5), DockerStorageDriver: ptr("overlay2"), ClusterDistro: ptr("debian"),
			APIServerPort: ptr(2376), HTTPProxy: ptr("h"), HTTPSProxy: ptr("hs"), NoProxy: ptr("n"),
			Labels: model.Labels{"a": "b", "empty": ""}, InsecureRegistry: ptr("r"), RegistryEnabled: true, TLSDisabled: true,
			Public: true, Hidden: true, ServerType: "bm", MasterLBEnabled: true, FloatingIPEnabled: true, Tags: ptr("t1,t2"),
		}
		before := time.Now().UTC().Truncate(time.Millisecond)
		must(t, s.CreateTemplate(t.Context(), want))
		if want.UUID == "" || want.ID == 0 || want.CreatedAt.Before(before) {
			t.Errorf("not filled in: %q %d %v", want.UUID, want.ID, want.CreatedAt)
		}
		got, err := s.Template(t.Context(), everything, want.UUID)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got.CreatedAt.Location() != time.UTC {
			t.Errorf("created_at is in %v", got.CreatedAt.Location())
		}
		again := *want
		wantErr(t, s.CreateTemplate(t.Context(), &again), store.ErrExists)
	})
}

func TestWhoSeesWhichTemplate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		template(t, s, "p1", "private")
		template(t, s, "p1", "public", public)
		template(t, s, "p1", "public-hidden", public, hidden)
		template(t, s, "p1", "hidden", hidden)
		for _, c := range []struct {
			who          string
			scope        store.Scope
			listed, show []string
		}{
			{
				"own project",
				store.Scope{ProjectID: "p1"},
				[]string{"private", "public", "public-hidden", "hidden"},
				[]string{"private", "public", "public-hidden", "hidden"},
			},
			{
				"admin", everything,
				[]string{"private", "public", "public-hidden", "hidden"},
				[]string{"private", "public", "public-hidden", "hidden"},
			},
			{
				"owner without a project",
				store.Scope{UserID: "user-of-p1"},
				[]string{"private", "public", "public-hidden", "hidden"},
				[]string{"private", "public", "public-hidden", "hidden"},
			},
			{"other project", store.Scope{ProjectID: "p2", UserID: "user-of-p1"}, []string{"public"}, []string{"public", "public-hidden"}},
			{"nobody", store.Scope{}, []string{"public"}, []string{"public", "public-hidden"}},
		} {
			list, err := s.ListTemplates(t.Context(), c.scope, store.Page{})
			must(t, err)
			if diff := cmp.Diff(c.listed, names(list)); diff != "" {
				t.Errorf("%s, list:\n%s", c.who, diff)
			}
			var shown []string
			for _, name := range []string{"private", "public", "public-hidden", "hidden"} {
				if got, err := s.Template(t.Context(), c.scope, name); err == nil {
					shown = append(shown, *got.Name)
				} else {
					wantErr(t, err, store.ErrNotFound)
				}
			}
			if diff := cmp.Diff(c.show, shown); diff != "" {
				t.Errorf("%s, show:\n%s", c.who, diff)
			}
		}
	})
}

func TestFindTemplate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		mine := store.Scope{ProjectID: "p1"}
		a := template(t, s, "p1", "a")
		template(t, s, "p1", "twice")
		template(t, s, "p1", "twice")
		digits := template(t, s, "p1", strconv.FormatInt(a.ID, 10))
		for ident, want := range map[string]any{
			a.UUID:                           a.ID,
			"a":                              a.ID,
			"A":                              store.ErrNotFound,
			"twice":                          store.ErrAmbiguous,
			*digits.Name:                     digits.ID, // a name goes before an id
			strconv.FormatInt(digits.ID, 10): digits.ID,
			"987654321":                      store.ErrNotFound,
			uuid.NewString():                 store.ErrNotFound,
			"{" + a.UUID + "}":               store.ErrNotFound, // looks like a uuid, is compared as text
			"no\xffutf8":                     store.ErrNotFound,
			"' OR 1=1 --":                    store.ErrNotFound,
			"":                               store.ErrNotFound,
		} {
			got, err := s.Template(t.Context(), mine, ident)
			if bad, isErr := want.(error); isErr {
				wantErr(t, err, bad)
			} else if err != nil || got.ID != want {
				t.Errorf("%q: got %v, %v", ident, got, err)
			}
		}
	})
}

func TestUpdateTemplate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		tmpl := template(t, s, "p1", "old", public, func(t *model.ClusterTemplate) {
			t.Labels, t.FlavorID = model.Labels{"a": "b"}, ptr("f")
		})
		change := *tmpl
		change.Name, change.FlavorID, change.Public, change.Labels = ptr("new"), nil, false, nil
		change.ProjectID, change.UserID, change.CreatedAt = "thief", "thief", time.Unix(1, 0)
		for range 2 {
			must(t, s.UpdateTemplate(t.Context(), &change, true))
		}
		got, err := s.Template(t.Context(), everything, tmpl.UUID)
		must(t, err)
		want := *tmpl
		want.Name, want.FlavorID, want.Public, want.Labels, want.UpdatedAt = ptr("new"), nil, false, nil, change.UpdatedAt
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Error(diff)
		}
		if got.UpdatedAt == nil {
			t.Error("updated_at is not set")
		}
		change.UUID = uuid.NewString()
		wantErr(t, s.UpdateTemplate(t.Context(), &change, false), store.ErrNotFound)
	})
}

func TestTemplateInUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := cluster(t, s, "p1")
		tmpl, err := s.Template(t.Context(), everything, c.TemplateID)
		must(t, err)
		if n, err := s.TemplateUsers(t.Context(), tmpl.UUID); n != 1 || err != nil {
			t.Errorf("%d users, %v", n, err)
		}
		tmpl.Name = ptr("renamed")
		wantErr(t, s.UpdateTemplate(t.Context(), tmpl, true), store.ErrInUse)
		if got, _ := s.Template(t.Context(), everything, tmpl.UUID); *got.Name == "renamed" {
			t.Error("changed although in use")
		}
		must(t, s.UpdateTemplate(t.Context(), tmpl, false))
		wantErr(t, s.DeleteTemplate(t.Context(), tmpl.UUID), store.ErrInUse)

		unused := template(t, s, "p1", "unused")
		must(t, s.DeleteTemplate(t.Context(), unused.UUID))
		wantErr(t, s.DeleteTemplate(t.Context(), unused.UUID), store.ErrNotFound)
		by, err := s.TemplatesByID(t.Context(), []string{tmpl.UUID, unused.UUID})
		if err != nil || len(by) != 1 || *by[tmpl.UUID].Name != "renamed" {
			t.Errorf("by id: %v, %v", by, err)
		}
	})
}

func TestClusterOfADeletedTemplateIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := request(t, s, "p1")
		must(t, s.DeleteTemplate(t.Context(), c.TemplateID))
		_, err := s.CreateCluster(t.Context(), c, groups, 10, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
	})
}
