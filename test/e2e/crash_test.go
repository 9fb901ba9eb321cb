// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/testenv"
)

// A conductor dies as in a power cut, at each step of a create in turn. Another
// one takes the operation over when the lease has run out, carries on after the
// last journalled step, and the cluster is complete.
func TestConductorKilledAtEachStepOfACreate(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("api")
	c.template()
	for _, step := range []string{"certificates", "node.place", "node.start", "swarm.init", "swarm.join", "cluster.record"} {
		t.Run(step, func(t *testing.T) {
			c := c.in(t)
			doomed := c.start("conductor")
			id := c.create("crash-"+strings.ReplaceAll(step, ".", "-"), 1, 1, nil)
			c.step(id, step)
			doomed.kill()
			heir := c.start("conductor")
			made := c.complete(id, time.Minute)
			if len(made.NodeAddresses) != 1 {
				t.Errorf("node_addresses = %v, want one", made.NodeAddresses)
			}
			operations, err := c.store.Operations(t.Context(), id)
			c.must(err)
			if len(operations) != 1 || operations[0].Generation < 2 {
				t.Errorf("operations: %+v, want one that was claimed at least twice", operations)
			}
			t.Logf("%s", c.journal(id))
			c.remove(id)
			heir.kill()
		})
	}
}

// The broker, the database and libvirt are restarted under a create, one after
// the other: it is complete all the same.
func TestServicesRestartedUnderACreate(t *testing.T) {
	lab := testenv.Require(t, testenv.State)
	c := newCloud(t, settings{})
	c.start("api")
	c.start("conductor")
	c.template()
	for _, part := range []string{"rabbitmq", "mariadb", "libvirt"} {
		t.Run(part, func(t *testing.T) {
			c := c.in(t)
			id := c.create("restart-"+part, 1, 1, nil)
			c.step(id, "node.start")
			restart := exec.Command("../lab/restart", part)
			restart.Env = append(restart.Environ(), "KEELSON_LAB_STATE="+lab)
			if out, err := restart.CombinedOutput(); err != nil {
				t.Fatalf("restarting %s: %v\n%s", filepath.Base(part), err, out)
			}
			c.complete(id, 2*time.Minute)
			t.Logf("%s", c.journal(id))
			c.remove(id)
		})
	}
}

// A delete in the middle of a create wins, and nothing is left behind.
func TestDeleteDuringCreate(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("all-in-one")
	c.template()
	id := c.create("fleeting", 1, 2, nil)
	c.step(id, "node.start")
	c.remove(id)
	t.Logf("%s", c.journal(id))
}
