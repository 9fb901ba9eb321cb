// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/uuid"

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
			step := model.Step{Name: "place", Attempts: 1, State: model.StepRunning}
			must(b, s.WriteSteps(b.Context(), f, store.StepChange{Step: step, Event: model.EventStepStart}))
			step.State = model.StepDone
			must(b, s.WriteSteps(b.Context(), f, store.StepChange{Step: step, Event: model.EventStepEnd}))
		}
	})
}

// BenchmarkHostsWithRoom is what a placement reads: of 10,000 hosts that have
// room, of 10,000 of which one has, and of 10,000 full ones.
func BenchmarkHostsWithRoom(b *testing.B) {
	wish := store.HostWish{VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20, ResourceClass: "baremetal", OrNoClass: true}
	each(b, func(b *testing.B, s *store.Store) {
		storetest.Hosts(b, s, 10_000)
		look := func(name string, want int) {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					hosts, err := s.HostsWithRoom(b.Context(), wish, []string{uuid.NewString()}, 32)
					if err != nil || len(hosts) != want {
						b.Fatalf("%d hosts, %v", len(hosts), err)
					}
				}
			})
		}
		look("all have room", 32)
		s.Exec(b, "UPDATE hosts SET used_memory_mib = total_memory_mib WHERE name <> 'host-5000'")
		look("one has room", 1)
		s.Exec(b, "UPDATE hosts SET used_memory_mib = total_memory_mib")
		look("none has room", 0)
		s.Exec(b, "UPDATE hosts SET used_memory_mib = 0, used_vcpus = total_vcpus")
		look("memory, but no vCPU", 0)
	})
}

// BenchmarkClaimable is the question whose turn it is while 2000 operations of
// 100 projects wait.
func BenchmarkClaimable(b *testing.B) {
	each(b, func(b *testing.B, s *store.Store) {
		c, groups := request(b, s, "p")
		for i := range 2000 {
			row, g := *c, append([]model.NodeGroup(nil), groups...)
			row.ProjectID = fmt.Sprint("p", i*i%100)
			_, err := s.CreateCluster(b.Context(), &row, g, 1<<30, store.NewOperation{})
			must(b, err)
		}
		b.ResetTimer()
		for b.Loop() {
			due, err := s.Claimable(b.Context(), 32, 10)
			must(b, err)
			if len(due) != 32 {
				b.Fatalf("%d are due", len(due))
			}
		}
	})
}
