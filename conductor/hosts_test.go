// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

// yard is a database, an Ironic with machines of a class of its own, and host
// pools over them. Hosts are simulated.
type yard struct {
	*testing.T
	store   *store.Store
	typed   *ironictest.Server // nil on real Ironic
	client  *ironic.Client
	url     string
	class   string
	dir     string
	now     func() time.Time
	options conductor.HostOptions
}

func newYard(t *testing.T, url string) *yard {
	t.Helper()
	y := &yard{T: t, store: storetest.New(t), url: strings.TrimSuffix(url, "/"), class: "keelson-test-" + uuid.NewString()[:8], dir: t.TempDir(), now: time.Now}
	var err error
	y.client, err = ironic.New(ironic.Options{
		Endpoint: url, MinDelay: time.Millisecond, MaxDelay: 50 * time.Millisecond, Timeout: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return y.now() },
	})
	y.must(err)
	t.Cleanup(y.client.Close)
	y.options = conductor.HostOptions{ResourceClass: y.class, Now: func() time.Time { return y.now() }}
	return y
}

// typedYard is one over the typed Ironic.
func typedYard(t *testing.T, o ironictest.Options) *yard {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	typed := ironictest.New(o)
	listener := httptest.NewServer(typed)
	t.Cleanup(listener.Close)
	y := newYard(t, listener.URL)
	y.typed = typed
	return y
}

// onEveryIronic tells the same story to the typed Ironic and to the real one.
func onEveryIronic(t *testing.T, story func(t *testing.T, y *yard)) {
	t.Run("typed", func(t *testing.T) {
		story(t, typedYard(t, ironictest.Options{Timing: ironictest.Timing{Deploy: 100 * time.Millisecond}}))
	})
	t.Run("real", func(t *testing.T) {
		y := newYard(t, testenv.Require(t, testenv.Ironic))
		t.Cleanup(y.clear)
		story(t, y)
	})
}

func (y *yard) must(err error) {
	y.Helper()
	if err != nil {
		y.Fatal(err)
	}
}

// clear removes what a story left in the yard's class.
func (y *yard) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, kind := range []string{"nodes", "allocations"} {
		for _, line := range y.ids(ctx, kind) {
			if kind == "nodes" {
				y.ask(ctx, "PUT", "/v1/nodes/"+line+"/maintenance", "{}")
			}
			y.ask(ctx, "DELETE", "/v1/"+kind+"/"+line, "")
		}
	}
}

func (y *yard) ids(ctx context.Context, kind string) []string {
	var ids []string
	for _, part := range strings.Split(y.ask(ctx, "GET", "/v1/"+kind+"?fields=uuid&resource_class="+y.class, ""), `"uuid"`)[1:] {
		ids = append(ids, strings.Split(part, `"`)[1])
	}
	return ids
}

// ask sends one raw request and returns the answer's body.
func (y *yard) ask(ctx context.Context, method, path, body string) string {
	request, err := http.NewRequestWithContext(ctx, method, y.url+path, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	request.Close = true
	request.Header.Set("X-OpenStack-Ironic-API-Version", "1.78")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return string(text)
}

func (y *yard) machines() *conductor.BareMetal {
	return &conductor.BareMetal{
		Ironic: y.client, Image: ironic.Image{Href: "http://127.0.0.1:9/host.img"}, LibvirtURI: simhost.Scheme + "://" + y.dir + "/{address}",
		ConfigDrive: func(_ context.Context, h *model.Host, _ *conductor.Machine) (ironic.ConfigDrive, error) {
			return ironic.ConfigDrive{UserData: "#cloud-config\nhostname: " + h.Name + "\n"}, nil
		},
	}
}

func (y *yard) hostPool() *conductor.HostPool {
	return conductor.NewHostPool(y.store, y.machines(), simulated{}, slog.New(slog.NewTextHandler(y.Output(), nil)), y.options)
}

// machine enrolls one of 8 CPUs, 16 GiB memory and 100 GiB disk, and returns
// its uuid. Its libvirt answers once it is deployed.
func (y *yard) machine(name string, change ...func(*ironic.EnrollRequest)) string {
	y.Helper()
	name += "-" + y.class
	request := ironic.EnrollRequest{
		Name: name, ResourceClass: y.class, CPUs: 8, MemoryMiB: 16384, DiskGiB: 100, Extra: map[string]any{ironic.ExtraAddress: name},
	}
	for _, f := range change {
		f(&request)
	}
	y.must(os.Mkdir(filepath.Join(y.dir, name), 0o700))
	var id string
	y.eventually("machine is available", func() bool {
		var result ironic.Result
		var err error
		id, result, err = y.client.Enroll(y.Context(), request)
		return err == nil && result.Done
	})
	return id
}

func (y *yard) eventually(what string, ok func() bool) {
	y.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			y.Fatalf("not within a minute: %s\nhosts:\n%s", what, strings.Join(y.hosts(), "\n"))
		}
	}
}

