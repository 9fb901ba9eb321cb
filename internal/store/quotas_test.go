// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestQuotas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, project := range []string{"p1", "p2", "p3"} {
			must(t, s.CreateQuota(t.Context(), &model.Quota{ProjectID: project, Resource: store.QuotaResource, HardLimit: 3}))
		}
		wantErr(t, s.CreateQuota(t.Context(), &model.Quota{ProjectID: "p1", Resource: store.QuotaResource}), store.ErrExists)
		q, err := s.UpdateQuota(t.Context(), "p1", store.QuotaResource, 0)
		must(t, err)
		got, err := s.Quota(t.Context(), "p1", store.QuotaResource)
		if diff := cmp.Diff(q, got); diff != "" || err != nil || got.HardLimit != 0 || got.UpdatedAt == nil {
			t.Errorf("%+v, %v\n%s", got, err, diff)
		}
		_, err = s.UpdateQuota(t.Context(), "p9", store.QuotaResource, 1)
		wantErr(t, err, store.ErrNotFound)
		if list, err := s.ListQuotas(t.Context(), "p2", false, store.Page{}); err != nil || len(list) != 1 || list[0].ProjectID != "p2" {
			t.Errorf("of p2: %v, %v", list, err)
		}
		page := store.Page{Limit: 2}
		list, err := s.ListQuotas(t.Context(), "", true, page)
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		page.Marker = "2"
		if list, err := s.ListQuotas(t.Context(), "", true, page); err != nil || len(list) != 1 || list[0].ProjectID != "p3" {
			t.Errorf("second page: %v, %v", list, err)
		}
		page.Marker = "77"
		_, err = s.ListQuotas(t.Context(), "", true, page)
		wantErr(t, err, store.ErrBadMarker)
		must(t, s.DeleteQuota(t.Context(), "p1", store.QuotaResource))
		wantErr(t, s.DeleteQuota(t.Context(), "p1", store.QuotaResource), store.ErrNotFound)
		_, err = s.Quota(t.Context(), "p1", store.QuotaResource)
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestStats(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		cluster(t, s, "p1")
		cluster(t, s, "p1")
		cluster(t, s, "p2")
		for project, want := range map[string][2]int{"p1": {2, 6}, "p2": {1, 3}, "p3": {0, 0}, "": {3, 9}} {
			clusters, nodes, err := s.Stats(t.Context(), project)
			if got := [2]int{clusters, nodes}; got != want || err != nil {
				t.Errorf("%q: %v, %v, want %v", project, got, err, want)
			}
		}
	})
}
