// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/testenv"
)

// dockers is the Docker version of each node by its host name, as the swarm
// knows it, with the node's id there.
func (c *cloud) dockers(address, certs string) map[string]string {
	c.Helper()
	found := map[string]string{}
	for _, line := range strings.Split(c.docker(address, certs, "node", "ls", "--format", "{{.Hostname}} {{.ID}} {{.EngineVersion}} {{.Status}} {{.Availability}}"), "\n") {
		name, rest, _ := strings.Cut(line, " ")
		found[name] = rest
	}
	return found
}

// watch looks at the swarm until stop is closed and returns the largest number
// of workers that it found drained or down at once.
func (c *cloud) watch(address, certs string, stop <-chan struct{}) <-chan int {
	worst := make(chan int, 1)
	go func() {
		most := 0
		for {
			out, err := c.tryDocker(address, certs, "node", "ls", "--filter", "role=worker", "--format", "{{.Status}} {{.Availability}}")
			if err == nil {
				away := 0
				for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
					if strings.Contains(line, "Drain") || strings.Contains(line, "Down") {
						away++
					}
				}
				most = max(most, away)
			}
			select {
			case <-stop:
				worst <- most
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return worst
}

// A cluster is upgraded to another Docker version and then gets another CA,
// node by node, while its service goes on; the conductor dies in the middle of
// each and another one carries on.
func TestUpgradeAndRotation_15_3_OfARunningCluster(t *testing.T) {
	testenv.AwaitNextImage(t)
	c := newCloud(t, settings{})
	c.start("api")
	conductor := c.start("conductor")
	c.template()
	c.expect(201, "POST", "/v1/clustertemplates", object{
		"name": "next", "coe": "swarm-mode", "image_id": "keelson-next", "flavor_id": "m1.medium", "external_network_id": "public",
	}, nil)
	id := c.create("demo", 1, 2, nil)
	made := c.complete(id, time.Minute)
	address, certs := c.bundle("demo")
	worker := "tcp://" + made.NodeAddresses[0] + ":2376"
	for _, a := range made.NodeAddresses {
		c.image("tcp://"+a+":2376", certs)
	}
	c.docker(worker, certs, "run", "--rm", "--volume", "data:/data", "busybox", "busybox", "touch", "/data/kept")
	c.docker(address, certs, "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "web", "--replicas", "2", "--stop-grace-period", "1s",
		"--constraint", "node.role==worker", "busybox", "busybox", "sleep", "1000000")
	running := func(certs string, want int) {
		t.Helper()
		c.eventually("the service runs", time.Minute, func() error {
			out := c.docker(address, certs, "service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.CurrentState}}")
			if strings.Count(out, "Running") != want {
				return errors.New(out)
			}
			return nil
		})
	}
	running(certs, 2)
	before := c.dockers(address, certs)

	// A template whose image no host has changes nothing.
	c.expect(201, "POST", "/v1/clustertemplates", object{
		"name": "absent", "coe": "swarm-mode", "image_id": "keelson-absent", "flavor_id": "m1.medium", "external_network_id": "public",
	}, nil)
	c.openstack("coe", "cluster", "upgrade", "demo", "absent")
	if got := c.settled(id, 2*time.Minute); got.Status != "UPDATE_FAILED" || !strings.Contains(got.StatusReason, "not-there") {
		t.Errorf("upgrade to a missing image: %s %q", got.Status, got.StatusReason)
	}
	t.Logf("%s", c.journal(id))
	if diff := cmp.Diff(before, c.dockers(address, certs)); diff != "" {
		t.Errorf("nodes after the failed upgrade:\n%s", diff)
	}

	stop := make(chan struct{})
	worst := c.watch(address, certs, stop)
	c.openstack("coe", "cluster", "upgrade", "demo", "next", "--max-batch-size", "1")
	c.step(id, "node.rebuild")
	conductor.kill()
	conductor = c.start("conductor")
	upgraded := c.complete(id, 3*time.Minute)
	close(stop)
	if most := <-worst; most > 1 {
		t.Errorf("%d workers were out of service at once", most)
	}
	t.Logf("%s", c.journal(id))
	after := c.dockers(address, certs)
	t.Logf("before: %v\nafter: %v", before, after)
	for name, was := range before {
		was, now := strings.Fields(was), strings.Fields(after[name])
		if len(now) != 4 || now[0] != was[0] || now[1] == was[1] || now[2] != "Ready" || now[3] != "Active" {
			t.Errorf("%s was %v and is %v: want the same member with another Docker", name, was, now)
		}
	}
	if upgraded.COEVersion == made.COEVersion || upgraded.APIAddress != made.APIAddress {
		t.Errorf("coe_version %q → %q, api_address %q → %q", made.COEVersion, upgraded.COEVersion, made.APIAddress, upgraded.APIAddress)
	}
	running(certs, 2)
	c.docker(worker, certs, "run", "--rm", "--volume", "data:/data", "busybox", "busybox", "ls", "/data/kept")

	c.openstack("coe", "ca", "rotate", "demo")
	c.step(id, "node.rebuild")
	conductor.kill()
	c.start("conductor")
	c.complete(id, 3*time.Minute)
	t.Logf("%s", c.journal(id))
	for _, a := range []string{address, worker} {
		if out, err := c.tryDocker(a, certs, "version"); err == nil {
			t.Errorf("the old certificate is good after the rotation: %s", out)
		}
	}
	// Not even to a client that trusts whatever answers.
	if out, err := c.tryDocker(address, certs, "--tlsverify=false", "--tls", "version"); err == nil {
		t.Errorf("the server takes the old certificate after the rotation: %s", out)
	}
	_, renewed := c.bundle("demo")
	if diff := cmp.Diff(after, c.dockers(address, renewed)); diff != "" {
		t.Errorf("nodes after the rotation:\n%s", diff)
	}
	running(renewed, 2)
	if n := len(c.certificates(id)); n != 4+3 {
		t.Errorf("%d certificates are left, want those of one generation", n)
	}
	c.remove(id)
}

// certificates are the kinds and generations of the cluster's certificates.
func (c *cloud) certificates(id string) (found []string) {
	c.Helper()
	all, err := c.store.Certificates(c.Context(), id, "ca", "etcd_ca", "front_proxy", "service", "node")
	c.must(err)
	for _, one := range all {
		found = append(found, fmt.Sprintf("%s %d", one.Kind, one.Generation))
	}
	return found
}