// hosts tells state and attempts of all hosts, sorted.
func (y *yard) hosts() []string {
	y.Helper()
	hosts, err := y.store.Hosts(y.Context())
	y.must(err)
	lines := []string{}
	for _, h := range hosts {
		line := string(h.State)
		if h.Attempts > 0 {
			line += fmt.Sprintf(" after %d", h.Attempts)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// keepUntil lets the pools look after themselves until the hosts are these.
func (y *yard) keepUntil(want []string, pools ...*conductor.HostPool) {
	y.Helper()
	y.eventually("hosts are "+strings.Join(want, ", "), func() bool {
		for _, p := range pools {
			y.must(p.KeepOnce(y.Context()))
		}
		return slices.Equal(y.hosts(), want)
	})
}

// only is the one host there is.
func (y *yard) only() model.Host {
	y.Helper()
	hosts, err := y.store.Hosts(y.Context())
	y.must(err)
	if len(hosts) != 1 {
		y.Fatalf("hosts: %v, want one", y.hosts())
	}
	return hosts[0]
}

func (y *yard) avoided() []string {
	y.Helper()
	machines, err := y.store.AvoidedMachines(y.Context(), y.now())
	y.must(err)
	ids := []string{}
	for _, m := range machines {
		ids = append(ids, m.IronicNodeID)
	}
	return ids
}

// breakDeploy makes a reserved machine fail to deploy. Real Ironic refuses to
// deploy one that has lost the trait it was reserved for.
func (y *yard) breakDeploy(machine string) {
	y.Helper()
	if y.typed != nil {
		y.typed.Change(machine, func(n *nodes.Node) { n.ProvisionState, n.LastError = "deploy failed", "no DHCP answer" })
		return
	}
	if answer := y.ask(y.Context(), "DELETE", "/v1/nodes/"+machine+"/traits", ""); answer != "" {
		y.Fatalf("removing the traits: %s", answer)
	}
}

func TestSpareHostsAreKeptReady(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, y *yard) {
		for i := range 3 {
			y.machine(fmt.Sprint("bm", i))
		}
		y.options.MinSpare = 2
		// Several conductors see the same need; the hosts are deployed once.
		pools := []*conductor.HostPool{y.hostPool(), y.hostPool(), y.hostPool()}
		var all sync.WaitGroup
		for _, p := range pools {
			all.Go(func() {
				if err := p.KeepOnce(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		both := []string{"ready", "ready"}
		y.keepUntil(both, pools...)
		for range 3 {
			y.must(pools[0].KeepOnce(t.Context()))
		}
		if got := y.hosts(); !slices.Equal(got, both) {
			t.Errorf("hosts are %v, want %v", got, both)
		}
		hosts, err := y.store.Hosts(t.Context())
		y.must(err)
		got := hosts[0]
		if got.TotalVCPUs != 32 || got.TotalMemoryMiB != 16384 || got.TotalDiskGiB != 100 || got.ResourceClass != y.class || got.EmptySince == nil {
			t.Errorf("host is %+v", got)
		}
		// Nobody needs them any more: they go, and the machines are free again.
		y.options.MinSpare = 0
		y.now = func() time.Time { return time.Now().Add(time.Hour) }
		y.keepUntil([]string{}, y.hostPool())
		if left := y.ids(t.Context(), "allocations"); len(left) != 0 {
			t.Errorf("allocations left: %v", left)
		}
	})
}

func TestSpareHostsAreBounded(t *testing.T) {
	y := typedYard(t, ironictest.Options{Record: true})
	y.options.MinSpare, y.options.MaxHosts = 3, 2
	for i := range 2 {
		y.machine(fmt.Sprint("bm", i))
	}
	pool := y.hostPool()
	y.keepUntil([]string{"ready", "ready"}, pool)

	// No machine is free: that is tried once, then not again for some time.
	y.options.MaxHosts = 0
	pool = y.hostPool()
	y.typed.Forget()
	for range 5 {
		y.must(pool.KeepOnce(t.Context()))
	}
	tried := 0
	for _, r := range y.typed.Requests() {
		if r.Method == http.MethodPost {
			tried++
		}
	}
	if tried != 1 {
		t.Errorf("asked Ironic %d times for a machine, want once", tried)
	}
	y.machine("bm2")
	y.now = func() time.Time { return time.Now().Add(6 * time.Minute) }
	y.keepUntil([]string{"ready", "ready", "ready"}, pool)
}

func TestFailedDeploymentGoesOnOnAnotherMachine(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, y *yard) {
		traits := []string{"CUSTOM_KEELSON"}
		for _, name := range []string{"bm1", "bm2"} {
			y.machine(name, func(r *ironic.EnrollRequest) { r.Traits = traits })
		}
		y.options.MinSpare, y.options.TakeOutFailed, y.options.Traits = 1, true, traits
		pool := y.hostPool()
		y.keepUntil([]string{"deploying"}, pool)
		bad := *y.only().IronicNodeID
		y.breakDeploy(bad)
		y.eventually("another host is ready and the bad machine given back", func() bool {
			y.must(pool.KeepOnce(t.Context()))
			return slices.Equal(y.hosts(), []string{"ready after 1"})
		})
		if got := *y.only().IronicNodeID; got == bad {
			t.Errorf("the bad machine was deployed again")
		}
		if diff := cmp.Diff([]string{bad}, y.avoided()); diff != "" {
			t.Errorf("avoided machines (-want +got):\n%s", diff)
		}
		n, err := y.client.Node(t.Context(), bad)
		y.must(err)
		if n.State != "available" || n.InstanceID != "" || !n.Maintenance || !strings.Contains(n.Problem, "Keelson: ") {
			t.Errorf("bad machine: %+v; want it available, free, and in maintenance with the reason", n)
		}
	})
}

// A machine may also turn out to be unfit after it was reserved.
func TestMachineThatIsTakenOutOfUse(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, y *yard) {
		y.machine("bm1")
		y.machine("bm2")
		y.options.MinSpare = 1
		pool := y.hostPool()
		y.keepUntil([]string{"deploying"}, pool)
		bad := *y.only().IronicNodeID
		y.ask(t.Context(), "PUT", "/v1/nodes/"+bad+"/maintenance", `{"reason":"new disk"}`)
		y.keepUntil([]string{"ready after 1"}, pool)
		machines, err := y.store.AvoidedMachines(t.Context(), y.now())
		y.must(err)
		if len(machines) != 1 || machines[0].IronicNodeID != bad || machines[0].Host != "host-1" || machines[0].Name == "" ||
			!strings.Contains(machines[0].Reason, "new disk") {
			t.Errorf("avoided machines: %+v", machines)
		}
	})
}

func TestAfterTheLastAttemptNoMoreAreMade(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	for i := range 4 {
		y.machine(fmt.Sprint("bm", i))
		if i < 3 {
			y.typed.FailNext(fmt.Sprintf("bm%d-%s", i, y.class), "deploy", "no DHCP answer")
		}
	}
	y.options.MinSpare, y.options.DeployAttempts = 1, 3
	pool := y.hostPool()
	y.keepUntil([]string{"error after 3"}, pool)
	reason := *y.only().Reason
	if !strings.HasPrefix(reason, "of 3 bare-metal machines in a row none could be deployed, the last one because: bare-metal host bm") || strings.Contains(reason, "DHCP") {
		t.Errorf("reason is %q; want one that users may read", reason)
	}
	if n := len(y.avoided()); n != 3 {
		t.Errorf("%d machines are avoided, want 3", n)
	}
	for range 3 {
		y.must(pool.KeepOnce(t.Context()))
	}
	if got := y.hosts(); !slices.Equal(got, []string{"error after 3"}) {
		t.Errorf("hosts soon after: %v", got)
	}
	// After a while the next machine has its turn; the bad ones have theirs when
	// they were left alone long enough.
	y.now = func() time.Time { return time.Now().Add(6 * time.Minute) }
	y.keepUntil([]string{"ready"}, pool)
	y.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if left := y.avoided(); len(left) != 0 {
		t.Errorf("avoided after two hours: %v", left)
	}
}

// What the pool does in each state that Ironic may show, one by one. A second
// host takes the place of the one whose machine is given up.
func TestEveryIronicStateOfAHost(t *testing.T) {
	const machine, allocation = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	type edit = func(*nodes.Node)
	maintenance := func(n *nodes.Node) { n.Maintenance, n.MaintenanceReason = true, "new disk" }
	broken := func(n *nodes.Node) { n.Maintenance, n.Fault, n.LastError = true, "power failure", "BMC is silent" }
	locked := func(n *nodes.Node) { n.Reservation = "conductor" }
	off := func(n *nodes.Node) { n.PowerState = "power off" }
	protected := func(n *nodes.Node) { n.Protected, n.ProtectedReason = true, "keep" }
	nobodys := func(n *nodes.Node) { n.InstanceUUID = "" }
	anothers := func(n *nodes.Node) { n.InstanceUUID = machine }
	const gone = "gone"
	givenUp := []string{"enrolled after 1", "releasing"}
	stays := func(state model.HostState) []string { return []string{string(state)} }

	for _, c := range []struct {
		host  model.HostState
		state string // Ironic's provision state; gone: the machine is not there
		edit  edit
		want  []string
	}{
		{model.HostDeploying, "available", nil, stays("deploying")},
		{model.HostDeploying, "available", locked, stays("deploying")},
		{model.HostDeploying, "available", maintenance, givenUp},
		{model.HostDeploying, "available", nobodys, givenUp},
		{model.HostDeploying, "available", anothers, givenUp},
		{model.HostDeploying, "deploying", nil, stays("deploying")},
		{model.HostDeploying, "deploying", broken, stays("deploying")},
		{model.HostDeploying, "wait call-back", nil, stays("deploying")},
		{model.HostDeploying, "deploy failed", nil, givenUp},
		{model.HostDeploying, "deploy hold", nil, stays("deploying")},
		{model.HostDeploying, "error", nil, givenUp},
		{model.HostDeploying, "active", nil, stays("preparing")},
		{model.HostDeploying, "active", maintenance, stays("preparing")},
		{model.HostDeploying, "active", off, stays("deploying")},
		{model.HostDeploying, "active", func(n *nodes.Node) { off(n); locked(n) }, stays("deploying")},
		{model.HostDeploying, "active", func(n *nodes.Node) { off(n); broken(n) }, stays("deploying")},
		{model.HostDeploying, "active", func(n *nodes.Node) { n.Extra = nil }, givenUp}, // where is it?
		{model.HostDeploying, "enroll", nil, givenUp},
		{model.HostDeploying, "verifying", nil, stays("deploying")},
		{model.HostDeploying, "manageable", nil, givenUp},
		{model.HostDeploying, "inspecting", nil, stays("deploying")},
		{model.HostDeploying, "inspect wait", nil, stays("deploying")},
		{model.HostDeploying, "inspect failed", nil, givenUp},
		{model.HostDeploying, "cleaning", nil, stays("deploying")},
		{model.HostDeploying, "clean wait", nil, stays("deploying")},
		{model.HostDeploying, "clean hold", nil, stays("deploying")},
		{model.HostDeploying, "clean failed", nil, givenUp},
		{model.HostDeploying, "deleting", nil, stays("deploying")},
		{model.HostDeploying, "adopting", nil, stays("deploying")},
		{model.HostDeploying, "adopt failed", nil, givenUp},
		{model.HostDeploying, "rebuild", nil, stays("deploying")},
		{model.HostDeploying, "rescue", nil, givenUp},
		{model.HostDeploying, "rescuing", nil, stays("deploying")},
		{model.HostDeploying, "rescue wait", nil, stays("deploying")},
		{model.HostDeploying, "rescue failed", nil, givenUp},
		{model.HostDeploying, "unrescuing", nil, stays("deploying")},
		{model.HostDeploying, "unrescue failed", nil, givenUp},
		{model.HostDeploying, "servicing", nil, stays("deploying")},
		{model.HostDeploying, "service wait", nil, stays("deploying")},
		{model.HostDeploying, "service hold", nil, stays("deploying")},
		{model.HostDeploying, "service failed", nil, givenUp},
		{model.HostDeploying, "one that nobody knows", nil, stays("deploying")},
		{model.HostDeploying, gone, nil, givenUp},

		{model.HostPreparing, "active", nil, stays("ready")},
		{model.HostPreparing, gone, nil, givenUp},

		{model.HostReleasing, "active", nil, stays("releasing")},
		{model.HostReleasing, "active", locked, stays("releasing")},
		{model.HostReleasing, "active", maintenance, stays("releasing")},
		{model.HostReleasing, "active", protected, stays("error")},
		{model.HostReleasing, "active", anothers, []string{}},
		{model.HostReleasing, "wait call-back", nil, stays("releasing")},
		{model.HostReleasing, "deploying", nil, stays("releasing")},
		{model.HostReleasing, "deploy failed", nil, stays("releasing")},
		{model.HostReleasing, "error", nil, stays("releasing")},
		{model.HostReleasing, "rescue", nil, stays("releasing")},
		{model.HostReleasing, "rescuing", nil, stays("releasing")},
		{model.HostReleasing, "deleting", nil, stays("releasing")},
		{model.HostReleasing, "cleaning", nobodys, stays("releasing")},
		{model.HostReleasing, "clean wait", nobodys, stays("releasing")},
		{model.HostReleasing, "clean hold", nobodys, stays("releasing")},
		{model.HostReleasing, "clean failed", nobodys, stays("error")},
		{model.HostReleasing, "available", nobodys, []string{}},
		{model.HostReleasing, "available", nil, []string{}}, // was never deployed
		{model.HostReleasing, "manageable", nobodys, []string{}},
		{model.HostReleasing, "one that nobody knows", nil, stays("releasing")},
		{model.HostReleasing, gone, nil, []string{}},

		{model.HostError, "clean failed", nobodys, stays("error")},
		{model.HostError, "active", protected, stays("error")},
		{model.HostError, "active", nil, stays("error")}, // never wiped without being told to
		{model.HostError, "active", anothers, []string{}},
		{model.HostError, "available", nobodys, []string{}}, // the operator has repaired it
		{model.HostError, gone, nil, []string{}},

		// The pool asks nothing of Ironic for hosts in these.
		{model.HostReady, "active", broken, stays("ready")},
		{model.HostReady, "error", nil, stays("ready")},
	} {
		name := fmt.Sprintf("%s, %s", c.host, c.state)
		t.Run(name, func(t *testing.T) {
			y := typedYard(t, ironictest.Options{Timing: ironictest.Timing{Deploy: time.Hour, Undeploy: time.Hour, Clean: time.Hour, Power: time.Hour}})
			if c.state != gone {
				node := nodes.Node{
					UUID: machine, Name: "bm1", ResourceClass: y.class, ProvisionState: c.state, ProvisionUpdatedAt: time.Now(), PowerState: "power on", InstanceUUID: allocation,
					InstanceInfo: map[string]any{"image_source": "http://127.0.0.1:9/host.img"}, Extra: map[string]any{ironic.ExtraAddress: "bm1"},
				}
				if c.edit != nil {
					c.edit(&node)
				}
				y.typed.Node(node)
			}
			ironicNode, held, uri := machine, allocation, simhost.Scheme+"://"+y.dir
			since := time.Now()
			y.must(y.store.AddHost(t.Context(), &model.Host{
				UUID: allocation, Name: "host-1", State: c.host, IronicNodeID: &ironicNode, AllocationID: &held, LibvirtURI: &uri, ResourceClass: y.class, EmptySince: &since,
			}))
			err := y.hostPool().KeepOnce(t.Context())
			if permanent := fault.IsPermanent(err); permanent {
				t.Errorf("a permanent error is left to be met again and again: %v", err)
			}
			if diff := cmp.Diff(c.want, y.hosts()); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			if avoids := len(y.avoided()) > 0; avoids != (len(c.want) == 2) {
				t.Errorf("machine is avoided: %v", avoids)
			}
		})
	}
}

// While Ironic is away or busy, hosts stay as they are, whatever they wait for.
func TestFaultsOfIronicChangeNothing(t *testing.T) {
	for name, f := range map[string]ironictest.Fault{
		"locked":      {Status: http.StatusConflict, Message: "Node is locked by host c1"},
		"error":       {Status: http.StatusInternalServerError},
		"unavailable": {Status: http.StatusServiceUnavailable},
		"refused":     {Status: http.StatusUnauthorized},
		"silent":      {Hang: true},
		"cut":         {Cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			y := typedYard(t, ironictest.Options{})
			y.machine("bm1")
			y.machine("bm2")
			y.options.MinSpare = 1
			pool := y.hostPool()
			through := func(want ...string) {
				t.Helper()
				before := y.hosts()
				heal := y.typed.Inject(f)
				if err := pool.KeepOnce(t.Context()); err == nil || fault.IsPermanent(err) {
					t.Errorf("%v: with the fault: %v, want a temporary error", before, err)
				}
				heal()
				if diff := cmp.Diff(before, y.hosts()); diff != "" {
					t.Errorf("the fault changed hosts:\n%s", diff)
				}
				y.keepUntil(want, pool)
			}
			y.must(pool.KeepOnce(t.Context()))
			through("deploying")
			through("preparing")
			through("ready")
			y.options.MinSpare = 0
			y.now = func() time.Time { return time.Now().Add(time.Hour) }
			pool = y.hostPool()
			y.keepUntil([]string{"releasing"}, pool)
			through()
			if n := len(y.avoided()); n != 0 {
				t.Errorf("%d machines are avoided for the fault of the service", n)
			}
		})
	}
}

