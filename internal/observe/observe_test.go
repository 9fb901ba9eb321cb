// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/keystone"
	rows "github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/observe"
	"github.com/keelson/keelson/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, o *observe.Observer) map[string]*dto.MetricFamily {
	t.Helper()
	server := httptest.NewServer(o.Metrics())
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	client := server.Client()
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		t.Fatal(answer.Status, err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(string(text))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "keelson_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	return families
}

// value is that of the one series with those labels, "name=value"; of a
// histogram, how often something was observed.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range families[name].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(have)
		slices.Sort(labels)
		if !slices.Equal(have, labels) {
			continue
		}
		switch {
		case m.GetCounter() != nil:
			return m.GetCounter().GetValue()
		case m.GetGauge() != nil:
			return m.GetGauge().GetValue()
		default:
			return float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Errorf("no series %s %v among %v", name, labels, families[name].GetMetric())
	return -1
}

// busy lets an observer see one of everything.
func busy(t *testing.T, o *observe.Observer) {
	t.Helper()
	ask := func(method, path, route string, status int) {
		_, answered := o.Request(httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("body")))
		answered(route, status, 10)
	}
	ask("GET", "/v1/clusters/a", "/v1/clusters/{ident}", 200)
	ask("GET", "/v1/clusters/b", "/v1/clusters/{ident}", 0)
	ask("DELETE", "/v1/clusters/b", "/v1/clusters/{ident}", 409)
	ask("BREW", "/v1/coffee", "", 404)
	o.Request(httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)) // still being answered

	op := &rows.Operation{UUID: "op-1", Kind: rows.OpCreate, Generation: 1, CreatedAt: time.Now().Add(-time.Minute)}
	ctx, let := o.Operation(t.Context(), op)
	_, ended := o.Step(ctx, op, "start-node", "n-0")
	o.Retry(ctx, op, "start-node", errors.New("not yet"))
	ended(nil)
	_, ended = o.Step(ctx, op, "start-node", "n-1")
	ended(fault.Permanent(nil, "never"))
	_, ended = o.Step(ctx, op, "join", "n-1")
	ended(context.Canceled)
	let("lost")
	taken := *op
	taken.Generation, taken.TakenFrom = 2, "other"
	_, let = o.Operation(t.Context(), &taken)
	let("done")
	o.Operation(t.Context(), &rows.Operation{UUID: "op-2", Kind: rows.OpDelete, Generation: 3})
}

