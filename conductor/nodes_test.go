// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
)

func TestNodeNamesAreHostNames(t *testing.T) {
	for _, c := range []struct {
		cluster, group string
		index          int
		want           string
	}{
		{"demo", "default-master", 0, "demo-master-0"},
		{"demo", "default-worker", 12, "demo-worker-12"},
		{"My_Cluster.v2", "big nodes", 1, "my-cluster-v2-big-nodes-1"},
		{"a---", "Ünïcode", 0, "a-n-code-0"},
		{"x", "***", 3, "x-node-3"},
		{strings.Repeat("long", 60), strings.Repeat("group", 50), 1000, "longlonglonglonglonglonglonglonglong-groupgroupgroupgroup-1000"},
	} {
		got := NodeName(c.cluster, &model.NodeGroup{Name: c.group}, c.index)
		if got != c.want {
			t.Errorf("NodeName(%.20q, %.20q, %d) = %q, want %q", c.cluster, c.group, c.index, got, c.want)
		}
	}
}

func FuzzNodeName(f *testing.F) {
	f.Add("demo", "default-worker", 0)
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, cluster, group string, index int) {
		if index < 0 || index > 1_000_000 {
			return
		}
		if name := NodeName(cluster, &model.NodeGroup{Name: group}, index); !label.MatchString(name) {
			t.Errorf("NodeName(%q, %q, %d) = %q is no DNS label", cluster, group, index, name)
		}
	})
}

func TestSurplusNodesLeaveInThisOrder(t *testing.T) {
	text := func(s string) *string { return &s }
	nodes := []model.Node{
		{UUID: "u0", Name: "w-0", Index: 0, State: model.NodeReady, COEID: text("coe0"), Address: text("192.0.2.10")},
		{UUID: "u1", Name: "w-1", Index: 1, State: model.NodeReady, COEID: text("coe1"), Address: text("192.0.2.11")},
		{UUID: "u2", Name: "w-2", Index: 2, State: model.NodeRunning},
		{UUID: "u3", Name: "w-3", Index: 3, State: model.NodeReady, COEID: text("coe3")},
	}
	for _, c := range []struct {
		name  string
		count int
		named []string
		want  []string
	}{
		{"one that never joined first", 1, nil, []string{"u2"}},
		{"then the youngest", 3, nil, []string{"u2", "u3", "u1"}},
		{"named by uuid", 1, []string{"u0"}, []string{"u0"}},
		{"named by name", 1, []string{"w-1"}, []string{"u1"}},
		{"named by the COE's id", 1, []string{"coe3"}, []string{"u3"}},
		{"named by address", 2, []string{"192.0.2.10"}, []string{"u0", "u2"}},
		{"unknown names change nothing", 1, []string{"other"}, []string{"u2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, surplusNodes(nodes, c.count, c.named)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