func TestEnrolledHostWaitsForALockedMachine(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	id := y.machine("bm1")
	y.typed.Change(id, func(n *nodes.Node) { n.Reservation = "conductor" })
	y.options.MinSpare = 1
	pool := y.hostPool()
	y.must(pool.KeepOnce(t.Context()))
	for range 4 {
		_ = pool.KeepOnce(t.Context()) // could not be reserved just now
	}
	if got := y.hosts(); !slices.Equal(got, []string{"enrolled"}) {
		t.Errorf("hosts are %v", got)
	}
	y.typed.Change(id, func(n *nodes.Node) { n.Reservation = "" })
	y.eventually("host is ready", func() bool {
		_ = pool.KeepOnce(t.Context())
		return slices.Equal(y.hosts(), []string{"ready"})
	})
}

func TestDeployedHostWhoseLibvirtDoesNotAnswer(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	bad := y.machine("bm1")
	y.machine("bm2")
	y.must(os.Remove(filepath.Join(y.dir, "bm1-"+y.class)))
	y.options.MinSpare = 1
	pool := y.hostPool()
	y.keepUntil([]string{"preparing"}, pool)
	y.must(pool.KeepOnce(t.Context()))
	if got := y.hosts(); !slices.Equal(got, []string{"preparing"}) {
		t.Errorf("given up at once: %v", got)
	}
	y.now = func() time.Time { return time.Now().Add(11 * time.Minute) }
	y.keepUntil([]string{"ready after 1"}, pool)
	if diff := cmp.Diff([]string{bad}, y.avoided()); diff != "" {
		t.Error(diff)
	}
}

