// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/fault"
)

// Members of an engine with a directory are seen by other processes, and by
// this one after a restart.
func TestMembersInADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fake")
	job := &drivers.Job{Cluster: drivers.Cluster{ID: "c1"}, Nodes: []drivers.Node{{ID: "n1", Name: "one"}, {ID: "n2", Name: "two"}}}
	take := func(step, node string) error {
		t.Helper()
		_, err := fake.New(fake.OpenCOE(dir)).Run(t.Context(), job, drivers.Step{Name: step, NodeID: node})
		return err
	}
	members := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, fake.OpenCOE(dir).Members("c1")); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
	}
	for range 2 {
		for _, node := range []string{"n1", "n2"} {
			if err := take(fake.StepJoin, node); err != nil {
				t.Fatal(err)
			}
		}
		members("one", "two")
	}
	for range 2 {
		if err := take(fake.StepLeave, "n1"); err != nil {
			t.Fatal(err)
		}
		members("two")
	}
	if err := os.WriteFile(filepath.Join(dir, fake.Mishaps), []byte(`{"coe.leave": {"permanent": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := take(fake.StepLeave, "n2"); !fault.IsPermanent(err) {
		t.Errorf("a step that goes wrong for good: %v", err)
	}
	members("two")
}
