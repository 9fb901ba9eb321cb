// SPDX-License-Identifier: Apache-2.0

// Package e2e drives whole keelsond processes against the real MariaDB,
// RabbitMQ, Keystone, Ironic, libvirt and Docker that test/lab started.
package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/ironic"
)

// keelsond is the path of the program under test, built once.
var keelsond string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "keelson-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		keelsond = filepath.Join(dir, "keelsond")
		build := exec.Command("go", "build", "-race", "-gcflags=modernc.org/...=-race=false", "-tags", "libvirt_dlopen", "-o", keelsond, "../../cmd/keelsond")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building keelsond: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// cloud is one Keelson with a database, a bare-metal machine and a
// configuration of its own.
type cloud struct {
	*testing.T
	dir      string
	config   string
	store    *store.Store
	libvirt  *lxc.Host
	others   map[string]bool // nodes on the host that are not this cloud's, by uuid
	machine  string          // Ironic node
	ironic   *ironic.Client
	keystone string
	password string
	endpoint string
	token    string
	daemons  []*daemon
}

// settings of one cloud; zero values mean what most tests want.
type settings struct {
	Memory      int    // MiB of the bare-metal machine
	Addresses   int    // for nodes, 250 at most
	StepTimeout int    // seconds
	LibvirtURI  string // of the machine
	NodeImage   string
}

var configuration = template.Must(template.New("").Parse(`[DEFAULT]
host = {{.Host}}
state_path = {{.Dir}}
transport_url = {{.RabbitMQ}}
[api]
host = {{.APIHost}}
port = {{.APIPort}}
[database]
connection = {{.Database}}
[keystone_authtoken]
auth_url = {{.Keystone}}
username = keelson
password = {{.Password}}
project_name = service
region_name = RegionOne
[ironic]
auth_type = none
endpoint_override = {{.Ironic}}
resource_class = {{.Class}}
image = file:///dev/null
image_checksum = 00000000000000000000000000000000
poll_interval = 0.1
[hosts]
ram_allocation_ratio = 1.0
cpu_allocation_ratio = 8
reserved_memory_mib = 0
release_after = 600
prepare_timeout = {{.StepTimeout}}
deploy_attempts = 1
[network]
network = public:{{.Network}}:{{.Gateway}}:{{.Range}}
default_network = public
bridge = {{.Bridge}}
[flavors]
flavor = m1.medium:2:1024:4
flavor = m1.large:2:4096:4
default_flavor = m1.medium
[images]
image = keelson-node:debian:{{.NodeImage}}
image = keelson-next:debian:{{.NextImage}}
image = keelson-absent:debian:not-there
[conductor]
lease = 6
poll_interval = 1
step_timeout = {{.StepTimeout}}
`))

// newCloud makes a cloud whose processes are not started yet. Everything it
// made is gone when the test ends.
func newCloud(t *testing.T, s settings) *cloud {
	t.Helper()
	c := &cloud{
		T:        t,
		dir:      t.TempDir(),
		others:   map[string]bool{},
		keystone: testenv.Require(t, testenv.Keystone),
		password: testenv.Require(t, testenv.KeystonePassword),
		endpoint: strings.TrimSuffix(testenv.Require(t, testenv.Endpoint), "/v1"),
	}
	uri := testenv.Require(t, testenv.Libvirt)
	if s.LibvirtURI == "" {
		s.LibvirtURI = uri
	}
	if s.NodeImage == "" {
		s.NodeImage = testenv.Require(t, testenv.NodeImage)
	}
	if s.Memory == 0 {
		s.Memory = 16384
	}
	bridge, err := netip.ParsePrefix(testenv.Require(t, testenv.BridgeCIDR))
	c.must(err)
	if s.Addresses == 0 {
		s.Addresses = 200
	}
	if s.StepTimeout == 0 {
		s.StepTimeout = 60
	}
	class := "e2e-" + uuid.NewString()[:8]
	c.createDatabase(strings.ReplaceAll(class, "-", "_"))
	c.enroll(class, s)

	at, err := url.Parse(c.endpoint)
	c.must(err)
	var text bytes.Buffer
	c.must(configuration.Execute(&text, map[string]any{
		"Host": class, "Dir": c.dir, "RabbitMQ": testenv.Require(t, testenv.RabbitMQ), "APIHost": at.Hostname(), "APIPort": at.Port(),
		"Database": c.databaseURL(strings.ReplaceAll(class, "-", "_")), "Keystone": c.keystone, "Password": c.password,
		"Ironic": testenv.Require(t, testenv.Ironic), "Class": class, "Network": bridge.Masked(), "Gateway": bridge.Addr(), "Range": nodeRange(bridge, s.Addresses),
		"Bridge":    testenv.Require(t, testenv.Bridge),
		"NodeImage": s.NodeImage, "NextImage": testenv.Require(t, testenv.NextImage), "StepTimeout": s.StepTimeout,
	}))
	c.config = filepath.Join(c.dir, "keelson.conf")
	c.must(os.WriteFile(c.config, text.Bytes(), 0o600))
	c.run("db", "sync")
	c.run("db", "sync")
	c.run("master-key", "create")

	c.store, err = store.Open(t.Context(), c.databaseURL(strings.ReplaceAll(class, "-", "_")), store.Options{Logger: slog.New(slog.DiscardHandler)})
	c.must(err)
	t.Cleanup(func() { _ = c.store.Close() })
	pool, err := lxc.NewPool(slog.New(slog.DiscardHandler))
	c.must(err)
	t.Cleanup(func() { _ = pool.Close() })
	c.libvirt = pool.Host("e2e", uri)
	// What another test left is its failure alone.
	others, err := c.libvirt.List(t.Context())
	c.must(err)
	for _, n := range others {
		t.Logf("node %s, which is %s, was on the host before", n.UUID, n.State)
		c.others[n.UUID] = true
	}
	t.Cleanup(c.removeNodes)
	t.Cleanup(c.stopAll)
	return c
}

