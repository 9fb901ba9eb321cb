// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// statuses are all that a cluster or node group may have.
var statuses = []string{
	"CREATE_IN_PROGRESS", "CREATE_FAILED", "CREATE_COMPLETE",
	"UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_COMPLETE",
	"DELETE_IN_PROGRESS", "DELETE_FAILED", "DELETE_COMPLETE",
	"ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE",
	"RESUME_COMPLETE", "RESUME_FAILED",
	"RESTORE_COMPLETE", "SNAPSHOT_COMPLETE", "CHECK_COMPLETE", "ADOPT_COMPLETE",
}

// readyStatuses are those in which everything is allowed.
var readyStatuses = []string{
	"CREATE_COMPLETE", "UPDATE_COMPLETE", "RESUME_COMPLETE", "RESTORE_COMPLETE", "ROLLBACK_COMPLETE", "SNAPSHOT_COMPLETE",
	"CHECK_COMPLETE", "ADOPT_COMPLETE",
}

func TestLifecycle_14_1_StatusValues(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	for _, status := range []string{
		"CREATE_IN_PROGRESS", "CREATE_FAILED", "CREATE_COMPLETE",
		"UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_COMPLETE",
		"DELETE_IN_PROGRESS", "DELETE_FAILED", "DELETE_COMPLETE",
		"ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE",
		"RESUME_COMPLETE", "RESUME_FAILED",
		"RESTORE_COMPLETE", "SNAPSHOT_COMPLETE", "CHECK_COMPLETE", "ADOPT_COMPLETE",
	} {
		w.rule(status, func() {
			w.put("UPDATE clusters SET status = ? WHERE uuid = ?", status, id)
			w.put("UPDATE node_groups SET status = ?, status_reason = 'why' WHERE cluster_id = ?", status, id)
			shown := w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
			shown.is("status", status)
			w.ask("ann", "GET", groups+"/default-worker", nil, latest).want(200).is("status", status)
			if w.ask("ann", "GET", "/v1/clusters", nil).want(200).items("clusters")[0]["status"] != status {
				w.t.Error("the list shows another status")
			}
			if _, there := shown.body["faults"]; there != strings.HasSuffix(status, "_FAILED") {
				w.t.Errorf("faults shown: %v", there)
			}
			// As input all are accepted, on clusters and on groups, without effect.
			w.cluster(object{"cluster_template_id": "swarm", "status": status})
		})
	}
	for _, health := range []string{"HEALTHY", "UNHEALTHY", "UNKNOWN"} {
		w.rule(health, func() {
			w.put("UPDATE clusters SET status = 'CREATE_COMPLETE' WHERE uuid = ?", id)
			w.ask("ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/health_status", health)).want(202)
			w.ask("ann", "GET", "/v1/clusters/c", nil).want(200).is("health_status", health)
		})
	}
}

