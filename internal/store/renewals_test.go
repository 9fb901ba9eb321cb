// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// upgradeTo asks for the cluster's groups to be rebuilt from a new template.
func upgradeTo(t testing.TB, s *store.Store, c *model.Cluster, image string, groups ...string) (*model.ClusterTemplate, *model.Operation) {
	t.Helper()
	to := template(t, s, c.ProjectID, image, func(t *model.ClusterTemplate) { t.ImageID = image })
	op, err := s.UpgradeCluster(t.Context(), c.UUID, to.UUID, groups, 2, model.Status.Ready, store.NewOperation{UserID: "u", RequestID: "req-2", Deadline: time.Hour})
	must(t, err)
	return to, op
}

func TestUpgradeCluster(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		master, worker := groups[0].UUID, groups[1].UUID
		to, op := upgradeTo(t, s, c, "newer", master, worker)
		want := model.OperationSpec{
			NodeGroups: []string{master, worker}, MaxBatchSize: 2,
			Before: &model.ClusterBefore{TemplateID: c.TemplateID, Images: map[string]*string{master: nil, worker: nil}},
		}
		if diff := cmp.Diff(want, operationNow(t, s, op.UUID).Spec); diff != "" || op.Kind != model.OpUpgrade {
			t.Errorf("operation %s:\n%s", op.Kind, diff)
		}
		if got := clusterNow(t, s, c.UUID); got.TemplateID != to.UUID || got.Status != model.UpdateInProgress {
			t.Errorf("cluster %v of template %s", got.Status, got.TemplateID)
		}
		if got := groupNow(t, s, c.UUID, worker); got.Status != model.UpdateInProgress || *got.ImageID != "newer" {
			t.Errorf("group %+v", got)
		}

		// Neither template may go while the upgrade may still go either way.
		wantErr(t, s.DeleteTemplate(t.Context(), c.TemplateID), store.ErrInUse)
		wantErr(t, s.DeleteTemplate(t.Context(), to.UUID), store.ErrInUse)

		// A second one is refused and changes nothing.
		_, err := s.UpgradeCluster(t.Context(), c.UUID, c.TemplateID, []string{worker}, 1, model.Status.Ready, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)
		_, err = s.RotateAuthorities(t.Context(), c.UUID, model.Status.Ready, store.NewOperation{})
		wantErr(t, err, store.ErrStatus)
		if got := clusterNow(t, s, c.UUID); got.TemplateID != to.UUID || got.CAGeneration != 0 {
			t.Errorf("a refused request changed the cluster: %+v", got)
		}

		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		if got := groupNow(t, s, c.UUID, master); got.Status != model.UpdateComplete || *got.ImageID != "newer" {
			t.Errorf("group %+v", got)
		}
		must(t, s.DeleteTemplate(t.Context(), c.TemplateID))
	})
}

func TestUpgradeOfOneGroupLeavesTheClusterItsTemplate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, _ := ready(t, s, "p1")
		g, op := added(t, s, c)
		must(t, s.Finish(t.Context(), claim(t, s, op, "c1"), model.OpDone, model.UpdateComplete, nil, nil))
		_, err := s.UpgradeCluster(t.Context(), c.UUID, c.TemplateID, []string{g.UUID}, 1, model.Status.Ready, store.NewOperation{})
		must(t, err)
		if got := groupNow(t, s, c.UUID, g.UUID); *got.ImageID != "image" || got.Status != model.UpdateInProgress {
			t.Errorf("group %+v", got)
		}
		if got := groupNow(t, s, c.UUID, "default-worker"); got.ImageID != nil || got.Status.InProgress() {
			t.Errorf("the other group %+v", got)
		}
		_, err = s.UpgradeCluster(t.Context(), c.UUID, "nowhere", []string{g.UUID}, 1, always, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
		_, err = s.UpgradeCluster(t.Context(), "nowhere", c.TemplateID, []string{g.UUID}, 1, always, store.NewOperation{})
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestUndoneUpgradePutsTheRecordsBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		_, op := upgradeTo(t, s, c, "newer", groups[0].UUID, groups[1].UUID)
		f := claim(t, s, op, "c1")
		for range 2 {
			must(t, s.SetUndo(t.Context(), f, "the new image does not start"))
			if got := clusterNow(t, s, c.UUID); got.TemplateID != c.TemplateID {
				t.Errorf("cluster of template %s", got.TemplateID)
			}
			if got := groupNow(t, s, c.UUID, "default-worker"); got.ImageID != nil {
				t.Errorf("group %+v", got)
			}
		}
	})
}

