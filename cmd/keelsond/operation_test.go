// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// asked is a cluster whose create has been asked for.
func asked(t *testing.T, s *store.Store, name string) (*model.Cluster, *model.Operation) {
	t.Helper()
	template := model.ClusterTemplate{UUID: uuid.NewString(), ProjectID: "p", UserID: "u", Name: &name, COE: "swarm", ImageID: "image", ServerType: "vm"}
	must(t, s.CreateTemplate(t.Context(), &template))
	c := &model.Cluster{UUID: uuid.NewString(), ProjectID: "p", UserID: "u", Name: name, TemplateID: template.UUID}
	op, err := s.CreateCluster(t.Context(), c, []model.NodeGroup{{UUID: uuid.NewString(), Name: "default-master", Role: model.RoleMaster, NodeCount: 1, IsDefault: true}},
		100, store.NewOperation{UserID: "u", RequestID: "req-1", Deadline: time.Hour})
	must(t, err)
	return c, op
}

// fail claims the operation and lets it end as failed.
func fail(t *testing.T, s *store.Store, op *model.Operation) {
	t.Helper()
	claimed, err := s.Claim(t.Context(), op.UUID, "conductor-1", time.Minute, 0)
	must(t, err)
	why := "no host"
	must(t, s.Finish(t.Context(), store.FenceOf(claimed), model.OpFailed, op.Kind.Broken(), &why, nil))
}

func TestOperationListAndShow(t *testing.T) {
	o := newOperator(t, "")
	s := o.onDatabase(storetest.MariaDB(t))
	_, first := asked(t, s, "first")
	cluster, second := asked(t, s, "second")
	fail(t, s, first)
	list := func(args ...string) (uuids []string) {
		t.Helper()
		out, err := o.run(append([]string{"operation", "list", "-f", "json"}, args...)...)
		must(t, err)
		var ops []shownOperation
		must(t, json.Unmarshal([]byte(out), &ops))
		for _, op := range ops {
			uuids = append(uuids, op.UUID)
		}
		return uuids
	}
	for args, want := range map[string]string{
		"":                          second.UUID,
		"--all":                     second.UUID + " " + first.UUID,
		"--all --limit 1":           second.UUID,
		"--state failed":            first.UUID,
		"--cluster " + cluster.UUID: second.UUID,
		"--project other":           "",
	} {
		if got := strings.Join(list(strings.Fields(args)...), " "); got != want {
			t.Errorf("list %s: %s, want %s", args, got, want)
		}
	}
	out, err := o.run("operation", "list", "--all")
	must(t, err)
	if !strings.HasPrefix(out, "UUID ") || !strings.Contains(out, "no host") {
		t.Errorf("got\n%s", out)
	}
	claimed, err := s.Claim(t.Context(), second.UUID, "conductor-1", time.Minute, 0)
	must(t, err)
	must(t, s.WriteSteps(t.Context(), store.FenceOf(claimed), store.StepChange{Step: model.Step{Name: "certificates", State: model.StepRunning, Attempts: 1}}))
	out, err = o.run("operation", "show", second.UUID)
	must(t, err)
	for _, want := range []string{"conductor    conductor-1\n", "certificates  -     running", "request      req-1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	for _, args := range [][]string{{"show", uuid.NewString()}, {"list", "--state", "lost"}, {"list", "--limit", "0"}} {
		if _, err := o.run(append([]string{"operation"}, args...)...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

// A failed create is asked for anew, once; what waits is tried at once; what
// has a conductor, was put back or was followed by more is refused.
func TestOperationRetry(t *testing.T) {
	o := newOperator(t, "")
	s := o.onDatabase(storetest.MariaDB(t))
	cluster, create := asked(t, s, "blue")
	fail(t, s, create)
	_, err := o.run("operation", "retry", create.UUID)
	must(t, err)
	ops, err := s.Operations(t.Context(), cluster.UUID)
	must(t, err)
	if len(ops) != 2 || ops[1].Kind != model.OpCreate || ops[1].State != model.OpPending || ops[1].UserID != "u" || ops[1].Deadline == nil {
		t.Fatalf("got %+v", ops)
	}
	if c, err := s.Cluster(t.Context(), store.Scope{All: true}, cluster.UUID); err != nil || c.Status != model.CreateInProgress {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := o.run("operation", "retry", create.UUID); err == nil || !strings.Contains(err.Error(), "more was asked") {
		t.Errorf("a second time: %v", err)
	}

	again := &ops[1]
	claimed, err := s.Claim(t.Context(), again.UUID, "conductor-1", time.Minute, 0)
	must(t, err)
	if _, err := o.run("operation", "retry", again.UUID); err == nil || !strings.Contains(err.Error(), "conductor-1 works on it") {
		t.Errorf("at work: %v", err)
	}
	must(t, s.Release(t.Context(), store.FenceOf(claimed), time.Now().Add(time.Hour)))
	for range 2 {
		_, err := o.run("operation", "retry", again.UUID)
		must(t, err)
	}
	waiting, err := s.Claimable(t.Context(), 10, 0)
	must(t, err)
	if len(waiting) != 1 || waiting[0] != again.UUID {
		t.Errorf("claimable: %v", waiting)
	}
	remove, err := s.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{UserID: "u"})
	must(t, err)
	claimed, err = s.Claim(t.Context(), again.UUID, "conductor-1", time.Minute, 0)
	must(t, err)
	must(t, s.FinishCancelled(t.Context(), store.FenceOf(claimed)))
	fail(t, s, remove)
	_, err = o.run("operation", "retry", remove.UUID)
	must(t, err)
	ops, err = s.Operations(t.Context(), cluster.UUID)
	must(t, err)
	if len(ops) != 4 || ops[3].Kind != model.OpDelete || ops[3].State != model.OpPending {
		t.Errorf("got %+v", ops)
	}
	if _, err := o.run("operation", "retry", again.UUID); err == nil || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a cancelled one: %v", err)
	}
}

// A cancelled operation is out of time, and whoever had it in hand has lost it.
func TestOperationCancel(t *testing.T) {
	o := newOperator(t, "")
	s := o.onDatabase(storetest.MariaDB(t))
	cluster, create := asked(t, s, "blue")
	claimed, err := s.Claim(t.Context(), create.UUID, "conductor-1", time.Minute, 0)
	must(t, err)
	for range 2 {
		_, err := o.run("operation", "cancel", create.UUID, "--reason", "the rack is to be moved")
		must(t, err)
	}
	op, err := s.Operation(t.Context(), create.UUID)
	must(t, err)
	if op.State != model.OpPending || op.Owner != "" || op.Deadline.After(time.Now()) || valueOf(op.Reason) != "the rack is to be moved" || op.NotBefore == nil || op.Generation != claimed.Generation+1 {
		t.Errorf("got %+v", op)
	}
	if _, err := s.Renew(t.Context(), store.FenceOf(claimed), time.Minute); err == nil {
		t.Error("the conductor still has it")
	}
	remove, err := s.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
	must(t, err)
	for _, id := range []string{remove.UUID, uuid.NewString()} {
		if _, err := o.run("operation", "cancel", id); err == nil {
			t.Errorf("%s was cancelled", id)
		}
	}
}
