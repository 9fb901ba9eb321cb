// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// images tells what the nodes on the host are made from, by node name.
func (w *world) images() map[string]string {
	w.Helper()
	host := simhost.Open(simhost.Scheme + "://" + w.hostDir)
	nodes, err := host.Nodes()
	w.must(err)
	found := map[string]string{}
	for _, id := range nodes {
		spec, err := host.Node(id)
		w.must(err)
		found[spec.Name] = spec.Image
	}
	return found
}

// upgrade asks for the default groups to be rebuilt from a new template.
func (w *world) upgrade(cluster, image string) *model.Operation {
	w.Helper()
	op, err := w.tryUpgrade(cluster, image, anyStatus)
	w.must(err)
	return op
}

func (w *world) tryUpgrade(cluster, image string, allowed func(model.Status) bool) (*model.Operation, error) {
	w.Helper()
	name := "to-" + image
	to := model.ClusterTemplate{UUID: uuid.NewString(), ProjectID: "p", UserID: "u", Name: &name, COE: "fake", ImageID: image, ServerType: "vm"}
	w.must(w.store.CreateTemplate(w.Context(), &to))
	groups, err := w.store.NodeGroups(w.Context(), cluster)
	w.must(err)
	var ids []string
	for _, g := range groups[cluster] {
		ids = append(ids, g.UUID)
	}
	return w.store.UpgradeCluster(w.Context(), cluster, to.UUID, ids, 1, allowed, store.NewOperation{RequestID: "req-2", Deadline: time.Minute})
}

func (w *world) rotate(cluster string) *model.Operation {
	w.Helper()
	always := func(model.Status) bool { return true }
	op, err := w.store.RotateAuthorities(w.Context(), cluster, always, store.NewOperation{RequestID: "req-3", Deadline: time.Minute})
	w.must(err)
	return op
}

// generations are those of the cluster's certificates of that kind.
func (w *world) generations(cluster, kind string) (found []int) {
	w.Helper()
	rows, err := w.store.Certificates(w.Context(), cluster, kind)
	w.must(err)
	for _, row := range rows {
		found = append(found, row.Generation)
	}
	return slices.Compact(found)
}

func TestUpgradeRebuildsTheNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.conduct()
		cluster, create := w.create("demo", 1, 2)
		w.ended(create.UUID)
		if op := w.ended(w.upgrade(cluster.UUID, "newer").UUID); op.State != model.OpDone {
			t.Fatalf("upgrade ended %s: %v\n%s", op.State, *op.Reason, strings.Join(w.story(op.UUID), "\n"))
		}
		want := map[string]string{"demo-master-0": "node-2", "demo-worker-0": "node-2", "demo-worker-1": "node-2"}
		if diff := cmp.Diff(want, w.images()); diff != "" {
			t.Error(diff)
		}
		if got := w.cluster(cluster.UUID).Status; got != model.UpdateComplete {
			t.Errorf("cluster is %s", got)
		}
	})
}

// An upgrade that fails half way is taken back: the nodes that have been rebuilt
// are rebuilt again, and the records say what is there.
func TestFailedUpgradeIsTakenBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.conduct()
		cluster, create := w.create("demo", 1, 2)
		w.ended(create.UUID)
		w.coe.Inject(fake.StepRecord, "", fake.Fault{Permanent: "the new version does not work"})
		upgrade := w.upgrade(cluster.UUID, "newer")
		w.eventually("the upgrade is being undone", func() bool {
			op, err := s.Operation(t.Context(), upgrade.UUID)
			w.must(err)
			return op.Undo
		})
		w.coe.Heal()
		op := w.ended(upgrade.UUID)
		if op.State != model.OpFailed || *op.Reason != "the new version does not work" {
			t.Errorf("upgrade ended %s: %v", op.State, *op.Reason)
		}
		want := map[string]string{"demo-master-0": "node", "demo-worker-0": "node", "demo-worker-1": "node"}
		if diff := cmp.Diff(want, w.images()); diff != "" {
			t.Errorf("%s\n%s", diff, strings.Join(w.story(op.UUID), "\n"))
		}
		if got := w.cluster(cluster.UUID); got.Status != model.UpdateFailed || got.TemplateID != w.template.UUID {
			t.Errorf("cluster is %s of template %s", got.Status, got.TemplateID)
		}
		if op := w.ended(w.upgrade(cluster.UUID, "missing").UUID); op.State != model.OpFailed || !strings.Contains(*op.Reason, `image "missing"`) {
			t.Errorf("upgrade to a missing image ended %s: %v", op.State, op.Reason)
		}
		if diff := cmp.Diff(want, w.images()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRotation_15_3_LeavesOneGenerationOfCertificates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		stop := w.conduct()
		cluster, create := w.create("demo", 1, 2)
		w.ended(create.UUID)

		// The conductor is stopped in the middle; both generations are there.
		w.coe.Inject(fake.StepRebuild, "demo-worker-0", fake.Fault{Hang: true})
		rotate := w.rotate(cluster.UUID)
		w.eventually("a node is being rebuilt", func() bool { return w.coe.Taken(fake.StepRebuild, "demo-worker-0") > 0 })
		stop()
		if diff := cmp.Diff([]int{1, 0}, w.generations(cluster.UUID, model.CertCA)); diff != "" {
			t.Error(diff)
		}
		w.coe.Heal()
		w.conduct()
		if op := w.ended(rotate.UUID); op.State != model.OpDone {
			t.Fatalf("rotation ended %s: %v", op.State, op.Reason)
		}
		for _, kind := range []string{model.CertCA, model.CertEtcdCA, model.CertService, model.CertNode} {
			if diff := cmp.Diff([]int{1}, w.generations(cluster.UUID, kind)); diff != "" {
				t.Errorf("%s: %s", kind, diff)
			}
		}
	})
}

func TestRebuildMakesTheNamedNodesAnewAndNoOthers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.conduct()
		c, create := w.create("demo", 1, 2)
		w.ended(create.UUID)
		before, err := w.store.Nodes(w.Context(), c.UUID)
		w.must(err)
		last := before[c.UUID][2]
		for n := range 2 {
			op, err := w.store.RebuildNodes(w.Context(), c.UUID, []string{last.UUID, "gone"}, model.Status.Renewable, store.NewOperation{RequestID: "req-4", Deadline: time.Minute})
			w.must(err)
			if ended := w.ended(op.UUID); ended.State != model.OpDone {
				t.Fatalf("the rebuild ended %s", ended.State)
			}
			steps, err := w.store.Steps(w.Context(), op.UUID)
			w.must(err)
			rebuilt := 0
			for _, step := range steps {
				if step.Name == fake.StepRebuild && step.NodeID != last.UUID {
					t.Errorf("node %s was rebuilt", step.NodeName)
				} else if step.Name == fake.StepRebuild && strings.HasPrefix(step.Message, "rebuilt on host") {
					rebuilt++
				}
			}
			nodes, err := w.store.Nodes(w.Context(), c.UUID)
			w.must(err)
			if now := nodes[c.UUID][2]; rebuilt != 1 || now.Rebuilds != n+1 || !strings.HasSuffix(now.Revision, "/"+string(rune('1'+n))) {
				t.Errorf("rebuilt %d times, the record says %+v", rebuilt, now)
			}
			for i, n := range nodes[c.UUID][:2] {
				if n.Revision != before[c.UUID][i].Revision {
					t.Errorf("node %s is another one: %s", n.Name, n.Revision)
				}
			}
		}
	})
}
