// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	amqp "github.com/rabbitmq/amqp091-go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/identity"
	"github.com/keelson/keelson/internal/logging"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/notify"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// lines are the log's lines.
func (b *buffer) lines(t *testing.T) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, one)
	}
	return all
}

// site is one cloud: a database, Keystone, a collector of traces, an API
// process and a conductor process.
type site struct {
	*testing.T
	api, conductor           *buffer
	apiURL                   string
	apiMetrics, conductorURL string // of the listeners for metrics
	token                    string
	keystone                 *httptest.Server
	collected                *spans
	topic                    string
	queues                   *amqp.Channel
}

// spans is a collector of traces.
type spans struct {
	mu  sync.Mutex
	all []string // "<trace> <service> <name>"
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range sent.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				s.all = append(s.all, fmt.Sprintf("%x %s %s", span.TraceId, service, span.Name))
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// has tells whether such a span has come.
func (s *spans) has(trace, service, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.all, trace+" "+service+" "+name)
}

// port is a free one.
func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, api: &buffer{}, conductor: &buffer{}, collected: &spans{}, topic: "test-" + uuid.NewString()}
	broker := testenv.Require(t, testenv.RabbitMQ)
	database := storetest.MariaDB(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "host"), 0o700))
	_, err := ca.LoadOrCreateKeyFile(filepath.Join(dir, "master.key"))
	must(t, err)
	s.seed(database, dir)
	s.identity()
	collector := httptest.NewServer(s.collected)
	t.Cleanup(collector.Close)
	exchange := "keelson-test-" + uuid.NewString()
	s.listen(broker, exchange)

	ports := []int{port(t), port(t), port(t)}
	s.apiURL = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	s.apiMetrics = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	s.conductorURL = fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	configured := func(metrics int) *config.Config {
		t.Helper()
		file := filepath.Join(t.TempDir(), "keelson.conf")
		text := fmt.Sprintf(`[DEFAULT]
state_path = %s
transport_url = memory://
control_exchange = %s
[api]
port = %d
[database]
connection = %s
[keystone_authtoken]
auth_url = %s/v3
password = keelson-secret
[drivers]
enabled = fake
[network]
network = public:10.77.0.0/24:10.77.0.1:10.77.0.10-10.77.0.250
[conductor]
poll_interval = 0.05
[oslo_messaging_notifications]
driver = messagingv2
transport_url = %s
topics = %s
[healthcheck]
disable_by_file_path = %s/disabled
[metrics]
enabled = true
port = %d
[otel]
enabled = true
endpoint = %s
`, dir, exchange, ports[0], database, s.keystone.URL, broker, s.topic, dir, metrics, collector.URL)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		cfg, warnings, err := config.Load(config.Sources{Files: []string{file}})
		must(t, err)
		if len(warnings) > 0 {
			t.Errorf("warnings: %v", warnings)
		}
		return cfg
	}
	api := configured(ports[1])
	api.Metrics.Pprof = true
	s.run(api, s.api, roles{api: true})
	s.run(configured(ports[2]), s.conductor, roles{conductor: true})
	return s
}

// seed makes the tables and a host.
func (s *site) seed(database, dir string) {
	s.Helper()
	db := storetest.Open(s.T, database)
	must(s.T, db.Migrate(s.Context()))
	uri := "sim://" + dir + "/host"
	must(s.T, db.AddHost(s.Context(), &model.Host{
		Name: "host-1", State: model.HostReady, LibvirtURI: &uri, Bridge: "br0", TotalVCPUs: 64, TotalMemoryMiB: 65536, TotalDiskGiB: 1000,
	}))
}

