// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package lxc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/testenv"
)

// These tests make real nodes on a host that templates/host/prepare.sh has
// prepared on this machine, and look into them from outside. By hand:
//
//	templates/node/build.sh /var/cache/keelson/images
//	KEELSON_STATE=/tmp/host templates/host/prepare.sh
//	KEELSON_TEST_LIBVIRT='lxc:///system?socket=/tmp/host/run/libvirt-sock' \
//	KEELSON_TEST_NODE_IMAGE=keelson-node \
//	go test -tags libvirt_dlopen ./internal/lxc
//	KEELSON_STATE=/tmp/host templates/host/unprepare.sh

// testHost is a prepared host on this machine.
type testHost struct {
	*Host
	state   string // its directory
	bridge  string
	network netip.Prefix
	image   string
}

// sharedHost is the host that the environment names. Others may have nodes there.
func sharedHost(tb testing.TB) *testHost {
	tb.Helper()
	uri, image := testenv.Require(tb, testenv.Libvirt), testenv.Require(tb, testenv.NodeImage)
	return openHost(tb, uri, image)
}

// ownHost prepares another host for this test alone, which may harm it.
func ownHost(tb testing.TB) *testHost {
	tb.Helper()
	testenv.Require(tb, testenv.Libvirt) // tells that this machine can
	image := testenv.Require(tb, testenv.NodeImage)
	state, err := os.MkdirTemp("", "keelson-host")
	if err != nil {
		tb.Fatal(err)
	}
	// Nodes pass through it, and a temporary directory is closed at first.
	if err := os.Chmod(state, 0o755); err != nil {
		tb.Fatal(err)
	}
	env := append(os.Environ(), "KEELSON_STATE="+state, "KEELSON_BRIDGE=kt"+filepath.Base(state)[len("keelson-host"):][:6], "KEELSON_BRIDGE_CIDR=198.18.77.1/24")
	tb.Cleanup(func() {
		runScript(tb, env, "unprepare.sh")
		if err := os.RemoveAll(state); err != nil {
			tb.Error(err)
		}
	})
	runScript(tb, env, "prepare.sh")
	return openHost(tb, "lxc:///system?socket="+state+"/run/libvirt-sock", image)
}

func (h *testHost) prepareAgain(tb testing.TB) {
	tb.Helper()
	runScript(tb, append(os.Environ(), "KEELSON_STATE="+h.state, "KEELSON_BRIDGE="+h.bridge, "KEELSON_BRIDGE_CIDR="+hostAddress(h)), "prepare.sh")
}

func hostAddress(h *testHost) string {
	return fmt.Sprintf("%s/%d", h.network.Masked().Addr().Next(), h.network.Bits())
}

func runScript(tb testing.TB, env []string, name string) {
	tb.Helper()
	script := exec.Command("../../templates/host/" + name)
	script.Env = env
	if out, err := script.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func openHost(tb testing.TB, uri, image string) *testHost {
	tb.Helper()
	parsed, err := url.Parse(uri)
	if err != nil {
		tb.Fatal(err)
	}
	h := &testHost{image: image, state: filepath.Dir(filepath.Dir(parsed.Query().Get("socket")))}
	env, err := os.ReadFile(filepath.Join(h.state, "host.env"))
	if err != nil {
		tb.Fatalf("the host of %s was not made by prepare.sh: %v", uri, err)
	}
	for line := range strings.Lines(string(env)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.Trim(value, "'"); key {
		case "KEELSON_HOST_BRIDGE":
			h.bridge = value
		case "KEELSON_HOST_CIDR":
			h.network = netip.MustParsePrefix(value).Masked()
		}
	}
	pool, err := NewPool(slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = pool.Close() })
	h.Host = pool.Host("test-host", uri)
	return h
}

var serial atomic.Uint32

// testCluster is the cluster of all nodes of these tests.
const testCluster = "5b6f0a52-3c39-4e0c-8d1d-2f6f1b7c9a10"