// end plays the conductor: like finish, but with counts that are put back.
func (w *world) end(cluster string, state model.OperationState, status model.Status, restore map[string]int) {
	w.t.Helper()
	all := w.operations(cluster)
	op := all[len(all)-1]
	claimed, err := w.store.Claim(w.t.Context(), op.UUID, "test", time.Minute, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	fence := store.FenceOf(claimed)
	if err := w.store.Finish(w.t.Context(), fence, state, status, new("no host has room"), restore); err != nil {
		w.t.Fatal(err)
	}
}

func TestLifecycle_14_2_Transitions(t *testing.T) {
	each(t, func(w *world) {
		w.template(swarm())
		is := func(status, group, groupStatus string) answer {
			w.t.Helper()
			shown := w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
			shown.is("status", status)
			w.ask("ann", "GET", groups+"/"+group, nil, latest).want(200).is("status", groupStatus)
			return shown
		}
		var id string
		w.rule("create accepted", func() {
			id = w.cluster(object{"name": "c", "cluster_template_id": "swarm"})
			is("CREATE_IN_PROGRESS", "default-master", "CREATE_IN_PROGRESS").is("status_reason", nil)
			is("CREATE_IN_PROGRESS", "default-worker", "CREATE_IN_PROGRESS").is("api_address", nil)
		})
		w.rule("error in the driver's create", func() {
			w.finish(id, model.CreateFailed)
			shown := is("CREATE_FAILED", "default-worker", "CREATE_FAILED")
			shown.is("status_reason", "no host has room")
			w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
			is("DELETE_IN_PROGRESS", "default-worker", "DELETE_IN_PROGRESS")
			w.finish(id, model.DeleteComplete)
		})
		w.rule("driver finished", func() {
			id = w.cluster(object{"name": "c", "cluster_template_id": "swarm"})
			w.joined(id, "10.1.0.5", "10.1.0.6")
			w.finish(id, model.CreateComplete)
			shown := is("CREATE_COMPLETE", "default-master", "CREATE_COMPLETE")
			shown.is("api_address", "tcp://10.1.0.5:2376")
			shown.is("coe_version", "28")
			shown.is("container_version", "28")
			shown.is("master_addresses", []any{"10.1.0.5"})
			shown.is("node_addresses", []any{"10.1.0.6"})
		})
		w.rule("PATCH with a new node count", func() {
			w.ask("ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/node_count", 2)).want(202)
			is("UPDATE_IN_PROGRESS", "default-worker", "UPDATE_IN_PROGRESS").is("node_count", 2.0)
			is("UPDATE_IN_PROGRESS", "default-master", "CREATE_COMPLETE")
			w.finish(id, model.UpdateComplete)
			is("UPDATE_COMPLETE", "default-worker", "UPDATE_COMPLETE").is("status_reason", nil)
		})
		w.rule("resize", func() {
			w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": 3}, latest).want(202)
			is("UPDATE_IN_PROGRESS", "default-worker", "UPDATE_IN_PROGRESS").is("node_count", 3.0)
			w.finish(id, model.UpdateComplete)
			is("UPDATE_COMPLETE", "default-worker", "UPDATE_COMPLETE")
		})
		w.rule("driver refuses", func() {
			w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": 9}, latest).want(202)
			worker := w.ask("ann", "GET", groups+"/default-worker", nil, latest).text("uuid")
			w.end(id, model.OpFailed, model.UpdateFailed, map[string]int{worker: 3})
			shown := is("UPDATE_FAILED", "default-worker", "UPDATE_FAILED")
			shown.is("status_reason", "no host has room")
			shown.is("node_count", 3.0)
			w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": 1}, latest).want(202)
			w.finish(id, model.UpdateComplete)
		})
		w.rule("PATCH of health only", func() {
			w.ask("ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/health_status", "HEALTHY")).want(202)
			is("UPDATE_COMPLETE", "default-worker", "UPDATE_COMPLETE").is("health_status", "HEALTHY")
		})
		w.rule("node group create", func() {
			w.ask("ann", "POST", groups, object{"name": "gpu"}, latest).want(202)
			is("UPDATE_IN_PROGRESS", "gpu", "CREATE_IN_PROGRESS")
			w.end(id, model.OpFailed, model.UpdateFailed, nil)
			is("UPDATE_FAILED", "gpu", "CREATE_FAILED")
			w.ask("ann", "POST", groups, object{"name": "fpga"}, latest).want(202)
			w.finish(id, model.UpdateComplete)
			is("UPDATE_COMPLETE", "fpga", "CREATE_COMPLETE")
		})
		w.rule("node group PATCH", func() {
			w.ask("ann", "PATCH", groups+"/fpga", patchOf("replace", "/max_node_count", 4), latest).want(202)
			is("UPDATE_IN_PROGRESS", "fpga", "UPDATE_IN_PROGRESS")
			w.finish(id, model.UpdateComplete)
			is("UPDATE_COMPLETE", "fpga", "UPDATE_COMPLETE")
		})
		w.rule("node group delete", func() {
			w.ask("ann", "DELETE", groups+"/fpga", nil, latest).want(204)
			is("UPDATE_IN_PROGRESS", "fpga", "DELETE_IN_PROGRESS")
			w.end(id, model.OpFailed, model.UpdateFailed, nil)
			is("UPDATE_FAILED", "fpga", "DELETE_FAILED")
			w.ask("ann", "DELETE", groups+"/fpga", nil, latest).want(204)
			w.finish(id, model.UpdateComplete)
			is("UPDATE_COMPLETE", "default-worker", "UPDATE_COMPLETE")
			w.ask("ann", "GET", groups+"/fpga", nil, latest).want(404)
		})
		w.rule("delete", func() {
			w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
			is("DELETE_IN_PROGRESS", "default-master", "DELETE_IN_PROGRESS")
			w.end(id, model.OpFailed, model.DeleteFailed, nil)
			is("DELETE_FAILED", "default-master", "DELETE_FAILED")
			w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204)
			is("DELETE_IN_PROGRESS", "default-master", "DELETE_IN_PROGRESS")
		})
		w.rule("driver reports it gone", func() {
			w.finish(id, model.DeleteComplete)
			w.ask("ann", "GET", "/v1/clusters/c", nil).want(404)
			w.ask("ann", "GET", groups, nil, latest).want(404)
			w.ask("ann", "GET", "/v1/certificates/c", nil).want(404)
		})
	})
}