// nodeRange is that many addresses of the bridge's network, away from those
// that other tests use.
func nodeRange(bridge netip.Prefix, count int) string {
	a := bridge.Addr().As4()
	first, last := a, a
	first[2], first[3] = 77, 1
	last[2], last[3] = 77, byte(count)
	return fmt.Sprintf("%s-%s", netip.AddrFrom4(first), netip.AddrFrom4(last))
}

// in is the same cloud for a subtest.
func (c *cloud) in(t *testing.T) *cloud {
	sub := *c
	sub.T = t
	sub.daemons = nil
	t.Cleanup(sub.stopAll)
	return &sub
}

func (c *cloud) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cloud) createDatabase(name string) {
	c.Helper()
	db, err := sql.Open("mysql", testenv.Require(c.T, testenv.MariaDB))
	c.must(err)
	_, err = db.Exec("CREATE DATABASE " + name)
	c.must(err)
	c.Cleanup(func() {
		_, err := db.Exec("DROP DATABASE " + name)
		if err := errors.Join(err, db.Close()); err != nil {
			c.Error(err)
		}
	})
}

// databaseURL is the database as [database] connection names it.
func (c *cloud) databaseURL(name string) string {
	dsn, err := mysql.ParseDSN(testenv.Require(c.T, testenv.MariaDB))
	c.must(err)
	if dsn.Net == "unix" {
		return fmt.Sprintf("mysql+pymysql://%s:%s@localhost/%s?unix_socket=%s", dsn.User, url.QueryEscape(dsn.Passwd), name, dsn.Addr)
	}
	return fmt.Sprintf("mysql+pymysql://%s:%s@%s/%s", dsn.User, url.QueryEscape(dsn.Passwd), dsn.Addr, name)
}

// enroll brings a bare-metal machine of its own class into Ironic.
func (c *cloud) enroll(class string, s settings) {
	c.Helper()
	client, err := ironic.New(ironic.Options{Endpoint: testenv.Require(c.T, testenv.Ironic), Logger: slog.New(slog.DiscardHandler)})
	c.must(err)
	c.ironic = client
	c.eventually("the machine is available in Ironic", 30*time.Second, func() error {
		id, result, err := client.Enroll(c.Context(), ironic.EnrollRequest{
			Name: class, ResourceClass: class, CPUs: 2, MemoryMiB: s.Memory, DiskGiB: 200,
			Extra: map[string]any{ironic.ExtraLibvirtURI: s.LibvirtURI, ironic.ExtraAddress: "127.0.0.1"},
		})
		c.machine = id
		if err == nil && !result.Done {
			err = errors.New(result.Message)
		}
		return err
	})
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			if result, err := client.Release(ctx, c.machine, ""); err == nil && result.Done {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, testenv.Require(c.T, testenv.Ironic)+"/v1/nodes/"+c.machine, nil)
		if err != nil {
			c.Error(err)
			return
		}
		request.Header.Set("X-OpenStack-Ironic-API-Version", "1.78")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			c.Error(err)
			return
		}
		_ = answer.Body.Close()
		client.Close()
	})
}

