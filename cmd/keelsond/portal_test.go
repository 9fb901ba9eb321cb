// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/zip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/api/portal"
	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/logging"
	"github.com/keelson/keelson/internal/testenv"
)

// house is one keelsond with simulated hosts, whose portal people visit.
type house struct {
	*testing.T
	url string
	log *buffer
}

// newHouse starts it. The settings say where people are known.
func newHouse(t *testing.T, settings string) *house {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "host-1"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "host-2"), 0o700))
	h := &house{T: t, log: &buffer{}}
	at := port(t)
	h.url = fmt.Sprintf("http://127.0.0.1:%d", at)
	file := filepath.Join(dir, "keelson.conf")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `[DEFAULT]
state_path = %[1]s
transport_url = memory://
[api]
port = %[2]d
%[3]s
[ironic]
builtin = true
builtin_port = 0
builtin_node = rack-1:32:65536:500:sim://%[1]s/host-1
builtin_node = rack-2:32:65536:500:sim://%[1]s/host-2
image = file:///dev/null
poll_interval = 0.1
[drivers]
enabled = fake
[network]
network = public:10.77.0.0/24:10.77.0.1:10.77.0.10-10.77.0.250
default_network = public
[conductor]
poll_interval = 0.05
`, dir, at, settings), 0o600))
	cfg, warnings, err := config.Load(config.Sources{Files: []string{file}})
	must(t, err)
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	p := &process{cfg: cfg, log: logging.New(h.log, "json", slog.LevelInfo)}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		p.close()
		if t.Failed() {
			all := strings.Split(h.log.String(), "\n")
			t.Log(strings.Join(all[max(0, len(all)-20):], "\n"))
		}
	})
	must(t, p.start(ctx, group, roles{api: true, conductor: true, builtin: true}))
	return h
}

// builtIn lets the users admin and demo in.
func builtIn(t *testing.T) string {
	return fmt.Sprintf("[identity]\nenabled = true\nport = %d\nadmin_password = wheelhouse\ndemo_password = foredeck", port(t))
}

// browser is a headless Chromium that fails the test for whatever it
// complains of.
type browser struct {
	*house
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	received   map[string]float64 // bytes of each response, by request
}

func (h *house) browser() *browser {
	h.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			h.Fatal("there is no chromium: test/lab/packages installs it")
		}
		h.Skip("there is no chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program), chromedp.UserDataDir(h.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en"),
	)
	allocated, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocated)
	b := &browser{house: h, ctx: ctx, received: map[string]float64{}}
	h.Cleanup(func() {
		// A clean end: the browser removes what it made.
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			h.Log(err)
		}
		cancel()
		stop()
	})
	chromedp.ListenTarget(ctx, b.hear)
	b.do(network.Enable(), log.Enable(), runtime.Enable())
	return b
}

// hear notes what the browser complains of, and what came over the wire.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.complaints = append(b.complaints, fmt.Sprintf("console: %s", e.Args[0].Value))
		}
	case *log.EventEntryAdded: // violations of the content policy are among them
		// A form that is refused is answered 4xx, which the browser notes.
		if e.Entry.Level == log.LevelError && !strings.Contains(e.Entry.Text, "status of 4") {
			b.complaints = append(b.complaints, e.Entry.Text)
		}
	case *network.EventLoadingFinished:
		b.received[string(e.RequestID)] = e.EncodedDataLength
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.url+"/portal") {
			b.complaints = append(b.complaints, "the page asked "+e.Request.URL)
		}
	}
}

// do acts in the browser, with a deadline.
func (b *browser) do(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	// The first use starts the browser, which lives as long as its context.
	if chromedp.FromContext(b.ctx).Target == nil {
		must(b.T, chromedp.Run(b.ctx))
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.saved("failed")
		b.Fatalf("%v; the browser is at %q", err, b.where())
	}
}

func (b *browser) where() (at string) {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	_ = chromedp.Run(ctx, chromedp.Location(&at))
	return at
}

