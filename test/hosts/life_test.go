// SPDX-License-Identifier: Apache-2.0

//go:build long

package hosts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// living is a cluster with its health.
type living struct {
	*cluster
	HealthStatus string            `json:"health_status"`
	HealthReason map[string]string `json:"health_status_reason"`
}

// alive makes a healthy cluster.
func (r *region) alive(name string, masters, workers int, labels ...string) *living {
	r.Helper()
	c := &living{cluster: r.create(name, masters, workers, labels...)}
	c.complete(2 * time.Minute)
	c.health("HEALTHY", time.Minute)
	return c
}

// look reads what the API says of the cluster.
func (c *living) look() {
	c.Helper()
	c.HealthReason = nil
	c.call("GET", "/v1/clusters/"+c.UUID, nil, c)
}

// health waits until the cluster is said to be in that health.
func (c *living) health(want string, within time.Duration) {
	c.Helper()
	c.eventually(c.name+" is "+want, within, func() error {
		c.look()
		if c.HealthStatus != want {
			return fmt.Errorf("%s: %v", c.HealthStatus, c.HealthReason)
		}
		return nil
	})
}

// What a host goes through: conductors do not reach it, its libvirtd is killed,
// it boots anew, and it dies and comes back when nobody counts on it any more.
func TestLifeOfHosts(t *testing.T) {
	r := newRegion(t, "[conductor]", "machine_check_interval = 2", "health_polling_interval = 2", "[hosts]", "evacuate_after = 15")
	machines := r.threeHosts()
	steady := r.alive("steady", 1, 1, "auto_healing_enabled", "false")
	m, node := r.where(machines, steady.NodeAddresses[0])

	t.Run("cut off", func(t *testing.T) { r.in(t).cutOff(steady, m) })
	t.Run("libvirtd killed", func(t *testing.T) { r.in(t).libvirtdKilled(steady, m, node) })
	t.Run("reboot", func(t *testing.T) { r.in(t).reboot(steady, m, node) })
	t.Run("death", func(t *testing.T) { r.in(t).death(steady, machines) })
}

// state is the line of the host in the operator's list.
func (r *region) state(m *machine) string {
	r.Helper()
	for line := range strings.Lines(r.keelsond("host", "list")) {
		if strings.HasPrefix(line, m.name+" ") {
			return line
		}
	}
	return ""
}

const silence = "has not answered since"

func (r *region) silent(m *machine) {
	r.Helper()
	r.eventually(m.name+" is known to be silent", 90*time.Second, func() error {
		if line := r.state(m); !strings.Contains(line, silence) {
			return errors.New(line)
		}
		return nil
	})
}

func (r *region) answers(m *machine) {
	r.Helper()
	r.eventually(m.name+" answers", 2*time.Minute, func() error {
		if line := r.state(m); line == "" || strings.Contains(line, silence) {
			return errors.New(line)
		}
		return nil
	})
}

// cutOff: conductors do not reach the host, but all works there. So the cluster
// is healthy, and nothing changes.
func (r *region) cutOff(c *living, m *machine) {
	r.run("ip", "link", "set", m.name+"-eth0", "down")
	r.silent(m)
	for range 5 {
		c.look()
		if c.HealthStatus != "HEALTHY" {
			r.Errorf("the cluster is %s: %v", c.HealthStatus, c.HealthReason)
		}
	}
	r.run("ip", "link", "set", m.name+"-eth0", "up")
	r.answers(m)
	if c.look(); c.Status != "CREATE_COMPLETE" {
		r.Errorf("the cluster is %s", c.Status)
	}
}

