// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

func each(b *testing.B, bench func(b *testing.B, s *store.Store)) {
	b.Run("SQLite", func(b *testing.B) { bench(b, storetest.New(b)) })
	if os.Getenv(testenv.MariaDB) != "" {
		b.Run("MariaDB", func(b *testing.B) { bench(b, storetest.NewMariaDB(b)) })
	}
}

// BenchmarkCreateCluster is the transaction behind POST /v1/clusters, by 8 at
// once, each for a project of its own.
func BenchmarkCreateCluster(b *testing.B) {
	each(b, func(b *testing.B, s *store.Store) {
		shared, groups := request(b, s, "p")
		work := make(chan int)
		done := make(chan error)
		for i := range 8 {
			go func() {
				var err error
				for range work {
					c, g := *shared, append([]model.NodeGroup(nil), groups...)
					c.ProjectID = fmt.Sprint("p", i)
					if _, bad := s.CreateCluster(b.Context(), &c, g, 1<<30, store.NewOperation{}); bad != nil {
						err = bad
					}
				}
				done <- err
			}()
		}
		b.ResetTimer()
		for i := range b.N {
			work <- i
		}
		close(work)
		for range 8 {
			must(b, <-done)
		}
	})
}

// BenchmarkListClusters is what GET /v1/clusters reads for 1000 clusters.
func BenchmarkListClusters(b *testing.B) {
	each(b, func(b *testing.B, s *store.Store) {
		c, groups := request(b, s, "p1")
		for range 1000 {
			row, g := *c, append([]model.NodeGroup(nil), groups...)
			_, err := s.CreateCluster(b.Context(), &row, g, 1<<30, store.NewOperation{})
			must(b, err)
		}
		b.ResetTimer()
		for b.Loop() {
			clusters, err := s.ListClusters(b.Context(), store.Scope{ProjectID: "p1"}, store.Page{Limit: 1000})
			must(b, err)
			uuids := make([]string, len(clusters))
			for i := range clusters {
				uuids[i] = clusters[i].UUID
			}
			_, err = s.NodeGroups(b.Context(), uuids...)
			must(b, err)
		}
	})
}

// BenchmarkStep is one step of a driver in the journal: begun and ended.
func BenchmarkStep(b *testing.B) {
	each(b, func(b *testing.B, s *store.Store) {
		_, _, op := created(b, s, "p1")
		f := claim(b, s, op, "c1")
		for b.Loop() {
			must(b, s.BeginStep(b.Context(), f, model.Step{Name: "place"}))
			must(b, s.EndStep(b.Context(), f, "place", "", false, model.StepDone, ""))
		}
	})
}