// spec describes a small node with dockerd. Addresses and ids are taken from
// the top, where other users of the host are not.
func (h *testHost) spec() Spec {
	n := serial.Add(1)
	last := h.network.Addr().As4()
	broadcast := uint32(last[0])<<24 | uint32(last[1])<<16 | uint32(last[2])<<8 | uint32(last[3]) | (1<<(32-h.network.Bits()) - 1)
	a := broadcast - n
	return Spec{
		UUID:      uuid.NewString(),
		Name:      fmt.Sprintf("node-%d", n),
		Image:     h.image,
		VCPUs:     2,
		MemoryMiB: 512,
		DiskGiB:   2,
		Cluster:   testCluster,
		IDBase:    3<<30 + n*IDCount,
		Bridge:    h.bridge,
		MAC:       fmt.Sprintf("52:54:00:00:%02x:%02x", n>>8&0xff, n&0xff),
		Address:   netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), h.network.Bits()),
		Gateway:   h.network.Addr().Next(),
		Files: []File{
			{Path: "/etc/docker/daemon.json", Mode: 0o644, Content: []byte(`{"hosts": ["unix:///var/run/docker.sock"]}`)},
			{Path: "/etc/docker/server-key.pem", Mode: 0o600, Content: []byte("not a real key")},
		},
	}
}

// node is a node that runs, seen from outside.
type node struct {
	Spec
	host *testHost
	init int // process id on the host
}

// start makes a node that is deleted when the test ends.
func (h *testHost) start(tb testing.TB, spec Spec) *node {
	tb.Helper()
	tb.Cleanup(func() { h.remove(tb, spec.UUID) })
	if err := h.Ensure(tb.Context(), spec); err != nil {
		tb.Fatal(errors.Unwrap(err), err)
	}
	n := &node{Spec: spec, host: h}
	n.findInit(tb)
	return n
}

func (h *testHost) remove(tb testing.TB, id string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Delete(ctx, id); err != nil {
		tb.Error(err)
	}
}

func (n *node) findInit(tb testing.TB) {
	tb.Helper()
	controller := strings.TrimSpace(read(tb, filepath.Join(n.host.state, "run/lxc", domainName(n.UUID)+".pid")))
	var err error
	n.init, err = strconv.Atoi(strings.TrimSpace(read(tb, "/proc/"+controller+"/task/"+controller+"/children")))
	if err != nil {
		tb.Fatalf("the node's init: %v", err)
	}
}

// try runs a command as root in the node: in its namespaces and its cgroups.
func (n *node) try(stdin io.Reader, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const join = `init=$1; shift
		while IFS=: read -r _ controllers path; do
			[ "$path" = / ] || echo $$ >"/sys/fs/cgroup/${controllers#name=}$path/cgroup.procs" || exit
		done <"/proc/$init/cgroup"
		exec nsenter --target "$init" --all -- "$@"`
	c := exec.CommandContext(ctx, "sh", append([]string{"-c", join, "sh", strconv.Itoa(n.init)}, command...)...)
	c.Stdin = stdin
	out, err := c.CombinedOutput()
	return string(out), err
}

