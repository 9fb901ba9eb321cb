// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/model"
)

func TestScalingRule(t *testing.T) {
	const gib = 1 << 30
	node := func(cpus, memory int64) model.NodeUsage { // reserved of 2 CPUs and 4 GiB, in hundredths
		return model.NodeUsage{CPUs: 2000, CPUsReserved: 2000 * cpus / 100, Memory: 4 * gib, MemoryReserved: 4 * gib * memory / 100}
	}
	master := model.NodeGroup{Name: "default-master", Role: model.RoleMaster, NodeCount: 1, IsDefault: true}
	worker := func(name string, count, most int, autoscale *bool) model.NodeGroup {
		g := model.NodeGroup{Name: name, Role: model.RoleWorker, NodeCount: count, IsDefault: name == "default-worker", Autoscale: autoscale}
		if most > 0 {
			g.MaxNodeCount = &most
		}
		return g
	}
	usual := []model.NodeGroup{master, worker("default-worker", 2, 3, nil)}
	for _, tt := range []struct {
		name   string
		groups []model.NodeGroup
		usage  []model.NodeUsage
		grows  string // group; empty: none
		stuck  bool
		says   string
	}{
		{"nothing reserved", usual, []model.NodeUsage{node(0, 0)}, "", false, "No node is needed"},
		{"exactly the threshold", usual, []model.NodeUsage{node(80, 80)}, "", false, "No node is needed"},
		{"memory above", usual, []model.NodeUsage{node(0, 81)}, "default-worker", false, "80 % of the cluster's memory"},
		{"CPU above", usual, []model.NodeUsage{node(81, 0)}, "default-worker", false, "80 % of the cluster's CPU"},
		{"both above", usual, []model.NodeUsage{node(100, 100)}, "default-worker", false, "CPU and memory"},
		{"each for itself, not added", usual, []model.NodeUsage{node(70, 70)}, "", false, "No node is needed"},
		{"over all nodes together", usual, []model.NodeUsage{node(0, 100), node(0, 60)}, "", false, "No node is needed"},
		{"one sliver more", usual, []model.NodeUsage{node(0, 100), node(0, 61)}, "default-worker", false, "node number 3"},
		{"at its maximum", []model.NodeGroup{worker("default-worker", 3, 3, nil)}, []model.NodeUsage{node(0, 90)}, "", true, "max_node_count of 3"},
		{"no maximum", []model.NodeGroup{worker("default-worker", 30, 0, nil)}, []model.NodeUsage{node(0, 90)}, "default-worker", false, "node number 31"},
		{"the next group", []model.NodeGroup{worker("default-worker", 3, 3, nil), worker("more", 0, 2, new(true))}, []model.NodeUsage{node(0, 90)}, "more", false, "node number 1"},
		{"other groups only if asked", []model.NodeGroup{worker("more", 1, 2, nil)}, []model.NodeUsage{node(0, 90)}, "", true, "no node group takes part"},
		{"managers never", []model.NodeGroup{{Name: "m", Role: model.RoleMaster, Autoscale: new(true)}}, []model.NodeUsage{node(0, 90)}, "", true, "no node group takes part"},
		{"without nodes", usual, nil, "", false, "No node is needed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := scalingRule(model.AutoscaleSettings{Enabled: true, ThresholdPercent: 80}, tt.groups, tt.usage)
			name := ""
			if got.group != nil {
				name = got.group.Name
			}
			if name != tt.grows || got.stuck != tt.stuck || !strings.Contains(got.why, tt.says) {
				t.Errorf("group %q, stuck %v, %q; want %q, %v, %q", name, got.stuck, got.why, tt.grows, tt.stuck, tt.says)
			}
		})
	}
}
