// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	swarmapi "github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/swarm"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// cluster is a swarm on real nodes.
type cluster struct {
	testing.TB
	*conformance.Cloud
	machines *lxcMachines
}

// newCluster returns a cluster with nodes that are wanted only.
func newCluster(tb testing.TB, masters, workers int) *cluster {
	tb.Helper()
	m := newLXC(tb)
	c := &cluster{tb, conformance.NewCloud(tb, m, template), m}
	c.Resize(masters, workers)
	return c
}

// run takes an operation to its end, as quickly as the plan allows.
func (c *cluster) run(op drivers.Operation) {
	c.Helper()
	r := conformance.Runner{Driver: newDriver, Cloud: c.Cloud, SideBySide: true}
	r.After = func(step drivers.Step, message string, took time.Duration) {
		c.Logf("%-14s %6d ms  %s", step.Name, took.Milliseconds(), message)
	}
	if err := r.Run(c.Context(), op); err != nil {
		c.Fatalf("%s: %v", op.Kind, err)
	}
}

// runUntil takes the steps one by one and stops before the first of that name.
func (c *cluster) runUntil(op drivers.Operation, name string) {
	c.Helper()
	stopped := false
	r := conformance.Runner{Driver: newDriver, Cloud: c.Cloud, Stop: func(step drivers.Step) bool {
		stopped = step.Name == name
		return stopped
	}}
	if err := r.Run(c.Context(), op); err != nil && !stopped {
		c.Fatalf("%s: %v", op.Kind, err)
	}
}

func (c *cluster) job() *drivers.Job { return c.Job(c.Operation(drivers.Update)) }

func (c *cluster) named(name string) drivers.Node {
	c.Helper()
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n
		}
	}
	c.Fatalf("there is no node %s", name)
	return drivers.Node{}
}

// kill takes a node's machine away, as when its host burns down.
func (c *cluster) kill(name string) {
	c.Helper()
	if err := c.machines.Delete(c.Context(), c.named(name).ID); err != nil {
		c.Fatal(err)
	}
}

// docker connects to the Docker API of one node.
func (c *cluster) docker(name string) *client.Client {
	c.Helper()
	job := c.job()
	job.Cluster.APIAddress = "tcp://" + net.JoinHostPort(c.named(name).Address, "2376")
	api, err := docker(c.Context(), job)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { api.Close() })
	return api
}