// run is try for commands that must succeed.
func (n *node) run(tb testing.TB, command ...string) string {
	tb.Helper()
	out, err := n.try(nil, command...)
	if err != nil {
		tb.Fatalf("%q in the node: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// dockerAnswers waits for dockerd.
func (n *node) dockerAnswers(tb testing.TB) {
	tb.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/%d/root/run/docker.sock", n.init))
	}}}
	defer func() {
		if tb.Failed() {
			out, _ := n.try(nil, "sh", "-c", "ps axf; tail -n 20 /var/log/dockerd/current")
			tb.Log(out)
		}
	}()
	eventually(tb, "dockerd answers", func() error {
		answer, err := client.Get("http://docker/_ping")
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// busybox gives dockerd an image to run.
func (n *node) busybox(tb testing.TB) {
	tb.Helper()
	n.dockerAnswers(tb)
	root := tb.TempDir()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		tb.Skip("busybox is not installed: apt-get install busybox-static")
	}
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o755); err != nil {
		tb.Fatal(err)
	}
	for _, name := range []string{"busybox", "sh", "sleep", "true", "cat"} {
		if err := os.WriteFile(filepath.Join(root, "bin", name), program, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	image, err := exec.Command("tar", "-C", root, "-c", ".").Output()
	if err != nil {
		tb.Fatal(err)
	}
	if out, err := n.try(bytes.NewReader(image), "docker", "import", "-", "busybox"); err != nil {
		tb.Fatalf("docker import: %v\n%s", err, out)
	}
}

// groups returns a process's cgroup path by controller.
func groups(tb testing.TB, pid int) map[string]string {
	tb.Helper()
	found := map[string]string{}
	for line := range strings.Lines(read(tb, fmt.Sprintf("/proc/%d/cgroup", pid))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, name := range strings.Split(parts[1], ",") {
			found[name] = parts[2]
		}
	}
	return found
}

// loopDevices returns those whose file is the node's disk.
func (h *testHost) loopDevices(tb testing.TB, id string) []string {
	tb.Helper()
	var found []string
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		// The device may go while we look.
		if backing, err := os.ReadFile(file); err == nil && strings.Contains(string(backing), id) {
			found = append(found, strings.Split(file, "/")[3])
		}
	}
	return found
}

func eventually(tb testing.TB, what string, check func() error) {
	tb.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func read(tb testing.TB, file string) string {
	tb.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func TestWallsOfANode(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.busybox(t)

	t.Run("root of the node is nobody on the host", func(t *testing.T) {
		n.run(t, "touch", "/root/mine", "/var/lib/docker/mine")
		for _, file := range []string{"root/mine", "var/lib/docker/mine", "etc/docker/server-key.pem", "usr/bin/su"} {
			info, err := os.Stat(fmt.Sprintf("/proc/%d/root/%s", n.init, file))
			if err != nil {
				t.Fatal(err)
			}
			if owner := info.Sys().(*syscall.Stat_t); owner.Uid != n.IDBase || owner.Gid != n.IDBase {
				t.Errorf("%s belongs to %d:%d on the host, not to %d", file, owner.Uid, owner.Gid, n.IDBase)
			}
		}
		if mode := n.run(t, "stat", "-c", "%a %U", "/usr/bin/su", "/etc/docker/server-key.pem"); mode != "4755 root\n600 root" {
			t.Errorf("su and the key are %q in the node", mode)
		}
		for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", n.init))) {
			if strings.HasPrefix(line, "Uid:") && strings.Fields(line)[1] != strconv.Itoa(int(n.IDBase)) {
				t.Errorf("init runs as %s", line)
			}
		}
	})

	t.Run("containers stay below the limits of the node", func(t *testing.T) {
		id := n.run(t, "docker", "run", "--detach", "--network", "none", "--memory", "64m", "busybox", "/bin/sleep", "1000")
		pid := containerPID(t, n, id)
		own, inner := groups(t, n.init), groups(t, pid)
		for _, controller := range []string{"memory", "cpu", "pids", "devices", "cpuset", "freezer", "blkio", "name=systemd"} {
			if !strings.Contains(own[controller], n.UUID) {
				t.Errorf("the node has no %s group of its own: %s", controller, own[controller])
			}
			if !strings.HasPrefix(inner[controller], own[controller]+"/docker/") {
				t.Errorf("%s group of the container is %s, not below %s", controller, inner[controller], own[controller])
			}
			top, err := os.Stat("/sys/fs/cgroup/" + strings.TrimPrefix(controller, "name="))
			if err != nil || top.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("the host's own group of %s no longer belongs to root, %v", controller, err)
			}
		}
		for file, want := range map[string]string{
			"memory" + own["memory"] + "/memory.limit_in_bytes":   strconv.Itoa(n.MemoryMiB << 20),
			"memory" + inner["memory"] + "/memory.limit_in_bytes": strconv.Itoa(64 << 20),
			"cpu" + own["cpu"] + "/cpu.cfs_quota_us":              strconv.Itoa(n.VCPUs * 100000),
			"cpu" + own["cpu"] + "/cpu.cfs_period_us":             "100000",
			"pids" + own["pids"] + "/pids.max":                    strconv.Itoa(pidsMax),
		} {
			if got := read(t, "/sys/fs/cgroup/"+file); got != want {
				t.Errorf("%s is %s, not %s", file, got, want)
			}
		}
		if visible := n.run(t, "sh", "-c", "ls -d /sys/fs/cgroup/*/machine /sys/fs/cgroup/*/keelson 2>/dev/null; true"); visible != "" {
			t.Errorf("the node sees groups of the host: %s", visible)
		}
	})

	t.Run("limits cannot be raised from inside", func(t *testing.T) {
		for _, command := range []string{
			"echo -1 > /sys/fs/cgroup/memory/memory.limit_in_bytes",
			"echo -1 > /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
			"echo max > /sys/fs/cgroup/pids/pids.max",
		} {
			if out, err := n.try(nil, "sh", "-c", command); err == nil {
				t.Errorf("%s succeeded: %s", command, out)
			}
		}
	})

	t.Run("a memory hog dies and the node lives", func(t *testing.T) {
		if out, err := n.try(nil, "sh", "-c", "head -c 2G /dev/zero | tail >/dev/null"); err == nil {
			t.Errorf("2 GiB fit into %d MiB: %s", n.MemoryMiB, out)
		}
		if state, err := h.State(t.Context(), n.UUID); err != nil || state != StateRunning {
			t.Errorf("the node is %s, %v", state, err)
		}
		n.dockerAnswers(t)
	})

	const allowed = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<12 | 1<<13 | 1<<14 | 1<<15 |
		1<<18 | 1<<19 | 1<<21 | 1<<23 | 1<<24 | 1<<27 | 1<<28 | 1<<29 | 1<<31
	t.Run("only allowed capabilities", func(t *testing.T) {
		for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", n.init))) {
			if set, ok := strings.CutPrefix(line, "CapBnd:"); ok {
				bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
				if err != nil || bits != allowed {
					t.Errorf("bounding set is %x, not %x, %v", bits, allowed, err)
				}
			}
		}
	})

	t.Run("docker runs containers with devices and a network of their own", func(t *testing.T) {
		n.run(t, "docker", "run", "--rm", "busybox", "/bin/sh", "-c", "echo x > /dev/null")
	})

	// Docker 20.10 refuses them: it wants to give them what the node has not.
	// Later versions give them what the node has.
	t.Run("privileged containers get no more than the node", func(t *testing.T) {
		out, err := n.try(nil, "docker", "run", "--rm", "--privileged", "busybox", "/bin/cat", "/proc/self/status")
		if err != nil {
			if !strings.Contains(out, "unable to apply caps") {
				t.Errorf("refused for another reason: %s", out)
			}
			return
		}
		for line := range strings.Lines(out) {
			if set, ok := strings.CutPrefix(line, "CapBnd:"); ok {
				if bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64); err != nil || bits&^allowed != 0 {
					t.Errorf("bounding set is %x, more than %x, %v", bits, uint64(allowed), err)
				}
				return
			}
		}
		t.Errorf("the container does not tell its capabilities: %s", out)
	})
}