// unfit is hosts on which nodes fail to start, by name.
type unfit struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (u *unfit) Host(name, uri string) conductor.NodeHost {
	h := simhost.Open(uri)
	h.Fault = func(_ context.Context, call, _ string) error {
		u.mu.Lock()
		defer u.mu.Unlock()
		if call == "ensure" && u.hosts[name] {
			return fault.Temporary(nil, "no loop device is left")
		}
		return nil
	}
	return h
}

func (u *unfit) heal() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.hosts)
}

func TestHostsOnWhichNodesFailAreAvoided(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	hosts := &unfit{hosts: map[string]bool{"host-1": true}}
	w.hosts = hosts
	w.conduct()
	_, first := w.create("first", 1, 0)
	failures := func() int {
		all, err := w.store.Hosts(t.Context())
		w.must(err)
		return all[0].Failures
	}
	w.eventually("starts were counted", func() bool { return failures() >= model.FailingAfter })
	dir := filepath.Join(t.TempDir(), "small")
	w.must(os.Mkdir(dir, 0o700))
	w.addHost("host-2", dir, 2048)
	_, second := w.create("second", 1, 1)
	if op := w.ended(second.UUID); op.State != model.OpDone {
		t.Fatalf("second cluster ended %s: %v", op.State, op.Reason)
	}
	if nodes, _ := simhost.Open(simhost.Scheme + "://" + dir).Nodes(); len(nodes) != 2 {
		t.Errorf("%d nodes on the host that works, want both, though it has less room and they share it", len(nodes))
	}
	hosts.heal()
	if op := w.ended(first.UUID); op.State != model.OpDone {
		t.Errorf("first cluster ended %s: %v", op.State, op.Reason)
	}
	if n := failures(); n != 0 {
		t.Errorf("%d failures are left after a start that went well", n)
	}
}