// identity starts Keystone and takes a token for the user demo.
func (s *site) identity() {
	s.Helper()
	server, err := identity.New(identity.Config{
		Projects: []identity.Project{{Name: "demo"}, {Name: "service"}},
		Users: []identity.User{
			{Name: "demo", Password: "demo", DefaultProject: "demo", Roles: map[string][]string{"demo": {"member"}}},
			{Name: "keelson", Password: "keelson-secret", DefaultProject: "service", Roles: map[string][]string{"service": {"service"}}},
		},
	})
	must(s.T, err)
	s.keystone = httptest.NewServer(server)
	s.Cleanup(s.keystone.Close)
	answer, err := http.Post(s.keystone.URL+"/v3/auth/tokens", "application/json", strings.NewReader(`{"auth": {
		"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "demo", "domain": {"name": "Default"}}}},
		"scope": {"project": {"name": "demo", "domain": {"name": "Default"}}}}}`))
	must(s.T, err)
	defer answer.Body.Close()
	if s.token = answer.Header.Get("X-Subject-Token"); s.token == "" {
		s.Fatalf("no token: %s", answer.Status)
	}
}

// listen makes the exchange and queues as a foreign listener would, and
// removes them with the test.
func (s *site) listen(broker, exchange string) {
	s.Helper()
	conn, err := amqp.Dial(strings.Replace(broker, "rabbit://", "amqp://", 1))
	must(s.T, err)
	s.queues, err = conn.Channel()
	must(s.T, err)
	must(s.T, s.queues.ExchangeDeclare(exchange, "topic", false, false, false, false, nil))
	for _, key := range notify.Keys(s.topic) {
		_, err := s.queues.QueueDeclare(key, false, false, false, false, nil)
		must(s.T, err)
		must(s.T, s.queues.QueueBind(key, key, exchange, false, nil))
	}
	s.Cleanup(func() {
		for _, key := range notify.Keys(s.topic) {
			_, err := s.queues.QueueDelete(key, false, false, false)
			must(s.T, err)
		}
		must(s.T, s.queues.ExchangeDelete(exchange, false, false))
		must(s.T, conn.Close())
	})
}

// run runs a process until the test ends, or stop is called.
func (s *site) run(cfg *config.Config, log io.Writer, do roles) {
	s.Helper()
	p := &process{cfg: cfg, log: logging.New(log, "json", slog.LevelDebug)}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	s.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			s.Error(err)
		}
		p.close()
	})
	must(s.T, p.start(ctx, group, do))
}

func (s *site) ask(method, url string, body any, headers ...string) (*http.Response, string) {
	s.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		must(s.T, err)
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(s.Context(), method, url, content)
	must(s.T, err)
	r.Header.Set("X-Auth-Token", s.token)
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	must(s.T, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(s.T, err)
	return answer, string(text)
}

// made asks for something and returns its uuid and the request's id.
func (s *site) made(path string, body any, headers ...string) (id, request string) {
	s.Helper()
	answer, text := s.ask("POST", s.apiURL+path, body, headers...)
	var made struct{ UUID string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || made.UUID == "" {
		s.Fatalf("%s: %s %s", path, answer.Status, text)
	}
	return made.UUID, answer.Header.Get("X-Openstack-Request-Id")
}

func (s *site) eventually(what string, true func() bool) {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); !true(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("not within a minute: %s", what)
		}
	}
}