// open loads a page and looks at it in every way a test can.
func (b *browser) open(path string) {
	b.Helper()
	b.mu.Lock()
	clear(b.received)
	b.mu.Unlock()
	b.do(network.ClearBrowserCache(), chromedp.Navigate(b.url+"/portal"+path))
	b.light(path)
	b.checked(path)
}

// light fails when a page is heavy or late.
func (b *browser) light(path string) {
	b.Helper()
	var paint float64
	b.do(chromedp.Evaluate(`new Promise((done) => new PerformanceObserver((list, observer) => {
		for (const entry of list.getEntriesByName("first-contentful-paint")) { observer.disconnect(); done(entry.startTime); }
	}).observe({type: "paint", buffered: true}))`, &paint, awaited))
	b.mu.Lock()
	total := 0.0
	for _, bytes := range b.received {
		total += bytes
	}
	b.mu.Unlock()
	b.Logf("%-12s %6.0f bytes, first paint after %.0f ms", path, total, paint)
	if total > 100_000 || total == 0 {
		b.Errorf("%s takes %.0f bytes", path, total)
	}
	// 200 ms is what a machine with nothing else to do must reach; CI has.
	if paint > 1500 {
		b.Errorf("%s is painted after %.0f ms", path, paint)
	}
}

func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

//go:embed testdata/accessible.js
var accessible string

// looks are what each page is looked at with. The first two show each width
// and each scheme once; the others are for pictures.
var looks = []struct {
	name   string
	width  int64
	scheme string
}{{"1280-light", 1280, "light"}, {"360-dark", 360, "dark"}, {"1280-dark", 1280, "dark"}, {"360-light", 360, "light"}}