// world is one whose hosts come from the yard.
func (y *yard) world() *world {
	y.Helper()
	w := newHostlessWorld(y.T, y.store)
	w.machines, w.pool = y.machines(), y.options
	w.pool.Keep, w.pool.ProgressPollPeriod, w.pool.Now = 20*time.Millisecond, 5*time.Millisecond, nil
	return w
}

func (w *world) reason(cluster string) string {
	w.Helper()
	c := w.cluster(cluster)
	if c.StatusReason == nil {
		return ""
	}
	return *c.StatusReason
}

func TestClusterGetsHostsFromIronic(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, y *yard) {
		y.machine("bm1")
		y.machine("bm2")
		want := []string{"ready"}
		w := y.world()
		if y.typed != nil {
			y.typed.FailNext("bm1-"+y.class, "deploy", "no DHCP answer")
			want = []string{"ready after 1"}
			// Two at once could have Ironic try again in the moment of the failure.
			w.pool.Keep = time.Hour
		}
		w.conduct()
		_, create := w.create("demo", 1, 3)
		if op := w.ended(create.UUID); op.State != model.OpDone {
			t.Fatalf("create ended %s: %v", op.State, w.reason(op.ClusterID))
		}
		y.keepUntil(want, y.hostPool())
	})
}

// As many hosts as the nodes need are deployed side by side, and no more.
func TestHostsAreDeployedSideBySide(t *testing.T) {
	y := typedYard(t, ironictest.Options{Timing: ironictest.Timing{Deploy: 1500 * time.Millisecond}})
	for i := range 5 { // two nodes fit on each
		y.machine(fmt.Sprint("bm", i), func(r *ironic.EnrollRequest) { r.MemoryMiB = 2048 })
	}
	w := y.world()
	w.conduct()
	_, create := w.create("demo", 1, 5)
	most := 0
	w.eventually("the cluster is made", func() bool {
		_, coming, err := w.store.CountHosts(t.Context())
		w.must(err)
		most = max(most, coming[model.HostDeploying])
		op, err := w.store.Operation(t.Context(), create.UUID)
		w.must(err)
		return op.State.Terminal()
	})
	if op := w.ended(create.UUID); op.State != model.OpDone {
		t.Fatalf("create ended %s: %v", op.State, w.reason(op.ClusterID))
	}
	if most < 2 {
		t.Errorf("hosts were deployed one after the other")
	}
	if all, _, err := w.store.CountHosts(t.Context()); err != nil || all[model.HostReady] != 3 {
		t.Errorf("hosts: %v, %v, want 3 that are ready", all, err)
	}
}