func TestLifecycle_14_3_WhatIsRefusedInWhichStatus(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	id := w.ready()
	w.ask("ann", "POST", groups, object{"name": "gpu"}, latest).want(202)
	w.finish(id, model.UpdateComplete)
	count := 2
	// in brings cluster and groups into a status, asks, and tells how many
	// operations that made.
	in := func(status, groupStatus string, ask func()) int {
		w.t.Helper()
		w.put("UPDATE operations SET state = 'done'")
		w.put("UPDATE clusters SET status = ? WHERE uuid = ?", status, id)
		w.put("UPDATE node_groups SET status = ? WHERE cluster_id = ?", groupStatus, id)
		before := len(w.operations(id))
		count += 2 // what is shown counts the node of gpu, too
		ask()
		return len(w.operations(id)) - before
	}
	// happens goes through all statuses of the cluster: it is accepted in each
	// of them, and something happens only in those that are allowed.
	happens := func(allowed []string, ask func()) {
		w.t.Helper()
		for _, status := range statuses {
			want := 0
			if slices.Contains(allowed, status) {
				want = 1
			}
			if got := in(status, "CREATE_COMPLETE", ask); got != want {
				w.t.Errorf("%s: %d operations, want %d", status, got, want)
			}
			if want == 0 && string(w.row(id).Status) != status {
				w.t.Errorf("%s became %s", status, w.row(id).Status)
			}
		}
	}
	resizable := append([]string{"UPDATE_IN_PROGRESS", "UPDATE_FAILED"}, readyStatuses...)

	w.rule("PATCH cluster", func() {
		happens(readyStatuses, func() {
			w.ask("ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/node_count", count)).want(202)
		})
		for _, status := range statuses { // health only
			in(status, "CREATE_COMPLETE", func() {
				w.put("UPDATE clusters SET health_status = NULL")
				w.ask("ann", "PATCH", "/v1/clusters/c", patchOf("replace", "/health_status", "HEALTHY")).want(202)
				if set := w.row(id).HealthStatus != nil; set != slices.Contains(readyStatuses, status) {
					w.t.Errorf("%s: health set: %v", status, set)
				}
			})
		}
	})
	w.rule("resize", func() {
		happens(resizable, func() {
			w.ask("ann", "POST", "/v1/clusters/c/actions/resize", object{"node_count": count}, latest).want(202)
		})
	})
	// Upgrade and rotation take UPDATE_FAILED too, unlike Magnum's: so a failed
	// one can be repeated.
	mended := append([]string{"UPDATE_FAILED"}, readyStatuses...)
	w.rule("upgrade", func() {
		for _, status := range statuses {
			if status != "UPDATE_FAILED" && !slices.Contains(mended, status) {
				in(status, status, func() {
					w.refused(400, "status … "+status, "ann", "POST", "/v1/clusters/c/actions/upgrade", object{"cluster_template": "swarm"}, latest)
				})
			}
		}
	})
	w.rule("rotate CA", func() {
		for _, status := range statuses {
			if !slices.Contains(mended, status) {
				in(status, status, func() { w.refused(400, "status … "+status, "ann", "PATCH", "/v1/certificates/c", nil) })
			}
		}
	})
	w.rule("rotate credential", func() { w.refused(404, "not known", "ann", "PATCH", "/v1/credentials/c", nil, latest) })
	w.rule("node group create", func() {
		for _, status := range statuses {
			name := "g" + strconv.Itoa(count)
			in(status, "CREATE_COMPLETE", func() {
				if slices.Contains(resizable, status) {
					w.ask("ann", "POST", groups, object{"name": name}, latest).want(202)
					return
				}
				// Unlike Magnum's, which would let it get lost.
				w.refused(409, status, "ann", "POST", groups, object{"name": name}, latest)
			})
		}
	})
	w.rule("node group PATCH", func() {
		for _, status := range statuses { // of the group; the cluster's is not looked at
			want := 0
			if slices.Contains(resizable, status) {
				want = 1
			}
			got := in("UPDATE_COMPLETE", status, func() {
				w.ask("ann", "PATCH", groups+"/gpu", patchOf("replace", "/max_node_count", count), latest).want(202)
			})
			if got != want {
				w.t.Errorf("group in %s: %d operations, want %d", status, got, want)
			}
		}
	})
	w.rule("node group delete", func() {
		for _, status := range resizable {
			if got := in(status, "CREATE_COMPLETE", func() { w.ask("ann", "DELETE", groups+"/gpu", nil, latest).want(204) }); got != 1 {
				w.t.Errorf("%s: %d operations", status, got)
			}
		}
		in("DELETE_FAILED", "CREATE_COMPLETE", func() {
			w.refused(409, "DELETE_FAILED … delete the cluster", "ann", "DELETE", groups+"/gpu", nil, latest)
		})
		for _, status := range statuses {
			in(status, "CREATE_COMPLETE", func() { w.refused(400, "default-worker", "ann", "DELETE", groups+"/default-worker", nil, latest) })
		}
	})
	w.rule("CA show, sign", func() {
		for _, status := range statuses {
			in(status, status, func() {
				w.ask("ann", "GET", "/v1/certificates/c", nil).want(200)
				w.ask("ann", "POST", "/v1/certificates", object{"cluster_uuid": "c", "csr": request(w.t)}).want(201)
			})
		}
	})
	w.rule("delete cluster", func() {
		for _, status := range statuses {
			if got := in(status, status, func() { w.ask("ann", "DELETE", "/v1/clusters/c", nil).want(204) }); got != 1 {
				w.t.Errorf("%s: %d operations", status, got)
			}
		}
	})
}

