// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A node group joins a running Swarm, shrinks, and leaves it without a trace,
// while the other nodes stay.
func TestNodeGroupComesAndGoes(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("all-in-one")
	c.template()
	id := c.create("demo", 1, 1, nil)
	c.complete(id, time.Minute)
	address, certs := c.bundle("demo")
	members := func() string {
		out := c.docker(address, certs, "node", "ls", "--format", "{{.Hostname}} {{.Status}}")
		if strings.Contains(out, "Down") {
			t.Errorf("nodes of the Swarm:\n%s", out)
		}
		return out
	}

	c.openstack("coe", "nodegroup", "create", "demo", "gpu", "--node-count", "2", "--max-nodes", "3", "--role", "gpu")
	c.complete(id, time.Minute)
	if out := members(); strings.Count(out, "demo-gpu-") != 2 || strings.Count(out, "Ready") != 4 {
		t.Errorf("nodes with the group:\n%s", out)
	}
	c.openstack("coe", "cluster", "resize", "demo", "1", "--nodegroup", "gpu")
	c.complete(id, 2*time.Minute)
	if out := members(); strings.Count(out, "demo-gpu-") != 1 || strings.Count(out, "Ready") != 3 {
		t.Errorf("nodes with the smaller group:\n%s", out)
	}
	c.openstack("coe", "nodegroup", "delete", "demo", "gpu")
	c.eventually("the group is gone", time.Minute, func() error {
		if out, err := c.tryOpenstack("coe", "nodegroup", "show", "demo", "gpu"); err == nil || !strings.Contains(out, "HTTP 404") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	left := c.complete(id, time.Minute)
	if out := members(); strings.Contains(out, "gpu") || strings.Count(out, "Ready") != 2 || len(left.NodeAddresses) != 1 {
		t.Errorf("nodes after the group:\n%s", out)
	}
	t.Logf("%s", c.journal(id))
	c.remove(id)
	c.nothingLeft()
}
