// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resourceAttacks take what the neighbours need too. While each one runs, with
// the walls up, the victim must be able to work.
var resourceAttacks = []struct {
	name   string
	attack []string // gets through in the end when the wall is down
	// limit, if it is there, is set for both: the node's own would take more
	// of this machine than a test should.
	limit func(*testing.T, *scene)
	down  func(*testing.T, *scene)
	// without is attacked instead of the node, when its wall cannot be taken down.
	without func(*bare, ...string) (string, error)
	// harm says why the wall stays up.
	harm string
}{
	{
		name: "fork-bomb", attack: []string{"processes", "count=400"},
		limit: func(t *testing.T, s *scene) { setting(t, s.evil.group(t, "pids", "pids.max"), "200") },
		down:  func(t *testing.T, s *scene) { setting(t, s.evil.group(t, "pids", "pids.max"), "max") },
	},
	{
		name: "memory-hog", attack: []string{"memory", "mib=512"},
		down: func(t *testing.T, s *scene) {
			write(t, s.evil.group(t, "memory", "memory.limit_in_bytes"), strconv.Itoa(1<<30))
			t.Cleanup(func() {
				eventually(t, "the node is below its limit again", func() error {
					return os.WriteFile(s.evil.group(t, "memory", "memory.limit_in_bytes"), []byte(strconv.Itoa(s.evil.MemoryMiB<<20)), 0)
				})
			})
		},
	},
	{
		name: "socket-memory-hog", attack: []string{"socket-memory", "mib=160"},
		down: func(t *testing.T, s *scene) {
			setting(t, s.evil.group(t, "memory", "memory.kmem.tcp.limit_in_bytes"), "-1")
		},
	},
	{
		name: "cpu-hog", attack: []string{"cpu", "percent=12"},
		limit: func(t *testing.T, s *scene) { setting(t, s.evil.group(t, "cpu", "cpu.cfs_quota_us"), "5000") },
		down:  func(t *testing.T, s *scene) { setting(t, s.evil.group(t, "cpu", "cpu.cfs_quota_us"), "-1") },
	},
	{
		name: "disk-fill", attack: []string{"disk", "dir=/var/lib/docker", "mib=2048"},
		without: func(b *bare, attack ...string) (string, error) { return b.attack(nil, attack...) },
	},
	{
		name: "inode-exhaustion", attack: []string{"inodes", "dir=/var/lib/docker", "count=70000"},
		// On a file system that has inodes as long as there is memory.
		without: func(b *bare, attack ...string) (string, error) { return b.attack(nil, append(attack, "dir=/tmp")...) },
	},
	{
		name: "disk-write-flood", attack: []string{"disk-writes", "dir=/var/lib/docker", "mib=32", "ms=1300", "direct=1"},
		limit: func(t *testing.T, s *scene) { s.throttle(t, 16<<20) },
		down:  func(t *testing.T, s *scene) { s.throttle(t, 0) },
	},
	{
		name: "disk-write-flood-through-the-cache", attack: []string{"disk-writes", "dir=/var/lib/docker", "mib=32", "ms=1300"},
		limit: func(t *testing.T, s *scene) { s.throttle(t, 16<<20) },
		down:  func(t *testing.T, s *scene) { s.throttle(t, 0) },
	},
	{
		name: "file-exhaustion", attack: []string{"files", "count=100000"},
		harm: "fs.file-max is for all of the machine",
	},
	{
		name: "inotify-exhaustion", attack: []string{"inotify", "count=2000"},
		harm: "fs.inotify.max_user_instances is for all that root has on the machine",
	},
	{
		name: "neighbour-table-overflow", attack: []string{"neighbours", "count=8000", "to=10.114.0.0"},
		limit: func(t *testing.T, s *scene) {
			if out, err := s.evil.operator(nil, "ip", "route", "replace", "10.114.0.0/16", "dev", "eth0"); err != nil {
				t.Fatal(out, err)
			}
		},
		harm: "net.ipv4.neigh.default.gc_thresh3 is for all of the machine",
	},
}

