// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

// Package walls attacks real nodes as a hostile tenant would, who has root in
// a node and in its containers. Each attack is made twice: with the walls up it
// must be refused, and with its wall taken down the same program must get
// through, or else the test would show nothing.
//
// docs/security.md lists the attacks by name. By hand, on the lab's machine:
//
//	go test -tags libvirt_dlopen -v ./test/walls
package walls

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/testenv"
)

const hostScripts = "../../templates/host/"

// scene is a host of the test's own with three nodes on it.
type scene struct {
	host    *lxc.Host
	env     []string // for the scripts of templates/host
	state   string
	bridge  string
	address netip.Prefix // of the host on the bridge

	attacker string // the program
	looks    int    // how often the victim was seen at work

	evil    *node // the attacker's
	sibling *node // of the attacker's cluster
	victim  *node // of another cluster
}

// node is a node and how its processes look from the host.
type node struct {
	lxc.Spec
	init int // process id on the host
}

func newScene(t *testing.T) *scene {
	testenv.Require(t, testenv.Libvirt) // tells that this machine can
	image := testenv.Require(t, testenv.NodeImage)
	state, err := os.MkdirTemp("", "keelson-walls")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o755); err != nil { // nodes pass through it
		t.Fatal(err)
	}
	s := &scene{state: state, bridge: "kw" + strconv.Itoa(os.Getpid()), address: netip.MustParsePrefix("198.18.78.1/24")}
	s.env = append(os.Environ(), "KEELSON_STATE="+state, "KEELSON_BRIDGE="+s.bridge, "KEELSON_BRIDGE_CIDR="+s.address.String()+","+otherNetwork,
		"KEELSON_BRIDGE_NAT=yes", "KEELSON_FORBIDDEN="+controlPlane)
	t.Cleanup(func() {
		s.script(t, "unprepare.sh")
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	s.script(t, "prepare.sh")

	s.attacker = filepath.Join(t.TempDir(), "attacker")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", s.attacker, "./attacker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=") // it runs where no libraries are
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	pool, err := lxc.NewPool(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	s.host = pool.Host("test-host", "lxc:///system?socket="+state+"/run/libvirt-sock")

	evil, good := uuid.NewString(), uuid.NewString()
	s.evil = s.start(t, image, 2, evil)
	s.sibling = s.start(t, image, 3, evil)
	s.victim = s.start(t, image, 4, good)
	return s
}

// start makes a small node in which the attacker's program waits for orders,
// as a service: it has what every process of the node has, no more.
func (s *scene) start(t *testing.T, image string, number int, cluster string) *node {
	t.Helper()
	program, err := os.ReadFile(s.attacker)
	if err != nil {
		t.Fatal(err)
	}
	last := s.address.Addr().As4()
	last[3] = byte(number)
	n := &node{Spec: lxc.Spec{
		UUID: uuid.NewString(), Name: fmt.Sprintf("node-%d", number), Image: image, Cluster: cluster,
		VCPUs: 1, MemoryMiB: 384, DiskGiB: 1,
		Limits: lxc.Limits{BandwidthMbit: 4, IOMiB: 500, IOOperations: 4000},
		IDBase: uint32(3<<30 + (1000+number)*lxc.IDCount),
		Bridge: s.bridge, MAC: fmt.Sprintf("52:54:00:78:00:%02x", number),
		Address: netip.PrefixFrom(netip.AddrFrom4(last), s.address.Bits()), Gateway: s.address.Addr(),
		Files: []lxc.File{
			{Path: "/etc/docker/daemon.json", Mode: 0o644, Content: []byte(`{"hosts": ["unix:///var/run/docker.sock"]}`)},
			{Path: "/root/attacker", Mode: 0o755, Content: program},
			{Path: "/etc/keelson/service/attacker/run", Mode: 0o755, Content: []byte("#!/bin/sh\nexec /root/attacker serve /run/attacker.sock\n")},
		},
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.host.Delete(ctx, n.UUID); err != nil {
			t.Error(err)
		}
	})
	if err := s.host.Ensure(t.Context(), n.Spec); err != nil {
		t.Fatal(errors.Unwrap(err), err)
	}
	s.findInit(t, n)
	return n
}

func (s *scene) findInit(t *testing.T, n *node) {
	t.Helper()
	controller := read(t, filepath.Join(s.state, "run/lxc/keelson-"+n.UUID+".pid"))
	n.init = number(t, read(t, "/proc/"+controller+"/task/"+controller+"/children"))
	eventually(t, "the attacker's program answers", func() error {
		out, err := n.attack(t.Context(), "try")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (s *scene) script(t *testing.T, name string) {
	t.Helper()
	script := exec.Command(hostScripts + name)
	script.Env = s.env
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// port is the name of the node's interface on the host.
func (n *node) port() string { return "kn-" + n.UUID[len(n.UUID)-12:] }

// endpoint is the node as the attacker's program wants it.
func (n *node) endpoint() string { return n.MAC + "/" + n.Address.Addr().String() }

// begin lets the attacker's program in the node do something; what it says
// comes from the reader, and closing that ends it.
func (n *node) begin(ctx context.Context, arguments ...string) (io.ReadCloser, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", fmt.Sprintf("/proc/%d/root/run/attacker.sock", n.init))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = fmt.Fprintln(conn, strings.Join(arguments, "\t"))
	return conn, err
}

// attack runs the attacker's program in the node. The error is nil when it got
// through.
func (n *node) attack(ctx context.Context, arguments ...string) (string, error) {
	conn, err := n.begin(ctx, arguments...)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	out, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	said, code, _ := strings.Cut(string(out), "\nexit ")
	if strings.TrimSpace(code) != "0" {
		return said, errors.New("exit " + strings.TrimSpace(code))
	}
	return strings.TrimSpace(said), nil
}

// while keeps the attacker's program at something in the node during do.
func (n *node) while(t *testing.T, arguments []string, do func()) {
	t.Helper()
	conn, err := n.begin(t.Context(), arguments...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q says %q, %v", arguments, line, err)
	}
	do()
}

// operator runs a command in the node as the test, with no wall of seccomp or
// capabilities: to prepare things, never to attack.
func (n *node) operator(stdin io.Reader, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(n.init), "--all", "--"}, command...)...)
	c.Stdin = stdin
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// group is a file of the node's own cgroup on the host.
func (n *node) group(t *testing.T, controller, file string) string {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/cgroup", n.init))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if slices.Contains(strings.Split(parts[1], ","), controller) {
			return filepath.Join("/sys/fs/cgroup", controller, parts[2], file)
		}
	}
	t.Fatalf("the node has no group of %s", controller)
	return ""
}

// setting changes a file of the host until the test ends.
func setting(t *testing.T, file, value string) {
	t.Helper()
	before := read(t, file)
	write(t, file, value)
	t.Cleanup(func() { write(t, file, before) })
}

func write(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		t.Errorf("write %q: %v", value, err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs a command on the host.
func run(t *testing.T, stdin string, command ...string) string {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// bare is a container as it would be without the walls: namespaces, but root
// is the host's root, with all capabilities and system calls, and groups whose
// limits it owns.
type bare struct {
	root   string
	groups []string
}

func newBare(t *testing.T, s *scene) *bare {
	t.Helper()
	b := &bare{root: t.TempDir()}
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "var/lib/docker"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir := b.root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // another user passes through
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(s.attacker)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.root, "attacker"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for controller, limits := range map[string][]string{
		"memory":  {"memory.limit_in_bytes", "268435456"},
		"cpu":     {"cpu.cfs_quota_us", "50000"},
		"pids":    {"pids.max", "500"},
		"devices": {"devices.deny", "a", "devices.allow", "c 1:* rwm"},
		"blkio":   nil,
	} {
		group := fmt.Sprintf("/sys/fs/cgroup/%s/keelson-walls-%d", controller, os.Getpid())
		if err := os.MkdirAll(group, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			eventually(t, "group of the bare container is empty", func() error { return os.Remove(group) })
		})
		for pair := range slices.Chunk(limits, 2) {
			write(t, filepath.Join(group, pair[0]), pair[1])
		}
		b.groups = append(b.groups, group)
	}
	return b
}

// attack runs the attacker's program in the container. Of the namespaces,
// those that share names are left out.
func (b *bare) attack(share []string, arguments ...string) (string, error) {
	options := []string{"--fork", "--propagation", "private"}
	for _, namespace := range []string{"mount", "pid", "ipc", "uts", "net"} {
		if !slices.Contains(share, namespace) {
			options = append(options, "--"+namespace)
		}
	}
	const join = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"`
	command := slices.Concat(options, []string{"sh", "-c", join, "sh"}, b.groups, []string{"--"},
		[]string{filepath.Join(b.root, "attacker"), "enter", b.root}, arguments)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "unshare", command...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// outcomes reads what the attacker's "try" prints.
func outcomes(t *testing.T, out string, err error) map[string]string {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		name, outcome, _ := strings.Cut(strings.TrimSpace(line), "\t")
		found[name] = outcome
	}
	return found
}

// hostDisk makes a small disk of the host with a secret on it, and returns its
// device number.
func hostDisk(t *testing.T, secret string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "content"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "content", "secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "disk")
	run(t, "", "mkfs.ext4", "-q", "-d", filepath.Join(dir, "content"), file, "4M")
	device := run(t, "", "losetup", "--find", "--show", "--read-only", file)
	t.Cleanup(func() { run(t, "", "losetup", "--detach", device) })
	info, err := os.Stat(device)
	if err != nil {
		t.Fatal(err)
	}
	device64 := info.Sys().(*syscall.Stat_t).Rdev
	return fmt.Sprintf("%d:%d", device64>>8&0xfff, device64&0xff)
}

// neighbourProcess is a process of the victim's, known by its name.
func neighbourProcess(t *testing.T, name string, id uint32) {
	t.Helper()
	sleep := exec.Command("/bin/sleep", "300")
	sleep.Args[0] = name
	sleep.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
}

// image is a container image with the attacker's program alone.
func image(t *testing.T, program string) io.Reader {
	t.Helper()
	out, err := exec.Command("tar", "-C", filepath.Dir(program), "-c", filepath.Base(program)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(out)
}
