// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"log/slog"
	"testing"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/store/storetest"
)

func BenchmarkClusters(b *testing.B) {
	w := newWorld(b, storetest.New(b), func(c *api.Config, d *api.Deps) {
		c.MaxClusters = 1000
		d.Logger = slog.New(slog.DiscardHandler)
	})
	template := w.template(swarm())
	var id string
	for range 100 {
		id = w.cluster(object{"cluster_template_id": template, "labels": object{"a": "1", "b": "2"}})
	}
	for name, path := range map[string]string{
		"list of 100": "/v1/clusters", "detail of 100": "/v1/clusters/detail", "show": "/v1/clusters/" + id,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.send(b, "ann", "GET", path, "", nil)
			}
		})
	}
}
