// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openstack runs the unmodified client as the user demo.
func (c *cloud) openstack(args ...string) string {
	c.Helper()
	out, err := c.tryOpenstack(args...)
	if err != nil {
		c.Fatalf("openstack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *cloud) tryOpenstack(args ...string) (string, error) {
	cmd := exec.CommandContext(c.Context(), "openstack", args...)
	cmd.Env = append(os.Environ(), "OS_AUTH_URL="+c.keystone, "OS_IDENTITY_API_VERSION=3", "OS_USERNAME=demo", "OS_PASSWORD="+c.password,
		"OS_PROJECT_NAME=demo", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "SHELL=/bin/bash")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// docker runs the unmodified docker client with a cluster's bundle.
func (c *cloud) docker(address, certs string, args ...string) string {
	c.Helper()
	out, err := c.tryDocker(address, certs, args...)
	if err != nil {
		c.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (c *cloud) tryDocker(address, certs string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.Context(), "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+address, "DOCKER_CERT_PATH="+certs, "DOCKER_TLS_VERIFY=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// bundle gets a cluster's credentials as `openstack coe cluster config` does.
func (c *cloud) bundle(name string) (address, certs string) {
	c.Helper()
	certs = filepath.Join(c.dir, "bundle-"+name)
	c.must(os.MkdirAll(certs, 0o700))
	out := c.openstack("coe", "cluster", "config", name, "--dir", certs, "--force", "--output-certs")
	for _, line := range strings.Split(out, "\n") {
		if a, ok := strings.CutPrefix(line, "export DOCKER_HOST="); ok {
			address = a
		}
	}
	if !strings.HasPrefix(address, "tcp://") {
		c.Fatalf("no DOCKER_HOST in %q", out)
	}
	return address, certs
}

// image puts a small image on the node.
func (c *cloud) image(address, certs string) {
	c.Helper()
	archive := filepath.Join(c.dir, "busybox.tar")
	if out, err := exec.Command("tar", "--directory=/", "--create", "--file="+archive, "bin/busybox").CombinedOutput(); err != nil {
		c.Fatalf("packing busybox: %v\n%s", err, out)
	}
	c.docker(address, certs, "import", archive, "busybox")
}

// The whole life of a cluster, with the clients that users have.
func TestClusterFromCreateToDeleteThroughUnmodifiedClients(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("api")
	c.start("conductor")

	c.openstack("coe", "cluster", "template", "create", "swarm", "--coe", "swarm-mode", "--image", "keelson-node",
		"--external-network", "public", "--flavor", "m1.medium")
	c.openstack("coe", "cluster", "create", "demo", "--cluster-template", "swarm", "--node-count", "1")
	id := strings.TrimSpace(c.openstack("coe", "cluster", "show", "demo", "-f", "value", "-c", "uuid"))
	made := c.complete(id, time.Minute)
	if len(made.MasterAddresses) != 1 || len(made.NodeAddresses) != 1 {
		t.Errorf("addresses: masters %v, nodes %v; want one each", made.MasterAddresses, made.NodeAddresses)
	}
	if want := "tcp://" + made.MasterAddresses[0] + ":2376"; made.APIAddress != want {
		t.Errorf("api_address = %q, want %q", made.APIAddress, want)
	}
	t.Logf("%s", c.journal(id))

	address, certs := c.bundle("demo")
	if version := c.docker(address, certs, "info", "--format", "{{.ServerVersion}}"); version != made.COEVersion {
		t.Errorf("coe_version = %q, docker says %q", made.COEVersion, version)
	}
	if n := strings.Count(c.docker(address, certs, "node", "ls", "--format", "{{.Status}}"), "Ready"); n != 2 {
		t.Errorf("%d nodes are ready, want 2", n)
	}

	for _, a := range append(made.MasterAddresses, made.NodeAddresses...) {
		c.image("tcp://"+a+":2376", certs)
	}
	c.docker(address, certs, "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "web", "--mode", "global",
		"busybox", "busybox", "sleep", "1000000")
	c.eventually("the service runs on both nodes", time.Minute, func() error {
		out := c.docker(address, certs, "service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.CurrentState}}")
		if strings.Count(out, "Running") != 2 {
			return errors.New(out)
		}
		return nil
	})

	// Strangers are refused: no certificate, and the certificate of another CA.
	if out, err := exec.Command("docker", "--host", address, "info").CombinedOutput(); err == nil {
		t.Errorf("docker without TLS got in: %s", out)
	}
	other := filepath.Join(c.dir, "other")
	c.must(os.MkdirAll(other, 0o700))
	if out, err := exec.Command("sh", "-c", fmt.Sprintf(`cd %s && cp %s/ca.pem . &&
		openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /O=system:masters/CN=admin -days 2`, other, certs)).CombinedOutput(); err != nil {
		t.Fatalf("making a foreign certificate: %v\n%s", err, out)
	}
	if out, err := c.tryDocker(address, other, "node", "ls"); err == nil {
		t.Errorf("docker with a foreign certificate got in: %s", out)
	}

	// Out to three workers, in to one again; the last one leaves the Swarm too.
	c.openstack("coe", "cluster", "resize", "demo", "3")
	grown := c.complete(id, time.Minute)
	if grown.NodeCount != 3 || len(grown.NodeAddresses) != 3 {
		t.Errorf("after growing: node_count %d, addresses %v", grown.NodeCount, grown.NodeAddresses)
	}
	if n := strings.Count(c.docker(address, certs, "node", "ls", "--format", "{{.Status}}"), "Ready"); n != 4 {
		t.Errorf("%d nodes are ready after growing, want 4", n)
	}
	c.openstack("coe", "cluster", "update", "demo", "replace", "node_count=1")
	shrunk := c.complete(id, 2*time.Minute)
	if len(shrunk.NodeAddresses) != 1 || shrunk.NodeAddresses[0] != made.NodeAddresses[0] {
		t.Errorf("after shrinking: %v is left, want the eldest %v", shrunk.NodeAddresses, made.NodeAddresses)
	}
	if out := c.docker(address, certs, "node", "ls", "--format", "{{.Hostname}} {{.Status}}"); strings.Count(out, "\n") != 1 || strings.Contains(out, "Down") {
		t.Errorf("nodes of the Swarm after shrinking:\n%s", out)
	}
	t.Logf("%s", c.journal(id))

	c.openstack("coe", "cluster", "delete", "demo")
	c.eventually("the cluster is gone", time.Minute, func() error {
		if status := c.call("GET", "/v1/clusters/"+id, nil, nil); status != 404 {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	c.nothingLeft()
	c.openstack("coe", "cluster", "template", "delete", "swarm")
}

func TestThreeManagersKeepAQuorum(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("all-in-one")
	c.template()
	id := c.create("trio", 3, 0, nil)
	made := c.complete(id, time.Minute)
	if len(made.MasterAddresses) != 3 {
		t.Errorf("master_addresses = %v, want three", made.MasterAddresses)
	}
	address, certs := c.bundle("trio")
	if out := c.docker(address, certs, "node", "ls", "--format", "{{.ManagerStatus}}"); strings.Count(out, "Leader") != 1 || strings.Count(out, "Reachable") != 2 {
		t.Errorf("manager states:\n%s", out)
	}
	t.Logf("%s", c.journal(id))
	c.remove(id)
}

// What ends in CREATE_FAILED says what, where and what to do, and leaves no
// half-made node.
func TestCreateThatCanNotSucceed(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings settings
		workers  int
		want     []string
	}{
		{"no capacity", settings{Memory: 2500}, 2, []string{"no capacity", "ask the operator"}},
		{"no free address", settings{Addresses: 2}, 2, []string{"no free address", "public", "ask the operator"}},
		{"node image missing", settings{NodeImage: "not-there"}, 1, []string{"not-there", "fail-"}},
		{"host unreachable", settings{LibvirtURI: "lxc+tls://127.0.0.1:1/system", StepTimeout: 15}, 1, []string{"host-1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t, test.settings)
			c.start("all-in-one")
			c.template()
			id := c.create("fail", 1, test.workers, nil)
			got := c.settled(id, time.Minute)
			if got.Status != "CREATE_FAILED" {
				t.Errorf("status = %s, want CREATE_FAILED", got.Status)
			}
			for _, want := range test.want {
				if !strings.Contains(got.StatusReason, want) {
					t.Errorf("status_reason = %q, want it to say %q", got.StatusReason, want)
				}
			}
			t.Logf("status_reason: %s\n%s", got.StatusReason, c.journal(id))
			c.nothingLeft()
			c.remove(id)
		})
	}
}

func TestPortThatIsTakenIsSaidPlainly(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("api")
	out, err := exec.Command(keelsond, "api", "--config-file", c.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use") || !strings.Contains(string(out), "[api]") {
		t.Errorf("second API on the same port: %v\n%s", err, out)
	}
}
