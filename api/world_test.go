// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	v1 "github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// The people of the stories; the name is the token.
var people = map[string]*keystone.Token{
	"ann":    {UserID: "user-ann", ProjectID: "project-1", Roles: []string{"member", "reader"}},
	"bob":    {UserID: "user-bob", ProjectID: "project-1", Roles: []string{"member", "reader"}},
	"reader": {UserID: "user-rea", ProjectID: "project-1", Roles: []string{"reader"}},
	"zoe":    {UserID: "user-zoe", ProjectID: "project-2", Roles: []string{"member", "reader"}},
	"nil":    {UserID: "user-nil", Roles: []string{"member", "reader"}}, // without a project
	"admin":  {UserID: "user-adm", ProjectID: "project-0", Roles: []string{"admin", "member", "reader"}},
}

// validator plays Keystone; it is away for the token "nobody knows".
type validator struct{}

func (validator) Validate(_ context.Context, token string) (*keystone.Token, error) {
	if token == "nobody knows" {
		return nil, keystone.ErrUnavailable
	}
	if who := people[token]; who != nil {
		return who, nil
	}
	return nil, keystone.ErrInvalidToken
}

const (
	latest    = "OpenStack-API-Version: container-infra latest"
	version17 = "OpenStack-API-Version: container-infra 1.7"
	version19 = "OpenStack-API-Version: container-infra 1.9"
)

// world is the real API on a real database, with Keystone and the drivers
// played.
type world struct {
	t         testing.TB
	store     *store.Store
	handler   http.Handler
	announced atomic.Int64
	now       time.Time
	log       *bytes.Buffer
	wire      complaints
	whole     testing.TB // the test that the world ends with
	direct    *sql.DB    // past the store, see query
	config    api.Config
	deps      api.Deps
}

// again is what the world's API is made of, for one that answers over real
// connections: it looks for events often and lets a project have two streams.
func (w *world) again(closing <-chan struct{}) (api.Config, api.Deps) {
	config, deps := w.config, w.deps
	config.EventPoll, config.MaxStreams, deps.Closing = 5*time.Millisecond, 2, closing
	deps.Logger = slog.New(slog.DiscardHandler)
	return config, deps
}

// change adjusts what a world is made of.
type change func(*api.Config, *api.Deps)

// each tells a story on SQLite and on MariaDB.
func each(t *testing.T, story func(w *world), changes ...change) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, s *store.Store) { story(newWorld(t, s, changes...)) })
}

func newWorld(t testing.TB, s *store.Store, changes ...change) *world {
	t.Helper()
	w := &world{t: t, whole: t, store: s, now: time.Now(), log: &bytes.Buffer{}}
	config := api.Config{MaxClusters: 20, OperationTimeout: time.Hour}
	deps := api.Deps{
		Logger:       slog.New(slog.NewTextHandler(w.log, nil)),
		Store:        s,
		Policy:       rules(t, policy.Options{EnforceNewDefaults: true}),
		COEs:         coes{},
		Certificates: authorities(t, s),
		Flavors:      things, Images: things, Networks: things, Keypairs: things,
		Projects:     projects{},
		Authenticate: keystone.Middleware(validator{}, "http://keystone.example/v3", nil),
		Announce:     func() { w.announced.Add(1) },
		Now:          func() time.Time { return w.now },
	}
	for _, c := range changes {
		c(&config, &deps)
	}
	w.config, w.deps = config, deps
	w.handler = api.New(config, deps)
	if _, measured := t.(*testing.B); !measured {
		w.handler = document(t).Handler(w.handler, w.wire.add)
		t.Cleanup(func() { w.wire.fail(t) })
	}
	return w
}

