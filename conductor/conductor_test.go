// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/ipam"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestMain(m *testing.M) {
	plugintest.Main(plugins)
	goleak.VerifyTestMain(m)
}

// world is a database, a queue, one simulated host and a pretended COE, and
// any number of conductors that come and go.
type world struct {
	*testing.T
	store    *store.Store
	messages queue.Queue
	coe      *fake.COE
	driver   drivers.Driver
	hostDir  string
	project  string       // of clusters to be created
	labels   model.Labels // likewise
	deadline time.Duration
	fault    func(ctx context.Context, call, node string) error
	sealer   *ca.Sealer
	template model.ClusterTemplate
	options  conductor.Options
	machines conductor.Machines // nil: only the hosts that are there
	hosts    conductor.NodeHosts
	pool     conductor.HostOptions
	networks ipam.Networks
	ports    conductor.Ports // nil: the addresses are Keelson's own
	log      slog.Handler
	look     time.Duration      // how often the test looks whether something has happened
	observer conductor.Observer // nil: nobody
}

func newWorld(t *testing.T, s *store.Store) *world {
	t.Helper()
	w := newHostlessWorld(t, s)
	w.addHost("host-1", w.hostDir, 8192)
	return w
}

func newHostlessWorld(t *testing.T, s *store.Store) *world {
	t.Helper()
	w := &world{
		T: t, store: s, coe: fake.NewCOE(), project: "p", deadline: time.Minute, hostDir: filepath.Join(t.TempDir(), "host"),
		hosts: simulated{}, log: slog.NewTextHandler(t.Output(), nil), look: 5 * time.Millisecond, pool: conductor.HostOptions{Keep: 50 * time.Millisecond, ProgressPollPeriod: 10 * time.Millisecond},
		options: conductor.Options{
			HealthEvery: -1, MachinesEvery: -1, SweepEvery: -1, HistoryKept: -1, Drain: 100 * time.Millisecond,
			Host: "test", Lease: 15 * time.Second, Poll: 20 * time.Millisecond, CancelCheck: 20 * time.Millisecond,
			RetryFirst: time.Millisecond, RetryMost: 10 * time.Millisecond, StepTimeout: time.Minute, CallTimeout: 20 * time.Second,
		},
	}
	w.driver = fake.New(w.coe)
	w.must(os.Mkdir(w.hostDir, 0o700))
	w.addNetwork("net", "192.0.2.0/24", "192.0.2.10-192.0.2.19")
	var err error
	w.messages, err = queue.Open("memory://", queue.Options{})
	w.must(err)
	t.Cleanup(func() { _ = w.messages.Close() })
	w.sealer, err = ca.LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "master.key"))
	w.must(err)
	name := "template"
	w.template = model.ClusterTemplate{UUID: uuid.NewString(), ProjectID: "p", UserID: "u", Name: &name, COE: "fake", ImageID: "image", ServerType: "vm"}
	w.must(s.CreateTemplate(t.Context(), &w.template))
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) addNetwork(name, cidr, addresses string, labels ...string) {
	w.Helper()
	p, err := ipam.Parse(name, cidr, "", addresses)
	w.must(err)
	w.networks = append(w.networks, p.Labelled(labels...))
}

func (w *world) addHost(name, dir string, memory int) {
	w.Helper()
	uri := simhost.Scheme + "://" + dir
	w.must(w.store.AddHost(w.Context(), &model.Host{
		UUID: uuid.NewString(), Name: name, State: model.HostReady, LibvirtURI: &uri, Bridge: "br0",
		TotalVCPUs: 64, TotalMemoryMiB: memory, TotalDiskGiB: 1000,
	}))
}

// simulated is how the conductors under test reach hosts.
type simulated struct {
	fault func(ctx context.Context, call, node string) error // see simhost.Host
}

func (s simulated) Host(_, uri string) conductor.NodeHost {
	host := simhost.Open(uri)
	host.Fault = s.fault
	return host
}

// conduct starts a conductor and returns what stops it.
func (w *world) conduct() (stop func()) {
	w.Helper()
	return w.conductOn(w.store)
}

