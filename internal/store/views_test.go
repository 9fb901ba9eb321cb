// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// TestViewsTellWhatTheRowsHold compares the short ways to read clusters with
// the long ones.
func TestViewsTellWhatTheRowsHold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := request(t, s, "p1")
		c.Labels = model.Labels{"team": "infra", "quote": `"<&`}
		c.Keypair, c.DockerVolumeSize, c.CreateTimeout = ptr("key"), ptr(7), ptr(90)
		groups = append(groups, model.NodeGroup{Name: "more", Role: "gpu", NodeCount: 4})
		op, err := s.CreateCluster(t.Context(), c, groups, 1000, store.NewOperation{})
		must(t, err)
		f := claim(t, s, op, "setup")
		nodes(t, s, f, groups[0], 1)
		bare, _ := request(t, s, "p1")
		_, err = s.CreateCluster(t.Context(), bare, nil, 1000, store.NewOperation{})
		must(t, err)
		cluster(t, s, "p2") // not to be seen

		long, err := s.ListClusters(t.Context(), store.Scope{ProjectID: "p1"}, store.Page{})
		must(t, err)
		short, err := s.ClusterSummaries(t.Context(), store.Scope{ProjectID: "p1"}, store.Page{})
		must(t, err)
		var want []store.ClusterSummary
		for i, l := range long {
			want = append(want, store.ClusterSummary{Cluster: model.Cluster{
				UUID: l.UUID, Name: l.Name, TemplateID: l.TemplateID, Keypair: l.Keypair, DockerVolumeSize: l.DockerVolumeSize,
				Labels: l.Labels, FlavorID: l.FlavorID, MasterFlavorID: l.MasterFlavorID, CreateTimeout: l.CreateTimeout,
				Status: l.Status, HealthStatus: l.HealthStatus, StackID: l.StackID,
			}, Masters: []int{1, 0}[i], Workers: []int{6, 0}[i]})
		}
		if diff := cmp.Diff(want, short); diff != "" {
			t.Errorf("summaries:\n%s", diff)
		}
		page, err := s.ClusterSummaries(t.Context(), store.Scope{ProjectID: "p1"}, store.Page{Limit: 5, Marker: c.UUID, SortKey: "created_at"})
		must(t, err)
		if len(page) != 1 || page[0].UUID != bare.UUID {
			t.Errorf("behind the first: %v", page)
		}

		parts, err := s.ClusterParts(t.Context(), c.UUID, bare.UUID)
		must(t, err)
		got := parts[c.UUID]
		if len(got.Groups) != 3 || got.Groups[0].Name != "default-master" || got.Groups[2].NodeCount != 4 || got.Groups[1].Status != model.CreateInProgress {
			t.Errorf("groups: %+v", got.Groups)
		}
		if len(got.Nodes) != 0 {
			t.Errorf("a node that has not joined: %+v", got.Nodes)
		}
		if other := parts[bare.UUID]; other == nil || len(other.Groups) != 0 || len(other.Nodes) != 0 {
			t.Errorf("parts of a bare cluster: %+v", other)
		}
		if none, err := s.ClusterParts(t.Context()); len(none) != 0 || err != nil {
			t.Errorf("of no clusters: %v, %v", none, err)
		}
	})
}