func TestNodeThatNoMachineIsLargeEnoughFor(t *testing.T) {
	y := typedYard(t, ironictest.Options{Record: true})
	y.machine("bm1", func(r *ironic.EnrollRequest) { r.MemoryMiB = 1024 })
	w := y.world()
	w.pool.ReservedMemoryMiB = 512
	w.conduct()
	cluster, create := w.create("demo", 1, 0)
	if op := w.ended(create.UUID); op.State != model.OpFailed {
		t.Errorf("create ended %s, want failed", op.State)
	}
	if got := w.reason(cluster.UUID); !strings.Contains(got, "with at least 1 CPUs, 1536 MiB memory and 10 GiB disk is free") {
		t.Errorf("reason is %q", got)
	}
	for _, r := range y.typed.Requests() {
		if r.Method == http.MethodPost && strings.HasPrefix(r.Path, "/v1/allocations") {
			t.Errorf("a machine that is too small was asked for: %s", r.Body)
		}
	}
}

func TestUsersReadWhyNoMachineCouldBeDeployed(t *testing.T) {
	y := typedYard(t, ironictest.Options{Timing: ironictest.Timing{Deploy: 100 * time.Millisecond}})
	for i := range 3 {
		y.machine(fmt.Sprint("bm", i))
		y.typed.FailNext(fmt.Sprintf("bm%d-%s", i, y.class), "deploy", "secret of the machine room")
	}
	y.options.DeployAttempts = 2
	w := y.world()
	w.pool.Keep = time.Hour // as above: one at a time
	w.conduct()
	for _, name := range []string{"one", "two"} { // the second is told at once
		cluster, create := w.create(name, 1, 2)
		if op := w.ended(create.UUID); op.State != model.OpFailed {
			t.Errorf("create ended %s, want failed", op.State)
		}
		got := w.reason(cluster.UUID)
		if !strings.Contains(got, "of 2 bare-metal machines in a row none could be deployed") || strings.Contains(got, "secret") {
			t.Errorf("reason is %q", got)
		}
	}
	if n := len(y.avoided()); n != 2 {
		t.Errorf("%d machines were tried, want 2", n)
	}
}