// checked applies the rules of accessibility in both sizes and schemes.
func (b *browser) checked(path string) {
	b.Helper()
	b.becomes(`document.readyState == "complete"`) // the styles are there
	all := looks[:2]
	if os.Getenv(pictures) != "" {
		all = looks
	}
	for _, look := range all {
		var wrong []string
		b.do(
			emulation.SetDeviceMetricsOverride(look.width, 800, 1, false),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: look.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}),
			chromedp.Evaluate(accessible, &wrong),
		)
		for _, rule := range wrong {
			b.Errorf("%s (%s): %s", path, look.name, rule)
		}
		b.saved(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]+`).ReplaceAllString(path, "c"), "-") + "." + look.name)
	}
	b.do(emulation.SetDeviceMetricsOverride(1280, 800, 1, false))
	b.quiet()
}

// pictures names the directory for pictures of all pages, for those who want
// to look.
const pictures = "KEELSON_TEST_PICTURES"

// saved keeps a picture of the page.
func (b *browser) saved(name string) {
	dir := os.Getenv(pictures)
	if dir == "" {
		return
	}
	var picture []byte
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.FullScreenshot(&picture, 100)) // 100: a PNG
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.Trim(name, "-")+".png"), picture, 0o600)
	}
	if err != nil {
		b.Log(err)
	}
}

// quiet fails when the browser has complained.
func (b *browser) quiet() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.Errorf("the browser complains: %s", c)
	}
	b.complaints = nil
}

// shows waits until the page has the text, also when that is the next page.
func (b *browser) shows(text string) {
	b.Helper()
	quoted, err := json.Marshal(text)
	must(b.T, err)
	b.becomes(`document.body && document.body.innerText.includes(` + string(quoted) + `)`)
}

// becomes waits until the expression is true. While a page goes and another
// comes, there is no answer.
func (b *browser) becomes(expression string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	for {
		var yes bool
		if err := chromedp.Run(ctx, chromedp.Evaluate(`!!(`+expression+`)`, &yes)); err == nil && yes {
			return
		}
		select {
		case <-time.After(30 * time.Millisecond):
		case <-ctx.Done():
			b.saved("failed")
			b.Fatalf("the page at %q does not show in time: %s", b.where(), expression)
		}
	}
}

// tabTo presses the tabulator until the element has the focus, as
// somebody without a mouse does.
func (b *browser) tabTo(selector string) {
	b.Helper()
	quoted, err := json.Marshal(selector)
	must(b.T, err)
	for range 60 {
		var there bool
		b.do(chromedp.KeyEvent("\t"), chromedp.Evaluate(`document.activeElement.matches(`+string(quoted)+`)`, &there))
		if there {
			return
		}
	}
	b.Fatalf("%s is not reached with the keyboard", selector)
}

func (b *browser) login(user, password string) {
	b.Helper()
	b.do(
		chromedp.Navigate(b.url+"/portal/"), chromedp.WaitVisible("#user"),
		chromedp.SendKeys("#user", user), chromedp.SendKeys("#password", password+"\r"),
	)
	b.shows("Log out")
}

// Somebody's first day: log in, see nothing, make a cluster, watch it come up,
// use it, let it go. Everything they see keeps the rules.
func TestThePortalInABrowser(t *testing.T) {
	h := newHouse(t, builtIn(t))
	b := h.browser()

	b.open("/login?with=credential")
	b.open("/login")
	b.do(chromedp.SendKeys("#user", "demo"), chromedp.SendKeys("#password", "wrong\r"))
	b.shows("Domain, user name or password is wrong.")
	b.checked("/login-wrong")
	b.login("demo", "foredeck")
	b.shows("No clusters in demo yet")
	b.open("/clusters")
	b.open("/clusters/new")
	h.template()
	b.open("/templates")
	b.open("/quotas")
	b.open("/projects")

	// With the keyboard alone: one fault first, then the cluster.
	b.open("/clusters/new")
	b.tabTo("#name")
	b.do(chromedp.KeyEvent("9 lives"))
	b.tabTo("button[type=submit].button")
	b.do(chromedp.KeyEvent("\r"))
	b.becomes(`document.querySelector("#name-wrong")`)
	b.checked("/clusters/new-wrong")
	b.do(chromedp.SetValue("#name", "harbour"), chromedp.SetValue("#node_count", "2"), chromedp.SetValue("#labels", "team=crane"))
	b.do(chromedp.Click("form.wizard button[type=submit]"))
	b.shows("The cluster is being made.")
	b.shows("Active") // without anybody loading the page again
	b.shows("3 of 3 ready")
	cluster := strings.TrimPrefix(strings.SplitN(b.where(), "?", 2)[0], h.url+"/portal")
	b.open(cluster)
	b.open("/clusters")
	for _, page := range []string{"/access", "/grow", "/rebuild", "/upgrade", "/autoscale", "/delete"} {
		b.open(cluster + page)
	}

	v := h.visitor()
	v.login("demo", "foredeck", "Default")
	status, archive := v.submit(cluster+"/access", cluster+"/bundle", url.Values{"days": {"1"}})
	if zipped, err := zip.NewReader(strings.NewReader(archive), int64(len(archive))); status != http.StatusOK || err != nil || len(zipped.File) < 8 {
		t.Errorf("the bundle: %d, %v", status, err)
	} else if _, err := zipped.Open("harbour/docker.env"); err != nil {
		t.Error(err) // what the page says to type
	}

	// Grow.
	b.do(chromedp.Navigate(h.url+"/portal"+cluster+"/grow"), chromedp.SetValue("#node_count", "1"), chromedp.Click("form.card button[type=submit]"))
	b.shows("Tick the box to say that you want that.")
	b.do(chromedp.SetValue("#node_count", "3"), chromedp.Click("form.card button[type=submit]"))
	b.shows("The new size is on its way.")
	b.shows("4 of 4 ready")

	// Let it grow by itself, up to a bound that is no fewer nodes than there are.
	b.do(chromedp.Navigate(h.url+"/portal"+cluster+"/autoscale"), chromedp.Click("[name=enabled]"), chromedp.SetValue("[id='max_node_count-0']", "1"), chromedp.Click("form.wizard button[type=submit]"))
	b.becomes(`document.querySelector("[id='max_node_count-0-wrong']")`)
	b.checked(cluster + "/autoscale-wrong")
	b.do(chromedp.SetValue("[id='max_node_count-0']", "6"), chromedp.Click("form.wizard button[type=submit]"))
	b.shows("The settings are kept.")
	b.shows("Above 80 % reserved")

	// Delete, which wants the name.
	b.do(chromedp.Navigate(h.url+"/portal"+cluster+"/delete"), chromedp.SetValue("#confirm", "harbor"), chromedp.Click("button.danger"))
	b.shows("Type the name of the cluster, harbour")
	b.do(chromedp.SetValue("#confirm", "harbour"), chromedp.Click("button.danger"))
	b.shows("No clusters in demo yet")
	b.quiet()

	// The way out, and nothing of the session is left.
	b.do(chromedp.Click("header form button"))
	b.shows("You are logged out.")
	b.do(chromedp.Navigate(h.url+"/portal"+cluster), chromedp.WaitVisible("#password"))

	b.login("admin", "wheelhouse")
	b.open("/templates/new")
	b.do(chromedp.SetValue("#name", "mine"), chromedp.Click("form.wizard button[type=submit]"))
	b.becomes(`document.querySelector("#image_id-wrong")`)
	b.checked("/templates/new-wrong")
	b.do(chromedp.SetValue("#image_id", "keelson-node"), chromedp.SetValue("#labels", "team=crane"), chromedp.Click("#public"), chromedp.Click("form.wizard button[type=submit]"))
	b.shows("Clusters can be made from it.")
	b.shows("Label team")
	b.open("/hosts")
	b.shows("host-1")
	if text := h.log.String(); strings.Contains(text, "foredeck") || strings.Contains(text, "wheelhouse") {
		t.Error("a log holds a password")
	}
}

// What a first day does not show: a cluster with a failed step, sick nodes and
// full gauges, and hosts in all states. The API is played here; how it answers
// is the business of its own tests.
func TestThePortalOfABusyCloud(t *testing.T) {
	played := httptest.NewServer(portal.New(portal.Options{
		API: busyCloud(), Keystone: openDoor{}, Sealer: sealer(t), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon },
	}))
	t.Cleanup(played.Close)
	b := (&house{T: t, url: played.URL, log: &buffer{}}).browser()
	b.login("ann", "any")
	for _, page := range []string{"/clusters", "/clusters/harbour", "/clusters/wreck", "/clusters/harbour/rebuild", "/hosts", "/templates"} {
		b.open(page)
	}
	b.do(chromedp.Navigate(b.url + "/portal/clusters/harbour"))
	for _, text := range []string{"1 of 4 ready", "Unhealthy", "gone from its host", "2 of 4 steps done", "88 %", "Autoscaling looked", "host-2"} {
		b.shows(text)
	}
	b.quiet()
}

// noon is when all of that is looked at.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) v1.Time { return v1.Time(noon.Add(-d)) }

func at(d time.Duration) *v1.Time { return new(before(d)) }

func sealer(t *testing.T) portal.Sealer {
	t.Helper()
	s, err := ca.LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "master.key"))
	must(t, err)
	return s
}

// openDoor is a Keystone that lets everybody in, as administrator.
type openDoor struct{}

func (openDoor) token() *keystone.Token {
	return &keystone.Token{
		UserID: "u", UserName: "ann", UserDomainName: "Default", ProjectID: "p", ProjectName: "shipyard",
		Roles: []string{"admin"}, ExpiresAt: noon.Add(12 * time.Hour),
	}
}

func (o openDoor) Login(context.Context, keystone.User) (string, *keystone.Token, error) {
	return "login", o.token(), nil
}

func (o openDoor) LoginWithCredential(context.Context, string, string) (string, *keystone.Token, error) {
	return "token", o.token(), nil
}

func (o openDoor) Enter(context.Context, string, string) (string, *keystone.Token, error) {
	return "token", o.token(), nil
}

func (openDoor) ProjectsOf(context.Context, string) ([]keystone.Project, error) {
	return []keystone.Project{{ID: "p", Name: "shipyard", Enabled: true}, {ID: "q", Name: "lighthouse", Enabled: true}}, nil
}

func (openDoor) Revoke(context.Context, string) error { return nil }

// busyCloud plays the API of a cloud with two clusters in trouble.
func busyCloud() http.Handler {
	harbour := v1.Cluster{
		ClusterSummary: v1.ClusterSummary{
			UUID: "harbour", Name: "harbour", ClusterTemplateID: "swarm", NodeCount: 3, MasterCount: 1, Status: "UPDATE_IN_PROGRESS",
			HealthStatus: new("UNHEALTHY"), Labels: map[string]string{"team": "crane", "zone": "north-quay"},
		},
		HealthStatusReason: map[string]string{"harbour-worker-1": "Docker has not answered for 40 s", "harbour-master-0": "ok"},
		APIAddress:         new("tcp://10.77.0.10:2376"), COEVersion: new("29.1.3"), CreatedAt: before(50 * time.Hour),
	}
	wreck := v1.Cluster{
		ClusterSummary: v1.ClusterSummary{UUID: "wreck", Name: "a-cluster-with-a-rather-long-name-as-people-do-make-them", ClusterTemplateID: "swarm", NodeCount: 5, MasterCount: 3, Status: "CREATE_FAILED"},
		StatusReason:   new("No host has room for node wreck-worker-4: it wants 8 vCPU and 64 GiB, and the emptiest of 2 hosts has 30 GiB left."), CreatedAt: before(3 * time.Minute),
	}
	calm := v1.Cluster{
		ClusterSummary: v1.ClusterSummary{UUID: "calm", Name: "calm", ClusterTemplateID: "swarm", NodeCount: 2, MasterCount: 1, Status: "CREATE_COMPLETE", HealthStatus: new("HEALTHY")},
		APIAddress:     new("tcp://10.77.0.31:2376"), CreatedAt: before(26 * time.Minute),
	}
	nodes := v1.Nodes{}
	for i, status := range []string{"ready", "gone", "running", "placed"} {
		n := v1.Node{
			UUID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("harbour-worker-%d", i-1), NodeGroup: "default-worker", Role: "worker", Status: status,
			Host: new("host-2"), Address: new(fmt.Sprintf("10.77.0.%d", 10+i)), VCPUs: 4, MemoryMB: 8192, DiskGB: 40, Image: "debian-12-docker-29.1",
		}
		if i == 0 {
			n.Name, n.Role, n.Host = "harbour-master-0", "master", new("host-1")
		}
		if status == "gone" {
			n.StatusReason = new("It is gone from its host. Repair makes it anew.")
		}
		nodes.Nodes = append(nodes.Nodes, n)
	}
	steps := []v1.Step{
		{Name: "node.place", Node: "harbour-worker-2", State: "done", Attempts: 1, Message: "on host host-2 with address 10.77.0.13", StartedAt: before(9 * time.Second), FinishedAt: at(8 * time.Second)},
		{Name: "node.start", Node: "harbour-worker-2", State: "done", Attempts: 1, Message: "started on host host-2", StartedAt: before(8 * time.Second), FinishedAt: at(4 * time.Second)},
		{Name: "coe.join", Node: "harbour-worker-2", State: "running", Attempts: 2, Message: "Docker does not answer yet", StartedAt: before(4 * time.Second)},
		{Name: "coe.join", Node: "harbour-worker-1", State: "failed", Attempts: 3, Message: "the node is gone", StartedAt: before(4 * time.Second), FinishedAt: at(2 * time.Second)},
	}
	var samples []v1.UsageSample
	for i := range 48 {
		samples = append(samples, v1.UsageSample{
			Time: before(time.Duration(48-i) * 5 * time.Minute), CPUsTotal: 12, CPUsReserved: 2 + float64(i%7)*0.8 + float64(i)/16,
			MemoryMBTotal: 24576, MemoryMBReserved: 4096 + 370*i,
		})
	}
	usage := v1.Usage{Samples: samples, Nodes: []v1.NodeUsage{
		{Name: "harbour-worker-0", CPUsTotal: 4, CPUsReserved: 2.5, MemoryMBTotal: 8192, MemoryMBReserved: 7900},
		{Name: "harbour-worker-1", CPUsTotal: 8, CPUsReserved: 3, MemoryMBTotal: 16384, MemoryMBReserved: 13824},
	}}
	events := v1.Events{Events: []v1.Event{
		{ID: 1, Time: before(50 * time.Hour), Kind: "operation.end", Level: "info", Message: "The cluster was made in 9 s."},
		{ID: 2, Time: before(12 * time.Minute), Kind: "autoscale", Level: "info", Message: "Autoscaling looked: 88 % of the memory is reserved, above 80 %. One node is added."},
		{ID: 3, Time: before(40 * time.Second), Kind: "cluster.health", Level: "warning", Message: "harbour-worker-1 does not answer."},
		{ID: 4, Time: before(2 * time.Second), Kind: "step.error", Level: "error", Message: "harbour-worker-1 could not join: the node is gone."},
	}}
	operations := v1.Operations{Operations: []v1.Operation{{UUID: "o", Kind: "update", State: "running", CreatedAt: before(10 * time.Second), StartedAt: at(10 * time.Second), Steps: steps}}}
	failed := v1.Operations{Operations: []v1.Operation{{
		UUID: "o", Kind: "create", State: "failed", Reason: wreck.StatusReason, CreatedAt: before(3 * time.Minute), FinishedAt: at(time.Minute), Undo: true, Steps: steps[3:],
	}}}
	hosts := v1.Hosts{}
	for i, state := range []string{"ready", "ready", "deploying", "draining", "error", "enrolled"} {
		h := v1.Host{
			UUID: fmt.Sprintf("h%d", i), Name: fmt.Sprintf("host-%d", i+1), State: state, Address: new(fmt.Sprintf("192.0.2.%d", i+1)), ResourceClass: "baremetal",
			Traits: []string{"CUSTOM_NVME"}, VCPUs: 256, VCPUsUsed: 40 * i, MemoryMB: 262144, MemoryMBUsed: 48000 * i, DiskGB: 4000, DiskGBUsed: 300 * i, Nodes: 5 * i,
		}
		if state == "error" {
			h.Reason, h.Failures = new("Deploying failed twice: the image's checksum does not match."), 2
		}
		hosts.Hosts = append(hosts.Hosts, h)
	}
	mux := http.NewServeMux()
	for path, answer := range map[string]any{
		"/v1/clusters/detail":  v1.Clusters{Clusters: []v1.Cluster{harbour, wreck, calm}},
		"/v1/clustertemplates": v1.ClusterTemplates{ClusterTemplates: []v1.ClusterTemplate{{TemplateFields: v1.TemplateFields{UUID: "swarm", Name: new("swarm-29"), COE: "swarm-mode", ImageID: "debian-12", Public: true}}}},
		"/v1/clusters/harbour": harbour, "/v1/clusters/harbour/nodes": nodes, "/v1/clusters/harbour/operations": operations,
		"/v1/clusters/harbour/usage":     usage,
		"/v1/clusters/harbour/autoscale": v1.Autoscale{Enabled: true, ThresholdPercent: 80, LastDecision: &v1.AutoscaleDecision{Time: before(time.Minute), Message: "Added one node: 88 % of the memory is reserved."}},
		"/v1/clusters/wreck":             wreck, "/v1/clusters/wreck/operations": failed, "/v1/clusters/wreck/nodes": v1.Nodes{}, "/v1/clusters/wreck/usage": v1.Usage{},
		"/v1/clusters/wreck/events": v1.Events{}, "/v1/clusters/wreck/autoscale": v1.Autoscale{}, "/v1/hosts": hosts,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) })
	}
	mux.HandleFunc("GET /v1/clusters/harbour/events", func(w http.ResponseWriter, r *http.Request) {
		answer := v1.Events{Events: slices.Clone(events.Events)}
		if r.URL.Query().Get("sort_dir") == "desc" {
			slices.Reverse(answer.Events)
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	return mux
}

// template makes a public template, as the operator.
func (h *house) template() {
	h.Helper()
	v := h.visitor()
	v.login("admin", "wheelhouse", "Default")
	// The portal makes no templates: that is asked of the API.
	token := v.tokenFor("admin", "wheelhouse")
	body := `{"name": "swarm", "coe": "swarm-mode", "image_id": "keelson-node", "public": true}`
	request, err := http.NewRequestWithContext(h.Context(), http.MethodPost, h.url+"/v1/clustertemplates", strings.NewReader(body))
	must(h.T, err)
	request.Header.Set("X-Auth-Token", token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	must(h.T, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(answer.Body)
		h.Fatalf("template: %s %s", answer.Status, text)
	}
}

// visitor is somebody with a browser that has no JavaScript.
type visitor struct {
	*house
	client *http.Client
}

func (h *house) visitor() *visitor {
	h.Helper()
	jar, err := cookiejar.New(nil)
	must(h.T, err)
	return &visitor{h, &http.Client{Jar: jar, Timeout: 20 * time.Second}}
}

func (v *visitor) read(answer *http.Response, err error) (int, string) {
	v.Helper()
	must(v.T, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(v.T, err)
	return answer.StatusCode, string(text)
}

var hiddenField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// submit fills in the form of a page and sends it.
func (v *visitor) submit(page, to string, fields url.Values) (int, string) {
	v.Helper()
	_, text := v.read(v.client.Get(v.url + "/portal" + page))
	found := hiddenField.FindStringSubmatch(text)
	if found == nil {
		v.Fatalf("no form on %s: %s", page, text)
	}
	fields.Set("csrf", found[1])
	return v.read(v.client.PostForm(v.url+"/portal"+to, fields))
}

func (v *visitor) login(user, password, domain string) {
	v.Helper()
	if status, text := v.submit("/login", "/login", url.Values{"user": {user}, "password": {password}, "domain": {domain}}); status != http.StatusOK || !strings.Contains(text, "Log out") {
		v.Fatalf("login: %d %s", status, text)
	}
}

// tokenFor asks the built-in Keystone, which the API names when it refuses.
func (h *house) tokenFor(user, password string) string {
	h.Helper()
	refused, err := http.Get(h.url + "/v1/clusters")
	must(h.T, err)
	refused.Body.Close()
	_, rest, _ := strings.Cut(refused.Header.Get("WWW-Authenticate"), `uri="`)
	keystone, _, _ := strings.Cut(rest, `"`)
	answer, err := http.Post(keystone+"/auth/tokens", "application/json", strings.NewReader(fmt.Sprintf(`{"auth": {
		"identity": {"methods": ["password"], "password": {"user": {"name": %q, "password": %q, "domain": {"name": "Default"}}}},
		"scope": {"project": {"name": %[1]q, "domain": {"name": "Default"}}}}}`, user, password)))
	must(h.T, err)
	defer answer.Body.Close()
	token := answer.Header.Get("X-Subject-Token")
	if token == "" {
		h.Fatalf("no token: %s", answer.Status)
	}
	return token
}

// A person of a real Keystone logs in, looks around without JavaScript, and
// leaves.
func TestThePortalWithARealKeystone(t *testing.T) {
	password := testenv.Require(t, testenv.KeystonePassword)
	h := newHouse(t, fmt.Sprintf("[keystone_authtoken]\nauth_url = %s\nusername = keelson\npassword = %s\nproject_name = service",
		testenv.Require(t, testenv.Keystone), password))
	v := h.visitor()
	v.login("admin", password, "Default")
	if _, text := v.read(v.client.Get(h.url + "/portal/clusters")); !strings.Contains(text, "No clusters in admin yet") {
		t.Errorf("clusters: %s", text)
	}
	if _, text := v.read(v.client.Get(h.url + "/portal/projects")); !strings.Contains(text, "<b>admin</b>") || !strings.Contains(text, "You are here") {
		t.Errorf("projects: %s", text)
	}
	if status, text := v.submit("/clusters", "/logout", url.Values{}); status != http.StatusOK || !strings.Contains(text, "You are logged out.") {
		t.Errorf("logout: %d %s", status, text)
	}
	if strings.Contains(h.log.String(), password) {
		t.Error("the log holds the password")
	}
}