func TestMetrics(t *testing.T) {
	o := observe.New("1.2.3", nil)
	o.Up("message_queue_up", "Whether the message queue can be used.", func() error { return errors.New("away") })
	o.TokenCache(func() (int64, int64) { return 7, 2 })
	o.Register(observe.NewCensus(func(context.Context) (*store.Census, error) {
		return &store.Census{
			Operations:  []store.OperationCount{{Kind: rows.OpCreate, State: rows.OpPending, Count: 3}},
			Unpublished: 1, Claimable: 2, Expired: 4, OldestPending: time.Minute, Notifications: 5,
			Clusters: map[rows.Status]int{rows.CreateComplete: 6}, Nodes: map[rows.NodeState]int{rows.NodeReady: 7},
			Hosts: []store.HostCount{{State: rows.HostReady, Count: 2, TotalVCPUs: 8, TotalMemoryMiB: 1024, TotalDiskGiB: 10, UsedVCPUs: 1, UsedMemoryMiB: 2, UsedDiskGiB: 3}},
		}, nil
	}))
	validated := o.Keystone(answers{keystone.ErrInvalidToken})
	if _, err := validated.Validate(t.Context(), "x"); !errors.Is(err, keystone.ErrInvalidToken) {
		t.Error(err)
	}
	busy(t, o)
	found := scrape(t, o)
	for _, want := range []struct {
		value  float64
		name   string
		labels []string
	}{
		{2, "keelson_api_requests_total", []string{"route=/v1/clusters/{ident}", "method=GET", "code=200"}},
		{1, "keelson_api_requests_total", []string{"route=/v1/clusters/{ident}", "method=DELETE", "code=409"}},
		{1, "keelson_api_requests_total", []string{"route=none", "method=other", "code=404"}},
		{2, "keelson_api_request_duration_seconds", []string{"route=/v1/clusters/{ident}", "method=GET"}},
		{2, "keelson_api_request_size_bytes", []string{"route=/v1/clusters/{ident}", "method=GET"}},
		{2, "keelson_api_response_size_bytes", []string{"route=/v1/clusters/{ident}", "method=GET"}},
		{1, "keelson_api_requests_in_flight", nil},
		{2, "keelson_token_cache_lookups_total", []string{"result=miss"}},
		{7, "keelson_token_cache_lookups_total", []string{"result=hit"}},
		{1, "keelson_keystone_request_duration_seconds", []string{"outcome=refused"}},
		{1, "keelson_operation_claims_total", []string{"kind=create", "from=new"}},
		{1, "keelson_operation_claims_total", []string{"kind=create", "from=expired"}},
		{1, "keelson_operation_claims_total", []string{"kind=delete", "from=released"}},
		{1, "keelson_operation_attempts_total", []string{"kind=create", "outcome=lost"}},
		{1, "keelson_operation_attempts_total", []string{"kind=create", "outcome=done"}},
		{0, "keelson_operations_running", []string{"kind=create"}},
		{1, "keelson_operations_running", []string{"kind=delete"}},
		{1, "keelson_operation_wait_seconds", []string{"kind=create"}},
		{1, "keelson_operation_duration_seconds", []string{"kind=create", "outcome=done"}},
		{1, "keelson_step_duration_seconds", []string{"kind=create", "step=start-node", "outcome=done"}},
		{1, "keelson_step_duration_seconds", []string{"kind=create", "step=start-node", "outcome=failed"}},
		{1, "keelson_step_duration_seconds", []string{"kind=create", "step=join", "outcome=interrupted"}},
		{1, "keelson_step_retries_total", []string{"kind=create", "step=start-node"}},
		{3, "keelson_operations", []string{"kind=create", "state=pending"}},
		{1, "keelson_operations_unpublished", nil},
		{2, "keelson_operations_claimable", nil},
		{4, "keelson_operations_expired", nil},
		{60, "keelson_operation_oldest_pending_seconds", nil},
		{5, "keelson_notifications_waiting", nil},
		{6, "keelson_clusters", []string{"status=CREATE_COMPLETE"}},
		{7, "keelson_nodes", []string{"state=ready"}},
		{2, "keelson_hosts", []string{"state=ready"}},
		{8, "keelson_hosts_vcpus", []string{"state=ready"}},
		{1 << 30, "keelson_hosts_memory_bytes", []string{"state=ready"}},
		{3 << 30, "keelson_hosts_disk_used_bytes", []string{"state=ready"}},
		{1, "keelson_database_up", nil},
		{0, "keelson_message_queue_up", nil},
	} {
		if got := value(t, found, want.name, want.labels...); got != want.value {
			t.Errorf("%s %v is %v, want %v", want.name, want.labels, got, want.value)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "keelson_build_info"} {
		if found[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	// Nothing that there is no end of is in a label.
	for name, family := range found {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "op-1") || strings.Contains(l.GetValue(), "n-0") || strings.Contains(l.GetValue(), "coffee") {
					t.Errorf("%s has the label %s", name, l)
				}
			}
		}
	}
}

// answers is a Keystone with one answer.
type answers struct{ err error }

func (a answers) Validate(context.Context, string) (*keystone.Token, error) { return nil, a.err }

func (a answers) ValidateExpired(context.Context, string) (*keystone.Token, error) { return nil, a.err }

