// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// kernelAttacks go through the kernel. In a bare container that shares the
// host's namespaces named in share they get through.
var kernelAttacks = []struct {
	name   string
	share  string // namespace whose wall it is
	cannot string // why it gets through nowhere on this machine
}{
	{name: "mount-host-disk"},
	{name: "read-host-disk"},
	{name: "open-host-devices"},
	{name: "make-loop-device"},
	{name: "allow-all-devices"},
	{name: "sysrq", cannot: missing("/proc/sysrq-trigger", "the kernel has no SysRq")},
	{name: "load-kernel-module", cannot: missing("/proc/modules", "the kernel has no modules")},
	{name: "kexec", cannot: missing("/sys/kernel/kexec_loaded", "the kernel has no kexec")},
	{name: "write-kernel-sysctl"},
	{name: "set-core-pattern"},
	{name: "find-any-writable-setting"},
	{name: "write-sysfs"},
	{name: "fake-uevent"},
	{name: "mount-debugfs"},
	{name: "mount-tracefs"},
	{name: "cgroup-release-agent"},
	{name: "leave-the-cgroup"},
	{name: "raise-memory-limit"},
	{name: "raise-cpu-limit"},
	{name: "raise-process-limit"},
	{name: "raise-disk-traffic-limit"},
	{name: "open-file-by-handle"},
	{name: "kill-neighbours-process", share: "pid"},
	{name: "trace-neighbours-process", share: "pid"},
	{name: "become-neighbours-root"},
	{name: "map-ids-of-the-host"},
	{name: "enter-mount-namespace", share: "pid"},
	{name: "enter-network-namespace", share: "pid"},
	{name: "connect-to-abstract-socket", share: "net"},
	{name: "kernel-keyring"},
	{name: "read-kernel-log"},
	{name: "read-kernel-addresses"},
	{name: "set-clock"},
	{name: "reboot"},
	{name: "swapoff"},
	{name: "load-bpf"},
	{name: "perf-events"},
	{name: "userfaultfd"},
	{name: "io-uring"},
	{name: "realtime-priority"},
	{name: "priority-over-neighbours"},
}

func missing(file, why string) string {
	if _, err := os.Stat(file); err != nil {
		return why
	}
	return ""
}

// containers are the ways in which a tenant may start one in its node.
var containers = []struct {
	name    string
	options []string
}{
	{"container", []string{"--net=none"}},
	{"container with all that the node has", slices.Concat(
		[]string{"--pid=host", "--net=host", "--uts=host", "--volume=/:/host", "--volume=/dev:/dev", "--security-opt=seccomp=unconfined"},
		capabilities("SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "SYS_NICE", "SYS_RESOURCE", "NET_ADMIN", "NET_RAW", "MKNOD", "IPC_LOCK", "IPC_OWNER", "LEASE"),
	)},
}

func capabilities(names ...string) (options []string) {
	for _, name := range names {
		options = append(options, "--cap-add="+name)
	}
	return options
}

func testKernel(t *testing.T, s *scene) {
	b := newBare(t, s)
	secret, victim := uuid.NewString(), "neighbour-"+uuid.NewString()
	neighbourProcess(t, victim, s.victim.IDBase)
	if err := os.WriteFile(filepath.Join(b.root, "key"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(b.root, "key"), int(s.victim.IDBase), int(s.victim.IDBase)); err != nil {
		t.Fatal(err)
	}
	abstract, err := net.Listen("unix", "@"+victim)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = abstract.Close() }()
	known := []string{
		"disk=" + hostDisk(t, secret), "secret=" + secret, "victim=" + victim, "abstract=" + victim,
		fmt.Sprintf("neighbour-id=%d", s.victim.IDBase), "neighbour-file=/key",
	}
	for _, kind := range []string{"mnt", "net"} {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, "host-"+kind+"="+link)
	}
	var names []string
	shared := map[string][]string{}
	for _, a := range kernelAttacks {
		names = append(names, a.name)
		shared[a.share] = append(shared[a.share], a.name)
	}
	try := func(names []string) []string { return slices.Concat([]string{"try"}, names, known) }

	through := map[string]string{}
	for share, some := range shared {
		out, err := b.attack([]string{share}, try(some)...)
		for name, outcome := range outcomes(t, out, err) {
			through[name] = outcome
		}
	}
	out, err := s.evil.attack(t.Context(), try(names)...)
	from := map[string]map[string]string{"root of the node": outcomes(t, out, err)}
	if out, err := s.evil.operator(image(t, s.attacker), "docker", "import", "-", "attacker"); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	for _, c := range containers {
		command := slices.Concat([]string{"docker", "run", "--rm"}, c.options, []string{"attacker", "/attacker"}, try(names))
		out, err := s.evil.operator(nil, command...)
		from[c.name] = outcomes(t, out, err)
	}

	for _, a := range kernelAttacks {
		t.Run(a.name, func(t *testing.T) {
			for who, outcome := range from {
				if !strings.HasPrefix(outcome[a.name], "refused") {
					t.Errorf("by %s it was not refused: %q", who, outcome[a.name])
				} else {
					t.Logf("by %s: %s", who, outcome[a.name])
				}
			}
			switch {
			case a.cannot != "":
				t.Logf("without walls not tried: %s", a.cannot)
			case !strings.HasPrefix(through[a.name], "got through"):
				t.Errorf("without walls it does not get through either: %q", through[a.name])
			}
		})
	}
}