// conductOn starts one with a connection of its own.
func (w *world) conductOn(s *store.Store) (stop func()) {
	w.Helper()
	authorities, err := ca.New(s, w.sealer, ca.Options{NotFound: store.ErrNotFound})
	w.must(err)
	log := slog.New(w.log)
	options := w.options
	options.Owner = uuid.NewString()
	hosts := w.hosts
	if _, plain := hosts.(simulated); plain {
		hosts = simulated{w.fault}
	}
	c := conductor.New(conductor.Parts{
		Store: s, Messages: w.messages, Drivers: drivers.NewRegistry(w.driver),
		Hosts: conductor.NewHostPool(s, w.machines, hosts, log, w.pool),
		Nodes: hosts, Sweeper: w.sweeper(), Certificates: authorities, Sealer: w.sealer, Networks: w.networks, Ports: w.ports, Logger: log, Observer: w.observer,
		Catalog: &catalog.Configured{
			Flavors: []catalog.Flavor{{Name: "small", VCPUs: 1, MemoryMiB: 1024, DiskGiB: 10}},
			Images: []catalog.Image{
				{Name: "image", Distro: "debian", NodeImage: "node"},
				{Name: "newer", Distro: "debian", NodeImage: "node-2"},
			},
		},
	}, options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.Errorf("conductor: %v", err)
		}
	}
	w.Cleanup(stop)
	return stop
}

// create asks for a cluster, as the API does.
func (w *world) create(name string, masters, workers int, change ...func(*model.Cluster)) (*model.Cluster, *model.Operation) {
	w.Helper()
	flavor := "small"
	c := &model.Cluster{UUID: uuid.NewString(), ProjectID: w.project, UserID: "u", Name: name, TemplateID: w.template.UUID, FlavorID: &flavor, Labels: w.labels}
	for _, f := range change {
		f(c)
	}
	op, err := w.store.CreateCluster(w.Context(), c, []model.NodeGroup{
		{UUID: uuid.NewString(), Name: "default-master", Role: model.RoleMaster, NodeCount: masters, IsDefault: true},
		{UUID: uuid.NewString(), Name: "default-worker", Role: model.RoleWorker, NodeCount: workers, IsDefault: true},
	}, 1000, store.NewOperation{UserID: "u", RequestID: "req-1", Deadline: w.deadline})
	w.must(err)
	return c, op
}

// ended waits for the operation's end.
func (w *world) ended(id string) *model.Operation {
	w.Helper()
	var op *model.Operation
	w.eventually("operation ends", func() bool {
		var err error
		op, err = w.store.Operation(w.Context(), id)
		w.must(err)
		return op.State.Terminal()
	})
	return op
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(w.look)
	defer tick.Stop()
	timeout := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			w.Fatalf("not within two minutes: %s", what)
		}
	}
}

func (w *world) cluster(id string) *model.Cluster {
	w.Helper()
	c, err := w.store.Cluster(w.Context(), store.Scope{All: true}, id)
	w.must(err)
	return c
}

// onHost is how many nodes the host really carries.
func (w *world) onHost() int {
	w.Helper()
	nodes, err := simhost.Open(simhost.Scheme + "://" + w.hostDir).Nodes()
	w.must(err)
	return len(nodes)
}

// nothingLeft wants nothing on the hosts and no room taken.
func (w *world) nothingLeft() {
	w.Helper()
	if n := w.onHost(); n != 0 {
		w.Errorf("%d nodes are left on the host", n)
	}
	hosts, err := w.store.Hosts(w.Context())
	w.must(err)
	for _, h := range hosts {
		if h.UsedVCPUs+h.UsedMemoryMiB+h.UsedDiskGiB != 0 {
			w.Errorf("host %s still has room taken: %+v", h.Name, h)
		}
	}
}