// One request is followed from the REST call to the last step of its
// operation: in the logs of both processes, in a trace, in what other services
// are told, and in the metrics.
func TestOneRequestIsSeenEverywhere(t *testing.T) {
	s := newSite(t)
	const (
		global  = "req-12345678-1234-1234-1234-123456789abc"
		traceID = "0af7651916cd43dd8448eb211c80319c"
	)
	template, _ := s.made("/v1/clustertemplates", map[string]any{"name": "t", "coe": "swarm-mode", "image_id": "keelson-node"})
	cluster, request := s.made("/v1/clusters", map[string]any{"name": "demo", "cluster_template_id": template, "node_count": 2},
		"X-OpenStack-Request-ID: "+global, "traceparent: 00-"+traceID+"-b7ad6b7169203331-01")
	s.eventually("the cluster is made", func() bool {
		_, text := s.ask("GET", s.apiURL+"/v1/clusters/"+cluster, nil)
		return strings.Contains(text, `"CREATE_COMPLETE"`)
	})
	s.eventually("the operation is let go", func() bool { return strings.Contains(s.conductor.String(), `"operation done"`) })
	s.followed(request, global, cluster)
	if _, text := s.ask("GET", s.conductorURL+"/metrics", nil); !strings.Contains(text, "keelson_step_duration_seconds_count{") {
		t.Error("the conductor shows no steps")
	}
	s.told(cluster, request, global)
	s.measured()
	s.healthy()

	// Both processes send what they know of the trace, some seconds later.
	defer func() {
		if s.Failed() {
			s.Logf("collected: %q", s.collected.all)
		}
	}()
	s.eventually("the collector has the whole trace", func() bool {
		return s.collected.has(traceID, "keelson-api", "POST /v1/clusters") &&
			s.collected.has(traceID, "keelson-conductor", "operation create") && s.collected.has(traceID, "keelson-conductor", "step "+fake.StepStart)
	})
	for _, log := range []*buffer{s.api, s.conductor} {
		if strings.Contains(log.String(), s.token) || strings.Contains(log.String(), "keelson-secret") {
			t.Error("a log holds a secret")
		}
	}
}

// followed finds the request in both logs.
func (s *site) followed(request, global, cluster string) {
	s.Helper()
	operation := ""
	var messages []string
	for _, l := range s.api.lines(s.T) {
		if l[logging.RequestID] != request {
			continue
		}
		if m := l["msg"].(string); m != "query" {
			messages = append(messages, m)
		}
		if l[logging.GlobalRequestID] != global {
			s.Errorf("without the global request id: %v", l)
		}
		if id, found := l[logging.Operation].(string); found {
			operation = id
		}
	}
	if diff := cmp.Diff([]string{"operation accepted", "audit", "request"}, messages); diff != "" {
		s.Errorf("lines of the API: %s", diff)
	}
	steps := map[string]int{}
	for _, l := range s.conductor.lines(s.T) {
		if l[logging.Operation] != operation {
			continue
		}
		if l[logging.RequestID] != request || l[logging.GlobalRequestID] != global || l[logging.Cluster] != cluster {
			s.Errorf("does not lead back: %v", l)
		}
		if l["msg"] != "step done" {
			continue
		}
		steps[l[logging.Step].(string)]++
		if l[logging.Step] == fake.StepStart && !strings.HasPrefix(l[logging.Node].(string), "demo-") {
			s.Errorf("tells of no node: %v", l)
		}
	}
	if steps[fake.StepStart] != 3 || len(steps) < 5 {
		s.Errorf("steps in the log: %v", steps)
	}
	// What the conductor's database did for it carries the same ids.
	if !slices.ContainsFunc(s.conductor.lines(s.T), func(l map[string]any) bool {
		return l["msg"] == "query" && l[logging.RequestID] == request && l[logging.Step] != nil
	}) {
		s.Error("the lower layers' lines carry no ids")
	}
}

// told hears what other services are told.
func (s *site) told(cluster, request, global string) {
	s.Helper()
	var heard []string
	s.eventually("begin and end are told", func() bool {
		d, found, err := s.queues.Get(s.topic+".info", true)
		must(s.T, err)
		if !found {
			return len(heard) == 2
		}
		var outer map[string]string
		must(s.T, json.Unmarshal(d.Body, &outer))
		var m struct {
			EventType string `json:"event_type"`
			Request   string `json:"_context_request_id"`
			Global    string `json:"_context_global_request_id"`
			Domain    string `json:"_context_domain_id"`
			Payload   struct {
				Outcome string
				Target  struct{ ID string }
			}
		}
		must(s.T, json.Unmarshal([]byte(outer["oslo.message"]), &m))
		if m.Request != request || m.Global != global || m.Domain == "" || m.Payload.Target.ID != cluster {
			s.Errorf("told %s", d.Body)
		}
		heard = append(heard, m.EventType+" "+m.Payload.Outcome)
		return false
	})
	if diff := cmp.Diff([]string{"magnum.cluster.create pending", "magnum.cluster.create success"}, heard); diff != "" {
		s.Error(diff)
	}
}

