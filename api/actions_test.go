// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/store/storetest"
)

func TestActions_6_1_ResizeBody(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	w.ask("ann", "POST", groups, object{"name": "gpu", "min_node_count": 1, "node_count": 2, "max_node_count": 3}, latest).want(202)
	w.ask("ann", "POST", groups, object{"name": "endless", "max_node_count": 0}, latest).want(202)
	path := "/v1/clusters/c/actions/resize"
	good := object{"node_count": 2}
	fields := []field{
		{"node_count", nil, [][2]any{{1, nil}, {"2", nil}, {2.9, nil}, {true, nil}, {0, nil}}, append(integer(0), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{"nodes_to_remove", nil, [][2]any{{[]string{}, nil}, {[]string{"any"}, nil}, {nil, nil}}, []wrong{
			{"n1", "array of text"},
			{[]int{1}, "array of text"},
			{[]any{nil}, "array of text"},
			{object{}, "array of text"},
			{[]string{strings.Repeat("x", 256)}, "255 characters"},
			{slices.Repeat([]string{"node"}, 10000), "60000 bytes"},
		}},
		{"nodegroup", nil, [][2]any{{"default-worker", nil}, {nil, nil}, {"2", nil}}, text(255)},
		{"colour", nil, nil, []wrong{{"red", "Unknown attribute"}}},
	}
	for _, f := range fields {
		w.rule(f.name, func() {
			for _, value := range f.taken {
				w.ask("ann", "POST", path, good.with(f.name, value[0]), latest).want(202).is("uuid", id)
			}
		})
	}
	w.refusesFields(path, good, fields, latest)
	w.rule("checks in their order", func() {
		all := object{"node_count": 0, "nodegroup": "nowhere"}
		at := func(status int, words, person, cluster string, body any, version string) {
			w.t.Helper()
			w.refused(status, words, person, "POST", "/v1/clusters/"+cluster+"/actions/resize", body, version)
		}
		at(406, "1.6", "ann", "c", all, "OpenStack-API-Version: container-infra 1.6")
		at(400, "Missing argument", "ann", "c", nil, latest)
		at(400, "object", "ann", "c", "[]", latest)
		at(400, "node_count … 1 or more before version 1.10", "reader", "nowhere", all, version19)
		at(404, "Cluster nowhere", "reader", "nowhere", all, latest)
		at(404, "Cluster "+id, "zoe", id, all, latest)
		at(404, "Cluster "+id, "admin", id, all, latest) // the own project only, for admins too
		at(403, "cluster:resize", "reader", "c", all, latest)
		at(404, "Nodegroup nowhere", "ann", "c", all, latest)
		at(400, "default-master … role is master", "ann", "c", object{"node_count": 0, "nodegroup": "default-master"}, latest)
		at(400, "node_count 0 … min_node_count 1 … gpu", "ann", "c", object{"node_count": 0, "nodegroup": "gpu"}, latest)
		at(400, "node_count 4 … max_node_count 3 … gpu", "ann", "c", object{"node_count": 4, "nodegroup": "gpu"}, latest)
		w.ask("ann", "POST", path, object{"node_count": 9, "nodegroup": "endless"}, latest).want(202) // 0 is no limit
	})
}

// What an upgrade is refused for. What it does is told elsewhere.
func TestActions_6_2_UpgradeBody(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	w.ask("ann", "POST", groups, object{"name": "gpu"}, latest).want(202)
	other := w.template(swarm().with("name", "other"))
	w.template(swarm().with("name", "twin"))
	w.template(swarm().with("name", "twin"))
	path := "/v1/clusters/c/actions/upgrade"
	w.refusesFields(path, object{"cluster_template": "swarm"}, []field{
		{name: "cluster_template", wrong: append(text(255), wrong{absent{}, "required"}, wrong{nil, "required"})},
		{name: "max_batch_size", wrong: integer(1)},
		{name: "nodegroup", wrong: text(255)},
		{name: "colour", wrong: []wrong{{"red", "Unknown attribute"}}},
	}, latest)
	w.rule("checks in their order", func() {
		all := object{"cluster_template": "nowhere", "nodegroup": "nowhere"}
		at := func(status int, words, person, cluster string, body any, version string) {
			w.t.Helper()
			w.refused(status, words, person, "POST", "/v1/clusters/"+cluster+"/actions/upgrade", body, version)
		}
		at(406, "1.6", "ann", "c", all, "OpenStack-API-Version: container-infra 1.6")
		at(400, "begins with version 1.8", "ann", "c", "{", version17) // before the body is looked at
		at(400, "Missing argument", "ann", "c", nil, latest)
		at(400, "object", "ann", "c", "[]", latest)
		at(404, "Cluster nowhere", "reader", "nowhere", all, latest)
		at(404, "Cluster "+id, "zoe", id, all, latest)
		at(403, "cluster:upgrade", "reader", "c", all, latest)
		at(404, "ClusterTemplate nowhere", "ann", "c", all, latest)
		at(404, "ClusterTemplate nowhere", "admin", id, all, latest) // crosses projects
		at(409, "Multiple clustertemplates", "ann", "c", all.with("cluster_template", "twin"), latest)
		at(404, "Nodegroup nowhere", "ann", "c", all.with("cluster_template", other), latest)
		at(409, "gpu … own template", "ann", "c", object{"cluster_template": other, "nodegroup": "gpu"}, latest)
		w.template(swarm().with("name", "mode").with("coe", "swarm"))
		at(400, "mode … coe", "ann", "c", object{"cluster_template": "mode"}, latest)
	})
}
