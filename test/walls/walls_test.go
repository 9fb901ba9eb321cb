// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// One scene for all: making it takes longer than most attacks.
func TestWalls(t *testing.T) {
	s := newScene(t)
	t.Run("kernel", func(t *testing.T) { testKernel(t, s) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, s) })
	t.Run("network", func(t *testing.T) { testNetwork(t, s) })
	t.Run("resources", func(t *testing.T) { testResources(t, s) })
	t.Run("host", func(t *testing.T) { testHost(t, s) })
}

// testHost is about the walls' own life: when they come, stay and go.
func testHost(t *testing.T, s *scene) {
	gossip := net.JoinHostPort(s.victim.Address.Addr().String(), "7946")
	t.Run("come-back-after-a-flush-of-all-rules", func(t *testing.T) {
		s.victim.while(t, []string{"listen", "ports=7946"}, func() {
			// What the restart of a firewall does; only this host's rules.
			run(t, "", "nft", "delete table bridge keelson; delete table inet keelson-"+s.bridge)
			if reached := s.reached(t, []string{gossip}); len(reached) != 1 {
				t.Error("without walls the victim is not reached either")
			}
			daemon := number(t, read(t, filepath.Join(s.state, "libvirtd.pid")))
			if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, "libvirtd has ended", func() error {
				if err := syscall.Kill(daemon, 0); !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("it still runs, %w", err)
				}
				return nil
			})
			s.script(t, "prepare.sh")
			// The nodes are found again one by one.
			eventually(t, "the victim is safe again", func() error {
				if reached := s.reached(t, []string{gossip}); len(reached) != 0 {
					return errors.New("it is reached")
				}
				return nil
			})
			if seen := s.arrived(t, frameAttacks); !slices.Equal(seen, []string{published}) {
				t.Errorf("%q arrive", seen)
			}
		})
	})

	// With the capabilities that the node lacks Docker would start it, so they
	// are what stops it.
	t.Run("docker-privileged", func(t *testing.T) {
		privileged := []string{"docker", "run", "--rm", "--privileged", "--net=none", "attacker", "/attacker", "try"}
		if _, err := s.evil.operator(image(t, s.attacker), "docker", "import", "-", "attacker"); err != nil {
			t.Fatal(err)
		}
		if out, err := s.evil.operator(nil, privileged...); err == nil {
			t.Errorf("it runs: %s", out)
		} else {
			t.Logf("refused: %s", out)
		}
		s.redefine(t, s.evil, `(?s)<capabilities policy='deny'>.*</capabilities>`, `<capabilities policy='allow'/>`)
		eventually(t, "without walls docker starts a privileged container", func() error {
			out, err := s.evil.operator(nil, privileged...)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	})

	t.Run("go-with-the-node", func(t *testing.T) {
		for _, n := range []*node{s.evil, s.sibling, s.victim} {
			if err := s.host.Delete(t.Context(), n.UUID); err != nil {
				t.Fatal(err)
			}
		}
		left := run(t, "", "nft", "list", "table", "bridge", "keelson")
		for _, n := range []*node{s.evil, s.sibling, s.victim} {
			for _, word := range []string{n.port(), n.MAC, n.Address.Addr().String() + " ", n.Cluster} {
				if strings.Contains(left, word) {
					t.Errorf("%s is left in the rules:\n%s", word, left)
				}
			}
		}
		throttled, err := os.ReadFile("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
		if err != nil || strings.Contains(string(throttled), fmt.Sprint(s.evil.Limits.IOMiB<<20)) {
			t.Errorf("limits of disks are left: %s, %v", throttled, err)
		}
	})
}

// redefine changes the node's domain and starts it anew.
func (s *scene) redefine(t *testing.T, n *node, old, new string) {
	t.Helper()
	virsh := func(arguments ...string) string {
		return run(t, "", append([]string{"virsh", "-q", "-c", "lxc:///system?socket=" + s.state + "/run/libvirt-sock"}, arguments...)...)
	}
	name := "keelson-" + n.UUID
	document := virsh("dumpxml", "--inactive", name)
	changed := regexp.MustCompile(old).ReplaceAllString(document, new)
	if changed == document {
		t.Fatalf("%s is not in the domain:\n%s", old, document)
	}
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh("destroy", name)
	virsh("define", file)
	virsh("start", name)
	s.findInit(t, n)
}