func rules(tb testing.TB, options policy.Options) *policy.Enforcer {
	tb.Helper()
	e, err := policy.Load(options)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func authorities(tb testing.TB, s ca.Certs) *ca.CA {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "master.key")
	if err := os.WriteFile(file, ca.NewKeyLine(), 0o600); err != nil {
		tb.Fatal(err)
	}
	sealer, err := ca.LoadKeyFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	all, err := ca.New(s, sealer, ca.Options{NotFound: store.ErrNotFound})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// things is the catalogue: it also holds images and networks that may not be
// used.
var things = catalogue{&catalog.Configured{
	Flavors: []catalog.Flavor{{Name: "m1.small", VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20}, {Name: "m1.large", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 40}},
	Images: []catalog.Image{
		{Name: "debian-12", Distro: "debian", NodeImage: "debian-12-docker"},
		{Name: "fedora", Distro: "fedora-coreos"},
		{Name: "plain"}, // without os_distro
	},
	Networks: []catalog.Network{{Name: "public", External: true}, {Name: "inner"}},
}}

type catalogue struct{ *catalog.Configured }

func (c catalogue) Image(ctx context.Context, ident string) (catalog.Image, error) {
	switch ident {
	case "forbidden":
		return catalog.Image{}, catalog.ErrForbidden
	case "twins":
		return catalog.Image{}, catalog.ErrAmbiguous
	}
	return c.Configured.Image(ctx, ident)
}

func (c catalogue) Keypair(_ context.Context, ident string) error {
	if ident == "no-such-key" {
		return catalog.ErrNotFound
	}
	return nil
}

// coes plays one swarm driver and the kubernetes stub.
type coes struct{}

func (coes) NetworkDrivers(coe string) ([]string, bool) {
	names, known := map[string][]string{"swarm": {"docker"}, "swarm-mode": {"docker"}, "kubernetes": {"flannel", "calico"}, "pond": nil}[coe]
	return names, known
}

func (coes) VolumeDrivers(coe string) []string {
	return map[string][]string{"swarm": {"rexray"}, "swarm-mode": {"rexray"}, "kubernetes": {"cinder"}}[coe]
}

func (coes) ValidateTemplate(t *model.ClusterTemplate) error {
	distro := "None"
	if t.ClusterDistro != nil {
		distro = *t.ClusterDistro
	}
	if distro != "debian" {
		return fmt.Errorf("Cluster type (%s, %s, %s) not supported.", t.ServerType, distro, t.COE)
	}
	return nil
}

func (coes) Drivers() []v1.Driver {
	none := []string{}
	return []v1.Driver{
		{Name: "kubernetes", Kind: "stub", Version: "0.2", COEs: []string{"kubernetes"}, ServerTypes: []string{"vm", "bm"}, Distros: none, NetworkDrivers: none, VolumeDrivers: none, Capabilities: none},
		{Name: "nomad", Kind: "plugin", COEs: none, ServerTypes: none, Distros: none, NetworkDrivers: none, VolumeDrivers: none, Capabilities: none, Skipped: new("its checksum is not pinned")},
	}
}

func (coes) Supports(t *model.ClusterTemplate, kind model.OperationKind) error {
	if t.COE == "swarm" || t.COE == "swarm-mode" {
		return nil
	}
	return fmt.Errorf("the driver %s does not support the operation %s", t.COE, kind)
}

func (coes) ValidateCluster(t *model.ClusterTemplate, _ *model.Cluster, groups []model.NodeGroup) error {
	if t.COE == "kubernetes" {
		return fmt.Errorf("Cluster type (%s, %s, %s) not supported.", t.ServerType, *t.ClusterDistro, t.COE)
	}
	if groups[0].NodeCount%2 == 0 {
		return errors.New("master_count must be odd")
	}
	return nil
}

type projects struct{}

func (projects) ProjectExists(_ context.Context, id string) (bool, error) {
	return strings.HasPrefix(id, "project-"), nil
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	raw    string
	body   map[string]any
}

var requestIDForm = regexp.MustCompile(`^req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// ask sends a request in the person's name. The body is text, or anything to
// be sent as JSON. Headers are "Name: value"; a body gets a content type.
func (w *world) ask(person, method, path string, body any, headers ...string) answer {
	w.t.Helper()
	var content io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, "http://magnum.example:9511"+path, content)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if person != "" {
		r.Header.Set("X-Auth-Token", person)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	w.wire.fail(w.t)
	a := answer{t: w.t, what: person + ": " + method + " " + path, status: recorder.Code, header: recorder.Header(), raw: recorder.Body.String()}
	if id := a.header.Get("X-Openstack-Request-Id"); !requestIDForm.MatchString(id) {
		w.t.Errorf("%s: x-openstack-request-id is %q", a.what, id)
	}
	if a.raw != "" && a.header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
			w.t.Fatalf("%s: answer is not JSON: %v\n%s", a.what, err, a.raw)
		}
	}
	return a
}

// want fails the test unless the status is this one. Errors must have Magnum's
// shape.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d\n%s", a.what, a.status, status, a.raw)
	}
	if status == http.StatusNoContent && (a.raw != "" || a.header.Get("Content-Type") != "") {
		a.t.Fatalf("%s: a 204 with the body %q and content type %q", a.what, a.raw, a.header.Get("Content-Type"))
	}
	if status < 400 || status == http.StatusUnauthorized {
		return a
	}
	e := a.error()
	for _, key := range []string{"request_id", "code", "status", "title", "detail", "links"} {
		if _, ok := e[key]; !ok {
			a.t.Errorf("%s: error without %s: %s", a.what, key, a.raw)
		}
	}
	if e["status"] != float64(status) || e["request_id"] != "" {
		a.t.Errorf("%s: error says %v", a.what, e)
	}
	return a
}

func (a answer) error() map[string]any {
	a.t.Helper()
	list, _ := a.body["errors"].([]any)
	if len(list) != 1 {
		a.t.Fatalf("%s: want exactly one error: %s", a.what, a.raw)
	}
	return list[0].(map[string]any)
}

// saying fails the test unless the error's detail holds the words.
func (a answer) saying(words string) {
	a.t.Helper()
	if detail, _ := a.error()["detail"].(string); !strings.Contains(detail, words) {
		a.t.Errorf("%s: detail %q, want it to say %q", a.what, detail, words)
	}
}

// text returns a text member of the answer.
func (a answer) text(name string) string {
	a.t.Helper()
	s, ok := a.body[name].(string)
	if !ok {
		a.t.Fatalf("%s: %s is %v", a.what, name, a.body[name])
	}
	return s
}

// items returns the list of a collection.
func (a answer) items(name string) []map[string]any {
	a.t.Helper()
	list, ok := a.body[name].([]any)
	if !ok {
		a.t.Fatalf("%s: no list %s: %s", a.what, name, a.raw)
	}
	var items []map[string]any
	for _, one := range list {
		items = append(items, one.(map[string]any))
	}
	return items
}

// is compares one member of the answer with a JSON value.
func (a answer) is(name string, want any) {
	a.t.Helper()
	if diff := cmp.Diff(want, a.body[name]); diff != "" {
		a.t.Errorf("%s: %s (-want +got):\n%s", a.what, name, diff)
	}
}

// hasKeys fails the test unless the object has exactly these keys.
func hasKeys(t testing.TB, object map[string]any, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(object))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// with returns a copy of the object with members added or, when given as
// absent, removed.
type object map[string]any

type absent struct{}

func (o object) with(name string, value any) object {
	c := maps.Clone(o)
	if _, remove := value.(absent); remove {
		delete(c, name)
	} else {
		c[name] = value
	}
	return c
}

// swarm is the smallest body of a template.
func swarm() object { return object{"name": "swarm", "coe": "swarm-mode", "image_id": "debian-12"} }

// template makes a template for Ann and returns its uuid.
func (w *world) template(body object) string {
	w.t.Helper()
	return w.ask("ann", "POST", "/v1/clustertemplates", body).want(201).text("uuid")
}

// cluster makes a cluster for Ann and returns its uuid.
func (w *world) cluster(body object) string {
	w.t.Helper()
	return w.ask("ann", "POST", "/v1/clusters", body).want(202).text("uuid")
}

// finish plays the conductor: it ends the cluster's oldest unfinished
// operation with that status.
func (w *world) finish(cluster string, status model.Status) {
	w.t.Helper()
	ctx := w.t.Context()
	for _, op := range w.operations(cluster) {
		if op.State.Terminal() {
			continue
		}
		claimed, err := w.store.Claim(ctx, op.UUID, "test", time.Minute, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		fence := store.FenceOf(claimed)
		state := model.OpDone
		var reason *string
		if status.Failed() {
			state, reason = model.OpFailed, new("no host has room")
		}
		if err := w.store.Finish(ctx, fence, state, status, reason, nil); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatalf("cluster %s has no unfinished operation", cluster)
}

func (w *world) operations(cluster string) []model.Operation {
	w.t.Helper()
	all, err := w.store.Operations(w.t.Context(), cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// row reads a cluster as the database has it; nil when it is gone.
func (w *world) row(cluster string) *model.Cluster {
	w.t.Helper()
	c, err := w.store.Cluster(w.t.Context(), store.Scope{All: true}, cluster)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// broken is a catalogue that does not answer.
type broken struct{ api.Flavors }

func (broken) Flavor(context.Context, string) (catalog.Flavor, error) {
	return catalog.Flavor{}, errors.New("dial tcp 10.0.0.1:8774: connection refused")
}
