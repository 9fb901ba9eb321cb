// SPDX-License-Identifier: Apache-2.0

// Package observe shows what a process does: metrics for Prometheus and traces
// for OpenTelemetry. Labels are patterns of routes, kinds, states and names of
// steps, all of which there are few of; never ids.
package observe

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// Observer counts and traces. It is both the API's and the conductor's
// observer and may be used by many goroutines.
type Observer struct {
	registry *prometheus.Registry
	tracer   trace.Tracer // nil: no traces

	requests        *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	requestBytes    *prometheus.HistogramVec
	responseBytes   *prometheus.HistogramVec
	requestsRunning prometheus.Gauge

	claims          *prometheus.CounterVec
	attempts        *prometheus.CounterVec
	running         *prometheus.GaugeVec
	waitSeconds     *prometheus.HistogramVec
	opSeconds       *prometheus.HistogramVec
	stepSeconds     *prometheus.HistogramVec
	retries         *prometheus.CounterVec
	keystoneSeconds *prometheus.HistogramVec
}

// New returns an observer with a registry of its own. traces may be nil.
func New(version string, traces trace.TracerProvider) *Observer {
	o := &Observer{registry: prometheus.NewRegistry()}
	if traces != nil {
		o.tracer = traces.Tracer("github.com/keelson/keelson")
	}
	o.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	build := o.gauge("build_info", "What is running; the value is always 1.", "version", "goversion")
	build.WithLabelValues(version, runtime.Version()).Set(1)

	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	slow := []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	sizes := prometheus.ExponentialBuckets(64, 4, 8) // to 1 MiB

	o.requests = o.counter("api_requests_total", "Requests that were answered.", "route", "method", "code")
	o.requestSeconds = o.histogram("api_request_duration_seconds", "Time from the request's head to the end of its answer.", quick, "route", "method")
	o.requestBytes = o.histogram("api_request_size_bytes", "Bodies of requests, as far as their length was announced.", sizes, "route", "method")
	o.responseBytes = o.histogram("api_response_size_bytes", "Bodies of answers.", sizes, "route", "method")
	o.requestsRunning = o.gauge("api_requests_in_flight", "Requests that are being answered.").WithLabelValues()

	o.claims = o.counter("operation_claims_total", "Operations that this conductor took up: new ones, those that another one gave back, and those whose lease had run out.", "kind", "from")
	o.attempts = o.counter("operation_attempts_total", "What became of the operations that this conductor took up.", "kind", "outcome")
	o.running = o.gauge("operations_running", "Operations that this conductor works on.", "kind")
	o.waitSeconds = o.histogram("operation_wait_seconds", "Time from the request to the first conductor that took the operation up.", slow, "kind")
	o.opSeconds = o.histogram("operation_duration_seconds", "Time from the request to the operation's end.", slow, "kind", "outcome")
	o.stepSeconds = o.histogram("step_duration_seconds", "Time that steps took in this conductor, all tries together.", slow, "kind", "step", "outcome")
	o.retries = o.counter("step_retries_total", "Tries of steps that failed for now.", "kind", "step")

	o.keystoneSeconds = o.histogram("keystone_request_duration_seconds", "Validations of tokens that Keystone was asked for.", quick, "outcome")
	return o
}

const namespace = "keelson"

func (o *Observer) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	o.registry.MustRegister(v)
	return v
}

func (o *Observer) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	o.registry.MustRegister(v)
	return v
}

func (o *Observer) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	o.registry.MustRegister(v)
	return v
}

// Register adds a collector, such as a Census.
func (o *Observer) Register(c prometheus.Collector) { o.registry.MustRegister(c) }

// Gather returns all metrics as they are now.
func (o *Observer) Gather() ([]*dto.MetricFamily, error) { return o.registry.Gather() }

// Metrics answers Prometheus.
func (o *Observer) Metrics() http.Handler {
	return promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{
		Registry: o.registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true,
	})
}

// methods are those that a label may name; a client may send any word.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PATCH": true, "PUT": true, "DELETE": true, "OPTIONS": true}

// Request implements api.Observer.
func (o *Observer) Request(r *http.Request) (context.Context, func(route string, status int, sent int64)) {
	began := time.Now()
	o.requestsRunning.Inc()
	ctx, end := o.traceRequest(r)
	return ctx, func(route string, status int, sent int64) {
		o.requestsRunning.Dec()
		if status == 0 {
			status = http.StatusOK // net/http's own when nothing was written
		}
		end(route, status)
		method := r.Method
		if !methods[method] {
			method = "other"
		}
		if route == "" {
			route = "none"
		}
		o.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
		o.requestSeconds.WithLabelValues(route, method).Observe(time.Since(began).Seconds())
		o.requestBytes.WithLabelValues(route, method).Observe(float64(max(r.ContentLength, 0)))
		o.responseBytes.WithLabelValues(route, method).Observe(float64(sent))
	}
}

// Operation implements conductor.Observer.
func (o *Observer) Operation(ctx context.Context, op *model.Operation) (context.Context, func(outcome string)) {
	kind := string(op.Kind)
	from := "released"
	switch {
	case op.TakenFrom != "":
		from = "expired"
	case op.Generation <= 1:
		from = "new"
		o.waitSeconds.WithLabelValues(kind).Observe(max(time.Since(op.CreatedAt), 0).Seconds())
	}
	o.claims.WithLabelValues(kind, from).Inc()
	o.running.WithLabelValues(kind).Inc()
	ctx, end := o.traceOperation(ctx, op)
	return ctx, func(outcome string) {
		o.running.WithLabelValues(kind).Dec()
		o.attempts.WithLabelValues(kind, outcome).Inc()
		switch outcome {
		case "done", "failed", "cancelled":
			o.opSeconds.WithLabelValues(kind, outcome).Observe(max(time.Since(op.CreatedAt), 0).Seconds())
		}
		end(outcome)
	}
}

// Step implements conductor.Observer.
func (o *Observer) Step(ctx context.Context, op *model.Operation, step, node string) (context.Context, func(error)) {
	began := time.Now()
	ctx, end := o.traceStep(ctx, step, node)
	return ctx, func(err error) {
		outcome := "done"
		switch {
		case err != nil && fault.IsPermanent(err):
			outcome = "failed"
		case err != nil:
			outcome = "interrupted"
		}
		o.stepSeconds.WithLabelValues(string(op.Kind), step, outcome).Observe(time.Since(began).Seconds())
		end(outcome)
	}
}

// Retry implements conductor.Observer.
func (o *Observer) Retry(ctx context.Context, op *model.Operation, step string, err error) {
	o.retries.WithLabelValues(string(op.Kind), step).Inc()
	traceRetry(ctx, err)
}