// throttle limits what the attacker's node writes, where the hook does too.
func (s *scene) throttle(t *testing.T, rate int) {
	t.Helper()
	var device string
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if backing, err := os.ReadFile(file); err == nil && strings.Contains(string(backing), s.evil.UUID) {
			device = read(t, filepath.Join(filepath.Dir(file), "../dev"))
		}
	}
	for _, group := range []string{s.evil.group(t, "blkio", ""), "/sys/fs/cgroup/blkio"} {
		file := filepath.Join(group, "blkio.throttle.write_bps_device")
		if !strings.Contains(read(t, file), fmt.Sprintf("%s %d", device, s.evil.Limits.IOMiB<<20)) && rate != 0 {
			t.Errorf("%s has no limit for %s", file, device)
		}
		write(t, file, fmt.Sprintf("%s %d", device, rate))
		t.Cleanup(func() { write(t, file, fmt.Sprintf("%s %d", device, s.evil.Limits.IOMiB<<20)) })
	}
}

func testResources(t *testing.T, s *scene) {
	b := newBare(t, s)
	s.sibling.while(t, []string{"listen", "ports=8080"}, func() {
		for _, a := range resourceAttacks {
			t.Run(a.name, func(t *testing.T) {
				if a.limit != nil {
					a.limit(t, s)
				}
				if a.harm != "" { // it gets what it wants, and others do too
					s.evil.while(t, append(a.attack, "hold=1"), func() { s.look(t) })
					t.Logf("not tried without walls: %s", a.harm)
					return
				}
				out, err := s.attackAndLook(t, a.attack)
				if err == nil {
					t.Errorf("it gets through: %s", out)
				}
				t.Logf("refused: %s", out)
				if a.without != nil {
					out, err = a.without(b, a.attack...)
				} else {
					a.down(t, s)
					out, err = s.evil.attack(t.Context(), a.attack...)
				}
				if err != nil {
					t.Errorf("without walls it does not get through either: %v: %s", err, out)
				}
			})
		}
	})
	t.Run("console-log-flood", func(t *testing.T) { testConsole(t, s) })
}

// attackAndLook lets the attacker attack while the victim works.
func (s *scene) attackAndLook(t *testing.T, attack []string) (string, error) {
	t.Helper()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := s.evil.attack(t.Context(), attack...)
		done <- result{out, err}
	}()
	for {
		s.look(t)
		select {
		case r := <-done:
			return r.out, r.err
		default:
		}
	}
}

// look has the victim do some work.
func (s *scene) look(t *testing.T) {
	t.Helper()
	ask := s.address.Masked().Addr().As4()
	s.looks++
	ask[3] = byte(100 + s.looks%100)
	began := time.Now()
	if out, err := s.victim.attack(t.Context(), "works",
		"ask="+netip.AddrFrom4(ask).String(), "reach="+net.JoinHostPort(s.sibling.Address.Addr().String(), "8080")); err != nil {
		t.Errorf("the victim cannot work meanwhile: %v: %s", err, out)
	} else if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the victim needs %s meanwhile", took)
	}
}

// testConsole floods the console: nobody keeps on the host what a node says
// there.
func testConsole(t *testing.T, s *scene) {
	logs := func() (size int64) {
		err := filepath.WalkDir(filepath.Join(s.state, "log"), func(_ string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if info, err := entry.Info(); err == nil {
				size += info.Size()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return size
	}
	before := logs()
	if out, err := s.evil.attack(t.Context(), "console", "mib=16"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if grown := logs() - before; grown > 64<<10 {
		t.Errorf("the host's logs grow by %d bytes", grown)
	}

	// What an operator must not do, and what virtlogd would.
	file, err := os.Create(filepath.Join(s.state, "log", "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	console := exec.Command("script", "-qfec", fmt.Sprintf("virsh -c 'lxc:///system?socket=%s/run/libvirt-sock' console keelson-%s", s.state, s.evil.UUID), "/dev/null")
	console.Stdout = file
	if err := console.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = console.Process.Kill()
		_ = console.Wait()
	}()
	eventually(t, "without walls the host's logs grow", func() error {
		if out, err := s.evil.attack(t.Context(), "console", "mib=1"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if grown := logs() - before; grown < 64<<10 {
			return fmt.Errorf("by %d bytes", grown)
		}
		return nil
	})
}