// libvirtdKilled: the node runs on, and its walls stand.
func (r *region) libvirtdKilled(c *living, m *machine, node string) {
	boot := func() string { return m.inside("cat /var/lib/keelson/host/run/lxc/keelson-" + node + ".pid") }
	before := boot()
	m.inside("kill -9 $(cat /var/lib/keelson/host/libvirtd.pid); /usr/lib/keelson/host/prepare.sh")
	m.eventually("libvirt knows the node", time.Minute, func() error {
		if list := m.inside(virsh + " list --name"); !strings.Contains(list, node) {
			return errors.New(list)
		}
		return nil
	})
	if after := boot(); after != before {
		r.Errorf("the node is another process: %s, %s", before, after)
	}
	r.walled(m, node)
	r.answers(m)
	c.health("HEALTHY", time.Minute)
}

// walled wants the node's network walls.
func (r *region) walled(m *machine, node string) {
	r.Helper()
	port := "kn-" + node[len(node)-12:]
	rules := m.inside("nft list table bridge keelson")
	for _, rule := range []string{`"` + port + `" : goto sent-` + port, `"` + port + `" : goto received-` + port, "chain sent-" + port} {
		if !strings.Contains(rules, rule) {
			r.Errorf("%s is not in the rules of %s:\n%s", rule, m.name, rules)
		}
	}
	if rules := m.inside("nft list table inet keelson-host"); !strings.Contains(rules, "policy drop") {
		r.Errorf("the firewall of %s:\n%s", m.name, rules)
	}
}

// reboot: the node comes back by itself, with its disk, and the swarm heals.
func (r *region) reboot(c *living, m *machine, node string) {
	c.docker(c.NodeAddresses[0], "volume", "create", "kept")
	m.off()
	r.silent(m)
	c.health("UNHEALTHY", time.Minute)
	m.on()
	m.prepared()
	r.answers(m)
	c.health("HEALTHY", 2*time.Minute)
	r.walled(m, node)
	if volumes := c.docker(c.NodeAddresses[0], "volume", "ls", "--quiet"); volumes != "kept" {
		r.Errorf("volumes after the reboot: %q", volumes)
	}
	if c.look(); c.Status != "CREATE_COMPLETE" {
		r.Errorf("the cluster is %s", c.Status)
	}
}

// death: nodes go elsewhere, deletes do not wait, and when the host is back
// what it still has is removed before it gets anything new.
func (r *region) death(steady *living, machines []*machine) {
	c := r.alive("moving", 1, 2)
	r.swarm(c, 3)
	manager, _ := r.where(machines, c.MasterAddresses[0])
	var dead *machine
	var lost string
	for _, address := range c.NodeAddresses {
		if m, _ := r.where(machines, address); m != manager {
			dead, lost = m, address
		}
	}
	dead.off()
	r.silent(dead)
	r.eventually("the health tells of the dead host", time.Minute, func() error {
		c.look()
		if said := fmt.Sprint(c.HealthReason); c.HealthStatus != "UNHEALTHY" || !strings.Contains(said, "its host "+dead.name+" has not answered since") {
			return errors.New(said)
		}
		return nil
	})
	r.eventually("the node is made anew elsewhere", 3*time.Minute, func() error {
		c.look()
		if c.Status != "UPDATE_COMPLETE" {
			return errors.New(c.Status + " " + c.StatusReason)
		}
		return nil
	})
	c.health("HEALTHY", time.Minute)
	r.swarm(c, 3)
	for _, address := range c.addresses() {
		if address == lost {
			r.Errorf("address %s is used again, and the host may still be running", lost)
		}
	}
	steady.remove() // of its nodes some are there
	dead.on()
	dead.prepared()
	r.answers(dead)
	if left := dead.inside(virsh + " list --all --name; ls /var/lib/keelson/host/nodes"); left != "" {
		r.Errorf("left on %s: %s", dead.name, left)
	}
	r.swarm(c, 3)
	c.remove()
}

// swarm wants so many nodes in the swarm, all ready.
func (r *region) swarm(c *living, nodes int) {
	r.Helper()
	list := c.docker(c.MasterAddresses[0], "node", "ls", "--format", "{{.Status}}")
	if list != strings.TrimSpace(strings.Repeat("Ready\n", nodes)) {
		r.Errorf("the swarm of %s: %s", c.name, list)
	}
}