// story is the journal of an operation, a line a step.
func (w *world) story(op string) []string {
	w.Helper()
	steps, err := w.store.Steps(w.Context(), op)
	w.must(err)
	var lines []string
	for _, s := range steps {
		undo := ""
		if s.Undo {
			undo = "undo "
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s%s %s %s", undo, s.Name, s.NodeName, s.State)))
	}
	return lines
}

func TestClusterIsCreatedScaledAndDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.conduct()
		cluster, create := w.create("demo", 1, 2)
		if op := w.ended(create.UUID); op.State != model.OpDone {
			t.Fatalf("create ended %s: %v\n%s", op.State, op.Reason, strings.Join(w.story(op.UUID), "\n"))
		}
		got := w.cluster(cluster.UUID)
		if got.Status != model.CreateComplete || got.APIAddress == nil || got.COEVersion == nil {
			t.Errorf("status %s, api_address %v, coe_version %v; want a complete cluster", got.Status, got.APIAddress, got.COEVersion)
		}
		if n := len(w.coe.Members(cluster.UUID)); n != 3 || w.onHost() != 3 {
			t.Errorf("%d members, %d nodes on the host, want 3 and 3", n, w.onHost())
		}
		story := w.story(create.UUID)
		for _, want := range []string{"certificates", "node.place demo-master-0", "coe.form", "coe.join demo-worker-1", "cluster.record"} {
			if !slices.ContainsFunc(story, func(line string) bool { return strings.HasPrefix(line, want) && strings.HasSuffix(line, "done") }) {
				t.Errorf("the journal does not tell %q:\n%s", want, strings.Join(story, "\n"))
			}
		}

		groups, err := s.NodeGroups(t.Context(), cluster.UUID)
		w.must(err)
		workers := groups[cluster.UUID][1]
		always := func(model.Status) bool { return true }
		shrink, err := s.ScaleNodeGroup(t.Context(), cluster.UUID, workers.UUID, 1, []string{"demo-worker-0"}, always, store.NewOperation{})
		w.must(err)
		if op := w.ended(shrink.UUID); op.State != model.OpDone {
			t.Fatalf("shrink ended %s: %v", op.State, op.Reason)
		}
		if got := w.coe.Members(cluster.UUID); !slices.Equal(got, []string{"demo-master-0", "demo-worker-1"}) {
			t.Errorf("members after shrinking: %v", got)
		}
		if got := w.cluster(cluster.UUID).Status; got != model.UpdateComplete {
			t.Errorf("status after shrinking: %s", got)
		}

		remove, err := s.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
		w.must(err)
		if op := w.ended(remove.UUID); op.State != model.OpDone {
			t.Fatalf("delete ended %s: %v", op.State, op.Reason)
		}
		if _, err := s.Cluster(t.Context(), store.Scope{All: true}, cluster.UUID); err == nil {
			t.Error("the deleted cluster is still there")
		}
		w.nothingLeft()
	})
}

// Whatever step fails for good, the cluster says why and nothing is left.
func TestFailedCreateIsUndone(t *testing.T) {
	for _, step := range []string{fake.StepCertificates, fake.StepPlace, fake.StepStart, fake.StepForm, fake.StepJoin, fake.StepRecord} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t, storetest.New(t))
			w.coe.Inject(step, "", fake.Fault{Permanent: "the reason that users read"})
			w.conduct()
			cluster, create := w.create("demo", 1, 2)
			if op := w.ended(create.UUID); op.State != model.OpFailed {
				t.Errorf("create ended %s, want failed", op.State)
			}
			got := w.cluster(cluster.UUID)
			if got.Status != model.CreateFailed || got.StatusReason == nil || !strings.Contains(*got.StatusReason, "the reason that users read") {
				t.Errorf("status %s, reason %v", got.Status, got.StatusReason)
			}
			w.nothingLeft()
		})
	}
}

func TestStepThatFailsForATimeIsTakenAgain(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.coe.Inject(fake.StepJoin, "demo-worker-0", fake.Fault{Temporary: 3, Again: 2})
	w.conduct()
	_, create := w.create("demo", 1, 1)
	if op := w.ended(create.UUID); op.State != model.OpDone {
		t.Fatalf("create ended %s: %v", op.State, op.Reason)
	}
	if n := w.coe.Taken(fake.StepJoin, "demo-worker-0"); n != 6 {
		t.Errorf("the step was taken %d times, want 6: three errors, two waits, one success", n)
	}
}

func TestStepThatNeverEndsRunsOutOfTime(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.options.StepTimeout = 5 * time.Second
	w.options.CallTimeout = time.Second
	w.coe.Inject(fake.StepStart, "demo-worker-0", fake.Fault{Hang: true})
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	got := w.cluster(cluster.UUID)
	if got.Status != model.CreateFailed || got.StatusReason == nil {
		t.Fatalf("status %s, reason %v", got.Status, got.StatusReason)
	}
	for _, want := range []string{"node.start", "demo-worker-0", "5s"} {
		if !strings.Contains(*got.StatusReason, want) {
			t.Errorf("reason %q does not say %q", *got.StatusReason, want)
		}
	}
	w.nothingLeft()
}

