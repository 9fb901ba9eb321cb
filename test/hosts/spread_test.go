// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/testenv"
)

// Three machines that the operator registered are prepared by what keelsond
// prints for them. A cluster of three nodes is spread over them, each node
// made over lxc+tls, and containers on different hosts reach each other over an
// overlay network.
func TestClusterSpreadOverThreeHosts(t *testing.T) {
	r := newRegion(t)
	machines := r.threeHosts()
	c := r.create("wide", 1, 2)
	c.complete(2 * time.Minute)
	list := r.keelsond("host", "list")
	if strings.Count(list, "1024/4096") != 3 {
		t.Errorf("the nodes are not spread over the hosts:\n%s", list)
	}
	for _, m := range machines {
		if n := strings.Count(m.inside(virsh+" list --name"), "keelson-"); n != 1 {
			t.Errorf("%d nodes run on %s, want one", n, m.name)
		}
	}

	// What goes from one host to another is counted where it passes.
	r.run("nft", `add table bridge seen; add chain bridge seen between { type filter hook forward priority 0; };
		add rule bridge seen between udp dport 4789 counter`)
	t.Cleanup(func() { _, _ = r.try("nft", "delete table bridge seen") })
	c.busybox()
	manager := c.MasterAddresses[0]
	c.docker(manager, "network", "create", "--driver", "overlay", "inner")
	c.docker(manager, "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "web", "--mode", "global",
		"--network", "inner", "--endpoint-mode", "dnsrr", "busybox", "busybox", "sleep", "1000000")
	type task struct{ node, container, address string }
	var tasks []task
	r.eventually("a container runs on each node", time.Minute, func() error {
		tasks = nil
		for _, node := range c.addresses() {
			id := c.docker(node, "ps", "--quiet", "--filter", "name=web", "--filter", "status=running")
			if id == "" {
				return fmt.Errorf("none on %s", node)
			}
			address := c.docker(node, "inspect", "--format", "{{.NetworkSettings.Networks.inner.IPAddress}}", id)
			tasks = append(tasks, task{node, id, address})
		}
		return nil
	})
	for _, from := range tasks {
		for _, to := range tasks {
			if from == to {
				continue
			}
			r.eventually(fmt.Sprintf("%s on %s reaches %s on %s", from.address, from.node, to.address, to.node), 30*time.Second, func() error {
				out, err := c.tryDocker(from.node, "exec", from.container, "busybox", "ping", "-c", "1", "-W", "2", to.address)
				if err != nil {
					return errors.New(out)
				}
				return nil
			})
		}
	}
	if counted := r.run("nft", "list", "table", "bridge", "seen"); strings.Contains(counted, "packets 0 ") || !strings.Contains(counted, "packets ") {
		t.Errorf("no VXLAN between the hosts:\n%s", counted)
	} else {
		t.Log(counted)
	}

	// A container does not reach the libvirt of its host, nor of another one.
	var tries sync.WaitGroup
	for _, m := range machines {
		tries.Go(func() {
			out, err := c.tryDocker(tasks[0].node, "exec", tasks[0].container, "busybox", "nc", "-w", "2", m.address, "16514", "-e", "true")
			if err == nil || !strings.Contains(out, "timed out") {
				t.Errorf("a container reaches libvirt on %s: %s", m.name, out)
			}
			r.reaches(conductorAddress, m.address+":16514")
		})
	}
	tries.Wait()

	other := r.create("other", 1, 0)
	other.complete(time.Minute)
	t.Run("walls", func(t *testing.T) { other.attacks(t, c, machines) })
	other.remove()
	c.remove()
	for _, m := range machines {
		if left := m.inside(virsh + " list --all --name; ls /var/lib/keelson/host/nodes"); left != "" {
			t.Errorf("left on %s: %s", m.name, left)
		}
	}
}

// threeHosts are machines that are ready for nodes, with keelsond at work.
func (r *region) threeHosts() []*machine {
	r.Helper()
	images := testenv.Require(r.T, testenv.Images)
	var machines []*machine
	for i, name := range []string{"alpha", "beta", "gamma"} {
		address := fmt.Sprintf("10.117.0.%d", 11+i)
		r.keelsond("host", "add", "--name", name, "--address", address, "--vcpus", "16", "--memory", "4096", "--disk", "64")
		machines = append(machines, r.boot(name, address, r.keelsond("host", "user-data", name), images))
	}
	r.serve()
	for _, m := range machines {
		m.prepared()
	}
	r.eventually("all hosts are ready", time.Minute, func() error {
		if list := r.keelsond("host", "list"); strings.Count(list, " ready ") != 3 {
			return errors.New(list)
		}
		return nil
	})
	return machines
}

// virsh speaks to libvirt on its own host.
const virsh = "virsh -q -c 'lxc:///system?socket=/var/lib/keelson/host/run/libvirt-sock'"

// where returns the machine with the node that has the address, and the node's
// uuid.
func (r *region) where(machines []*machine, address string) (*machine, string) {
	r.Helper()
	for _, m := range machines {
		for _, domain := range strings.Fields(m.inside(virsh + " list --name")) {
			if strings.Contains(m.inside(virsh+" dumpxml "+domain), "address='"+address+"'") {
				return m, strings.TrimPrefix(domain, "keelson-")
			}
		}
	}
	r.Fatalf("no machine has a node with the address %s", address)
	return nil, ""
}

// attacks tries to get at nodes of another cluster, on another host. It is
// shut out from all that is the swarm's, until that host's walls are down.
func (c *cluster) attacks(t *testing.T, victim *cluster, machines []*machine) {
	r := c.in(t)
	evil := c.MasterAddresses[0]
	from, attacker := r.where(machines, evil)
	var target, uuid string
	var host *machine
	for _, address := range victim.addresses() {
		if host, uuid = r.where(machines, address); host != from {
			target = address
			break
		}
	}
	port := "kn-" + uuid[len(uuid)-12:]
	// Counts what the victim's host hands to the victim, past all walls.
	host.inside(fmt.Sprintf(`nft 'add table bridge seen; add chain bridge seen out { type filter hook postrouting priority 301; };
		add rule bridge seen out oifname %q ip saddr %s udp dport 4789 counter'`, port, evil))
	// In the network of the attacker's node, where its root has all this too.
	attack := func(script string) (string, error) {
		return from.tryInside(fmt.Sprintf("controller=$(cat /var/lib/keelson/host/run/lxc/keelson-%s.pid); "+
			"nsenter --target $(cat /proc/$controller/task/$controller/children) --net timeout 2 bash -c '%s'", attacker, script))
	}
	attempts := func() (through []string) {
		for name, port := range map[string]string{"reach-swarm-gossip": "7946", "published-port": "2376"} {
			if _, err := attack("exec 3<>/dev/tcp/" + target + "/" + port); err == nil {
				through = append(through, name)
			}
		}
		before := host.inside("nft list table bridge seen")
		if out, err := attack("echo overlay >/dev/udp/" + target + "/4789"); err != nil {
			t.Errorf("sending VXLAN: %v, %s", err, out)
		}
		if host.inside("nft list table bridge seen") != before {
			through = append(through, "inject-into-overlay-network")
		}
		slices.Sort(through)
		return through
	}
	if got := attempts(); !slices.Equal(got, []string{"published-port"}) {
		t.Errorf("from host %s to a node of another cluster on %s: %v get through, want what is published alone", from.name, host.name, got)
	}
	host.inside("nft insert rule bridge keelson received-" + port + " accept")
	if got := attempts(); len(got) != 3 {
		t.Errorf("without walls %v get through, want all: nothing is shown", got)
	}
}
