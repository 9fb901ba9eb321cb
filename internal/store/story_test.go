// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// What the tests of this package tell their stories with.

var everything = store.Scope{All: true}

// lease is longer than any test.
const lease = time.Hour

func ptr[T any](v T) *T { return &v }

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr fails the test when err is not target.
func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
}

// template makes a template of the project.
func template(t testing.TB, s *store.Store, project, name string, change ...func(*model.ClusterTemplate)) *model.ClusterTemplate {
	t.Helper()
	tmpl := &model.ClusterTemplate{ProjectID: project, UserID: "user-of-" + project, Name: &name, COE: "swarm", ImageID: "image", ServerType: "bm"}
	for _, f := range change {
		f(tmpl)
	}
	must(t, s.CreateTemplate(t.Context(), tmpl))
	return tmpl
}

// request is a cluster with one manager and two workers, not stored yet.
func request(t testing.TB, s *store.Store, project string) (*model.Cluster, []model.NodeGroup) {
	t.Helper()
	tmpl := template(t, s, project, "for-"+project)
	return &model.Cluster{ProjectID: project, UserID: "user-of-" + project, Name: "c", TemplateID: tmpl.UUID},
		[]model.NodeGroup{
			{Name: "default-master", Role: model.RoleMaster, NodeCount: 1, IsDefault: true},
			{Name: "default-worker", Role: model.RoleWorker, NodeCount: 2, IsDefault: true},
		}
}

// created makes a cluster and returns it with its groups and create operation.
func created(t testing.TB, s *store.Store, project string) (*model.Cluster, []model.NodeGroup, *model.Operation) {
	t.Helper()
	c, groups := request(t, s, project)
	op, err := s.CreateCluster(t.Context(), c, groups, 1000, store.NewOperation{UserID: c.UserID, RequestID: "req-1", Deadline: time.Hour})
	must(t, err)
	return c, groups, op
}

func cluster(t testing.TB, s *store.Store, project string) *model.Cluster {
	t.Helper()
	c, _, _ := created(t, s, project)
	return c
}

// claim claims the operation and returns the fence.
func claim(t testing.TB, s *store.Store, op *model.Operation, owner string) store.Fence {
	t.Helper()
	got, err := s.Claim(t.Context(), op.UUID, owner, lease, 0)
	must(t, err)
	return store.FenceOf(got)
}

// begun writes that a step begins, for the first time.
func begun(t testing.TB, s *store.Store, f store.Fence, step model.Step) {
	t.Helper()
	step.State, step.Attempts = model.StepRunning, 1
	must(t, s.WriteSteps(t.Context(), f, store.StepChange{Step: step, Event: model.EventStepStart}))
}

// ready makes a cluster whose create operation is done.
func ready(t testing.TB, s *store.Store, project string) (*model.Cluster, []model.NodeGroup) {
	t.Helper()
	c, groups, op := created(t, s, project)
	must(t, s.Finish(t.Context(), claim(t, s, op, "setup"), model.OpDone, model.CreateComplete, nil, nil))
	return c, groups
}

// nodes makes n wanted nodes of the group: 2 VCPUs, 4 GiB memory, 20 GiB disk.
func nodes(t testing.TB, s *store.Store, f store.Fence, g model.NodeGroup, n int) []model.Node {
	t.Helper()
	rows := make([]model.Node, n)
	for i := range rows {
		rows[i] = model.Node{
			UUID: uuid.NewString(), NodeGroupID: g.UUID, Name: fmt.Sprintf("%s-%d", g.Name, i), Index: i,
			Role: g.Role, VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20, Image: "image",
		}
	}
	must(t, s.AddNodes(t.Context(), f, rows))
	return rows
}

// host makes a ready host with room for n of those nodes.
func host(t testing.TB, s *store.Store, name string, n int) *model.Host {
	t.Helper()
	h := &model.Host{
		Name: name, State: model.HostReady, Bridge: "br0",
		TotalVCPUs: 2 * n, TotalMemoryMiB: 4096 * n, TotalDiskGiB: 20 * n,
	}
	must(t, s.AddHost(t.Context(), h))
	return h
}

// clusterNow and groupNow read the rows again.
func clusterNow(t testing.TB, s *store.Store, uuid string) *model.Cluster {
	t.Helper()
	c, err := s.Cluster(t.Context(), everything, uuid)
	must(t, err)
	return c
}

func groupNow(t testing.TB, s *store.Store, clusterUUID, ident string) *model.NodeGroup {
	t.Helper()
	g, err := s.NodeGroup(t.Context(), clusterUUID, ident)
	must(t, err)
	return g
}

func operationNow(t testing.TB, s *store.Store, uuid string) *model.Operation {
	t.Helper()
	op, err := s.Operation(t.Context(), uuid)
	must(t, err)
	return op
}
