// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// TestPagesCoverTheListInOrder walks lists page by page, in every order, and
// expects what sorting all rows in Go gives.
func TestPagesCoverTheListInOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var all []model.ClusterTemplate
		for i := range 17 {
			all = append(all, *template(t, s, "p1", fmt.Sprintf("t%d", i%5), func(t *model.ClusterTemplate) {
				if i%3 > 0 {
					t.DockerVolumeSize = ptr(i % 4)
				}
				t.Public = i%2 == 0
			}))
		}
		template(t, s, "p2", "not mine")
		unsetFirst := func(a, b *int) int {
			switch {
			case a == nil && b == nil:
				return 0
			case a == nil:
				return -1
			case b == nil:
				return 1
			}
			return cmp.Compare(*a, *b)
		}
		for key, compare := range map[string]func(a, b model.ClusterTemplate) int{
			"":                   func(a, b model.ClusterTemplate) int { return 0 },
			"id":                 func(a, b model.ClusterTemplate) int { return 0 },
			"uuid":               func(a, b model.ClusterTemplate) int { return cmp.Compare(a.UUID, b.UUID) },
			"name":               func(a, b model.ClusterTemplate) int { return cmp.Compare(*a.Name, *b.Name) },
			"docker_volume_size": func(a, b model.ClusterTemplate) int { return unsetFirst(a.DockerVolumeSize, b.DockerVolumeSize) },
			"created_at":         func(a, b model.ClusterTemplate) int { return a.CreatedAt.Compare(b.CreatedAt) },
			"updated_at":         func(a, b model.ClusterTemplate) int { return 0 }, // none has one
			"labels":             func(a, b model.ClusterTemplate) int { return 0 },
		} {
			for _, dir := range []string{"asc", "desc"} {
				want := slices.Clone(all)
				slices.SortFunc(want, func(a, b model.ClusterTemplate) int {
					order := cmp.Or(compare(a, b), cmp.Compare(a.ID, b.ID))
					if dir == "desc" {
						return -order
					}
					return order
				})
				for _, limit := range []int{0, 1, 4, 17} {
					var got []model.ClusterTemplate
					page := store.Page{SortKey: key, SortDir: dir, Limit: limit}
					for {
						rows, err := s.ListTemplates(t.Context(), store.Scope{ProjectID: "p1"}, page)
						must(t, err)
						got = append(got, rows...)
						if limit == 0 || len(rows) < limit {
							break
						}
						page.Marker = rows[len(rows)-1].UUID
					}
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Errorf("by %q %s, %d a page:\n%s", key, dir, limit, diff)
					}
				}
			}
		}
	})
}

func TestBadPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		mine := store.Scope{ProjectID: "p1"}
		c := cluster(t, s, "p1")
		others := cluster(t, s, "p2")
		for _, key := range []string{"node_count", "master_count", "Name", "no_such", "driver_state", "id; DROP TABLE clusters", "`id`", "clusters.id"} {
			_, err := s.ListClusters(t.Context(), mine, store.Page{SortKey: key})
			wantErr(t, err, store.ErrBadSortKey)
		}
		for _, dir := range []string{"ASC", "up", "desc;"} {
			_, err := s.ListClusters(t.Context(), mine, store.Page{SortDir: dir})
			wantErr(t, err, store.ErrBadSortKey)
		}
		for _, marker := range []string{uuid.NewString(), others.UUID, c.Name} {
			_, err := s.ListClusters(t.Context(), mine, store.Page{Marker: marker})
			wantErr(t, err, store.ErrBadMarker)
		}
		rows, err := s.ListClusters(t.Context(), everything, store.Page{Marker: c.UUID})
		if err != nil || len(rows) != 1 || rows[0].UUID != others.UUID {
			t.Errorf("behind the first: %v, %v", rows, err)
		}
	})
}

// TestListsTakeAConstantNumberOfQueries counts with 1 and with 20 clusters.
func TestListsTakeAConstantNumberOfQueries(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		count := func() map[string]int {
			clusters, err := s.ListClusters(t.Context(), everything, store.Page{})
			must(t, err)
			var uuids, templates []string
			for _, c := range clusters {
				uuids, templates = append(uuids, c.UUID), append(templates, c.TemplateID)
			}
			page := store.Page{Limit: 5, Marker: uuids[0], SortKey: "name"}
			counts := make(map[string]int)
			for name, list := range map[string]func() error{
				"ListTemplates": func() error { _, err := s.ListTemplates(t.Context(), everything, store.Page{}); return err },
				"TemplatesByID": func() error { _, err := s.TemplatesByID(t.Context(), templates); return err },
				"ListClusters":  func() error { _, err := s.ListClusters(t.Context(), everything, store.Page{}); return err },
				"a page":        func() error { _, err := s.ListClusters(t.Context(), everything, page); return err },
				"summaries":     func() error { _, err := s.ClusterSummaries(t.Context(), everything, page); return err },
				"ClusterParts":  func() error { _, err := s.ClusterParts(t.Context(), uuids...); return err },
				"NodeGroups":    func() error { _, err := s.NodeGroups(t.Context(), uuids...); return err },
				"Nodes":         func() error { _, err := s.Nodes(t.Context(), uuids...); return err },
				"ListQuotas":    func() error { _, err := s.ListQuotas(t.Context(), "", true, store.Page{}); return err },
				"ListServices":  func() error { _, err := s.ListServices(t.Context()); return err },
				"Stats":         func() error { _, _, err := s.Stats(t.Context(), ""); return err },
				"Hosts":         func() error { _, err := s.Hosts(t.Context()); return err },
				"Claimable":     func() error { _, err := s.Claimable(t.Context(), 100, 0); return err },
				"Unpublished":   func() error { _, err := s.Unpublished(t.Context(), 100); return err },
				"Operations":    func() error { _, err := s.Operations(t.Context(), uuids[0]); return err },
			} {
				counts[name] = s.CountStatements(t, func() { must(t, list()) })
			}
			return counts
		}
		more := func(n int) {
			for range n {
				_, groups, op := created(t, s, "p1")
				nodes(t, s, claim(t, s, op, "c1"), groups[1], 2)
			}
		}
		more(1)
		few := count()
		more(19)
		many := count()
		if diff := gocmp.Diff(few, many); diff != "" {
			t.Errorf("queries with 1 cluster (-) and with 20 (+):\n%s", diff)
		}
		for name, n := range many {
			want := 1
			switch name {
			case "a page", "summaries":
				want = 2 // the marker
			case "ClusterParts":
				want = 3 // groups, nodes, templates
			}
			if n != want {
				t.Errorf("%s takes %d queries", name, n)
			}
		}
	})
}