func containerPID(tb testing.TB, n *node, id string) int {
	tb.Helper()
	inner := n.run(tb, "docker", "inspect", "--format", "{{.State.Pid}}", id)
	statuses, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		tb.Fatal(err)
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", n.init))
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range statuses {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		if own, err := os.Readlink(filepath.Dir(file) + "/ns/user"); err != nil || own != namespace {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "NSpid:" && fields[2] == inner {
				pid, err := strconv.Atoi(fields[1])
				if err != nil {
					tb.Fatal(err)
				}
				return pid
			}
		}
	}
	tb.Fatalf("container process %s not found on the host", inner)
	return 0
}

func TestNodeIsAMachineWithANameAndAnAddress(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.dockerAnswers(t)
	if name := n.run(t, "hostname"); name != n.Name {
		t.Errorf("its name is %q, not %q", name, n.Name)
	}
	if address := n.run(t, "ip", "-4", "-o", "address", "show", "dev", "eth0"); !strings.Contains(address, " "+n.Address.String()+" ") {
		t.Errorf("eth0 has %q, not %s", address, n.Address)
	}
	if route := n.run(t, "ip", "route", "show", "default"); !strings.Contains(route, "via "+n.Gateway.String()) {
		t.Errorf("default route is %q", route)
	}
	begin := time.Now()
	if out, err := n.try(nil, "getent", "ahosts", "registry-1.docker.io"); err == nil {
		t.Errorf("a name was found without a nameserver: %s", out)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a look-up without a nameserver took %s", took)
	}

	t.Run("and a neighbour that it reaches", func(t *testing.T) {
		other := h.start(t, h.spec())
		listener := exec.Command("nsenter", "--target", strconv.Itoa(other.init), "--net", "--", "sh", "-c", "exec /bin/busybox nc -l -p 7777 </etc/hostname")
		if err := listener.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = listener.Process.Kill()
			_ = listener.Wait()
		}()
		eventually(t, "the neighbour's port is open", func() error {
			// bash knows how to connect; nothing else in the node does.
			out, err := n.try(nil, "bash", "-c", fmt.Sprintf("read -t 5 line </dev/tcp/%s/7777 && echo $line", other.Address.Addr()))
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		eventually(t, "the host reaches the node", func() error {
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(other.Address.Addr(), 1).String(), time.Second)
			if err == nil {
				return conn.Close()
			}
			if errors.Is(err, syscall.ECONNREFUSED) { // an answer all the same
				return nil
			}
			return err
		})
	})
}

