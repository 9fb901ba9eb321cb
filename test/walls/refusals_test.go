// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// testRefusals is about the layer before the walls, the authorization plugin of
// the node's Docker (docs/refusals.md): it comes back when it dies, and who gets
// past it stands before the same walls.
func testRefusals(t *testing.T, s *scene) {
	n := s.sibling
	if _, err := n.operator(nil, "test", "-x", "/usr/sbin/keelson-authz"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the node image has no keelson-authz")
		}
		t.Skip("the node image is an old one without keelson-authz")
	}
	docker := func(arguments ...string) (string, error) {
		return n.operator(nil, slices.Concat([]string{"docker"}, arguments)...)
	}
	if out, err := n.operator(image(t, s.attacker), "docker", "import", "-", "attacker"); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	attack := func(mount string) (string, error) {
		return docker("run", "--rm", "--net=host", "-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", mount, "attacker",
			"/attacker", "try", "write-kernel-sysctl", "set-core-pattern", "write-sysfs", "cgroup-release-agent", "raise-memory-limit", "make-loop-device")
	}
	refused := func() error {
		if out, err := attack("/:/node"); err == nil || !strings.Contains(out, "KEELSON-1002") {
			return fmt.Errorf("the node's root as a mount: %w\n%s", err, out)
		}
		return nil
	}

	const services = "/etc/keelson/service/"
	if out, err := n.operator(nil, "sh", "-c", "touch /etc/keelson/refusals && sv up "+services+"authz && sv -w 50 restart "+services+"dockerd"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, "mounts of the node's root are refused", refused)

	t.Run("the-plugin-is-killed", func(t *testing.T) {
		for range 2 {
			if out, err := n.operator(nil, "sv", "kill", services+"authz"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			eventually(t, "Docker answers", func() error {
				if out, err := docker("ps"); err != nil {
					return fmt.Errorf("%w\n%s", err, out)
				}
				return nil
			})
			if err := refused(); err != nil {
				t.Error(err)
			}
		}
	})

	// A container may have what is below /var/lib/docker and so may make the link.
	t.Run("bypassed", func(t *testing.T) {
		if out, err := n.operator(nil, "ln", "-s", "/", "/var/lib/docker/node"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := attack("/var/lib/docker/node:/node")
		if strings.Contains(out, "KEELSON-") {
			t.Fatalf("the layer is not bypassed: %s", out)
		}
		tried := outcomes(t, out, err)
		if len(tried) != 6 {
			t.Fatalf("not all was tried: %s", out)
		}
		for name, outcome := range tried {
			if !strings.HasPrefix(outcome, "refused") {
				t.Errorf("%s with the node's root and docker.sock: %q", name, outcome)
			}
		}
	})
}
