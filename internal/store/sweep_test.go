// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// leftovers lists what is left over, a line each.
func leftovers(t *testing.T, s *store.Store, grace time.Duration) []string {
	t.Helper()
	found, err := s.Leftovers(t.Context(), grace, time.Hour)
	must(t, err)
	var lines []string
	for _, l := range found {
		lines = append(lines, fmt.Sprintf("%s %s: %s", l.Kind, l.ID, l.Why))
	}
	return lines
}

func TestLeftoversAreToldAndRemoved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		good, _, _ := onHost(t, s)
		_, err := s.PutCertificates(t.Context(), model.Certificate{ClusterID: good.UUID, Kind: model.CertCA, NotAfter: time.Now()})
		must(t, err)
		_, err = s.PutCertificates(t.Context(), model.Certificate{Kind: model.CertHostCA, NotAfter: time.Now()}) // the authority of the hosts is of no cluster
		must(t, err)
		bad, badHost, badNode := onHost(t, s)
		_, err = s.PutCertificates(t.Context(), model.Certificate{ClusterID: bad.UUID, Kind: model.CertCA, NotAfter: time.Now()})
		must(t, err)
		wrong := host(t, s, "wrong", 4)
		must(t, s.Heartbeat(t.Context(), "alive", "magnum-conductor"))
		must(t, s.Heartbeat(t.Context(), "dead", "magnum-conductor"))
		if left := leftovers(t, s, 0); len(left) > 0 {
			t.Fatalf("in a healthy cloud: %v", left)
		}
		groups, err := s.NodeGroups(t.Context(), bad.UUID)
		must(t, err)

		// As with a hand in the database.
		s.Exec(t, "DELETE FROM clusters WHERE uuid = ?", bad.UUID)
		s.Exec(t, "UPDATE hosts SET used_vcpus = 3, used_memory_mib = 5 WHERE uuid = ?", wrong.UUID)
		s.Exec(t, "UPDATE service_records SET last_seen_up = '2001-01-01 00:00:00.000' WHERE host = 'dead'")
		if left := leftovers(t, s, time.Hour); len(left) != 2 {
			t.Errorf("young rows are leftovers: %v", left)
		}
		want := []string{
			"node " + badNode.UUID + ": its cluster is gone",
			"node group " + groups[bad.UUID][0].UUID + ": its cluster is gone",
			"node group " + groups[bad.UUID][1].UUID + ": its cluster is gone",
			"certificates " + bad.UUID + ": their cluster is gone",
			"room " + wrong.UUID + ": more or less room is taken than its nodes have",
			"service dead/magnum-conductor: it was not heard of since 2001-01-01T00:00:00Z",
		}
		if diff := cmp.Diff(want, leftovers(t, s, 0)); diff != "" {
			t.Error(diff)
		}
		found, err := s.Leftovers(t.Context(), 0, time.Hour)
		must(t, err)
		if found[0].Where != badHost.UUID {
			t.Errorf("the node is on %q", found[0].Where)
		}
		for range 2 {
			for _, l := range found {
				must(t, s.RemoveLeftover(t.Context(), l, 0, time.Hour))
			}
			if left := leftovers(t, s, 0); len(left) > 0 {
				t.Errorf("still left over: %v", left)
			}
		}
		hosts, err := s.Hosts(t.Context())
		must(t, err)
		for _, h := range hosts {
			if want := map[bool]int{true: 2}[h.UUID != badHost.UUID && h.UUID != wrong.UUID]; h.UsedVCPUs != want {
				t.Errorf("host %s has %d VCPUs used, want %d", h.Name, h.UsedVCPUs, want)
			}
		}

		// What only looks like a leftover stays.
		node := machineNode(t, s, good)
		for _, l := range []store.Leftover{
			{Kind: store.LeftNode, ID: node.UUID},
			{Kind: store.LeftGroup, ID: node.NodeGroupID},
			{Kind: store.LeftCertificates, ID: good.UUID},
			{Kind: store.LeftService, ID: "alive/magnum-conductor"},
			{Kind: store.LeftRoom, ID: *node.HostID},
		} {
			must(t, s.RemoveLeftover(t.Context(), l, 0, time.Hour))
		}
		if again := machineNode(t, s, good); again.UUID != node.UUID {
			t.Error("a node in use was removed")
		}
		if _, err := s.Certificate(t.Context(), good.UUID, 0, model.CertCA, ""); err != nil {
			t.Error(err)
		}
		if services, err := s.ListServices(t.Context()); len(services) != 1 || err != nil {
			t.Errorf("services: %v, %v", services, err)
		}
		if h, err := s.Host(t.Context(), *node.HostID); err != nil || h.UsedVCPUs != 2 {
			t.Errorf("the recount of a right sum made it %+v, %v", h, err)
		}
	})
}

