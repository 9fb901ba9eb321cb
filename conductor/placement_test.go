// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

// BenchmarkPlacement is how long it takes to decide which of 10,000 hosts a
// node goes to, with what is read for it (ms/decision), and with the claim.
func BenchmarkPlacement(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) { benchmarkPlacement(b, storetest.New(b)) })
	if os.Getenv(testenv.MariaDB) != "" {
		b.Run("MariaDB", func(b *testing.B) { benchmarkPlacement(b, storetest.NewMariaDB(b)) })
	}
}

func benchmarkPlacement(b *testing.B, s *store.Store) {
	const clusterNodes = 50
	storetest.Hosts(b, s, 10_000)
	pool := NewHostPool(s, nil, nil, slog.New(slog.DiscardHandler), HostOptions{})
	template := model.ClusterTemplate{UUID: uuid.NewString(), ProjectID: "p", COE: "fake", ImageID: "image", ServerType: "vm"}
	if err := s.CreateTemplate(b.Context(), &template); err != nil {
		b.Fatal(err)
	}
	var nodes []model.Node
	var fence store.Fence
	newCluster := func() {
		c := &model.Cluster{UUID: uuid.NewString(), ProjectID: "p", Name: "c", TemplateID: template.UUID}
		op, err := s.CreateCluster(b.Context(), c, []model.NodeGroup{{UUID: uuid.NewString(), Name: "w"}}, 1<<30, store.NewOperation{})
		if err != nil {
			b.Fatal(err)
		}
		if op, err = s.Claim(b.Context(), op.UUID, "c", time.Hour, 0); err != nil {
			b.Fatal(err)
		}
		fence = store.FenceOf(op)
		nodes = nil
		for i := range clusterNodes {
			nodes = append(nodes, model.Node{UUID: uuid.NewString(), ClusterID: c.UUID, Name: fmt.Sprint("n", i), Index: i, VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20})
		}
		if err := s.AddNodes(b.Context(), fence, nodes); err != nil {
			b.Fatal(err)
		}
	}
	var deciding time.Duration
	b.ResetTimer()
	for range b.N {
		if len(nodes) == 0 {
			b.StopTimer()
			newCluster()
			b.StartTimer()
		}
		node := nodes[0]
		nodes = nodes[1:]
		began := time.Now()
		if hosts, err := pool.choose(b.Context(), node.ClusterID, pool.request(&node, hostKind{})); err != nil || len(hosts) == 0 {
			b.Fatal(hosts, err)
		}
		deciding += time.Since(began)
		if placed, _, err := pool.claim(b.Context(), fence, &node, hostKind{}); err != nil || placed == nil {
			b.Fatal(placed, err)
		}
	}
	b.ReportMetric(float64(deciding.Microseconds())/1000/float64(b.N), "ms/decision")
}