// run runs one of keelsond's commands to its end.
func (c *cloud) run(args ...string) string {
	c.Helper()
	out, err := exec.Command(keelsond, append(args, "--config-file", c.config)...).CombinedOutput()
	if err != nil {
		c.Fatalf("keelsond %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// daemon is a keelsond that was started.
type daemon struct {
	*exec.Cmd
	name string
	log  string
	done chan struct{}
}

// start starts keelsond in a role.
func (c *cloud) start(role string) *daemon {
	c.Helper()
	d := &daemon{name: role, log: filepath.Join(c.dir, fmt.Sprintf("%s-%d.log", role, len(c.daemons))), done: make(chan struct{})}
	log, err := os.Create(d.log)
	c.must(err)
	d.Cmd = exec.Command(keelsond, role, "--config-file", c.config)
	d.Stdout, d.Stderr = log, log
	c.must(d.Start())
	c.must(log.Close())
	go func() {
		defer close(d.done)
		_ = d.Wait()
	}()
	c.daemons = append(c.daemons, d)
	if role != "conductor" {
		c.eventually("the API answers", 20*time.Second, func() error {
			answer, err := http.Get(c.endpoint + "/healthcheck")
			if err != nil {
				return err
			}
			return answer.Body.Close()
		})
	}
	return d
}

// kill ends the process as a power cut would.
func (d *daemon) kill() {
	_ = d.Process.Kill()
	<-d.done
}

// stopAll stops what still runs and shows the logs of a failed test.
func (c *cloud) stopAll() {
	for _, d := range c.daemons {
		_ = d.Process.Signal(syscall.SIGTERM)
	}
	for _, d := range c.daemons {
		select {
		case <-d.done:
		case <-time.After(20 * time.Second):
			c.Errorf("%s did not stop when asked to", d.name)
			d.kill()
		}
		log, err := os.ReadFile(d.log)
		if err == nil && bytes.Contains(log, []byte("DATA RACE")) {
			c.Errorf("data race in %s", d.name)
		}
		if c.Failed() {
			c.Logf("log of %s:\n%s", d.name, tail(log, 12000))
		}
	}
}

// removeNodes takes away what a failed test left on the host.
func (c *cloud) removeNodes() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	clusters, err := c.store.ListClusters(ctx, store.Scope{All: true}, store.Page{})
	if err != nil {
		c.Error(err)
	}
	for _, cluster := range clusters {
		nodes, err := c.store.Nodes(ctx, cluster.UUID)
		if err != nil {
			c.Error(err)
		}
		for _, n := range nodes[cluster.UUID] {
			if err := c.libvirt.Delete(ctx, n.UUID); err != nil {
				c.Error(err)
			}
		}
	}
}

func tail(text []byte, n int) []byte {
	if len(text) > n {
		return text[len(text)-n:]
	}
	return text
}

// eventually calls check until it returns nil.
func (c *cloud) eventually(what string, within time.Duration, check func() error) {
	c.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("not within %s: %s: %v", within, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// login gets a token for the user demo from Keystone.
func (c *cloud) login() string {
	c.Helper()
	if c.token != "" {
		return c.token
	}
	body := fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": {"name": "Default"}, "password": %q}}},
		"scope": {"project": {"name": "demo", "domain": {"name": "Default"}}}}}`, c.password)
	answer, err := http.Post(c.keystone+"/auth/tokens", "application/json", strings.NewReader(body))
	c.must(err)
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusCreated {
		c.Fatalf("logging in: %s", answer.Status)
	}
	c.token = answer.Header.Get("X-Subject-Token")
	return c.token
}

// call calls the REST API as the user demo. The answer is decoded into out
// unless that is nil.
func (c *cloud) call(method, path string, body, out any) int {
	c.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		c.must(err)
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(c.Context(), method, c.endpoint+path, content)
	c.must(err)
	request.Header.Set("X-Auth-Token", c.login())
	request.Header.Set("OpenStack-API-Version", "container-infra latest")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(request)
	c.must(err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	c.must(err)
	if out != nil && answer.StatusCode < 300 {
		if err := json.Unmarshal(text, out); err != nil {
			c.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	if answer.StatusCode >= 400 {
		c.Logf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return answer.StatusCode
}

// expect calls the REST API and wants that status.
func (c *cloud) expect(status int, method, path string, body, out any) {
	c.Helper()
	if got := c.call(method, path, body, out); got != status {
		c.Fatalf("%s %s: status %d, want %d", method, path, got, status)
	}
}

// cluster is the part of a cluster's representation that tests look at.
type cluster struct {
	UUID            string   `json:"uuid"`
	Status          string   `json:"status"`
	StatusReason    string   `json:"status_reason"`
	APIAddress      string   `json:"api_address"`
	COEVersion      string   `json:"coe_version"`
	NodeCount       int      `json:"node_count"`
	MasterAddresses []string `json:"master_addresses"`
	NodeAddresses   []string `json:"node_addresses"`
}

type object = map[string]any

// template makes the cluster template that tests use.
func (c *cloud) template() {
	c.Helper()
	c.expect(201, "POST", "/v1/clustertemplates", object{
		"name": "swarm", "coe": "swarm-mode", "image_id": "keelson-node", "flavor_id": "m1.medium", "external_network_id": "public",
	}, nil)
}

// create asks for a cluster and returns its uuid.
func (c *cloud) create(name string, masters, workers int, more object) string {
	c.Helper()
	body := object{"name": name, "cluster_template_id": "swarm", "master_count": masters, "node_count": workers}
	for k, v := range more {
		body[k] = v
	}
	if masters > 1 {
		body["master_lb_enabled"] = true
	}
	var made cluster
	c.expect(202, "POST", "/v1/clusters", body, &made)
	return made.UUID
}

// settled waits until the cluster's operation has ended.
func (c *cloud) settled(id string, within time.Duration) cluster {
	c.Helper()
	var got cluster
	c.eventually("cluster "+id+" settles", within, func() error {
		c.expect(200, "GET", "/v1/clusters/"+id, nil, &got)
		if strings.HasSuffix(got.Status, "_IN_PROGRESS") {
			return errors.New(got.Status)
		}
		return nil
	})
	return got
}

// complete waits for the cluster and wants it to be complete.
func (c *cloud) complete(id string, within time.Duration) cluster {
	c.Helper()
	got := c.settled(id, within)
	if !strings.HasSuffix(got.Status, "_COMPLETE") {
		c.Fatalf("cluster is %s: %s\n%s", got.Status, got.StatusReason, c.journal(id))
	}
	return got
}

// remove deletes the cluster and wants nothing of it left.
func (c *cloud) remove(id string) {
	c.Helper()
	c.expect(204, "DELETE", "/v1/clusters/"+id, nil, nil)
	c.eventually("cluster "+id+" is gone", time.Minute, func() error {
		if status := c.call("GET", "/v1/clusters/"+id, nil, nil); status != 404 {
			return fmt.Errorf("status %d\n%s", status, c.journal(id))
		}
		return nil
	})
	c.nothingLeft()
}

// nothingLeft wants no node on the host, but for those that were there before,
// and no room taken.
func (c *cloud) nothingLeft() {
	c.Helper()
	nodes, err := c.libvirt.List(c.Context())
	c.must(err)
	for _, n := range nodes {
		if !c.others[n.UUID] {
			c.Errorf("node %s, which is %s, is left on the host", n.UUID, n.State)
		}
	}
	hosts, err := c.store.Hosts(c.Context())
	c.must(err)
	for _, h := range hosts {
		if h.UsedVCPUs+h.UsedMemoryMiB+h.UsedDiskGiB != 0 {
			c.Errorf("host %s has room taken: %d vCPU, %d MiB, %d GiB", h.Name, h.UsedVCPUs, h.UsedMemoryMiB, h.UsedDiskGiB)
		}
	}
}

// journal is the story of the cluster's operations, for failed tests.
func (c *cloud) journal(id string) string {
	var b strings.Builder
	operations, err := c.store.Operations(c.Context(), id)
	c.must(err)
	for _, o := range operations {
		fmt.Fprintf(&b, "%s %s generation %d undo %v\n", o.Kind, o.State, o.Generation, o.Undo)
		steps, err := c.store.Steps(c.Context(), o.UUID)
		c.must(err)
		for _, s := range steps {
			took := ""
			if s.FinishedAt != nil {
				took = s.FinishedAt.Sub(s.StartedAt).String()
			}
			fmt.Fprintf(&b, "  %-16s %-24s %-8s %d× %s %s\n", s.Name, s.NodeName, s.State, s.Attempts, took, s.Message)
		}
	}
	return b.String()
}

// step waits until the cluster's newest operation has begun the step.
func (c *cloud) step(id, name string) model.Step {
	c.Helper()
	var found model.Step
	c.eventually("step "+name, time.Minute, func() error {
		operations, err := c.store.Operations(c.Context(), id)
		if err != nil || len(operations) == 0 {
			return fmt.Errorf("no operation: %w", err)
		}
		steps, err := c.store.Steps(c.Context(), operations[len(operations)-1].UUID)
		if err != nil {
			return err
		}
		for _, s := range steps {
			if s.Name == name {
				found = s
				return nil
			}
		}
		return fmt.Errorf("not yet, %d steps", len(steps))
	})
	return found
}