func TestRotateAuthorities(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups := ready(t, s, "p1")
		put := func(generation int) {
			t.Helper()
			for _, kind := range []string{model.CertCA, model.CertService} {
				_, err := s.PutCertificates(t.Context(), model.Certificate{ClusterID: c.UUID, Kind: kind, Generation: generation, NotAfter: time.Now()})
				must(t, err)
			}
		}
		generations := func() (found []int) {
			t.Helper()
			rows, err := s.Certificates(t.Context(), c.UUID, model.CertCA)
			must(t, err)
			for _, row := range rows {
				found = append(found, row.Generation)
			}
			return found
		}
		put(0)
		rotate := func() store.Fence {
			t.Helper()
			op, err := s.RotateAuthorities(t.Context(), c.UUID, model.Status.Ready, store.NewOperation{UserID: "u", RequestID: "req-2", Deadline: time.Hour})
			must(t, err)
			if got := clusterNow(t, s, c.UUID); got.CAGeneration != 1 || got.Status != model.UpdateInProgress {
				t.Errorf("cluster %v, generation %d", got.Status, got.CAGeneration)
			}
			if got := groupNow(t, s, c.UUID, groups[0].UUID); got.Status != model.UpdateInProgress {
				t.Errorf("group %v", got.Status)
			}
			put(1)
			if diff := cmp.Diff([]int{1, 0}, generations()); diff != "" {
				t.Error(diff)
			}
			return claim(t, s, op, "c1")
		}

		f := rotate()
		must(t, s.SetUndo(t.Context(), f, "a node does not come back"))
		if got := clusterNow(t, s, c.UUID); got.CAGeneration != 0 {
			t.Errorf("generation %d after the undo", got.CAGeneration)
		}
		must(t, s.ForgetOtherAuthorities(t.Context(), f))
		if diff := cmp.Diff([]int{0}, generations()); diff != "" {
			t.Error(diff)
		}
		must(t, s.Finish(t.Context(), f, model.OpFailed, model.UpdateComplete, ptr("failed"), nil))

		f = rotate()
		for range 2 {
			must(t, s.ForgetOtherAuthorities(t.Context(), f))
		}
		if diff := cmp.Diff([]int{1}, generations()); diff != "" {
			t.Error(diff)
		}
		must(t, s.Finish(t.Context(), f, model.OpDone, model.UpdateComplete, nil, nil))
		wantErr(t, s.ForgetOtherAuthorities(t.Context(), f), store.ErrSuperseded)
	})
}

func TestNodeBuilt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		n := nodes(t, s, f, groups[1], 1)[0]
		now := func() model.Node {
			t.Helper()
			all, err := s.Nodes(t.Context(), c.UUID)
			must(t, err)
			return all[c.UUID][0]
		}
		must(t, s.NodeBuilt(t.Context(), f, n.UUID, "image/t/0"))
		if got := now(); got.State != model.NodeRunning || got.Revision != "image/t/0" {
			t.Errorf("node %+v", got)
		}
		must(t, s.NodeState(t.Context(), f, n.UUID, model.NodeReady, ptr("coe-1")))
		must(t, s.SetNodeImages(t.Context(), f, map[string]string{n.UUID: "newer", "gone": "newer"}))
		must(t, s.NodeBuilt(t.Context(), f, n.UUID, "newer/t/0"))
		if got := now(); got.State != model.NodeReady || got.Revision != "newer/t/0" || got.Image != "newer" {
			t.Errorf("node %+v", got)
		}
		wantErr(t, s.NodeBuilt(t.Context(), f, "gone", "x"), store.ErrNotFound)
		f.Generation--
		wantErr(t, s.NodeBuilt(t.Context(), f, n.UUID, "x"), store.ErrSuperseded)
		wantErr(t, s.SetNodeImages(t.Context(), f, nil), store.ErrSuperseded)
	})
}