func machineNode(t *testing.T, s *store.Store, c *model.Cluster) model.Node {
	t.Helper()
	all, err := s.Nodes(t.Context(), c.UUID)
	must(t, err)
	return all[c.UUID][0]
}

func TestNodesThatWereTouchedLately(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		touched := func(node string, grace time.Duration) bool {
			t.Helper()
			found, err := s.TouchedNodes(t.Context(), []string{node, uuid.NewString()}, grace)
			must(t, err)
			return found[node]
		}
		_, _, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		node := uuid.NewString()
		begun(t, s, f, model.Step{Name: "start", NodeID: node})
		if !touched(node, 0) {
			t.Error("a node that an unfinished operation has in hand is not touched")
		}
		must(t, s.FinishCancelled(t.Context(), f))
		if !touched(node, time.Hour) {
			t.Error("a node of an operation that has just ended is not touched")
		}
		s.Exec(t, "UPDATE operations SET finished_at = '2001-01-01 00:00:00.000'")
		if touched(node, time.Hour) {
			t.Error("a node of an operation that ended long ago is touched")
		}
	})
}

func TestEndedOperationsAreForgotten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		end := func(op *model.Operation) {
			f := claim(t, s, op, "c1")
			begun(t, s, f, model.Step{Name: "step"})
			must(t, s.Finish(t.Context(), f, model.OpDone, op.Kind.After(), nil, nil))
		}
		lives, groups := ready(t, s, "p1")
		for i := range 5 {
			op, err := s.ScaleNodeGroup(t.Context(), lives.UUID, groups[1].UUID, 10+i, nil, func(model.Status) bool { return true }, store.NewOperation{})
			must(t, err)
			end(op)
		}
		gone, _ := ready(t, s, "p1")
		op, err := s.DeleteCluster(t.Context(), gone.UUID, store.NewOperation{})
		must(t, err)
		end(op)
		s.Exec(t, "UPDATE operations SET finished_at = '2001-01-01 00:00:00.000'")
		_, _, young := created(t, s, "p1")
		end(young)
		_, _, unfinished := created(t, s, "p1")

		total, after := 0, int64(0)
		for {
			n, next, err := s.PruneOperations(t.Context(), time.Hour, 2, 3, after)
			must(t, err)
			if n > 3 {
				t.Errorf("%d at once, want at most 3", n)
			}
			total += n
			if next == 0 {
				break
			}
			after = next
		}
		if total != 6 { // 4 of the 6 of the one, both of the other
			t.Errorf("%d operations were forgotten", total)
		}
		if n, _, err := s.PruneOperations(t.Context(), time.Hour, 2, 3, 0); n != 0 || err != nil {
			t.Errorf("once more: %d, %v", n, err)
		}
		left, err := s.Operations(t.Context(), lives.UUID)
		must(t, err)
		if len(left) != 2 || left[1].Spec.NodeCounts[groups[1].UUID] != 13 {
			t.Errorf("of the living cluster stay %+v", left)
		}
		for _, op := range []*model.Operation{young, unfinished} {
			if _, err := s.Operation(t.Context(), op.UUID); err != nil {
				t.Error(err)
			}
		}
		var steps int
		s.Query(t, &steps, "SELECT COUNT(*) FROM steps")
		if steps != 3 {
			t.Errorf("%d steps are left, want those of 3 operations", steps)
		}
	})
}