// eventually asks again until ok says yes.
func (c *cluster) eventually(what string, ok func() (bool, string)) {
	c.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		good, seen := ok()
		if good {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: not within a minute; last seen: %s", what, seen)
		}
		select {
		case <-c.Context().Done():
			c.Fatal(c.Context().Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *cluster) wantMembers(want ...string) {
	c.Helper()
	got, err := members(c.Context(), c.job())
	if err != nil {
		c.Fatal(err)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		c.Fatalf("members (-want +got):\n%s", diff)
	}
}

// A tenant uses an unmodified docker client with a key of their own, and a
// certificate that was signed as `openstack coe cluster config` has it signed:
// RSA 2048, CN admin, O system:masters, no extensions.
func TestTenantsDockerClient(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.run(c.Operation(drivers.Create))
	address := c.Observed().APIAddress
	bundle := newBundle(t, c.Cloud)

	version, err := bundle.docker(address, "info", "--format", "{{.ServerVersion}} {{.Swarm.LocalNodeState}} {{.Driver}}")
	if want := c.Observed().COEVersion + " active overlay2"; err != nil || version != want {
		t.Errorf("docker info says %q (%v), want %q", version, err, want)
	}
	if out, err := bundle.docker(address, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"); err != nil || out != "blue-master-0 Ready Leader" {
		t.Errorf("docker node ls says %q (%v)", out, err)
	}
	stranger := newBundle(t, conformance.NewCloud(t, c.machines, template))
	if out, err := stranger.docker(address, "ps"); err == nil {
		t.Errorf("the bundle of another cluster worked: %s", out)
	}
	// With our CA but the stranger's key, it is the engine that refuses.
	if err := os.WriteFile(filepath.Join(stranger.dir, "ca.pem"), bundle.ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := stranger.docker(address, "ps"); err == nil {
		t.Errorf("the key of another cluster worked: %s", out)
	}
	if out, err := exec.Command("docker", "--host", address, "ps").CombinedOutput(); err == nil {
		t.Errorf("docker without TLS worked: %s", out)
	}
}

// bundle is a directory as DOCKER_CERT_PATH names it.
type bundle struct {
	dir string
	ca  []byte
}

func newBundle(t *testing.T, cloud *conformance.Cloud) *bundle {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Fatal("the docker client is not installed: apt-get install docker.io")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	job := cloud.Job(cloud.Operation(drivers.Update))
	authority, err := job.Services.Certificates.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := cloud.Authorities().Sign(t.Context(), model.CertCA, request)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{dir: t.TempDir(), ca: authority}
	for name, content := range map[string][]byte{
		"ca.pem":   authority,
		"cert.pem": cert,
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bundle) docker(address string, args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+address, "DOCKER_CERT_PATH="+b.dir, "DOCKER_TLS_VERIFY=1")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// busybox returns an archive to make an image from.
func busybox(t testing.TB) []byte {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: apt-get install busybox-static", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// loadImage puts an image named busybox on all nodes.
func (c *cluster) loadImage() {
	c.Helper()
	archive := busybox(c)
	for _, n := range c.Nodes() {
		source := client.ImageImportSource{Source: bytes.NewReader(archive), SourceName: "-"}
		result, err := c.docker(n.Name).ImageImport(c.Context(), source, "busybox", client.ImageImportOptions{})
		if err != nil {
			c.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, result); err != nil {
			c.Fatal(err)
		}
		result.Close()
	}
}

// runService runs two tasks with that shell script, one on each node, and
// waits until they do. grace is how long they may take to end.
func (c *cluster) runService(script string, grace time.Duration) {
	c.Helper()
	replicas := uint64(2)
	if _, err := c.docker("blue-master-0").ServiceCreate(c.Context(), client.ServiceCreateOptions{Spec: swarmapi.ServiceSpec{
		Annotations: swarmapi.Annotations{Name: "web"},
		Mode:        swarmapi.ServiceMode{Replicated: &swarmapi.ReplicatedService{Replicas: &replicas}},
		TaskTemplate: swarmapi.TaskSpec{ContainerSpec: &swarmapi.ContainerSpec{
			Image: "busybox", Command: []string{"/bin/busybox", "sh", "-c", script}, StopGracePeriod: &grace,
		}},
		EndpointSpec: &swarmapi.EndpointSpec{Mode: swarmapi.ResolutionModeDNSRR},
	}}); err != nil {
		c.Fatal(err)
	}
	c.wantRunning(map[string]int{"blue-master-0": 1, "blue-worker-0": 1})
}

// wantRunning waits until so many tasks run on the nodes.
func (c *cluster) wantRunning(want map[string]int) {
	c.Helper()
	api := c.docker("blue-master-0")
	c.eventually("tasks run where they should", func() (bool, string) {
		tasks, err := api.TaskList(c.Context(), client.TaskListOptions{})
		if err != nil {
			return false, err.Error()
		}
		running := map[string]int{}
		for _, task := range tasks.Items {
			for _, n := range c.Nodes() {
				if n.COEID == task.NodeID && task.Status.State == swarmapi.TaskStateRunning && task.DesiredState == swarmapi.TaskStateRunning {
					running[n.Name]++
				}
			}
		}
		return maps.Equal(running, want), fmt.Sprint(running)
	})
}

// Tasks move to other nodes before their node is taken away.
func TestTasksMoveBeforeTheirNodeLeaves(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.run(c.Operation(drivers.Create))
	c.loadImage()
	c.runService("trap 'exit 0' TERM; while :; do /bin/busybox sleep 1; done", 10*time.Second)

	c.Resize(1, 0)
	c.run(c.Operation(drivers.Update))
	c.wantMembers("blue-master-0")
	c.wantRunning(map[string]int{"blue-master-0": 2})
}

// A task that does not end can not keep its node for ever.
func TestDrainingHasAnEnd(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.run(c.Operation(drivers.Create))
	c.loadImage()
	c.runService("trap '' TERM; while :; do /bin/busybox sleep 1; done", 10*time.Minute)

	c.Resize(1, 0)
	message := ""
	r := conformance.Runner{
		Cloud:  c.Cloud,
		Driver: func() drivers.Driver { return swarm.New(swarm.Options{DrainTimeout: 3 * time.Second}) },
		After: func(step drivers.Step, said string, _ time.Duration) {
			if step.Name == "swarm.drain" {
				message = said
			}
		},
	}
	if err := r.Run(t.Context(), c.Operation(drivers.Update)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(message, "1 tasks did not end within 3s") {
		t.Errorf("the drain said %q", message)
	}
	c.wantMembers("blue-master-0")
}

// A worker that died is seen by the health check, and can leave.
func TestDeadWorkerLeaves(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.run(c.Operation(drivers.Create))
	c.kill("blue-worker-0")
	c.eventually("the health check sees it", func() (bool, string) {
		health, err := newDriver().Health(t.Context(), c.job())
		seen := fmt.Sprint(health, err)
		return health.Status == drivers.Unhealthy && health.Reasons["api"] == "ok" &&
			strings.HasPrefix(health.Reasons["blue-worker-0.Ready"], "False: down"), seen
	})
	c.Resize(1, 0)
	c.run(c.Operation(drivers.Update))
	c.wantMembers("blue-master-0")
}

// Of three managers two leave, one of them dead: the swarm keeps its quorum.
func TestManagersLeaveAlthoughOneIsDead(t *testing.T) {
	c := newCluster(t, 3, 0)
	c.run(c.Operation(drivers.Create))
	c.kill("blue-master-1")
	c.Resize(1, 0)
	c.run(c.Operation(drivers.Update))
	c.wantMembers("blue-master-0")
	if health, err := newDriver().Health(t.Context(), c.job()); err != nil || health.Status != drivers.Healthy {
		t.Errorf("health %+v, %v", health, err)
	}
}

// Without a majority of managers the health check says what is wrong.
func TestLostQuorumIsNamed(t *testing.T) {
	c := newCluster(t, 3, 0)
	c.run(c.Operation(drivers.Create))
	c.kill("blue-master-1")
	c.kill("blue-master-2")
	c.eventually("the health check sees it", func() (bool, string) {
		health, err := newDriver().Health(t.Context(), c.job())
		return health.Status == drivers.Unhealthy && strings.Contains(health.Reasons["api"], "no leader"), fmt.Sprint(health, err)
	})
	c.kill("blue-master-0")
	health, err := newDriver().Health(t.Context(), c.job())
	if err != nil || health.Status != drivers.Unhealthy || !strings.Contains(health.Reasons["api"], "no manager") {
		t.Errorf("health %+v, %v", health, err)
	}
}

// A node that is in some other swarm when it should join ours leaves that.
func TestNodeOfAnotherSwarmJoinsOurs(t *testing.T) {
	c := newCluster(t, 1, 1)
	create := c.Operation(drivers.Create)
	c.runUntil(create, "swarm.join")
	worker := c.named("blue-worker-0")
	stray := c.docker(worker.Name)
	c.eventually("the worker forms a swarm of its own", func() (bool, string) {
		_, err := stray.SwarmInit(t.Context(), client.SwarmInitOptions{ListenAddr: worker.Address + ":2377", AdvertiseAddr: worker.Address})
		return err == nil, fmt.Sprint(err)
	})
	c.run(create)
	c.wantMembers("blue-master-0", "blue-worker-0")
}

// When the whole swarm is dead, a worker that nobody wants can still be
// removed; a manager not, as it might be the one that saves the quorum.
func TestUndoWithoutAnyManager(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.run(c.Operation(drivers.Create))
	c.Resize(1, 1)
	c.runUntil(c.Operation(drivers.Update), "swarm.join")
	c.kill("blue-master-0")
	undo := c.Operation(drivers.Update)
	undo.Undo = true
	c.run(undo)
	if left := c.Nodes(); len(left) != 1 || left[0].Name != "blue-master-0" {
		t.Errorf("left are %v", left)
	}
}

// Whoever answers at a node's address must have the node's certificate.
func TestImpostorIsNotTrusted(t *testing.T) {
	cloud := conformance.NewCloud(t, conformance.NewMemory(), template)
	cloud.Resize(1, 0)
	place := drivers.Step{Name: "node.place", NodeID: cloud.Nodes()[0].ID}
	create := cloud.Operation(drivers.Create)
	if _, err := newDriver().Run(t.Context(), cloud.Job(create), place); err != nil {
		t.Fatal(err)
	}
	impostor := newImpostor(t)
	d := swarm.New(swarm.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, impostor)
	}})
	_, err := d.Run(t.Context(), cloud.Job(create), drivers.Step{Name: "swarm.init", NodeID: place.NodeID})
	if reason := fault.Reason(err, ""); !strings.Contains(reason, "not node blue-master-0") || fault.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkCreate makes a cluster of one node and deletes it.
func BenchmarkCreate(b *testing.B) {
	m := newLXC(b)
	for b.Loop() {
		c := &cluster{b, conformance.NewCloud(b, m, template), m}
		c.Resize(1, 0)
		c.run(c.Operation(drivers.Create))
		b.StopTimer()
		c.run(c.Operation(drivers.Delete))
		b.StartTimer()
	}
}