// The database is counted now and then, however often somebody scrapes; while
// it is away its numbers are not shown.
func TestCensusIsTakenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var away atomic.Bool
		c := observe.NewCensus(func(context.Context) (*store.Census, error) {
			asked.Add(1)
			if away.Load() {
				return nil, errors.New("away")
			}
			return &store.Census{}, nil
		})
		o := observe.New("", nil)
		o.Register(c)
		gather := func() map[string]float64 {
			all, err := o.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range all {
				if f.GetName() == "keelson_database_up" || f.GetName() == "keelson_operations_claimable" {
					got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
				}
			}
			return got
		}
		for range 20 {
			gather()
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("counted %d times", n)
		}
		away.Store(true)
		time.Sleep(11 * time.Second)
		if diff := cmp.Diff(map[string]float64{"keelson_database_up": 0}, gather()); diff != "" {
			t.Error(diff)
		}
		away.Store(false)
		time.Sleep(11 * time.Second)
		if diff := cmp.Diff(map[string]float64{"keelson_database_up": 1, "keelson_operations_claimable": 0}, gather()); diff != "" || asked.Load() != 3 {
			t.Errorf("counted %d times: %s", asked.Load(), diff)
		}
	})
}

func TestTracesGoFromTheRequestToTheStep(t *testing.T) {
	memory := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(memory))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	api, conductor := observe.New("", provider), observe.New("", provider)

	const traceID = "0af7651916cd43dd8448eb211c80319c"
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/clusters", nil)
	r.Header.Set("traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	ctx, answered := api.Request(r)
	parent := api.TraceParent(ctx)
	answered("/v1/clusters", 202, 0)

	op := &rows.Operation{UUID: "op-1", ClusterID: "c-1", Kind: rows.OpCreate, Generation: 1, TraceParent: parent}
	ctx, let := conductor.Operation(context.Background(), op)
	ctx, ended := conductor.Step(ctx, op, "start", "n-0")
	conductor.Retry(ctx, op, "start", fault.Temporary(errors.New("secret"), "host is busy"))
	ended(fault.Permanent(nil, "never"))
	let("failed")

	spans := memory.GetSpans()
	names := map[string]tracetest.SpanStub{}
	for _, s := range spans {
		names[s.Name] = s
		if got := s.SpanContext.TraceID().String(); got != traceID {
			t.Errorf("%s is of trace %s", s.Name, got)
		}
	}
	request, operation, step := names["POST /v1/clusters"], names["operation create"], names["step start"]
	if len(spans) != 3 || request.Parent.SpanID().String() != "b7ad6b7169203331" ||
		operation.Parent.SpanID() != request.SpanContext.SpanID() || step.Parent.SpanID() != operation.SpanContext.SpanID() {
		t.Fatalf("spans: %+v", spans)
	}
	if !slices.Contains(operation.Attributes, attribute.String("keelson.operation", "op-1")) || operation.SpanKind != trace.SpanKindConsumer || operation.Status.Description != "failed" {
		t.Errorf("operation: %+v", operation)
	}
	if len(step.Events) != 1 || step.Events[0].Attributes[0].Value.AsString() != "host is busy" {
		t.Errorf("step: %+v", step)
	}
}

func TestWithoutTracesNothingIsTraced(t *testing.T) {
	o := observe.New("", nil)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/clusters", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	ctx, answered := o.Request(r)
	defer answered("/", 200, 0)
	if got := o.TraceParent(ctx); got != "" {
		t.Errorf("trace %q", got)
	}
}

// A collector gets the spans over OTLP when the process ends.
func TestTracesAreSent(t *testing.T) {
	var paths []string
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "operation create") && strings.Contains(string(body), "keelson-conductor") {
			paths = append(paths, r.Method+" "+r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	provider, err := observe.Traces(t.Context(), observe.TraceOptions{Endpoint: collector.URL, Ratio: 1, Service: "keelson-conductor"})
	if err != nil {
		t.Fatal(err)
	}
	_, let := observe.New("", provider).Operation(t.Context(), &rows.Operation{Kind: rows.OpCreate})
	let("done")
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"POST /v1/traces"}, paths); diff != "" {
		t.Error(diff)
	}
}