func (s *site) measured() {
	s.Helper()
	for url, wanted := range map[string][]string{
		s.apiMetrics: {
			`keelson_api_requests_total{code="202",method="POST",route="/v1/clusters"} 1`,
			`keelson_token_cache_lookups_total{result="miss"} 1`,
			`keelson_keystone_request_duration_seconds_count{outcome="valid"} 1`,
			`keelson_clusters{status="CREATE_COMPLETE"} 1`,
			`keelson_hosts{state="ready"} 1`,
			`keelson_nodes{state="ready"} 3`,
			`keelson_notifications_waiting 0`,
			`keelson_database_up 1`, `keelson_message_queue_up 1`, `keelson_notifications_broker_up 1`,
		},
		s.conductorURL: {
			`keelson_operation_attempts_total{kind="create",outcome="done"} 1`,
			`keelson_operation_claims_total{from="new",kind="create"} 1`,
			`keelson_operation_duration_seconds_count{kind="create",outcome="done"} 1`,
			`keelson_operations_running{kind="create"} 0`,
		},
	} {
		answer, text := s.ask("GET", url+"/metrics", nil)
		if answer.StatusCode != 200 {
			s.Errorf("%s", answer.Status)
		}
		// The numbers of the database may be some seconds old.
		s.eventually("numbers of this moment", func() bool {
			_, text = s.ask("GET", url+"/metrics", nil)
			return strings.Contains(text, "\nkeelson_nodes{state=\"ready\"} 3\n") && strings.Contains(text, "\nkeelson_notifications_waiting 0\n")
		})
		for _, want := range wanted {
			if !strings.Contains(text, "\n"+want+"\n") {
				s.Errorf("%s does not show %s", url, want)
			}
		}
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		must(s.T, err)
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "keelson_") {
				s.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
}

// healthy looks at both processes while all is well, and when Keystone is not.
func (s *site) healthy() {
	s.Helper()
	ready := func(url string) (int, []string) {
		s.Helper()
		answer, text := s.ask("GET", url+"/healthcheck/ready", nil)
		var report struct{ Checks map[string]struct{ Up bool } }
		must(s.T, json.Unmarshal([]byte(text), &report))
		var names []string
		for name, check := range report.Checks {
			if !check.Up {
				name += " is down"
			}
			names = append(names, name)
		}
		slices.Sort(names)
		return answer.StatusCode, names
	}
	base := []string{"database", "in_service", "message_queue"}
	all := []string{"database", "in_service", "keystone", "message_queue"}
	for url, want := range map[string][]string{s.apiURL: all, s.apiMetrics: all, s.conductorURL: base} {
		status, names := ready(url)
		if diff := cmp.Diff(want, names); diff != "" || status != 200 {
			s.Errorf("%s: %d %s", url, status, diff)
		}
	}
	s.keystone.Close()
	s.eventually("the API misses Keystone", func() bool {
		status, names := ready(s.apiURL)
		return status == 503 && slices.Contains(names, "keystone is down")
	})
	// Profiles are where they were asked for, and nowhere else.
	for url, want := range map[string]int{s.apiMetrics: http.StatusOK, s.conductorURL: http.StatusNotFound, s.apiURL: http.StatusUnauthorized} {
		answer, err := http.Get(url + "/debug/pprof/goroutine?debug=1")
		must(s.T, err)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			s.Errorf("%s/debug/pprof/goroutine: %s", url, answer.Status)
		}
	}
	for _, url := range []string{s.apiURL, s.apiMetrics, s.conductorURL} {
		if answer, text := s.ask("GET", url+"/healthcheck", nil); answer.StatusCode != 200 || text != "OK" {
			s.Errorf("%s does not live: %s %s", url, answer.Status, text)
		}
	}
	if status, _ := ready(s.conductorURL); status != 200 {
		s.Error("the conductor, which asks no Keystone, is not ready")
	}
}
