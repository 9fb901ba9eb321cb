// SPDX-License-Identifier: Apache-2.0

// Package hosts prepares hosts with the config drive that Keelson renders, and
// uses them: machines that are thrown away, on a network of their own, on which
// Debian's cloud-init runs the preparation; a libvirtd with TLS in each; and a
// keelsond that knows them by nothing but their addresses.
package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/testenv"
)

// The test process lives in a network namespace of its own, which stands for
// the data centre: nothing of it is left when the process ends, and no network
// of this machine is touched. It is where conductors are, and the router of the
// nodes' network.
const (
	conductorAddress = "10.117.0.1" // on bridge mgmt0, with the hosts' first interface
	nodeGateway      = "10.116.0.1" // on bridge nodes0, with the hosts' second one
	nodeRange        = "10.116.77.1-10.116.77.99"
	inRegion         = "KEELSON_TEST_IN_REGION"
	program          = "KEELSON_TEST_KEELSOND"
)

func TestMain(m *testing.M) {
	if os.Getenv(testenv.CloudInit) == "" || os.Getenv(inRegion) != "" {
		os.Exit(m.Run())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "keelson-hosts")
		if err != nil {
			return failed(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		keelsond := filepath.Join(dir, "keelsond")
		build := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-o", keelsond, "../../cmd/keelsond")
		if out, err := build.CombinedOutput(); err != nil {
			return failed(fmt.Errorf("building keelsond: %w\n%s", err, out))
		}
		self, err := os.Executable()
		if err != nil {
			return failed(err)
		}
		// The machine's name servers are not to be reached from there.
		tests := exec.Command("unshare", append([]string{"--net", "--kill-child", "--fork", "--", self}, os.Args[1:]...)...)
		tests.Env = append(os.Environ(), inRegion+"=1", program+"="+keelsond)
		tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = tests.Run()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return failed(err)
	}())
}

func failed(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// region is the data centre of one test.
type region struct {
	*testing.T
	dir    string
	config string
	token  string

	template bool // the cluster template is there
}

// newRegion lays the networks and writes keelsond's configuration, which has
// these lines beside the usual ones.
func newRegion(t *testing.T, more ...string) *region {
	t.Helper()
	r := &region{T: t, dir: t.TempDir()}
	testenv.Require(t, testenv.CloudInit)
	image := testenv.Require(t, testenv.NodeImage)
	r.must(os.Chmod(r.dir, 0o755))
	r.run("ip", "link", "set", "lo", "up")
	for bridge, address := range map[string]string{"mgmt0": conductorAddress + "/24", "nodes0": nodeGateway + "/16"} {
		r.run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
		t.Cleanup(func() { _, _ = r.try("ip", "link", "delete", bridge) })
		r.run("ip", "address", "add", address, "dev", bridge)
		r.run("ip", "link", "set", bridge, "up")
	}
	r.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))

	r.config = filepath.Join(r.dir, "keelson.conf")
	r.must(os.WriteFile(r.config, []byte(strings.Join(append([]string{
		"[DEFAULT]", "state_path = " + filepath.Join(r.dir, "state"), "transport_url = memory://",
		"[api]", "host = 127.0.0.1",
		"[database]", "connection = sqlite:///" + filepath.Join(r.dir, "keelson.db"),
		"[identity]", "enabled = true", "admin_password = for-the-test", "demo_password = for-the-test",
		"[hosts]", "conductor_network = 10.117.0.0/24", "reserved_memory_mib = 0",
		"[network]", "network = public:10.116.0.0/16:" + nodeGateway + ":" + nodeRange, "uplink = eth1", "nameservers =",
		"[flavors]", "flavor = m1.medium:2:1024:4", "default_flavor = m1.medium",
		"[images]", "image = keelson-node:debian:" + image,
		"[drivers]", "enabled = swarm",
	}, more...), "\n")+"\n"), 0o600))
	r.must(os.MkdirAll(filepath.Join(r.dir, "state"), 0o700))
	r.keelsond("db", "sync")
	r.keelsond("master-key", "create")
	return r
}