// Nobody looks at the health of a swarm: it is what was last said of it.
func TestLifecycle_14_4_Health(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ready()
	shown := w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
	shown.is("health_status", nil)
	shown.is("health_status_reason", map[string]any{})
	w.ask("ann", "PATCH", "/v1/clusters/c", append(
		patchOf("replace", "/health_status", "UNHEALTHY"),
		patchOf("replace", "/health_status_reason", `{'api': 'ok', 'node-1.Ready': 'False'}`)...)).want(202)
	shown = w.ask("ann", "GET", "/v1/clusters/c", nil).want(200)
	shown.is("health_status", "UNHEALTHY")
	shown.is("health_status_reason", map[string]any{"api": "ok", "node-1.Ready": "False"})
	if w.announced.Load() != 1 { // the creation alone
		t.Errorf("%d operations were announced", w.announced.Load())
	}
}

func TestLifecycle_14_5_TimeoutAndDiscoveryURL(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.template(swarm())
	w.rule("create_timeout counts minutes", func() {
		for minutes, want := range map[any]time.Duration{
			5: 5 * time.Minute, 60: time.Hour, 0: time.Hour, nil: time.Hour, // none: the operator's, here an hour
			1 << 30: 365 * 24 * time.Hour,
		} {
			op := w.operations(w.cluster(object{"cluster_template_id": "swarm", "create_timeout": minutes}))[0]
			if got := op.Deadline.Sub(op.CreatedAt); got != want {
				w.t.Errorf("create_timeout %v: deadline after %s, want %s", minutes, got, want)
			}
		}
	})
	w.rule("discovery_url is only kept", func() {
		id := w.cluster(object{"cluster_template_id": "swarm", "discovery_url": "http://10.0.0.1/none?size=7"})
		w.ask("ann", "GET", "/v1/clusters/"+id, nil).want(200).is("discovery_url", "http://10.0.0.1/none?size=7")
	})
}