// dockerd sets up network namespaces for containers and overlay networks, and
// fails where it can not write their settings.
func TestNodeSetsItsOwnNetworksAndNothingElse(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	const file = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
	eventually(t, "the node's init has set up everything", func() error {
		if out, err := n.try(nil, "unshare", "--net", "sh", "-ec", "echo 1 >"+file+"; cat "+file); err != nil || out != "1\n" {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
	if out := n.run(t, "find", "/proc/sys", "-path", "/proc/sys/net", "-prune", "-o", "-type", "f", "-writable", "-print"); out != "" {
		t.Errorf("settings of the host can be written:\n%s", out)
	}
	for _, setting := range []string{"net/netfilter/nf_conntrack_max", "net/ipv4/tcp_mem", "net/core/rmem_max"} {
		if out, err := n.try(nil, "sh", "-c", "echo 4096 >/proc/sys/"+setting); err == nil {
			t.Errorf("%s, which all nodes share, can be written: %s", setting, out)
		}
	}
}

func TestDockerdIsStartedAgainWhenItDies(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.dockerAnswers(t)
	before := n.run(t, "cat", "/run/docker.pid")
	n.run(t, "kill", "-KILL", before)
	eventually(t, "dockerd runs again", func() error {
		out, err := n.try(nil, "sh", "-c", "cat /run/docker.pid && kill -0 $(cat /run/docker.pid)")
		if now := strings.TrimSpace(out); err != nil || now == before {
			return fmt.Errorf("process id file has %q, %w", now, err)
		}
		return nil
	})
	n.dockerAnswers(t)
	n.run(t, "docker", "info")
}

func TestZombiesAreReaped(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.run(t, "sh", "-c", "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05 &') ; done")
	eventually(t, "no zombie is left", func() error {
		states := n.run(t, "ps", "-A", "-o", "stat=,comm=")
		for line := range strings.Lines(states) {
			if strings.HasPrefix(line, "Z") || strings.HasSuffix(strings.TrimSpace(line), "sleep") {
				return errors.New(line)
			}
		}
		return nil
	})
}

func TestRestartKeepsDataAddressAndLimits(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.busybox(t)
	n.run(t, "sh", "-c", "echo kept > /root/data")
	for range 2 {
		before := n.init
		if err := h.Restart(t.Context(), n.UUID); err != nil {
			t.Fatal(err)
		}
		n.findInit(t)
		if n.init == before {
			t.Fatal("the node was not restarted")
		}
		n.dockerAnswers(t)
		if data := n.run(t, "cat", "/root/data"); data != "kept" {
			t.Errorf("data on the root became %q", data)
		}
		if images := n.run(t, "docker", "images", "--quiet"); images == "" {
			t.Error("docker has lost its image")
		}
		if address := n.run(t, "ip", "-4", "-o", "address", "show", "dev", "eth0"); !strings.Contains(address, " "+n.Address.String()+" ") {
			t.Errorf("eth0 has %q, not %s", address, n.Address)
		}
		if limit := read(t, "/sys/fs/cgroup/memory"+groups(t, n.init)["memory"]+"/memory.limit_in_bytes"); limit != strconv.Itoa(n.MemoryMiB<<20) {
			t.Errorf("memory limit became %s", limit)
		}
	}
	// Ensure and Start start a node that was stopped from inside, and leave it
	// alone once it runs.
	for name, start := range map[string]func() error{
		"Ensure": func() error { return h.Ensure(t.Context(), n.Spec) },
		"Start":  func() error { return h.Start(t.Context(), n.UUID) },
	} {
		n.dockerAnswers(t) // its init takes no signal before it is ready for one
		if err := syscall.Kill(n.init, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the node has stopped", func() error {
			if state, err := h.State(t.Context(), n.UUID); err != nil || state != StateStopped {
				return fmt.Errorf("it is %s, %w", state, err)
			}
			return nil
		})
		if err := start(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n.findInit(t)
		running := n.init
		if err := start(); err != nil {
			t.Fatalf("%s again: %v", name, err)
		}
		n.findInit(t)
		if n.init != running {
			t.Errorf("%s has started the node twice", name)
		}
		if data := n.run(t, "cat", "/root/data"); data != "kept" {
			t.Errorf("data on the root became %q", data)
		}
	}
}

func TestDiskLimitIsEnforced(t *testing.T) {
	h := sharedHost(t)
	spec := h.spec()
	spec.DiskGiB = 1
	n := h.start(t, spec)
	neighbour := h.start(t, h.spec())
	for _, file := range []string{"/root/fill", "/var/lib/docker/fill"} {
		out, err := n.try(nil, "dd", "if=/dev/zero", "of="+file, "bs=1M", "count=2048")
		if err == nil || !strings.Contains(out, "No space left") {
			t.Errorf("2 GiB fit into a disk of 1 GiB: %s", out)
		}
		info, err := os.Stat(filepath.Join(h.state, "nodes", diskVolume(n.UUID)))
		if err != nil {
			t.Fatal(err)
		}
		if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 1<<30 {
			t.Errorf("the disk uses %d bytes of the host", used)
		}
		neighbour.run(t, "dd", "if=/dev/zero", "of=/root/mine", "bs=1M", "count=8")
		n.run(t, "rm", file)
	}
}

func TestDeleteLeavesNothingWhileOthersRun(t *testing.T) {
	h := sharedHost(t)
	first := h.start(t, h.spec())
	second := h.start(t, h.spec()) // was born while first's mounts were there
	first.busybox(t)
	first.run(t, "docker", "run", "--detach", "--network", "none", "busybox", "/bin/sleep", "1000")
	for range 2 {
		if err := h.Delete(t.Context(), first.UUID); err != nil {
			t.Fatal(err)
		}
		if state, err := h.State(t.Context(), first.UUID); err != nil || state != StateGone {
			t.Errorf("the node is %s, %v", state, err)
		}
	}
	eventually(t, "the loop device is free", func() error {
		if devices := h.loopDevices(t, first.UUID); len(devices) != 0 {
			return fmt.Errorf("%q still there", devices)
		}
		return nil
	})
	if err := filepath.WalkDir(h.state, func(file string, _ os.DirEntry, err error) error {
		if file == filepath.Join(h.state, "log") {
			return filepath.SkipDir
		}
		if strings.Contains(file, first.UUID) {
			t.Errorf("%s is left", file)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // of another node
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/*/*" + first.UUID + "*"); len(left) != 0 {
		t.Errorf("cgroups are left: %q", left)
	}
	if _, err := net.InterfaceByName(portName(first.UUID)); err == nil {
		t.Error("the network interface is left")
	}
	second.dockerAnswers(t)
}

func TestListShowsWhatIsThere(t *testing.T) {
	h := sharedHost(t)
	n := h.start(t, h.spec())
	half := h.spec()
	t.Cleanup(func() { h.remove(t, half.UUID) })
	h.stage(t, half, "disk only")
	nodes, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]State{}
	for _, info := range nodes {
		found[info.UUID] = info.State
	}
	if found[n.UUID] != StateRunning || found[half.UUID] != StatePartial {
		t.Errorf("the list is %v", nodes)
	}
}

func TestProbeTellsTheCapacity(t *testing.T) {
	h := sharedHost(t)
	capacity, err := h.Probe(t.Context(), h.image)
	if err != nil {
		t.Fatal(err)
	}
	if capacity.CPUs < 1 || capacity.MemoryMiB < 128 || capacity.DiskGiB < 1 {
		t.Errorf("capacity is %+v", capacity)
	}
}

// BenchmarkNode measures the life of one node: made, dockerd answering, gone.
// What it tells are medians.
func BenchmarkNode(b *testing.B) {
	h := sharedHost(b)
	var made, answered, deleted []time.Duration
	for b.Loop() {
		spec := h.spec()
		begin := time.Now()
		n := h.start(b, spec)
		made = append(made, time.Since(begin))
		n.dockerAnswers(b)
		answered = append(answered, time.Since(begin))
		begin = time.Now()
		h.remove(b, spec.UUID)
		deleted = append(deleted, time.Since(begin))
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Milliseconds())
	}
	b.ReportMetric(median(made), "ms/made")
	b.ReportMetric(median(answered), "ms/docker")
	b.ReportMetric(median(deleted), "ms/deleted")
}

// BenchmarkSixteenAtOnce measures sixteen nodes that are asked for at the same
// moment.
func BenchmarkSixteenAtOnce(b *testing.B) {
	h := sharedHost(b)
	for b.Loop() {
		var specs []Spec
		for range 16 {
			specs = append(specs, h.spec())
		}
		begin := time.Now()
		took := make([]time.Duration, len(specs))
		var all sync.WaitGroup
		for i, spec := range specs {
			all.Go(func() {
				n := h.start(b, spec)
				n.dockerAnswers(b)
				took[i] = time.Since(begin)
			})
		}
		all.Wait()
		slices.Sort(took)
		b.ReportMetric(float64(took[0].Milliseconds()), "ms/first")
		b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms/median")
		b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms/last")
		for _, spec := range specs {
			h.remove(b, spec.UUID)
		}
	}
}

// BenchmarkSixteenNodes measures the first and the last of many nodes that run
// side by side.
func BenchmarkSixteenNodes(b *testing.B) {
	h := sharedHost(b)
	for b.Loop() {
		var took []time.Duration
		var ids []string
		for range 16 {
			begin := time.Now()
			n := h.start(b, h.spec())
			n.dockerAnswers(b)
			took = append(took, time.Since(begin))
			ids = append(ids, n.UUID)
		}
		b.ReportMetric(float64(took[0].Milliseconds()), "ms/first")
		b.ReportMetric(float64(took[15].Milliseconds()), "ms/sixteenth")
		for _, id := range ids {
			h.remove(b, id)
		}
	}
}