func (r *region) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *region) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *region) run(name string, args ...string) string {
	r.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		r.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (r *region) eventually(what string, within time.Duration, check func() error) {
	r.Helper()
	begin := time.Now()
	for {
		err := check()
		if err == nil {
			r.Logf("%s: %.1f s", what, time.Since(begin).Seconds())
			return
		}
		if time.Since(begin) > within {
			r.Fatalf("not within %s: %s: %v", within, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// keelsond runs one of the operator's commands.
func (r *region) keelsond(args ...string) string {
	r.Helper()
	return r.run(os.Getenv(program), append(args, "--config-file", r.config)...) + "\n"
}

// serve starts keelsond all-in-one, which ends with the test.
func (r *region) serve() {
	r.Helper()
	log, err := os.Create(filepath.Join(r.dir, "keelsond.log"))
	r.must(err)
	daemon := exec.Command(os.Getenv(program), "all-in-one", "--config-file", r.config)
	daemon.Stdout, daemon.Stderr = log, log
	r.must(daemon.Start())
	r.must(log.Close())
	r.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil {
			r.Errorf("keelsond: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(r.dir, "state", "pki-*")); len(left) > 0 {
			r.Errorf("keelsond left its key behind: %v", left)
		}
		if r.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.Logf("log of keelsond:\n%s", text[max(0, len(text)-8000):])
		}
	})
	r.eventually("the API answers", 30*time.Second, func() error {
		answer, err := http.Get("http://127.0.0.1:9511/healthcheck")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	body := `{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": {"name": "Default"}, "password": "for-the-test"}}},
		"scope": {"project": {"name": "demo", "domain": {"name": "Default"}}}}}`
	answer, err := http.Post("http://127.0.0.1:5000/v3/auth/tokens", "application/json", strings.NewReader(body))
	r.must(err)
	r.must(answer.Body.Close())
	r.token = answer.Header.Get("X-Subject-Token")
}

type object = map[string]any

// call calls the REST API and wants success.
func (r *region) call(method, path string, body, out any) {
	r.Helper()
	content, err := json.Marshal(body)
	r.must(err)
	request, err := http.NewRequestWithContext(r.Context(), method, "http://127.0.0.1:9511"+path, bytes.NewReader(content))
	r.must(err)
	request.Header.Set("X-Auth-Token", r.token)
	request.Header.Set("OpenStack-API-Version", "container-infra latest")
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	r.must(err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	r.must(err)
	if answer.StatusCode >= 300 {
		r.Fatalf("%s %s: %s %s", method, path, answer.Status, text)
	}
	if out != nil {
		r.must(json.Unmarshal(text, out))
	}
}

// machine is a machine that is thrown away; test/hosts/machine makes it.
type machine struct {
	*region
	name, address string
	dir           string
	drive, images string
	power         io.Closer
	outer         *exec.Cmd // nil: it is off
	said          bytes.Buffer
	init          int // its process 1, as seen from here
}

// boot starts a machine whose first boot finds that user data, and whose
// directory of node images is that one.
func (r *region) boot(name, address, userData, images string) *machine {
	r.Helper()
	m := &machine{region: r, name: name, address: address, dir: filepath.Join(r.dir, name, "machine")}
	drive := filepath.Join(r.dir, name, "drive")
	metaData, err := json.Marshal(object{"uuid": "host-" + name, "name": name, "hostname": name})
	r.must(errors.Join(err, os.MkdirAll(m.dir, 0o755), os.MkdirAll(filepath.Join(drive, "openstack/latest"), 0o700)))
	r.must(os.WriteFile(filepath.Join(drive, "openstack/latest/user_data"), []byte(userData), 0o600))
	r.must(os.WriteFile(filepath.Join(drive, "openstack/latest/meta_data.json"), metaData, 0o600))

	m.drive, m.images = drive, images
	m.on()
	r.Cleanup(func() {
		log, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		libvirtd, _ := os.ReadFile(filepath.Join(m.dir, "state/host/log/libvirtd.log"))
		if m.outer != nil {
			if out, err := m.tryInside("/usr/lib/keelson/host/unprepare.sh"); err != nil {
				r.Errorf("unprepare.sh on %s: %v\n%s", name, err, out)
			}
			m.off()
		}
		if r.Failed() {
			r.Logf("machine %s: %s\nlog of its preparation:\n%s\nof its libvirtd:\n%s", name, m.said.String(), log, libvirtd)
		}
	})
	return m
}

// on switches the machine on.
func (m *machine) on() {
	m.Helper()
	script, err := filepath.Abs("machine")
	m.must(err)
	// Mount namespaces are numbered from ranges that each CPU has; one that is
	// pinned to a file must have a higher number than that around it.
	m.outer = exec.Command("taskset", "--cpu-list", "0", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc",
		script, m.dir, m.images, testenv.Require(m.T, testenv.CloudInit), m.drive)
	m.outer.Stdout, m.outer.Stderr = &m.said, &m.said
	m.power, err = m.outer.StdinPipe()
	m.must(err)
	m.must(m.outer.Start())
	m.eventually("machine "+m.name+" is switched on", 10*time.Second, func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.outer.Process.Pid))
		if err == nil {
			m.init, err = strconv.Atoi(strings.TrimSpace(string(children)))
		}
		return err
	})
	m.plug(m, "eth1", "nodes0", "")
	m.plug(m, "eth0", "mgmt0", m.address+"/24")
}

// off cuts the machine's power: whatever runs there is gone at once.
func (m *machine) off() {
	m.Helper()
	_ = m.power.Close()
	_ = m.outer.Wait() // until then it may say more
	m.outer = nil
	m.eventually("machine "+m.name+" is off", 10*time.Second, func() error {
		if out, err := m.try("ip", "link", "show", m.name+"-eth0"); err == nil {
			return errors.New(out)
		}
		return nil
	})
}

// plug gives the machine an interface on a bridge of the region.
func (r *region) plug(m *machine, device, bridge, address string) {
	r.Helper()
	port := m.name + "-" + device
	r.run("ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", strconv.Itoa(m.init))
	r.run("ip", "link", "set", port, "master", bridge, "up")
	r.run("nsenter", "--target", strconv.Itoa(m.init), "--net", "ip", "link", "set", device, "up")
	if address != "" {
		r.run("nsenter", "--target", strconv.Itoa(m.init), "--net", "ip", "address", "add", address, "dev", device)
		r.run("nsenter", "--target", strconv.Itoa(m.init), "--net", "ip", "route", "add", "default", "via", conductorAddress)
	}
}

// prepared waits for the end of the machine's first boot.
func (m *machine) prepared() {
	m.Helper()
	var result []byte
	m.eventually("machine "+m.name+" is prepared", 3*time.Minute, func() (err error) {
		result, err = os.ReadFile(filepath.Join(m.dir, "result"))
		return err
	})
	if got := strings.TrimSpace(string(result)); got != "prepared" {
		m.Fatalf("machine %s: %s", m.name, got)
	}
}

// tryInside runs a command on the machine, with the settings of its host.
func (m *machine) tryInside(script string) (string, error) {
	return m.try("nsenter", "--target", strconv.Itoa(m.init), "--all", "--", "taskset", "--cpu-list", "0",
		"sh", "-c", "set -a; . /etc/keelson/host.env; set +a; "+script)
}

func (m *machine) inside(script string) string {
	m.Helper()
	out, err := m.tryInside(script)
	if err != nil {
		m.Fatalf("%s on %s: %v\n%s", script, m.name, err, out)
	}
	return out
}

// dial connects to an address from one of the region's own.
func (r *region) dial(from, to string) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Second}
	connection, err := dialer.DialContext(r.Context(), "tcp", to)
	if err == nil {
		err = connection.Close()
	}
	return err
}

func (r *region) reaches(from, to string) {
	r.Helper()
	if err := r.dial(from, to); err != nil {
		r.Errorf("%s does not reach %s: %v", from, to, err)
	}
}

// shut wants a firewall that does not even answer.
func (r *region) shut(from, to string) {
	r.Helper()
	if timeout := net.Error(nil); !errors.As(r.dial(from, to), &timeout) || !timeout.Timeout() {
		r.Errorf("%s gets an answer from %s", from, to)
	}
}