func TestLabelsChooseTheHosts(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	gpu := y.class + "-gpu"
	y.machine("plain")
	y.machine("traitless", func(r *ironic.EnrollRequest) { r.ResourceClass = gpu })
	y.machine("fit", func(r *ironic.EnrollRequest) {
		r.ResourceClass, r.Traits = gpu, []string{"CUSTOM_GPU", "CUSTOM_NVME"}
	})
	w := y.world()
	w.conduct()
	on := func(labels model.Labels) []string {
		t.Helper()
		w.template.UUID, w.template.ID, w.template.Labels = uuid.NewString(), 0, labels
		w.must(w.store.CreateTemplate(t.Context(), &w.template))
		cluster, create := w.create("demo", 1, 1, func(c *model.Cluster) { c.Labels = labels })
		if op := w.ended(create.UUID); op.State != model.OpDone {
			return []string{w.reason(cluster.UUID)}
		}
		nodes, err := w.store.Nodes(t.Context(), cluster.UUID)
		w.must(err)
		var machines []string
		for _, n := range nodes[cluster.UUID] {
			h, err := w.store.Host(t.Context(), *n.HostID)
			w.must(err)
			machines = append(machines, strings.TrimSuffix(*h.Address, "-"+y.class))
		}
		slices.Sort(machines)
		return slices.Compact(machines)
	}
	for _, c := range []struct {
		labels model.Labels
		want   string
	}{
		{model.Labels{"host_resource_class": gpu, "host_traits": "CUSTOM_NVME, CUSTOM_GPU"}, "fit"},
		{model.Labels{"host_resource_class": gpu, "host_traits": "CUSTOM_GPU"}, "fit"},
		{nil, "plain"}, // though the other host has room
		{model.Labels{"host_resource_class": gpu}, "fit"},
		{model.Labels{"host_resource_class": gpu, "host_traits": "CUSTOM_FPGA"}, "no capacity: no host of resource class " + gpu + " with traits CUSTOM_FPGA"},
		{model.Labels{"host_resource_class": "nope"}, `there is no bare-metal host of resource class "nope"`},
	} {
		got := on(c.labels)
		if len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%v: on %q, want %q", c.labels, got, c.want)
		}
	}
}