func TestOperationIsHandedOverWhenItsConductorStops(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		w.coe.Inject(fake.StepForm, "", fake.Fault{Hang: true})
		stop := w.conduct()
		_, create := w.create("demo", 1, 1)
		w.eventually("the step hangs", func() bool { return w.coe.Taken(fake.StepForm, "") > 0 })
		stop()
		if op, err := s.Operation(t.Context(), create.UUID); err != nil || op.Owner != "" {
			t.Errorf("a stopped conductor still owns the operation: %+v, %v", op, err)
		}
		w.coe.Heal()
		w.conduct()
		op := w.ended(create.UUID)
		if op.State != model.OpDone || op.Generation != 2 {
			t.Errorf("operation ended %s in generation %d, want done in 2", op.State, op.Generation)
		}
		if n := w.coe.Taken(fake.StepStart, "demo-master-0"); n != 1 {
			t.Errorf("a step that was journalled as done was taken %d times", n)
		}
	})
}

func TestDeleteCancelsTheCreateBeforeIt(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.coe.Inject(fake.StepForm, "", fake.Fault{Hang: true})
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.eventually("the step hangs", func() bool { return w.coe.Taken(fake.StepForm, "") > 0 })
	remove, err := w.store.DeleteCluster(t.Context(), cluster.UUID, store.NewOperation{})
	w.must(err)
	if op := w.ended(create.UUID); op.State != model.OpCancelled {
		t.Errorf("create ended %s, want cancelled", op.State)
	}
	if op := w.ended(remove.UUID); op.State != model.OpDone {
		t.Errorf("delete ended %s: %v", op.State, op.Reason)
	}
	w.nothingLeft()
}

func TestRoomAndAddressesThatRunOut(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		want    string
	}{
		{"no host has room", 8, "no capacity"},
		{"no address is free", 10, "no free address for node demo-"},
		{"more nodes than addresses", 1<<31 - 1, "network net has 10 addresses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, storetest.New(t))
			if c.workers == 10 {
				w.addHost("host-2", w.hostDir, 65536)
			}
			w.conduct()
			cluster, create := w.create("demo", 1, c.workers)
			w.ended(create.UUID)
			got := w.cluster(cluster.UUID)
			if got.Status != model.CreateFailed || got.StatusReason == nil || !strings.Contains(*got.StatusReason, c.want) {
				t.Errorf("status %s, reason %q, want %q", got.Status, *got.StatusReason, c.want)
			}
			w.nothingLeft()
		})
	}
}

// Nodes of a cluster are placed at the same time, and still go to different
// hosts.
func TestClusterIsSpreadOverItsHosts(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	for _, name := range []string{"host-2", "host-3"} {
		dir := filepath.Join(t.TempDir(), name)
		w.must(os.Mkdir(dir, 0o700))
		w.addHost(name, dir, 8192)
	}
	w.conduct()
	for i := range 3 {
		cluster, create := w.create(fmt.Sprint("demo-", i), 1, 2)
		w.ended(create.UUID)
		nodes, err := w.store.Nodes(t.Context(), cluster.UUID)
		w.must(err)
		hosts := map[string]bool{}
		for _, n := range nodes[cluster.UUID] {
			if n.HostID != nil {
				hosts[*n.HostID] = true
			}
		}
		if len(hosts) != 3 {
			t.Errorf("cluster %d is on %d hosts, want 3", i, len(hosts))
		}
	}
}

func TestFailedGrowthPutsTheNodeCountBack(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.conduct()
	cluster, create := w.create("demo", 1, 1)
	w.ended(create.UUID)
	w.coe.Inject(fake.StepJoin, "demo-worker-2", fake.Fault{Permanent: "no"})
	groups, err := w.store.NodeGroups(t.Context(), cluster.UUID)
	w.must(err)
	grow, err := w.store.ScaleNodeGroup(t.Context(), cluster.UUID, groups[cluster.UUID][1].UUID, 3, nil,
		func(model.Status) bool { return true }, store.NewOperation{})
	w.must(err)
	if op := w.ended(grow.UUID); op.State != model.OpFailed {
		t.Errorf("grow ended %s, want failed", op.State)
	}
	groups, err = w.store.NodeGroups(t.Context(), cluster.UUID)
	w.must(err)
	if got := w.cluster(cluster.UUID); got.Status != model.UpdateFailed || groups[cluster.UUID][1].NodeCount != 1 {
		t.Errorf("status %s, node_count %d; want UPDATE_FAILED and 1", got.Status, groups[cluster.UUID][1].NodeCount)
	}
	if got := w.coe.Members(cluster.UUID); !slices.Equal(got, []string{"demo-master-0", "demo-worker-0"}) || w.onHost() != 2 {
		t.Errorf("members %v, %d on the host; want the two that were there before", got, w.onHost())
	}
}