// A host that is about to be given back stays when it is wanted after all.
func TestDrainingHostStaysWhenItIsWanted(t *testing.T) {
	y := typedYard(t, ironictest.Options{Record: true})
	y.machine("bm1")
	y.options.MinSpare = 1
	w := y.world()
	w.pool.Keep = time.Hour // one round, now
	w.conduct()
	w.eventually("that round is over", func() bool { return len(y.hosts()) == 1 })
	y.keepUntil([]string{"ready"}, y.hostPool())
	y.options.MinSpare = 0
	y.now = func() time.Time { return time.Now().Add(time.Hour) }
	y.keepUntil([]string{"draining"}, y.hostPool())
	y.typed.Forget()
	_, create := w.create("demo", 1, 0)
	if op := w.ended(create.UUID); op.State != model.OpDone {
		t.Fatalf("create ended %s: %s", op.State, w.reason(op.ClusterID))
	}
	if asked := y.typed.Requests(); len(asked) > 0 {
		t.Errorf("Ironic was asked: %v", asked)
	}
}

// What the operator drains stays as it is until the operator says more.
func TestHostThatTheOperatorDrains(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	y.machine("bm1")
	y.options.MinSpare, y.options.MaxHosts = 1, 1
	pool := y.hostPool()
	y.keepUntil([]string{"ready"}, pool)
	y.options.MinSpare = 0
	y.now = func() time.Time { return time.Now().Add(time.Hour) } // empty for long
	pool = y.hostPool()
	y.must(y.store.DrainHost(t.Context(), y.only().UUID, "new fan"))
	for range 3 {
		y.must(pool.KeepOnce(t.Context()))
	}
	if h := y.only(); h.State != model.HostDraining || *h.Reason != "new fan" {
		t.Errorf("%+v", h)
	}
	w := y.world()
	w.pool.Keep = time.Hour
	w.conduct()
	_, create := w.create("demo", 1, 0)
	if op := w.ended(create.UUID); op.State != model.OpFailed || !strings.Contains(w.reason(op.ClusterID), "no capacity") {
		t.Errorf("a create ended %s: %s", op.State, w.reason(op.ClusterID))
	}
	y.must(y.store.UndrainHost(t.Context(), y.only().UUID))
	_, create = w.create("next", 1, 0)
	if op := w.ended(create.UUID); op.State != model.OpDone {
		t.Errorf("once it is back, a create ended %s: %s", op.State, w.reason(op.ClusterID))
	}
	if err := y.store.ReleaseHost(t.Context(), y.only().UUID); !errors.Is(err, store.ErrInUse) {
		t.Errorf("released with a node: %v", err)
	}
	remove, err := w.store.DeleteCluster(t.Context(), create.ClusterID, store.NewOperation{})
	y.must(err)
	w.ended(remove.UUID)
	y.must(y.store.ReleaseHost(t.Context(), y.only().UUID))
	y.keepUntil([]string{}, y.hostPool())
}

func TestDeploymentThatDoesNotEnd(t *testing.T) {
	y := typedYard(t, ironictest.Options{})
	bad := y.machine("bm1")
	y.machine("bm2")
	y.options.MinSpare = 1
	pool := y.hostPool()
	y.keepUntil([]string{"deploying"}, pool)
	y.typed.Change(bad, func(n *nodes.Node) { n.ProvisionState = "deploying" })
	y.must(pool.KeepOnce(t.Context()))
	if got := y.hosts(); !slices.Equal(got, []string{"deploying"}) {
		t.Errorf("given up at once: %v", got)
	}
	y.now = func() time.Time { return time.Now().Add(61 * time.Minute) }
	y.must(pool.KeepOnce(t.Context()))
	y.now = time.Now
	y.keepUntil([]string{"ready after 1", "releasing"}, pool)
	if diff := cmp.Diff([]string{bad}, y.avoided()); diff != "" {
		t.Error(diff)
	}
}
