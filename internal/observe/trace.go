// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/model"
)

// TraceOptions say where traces go.
type TraceOptions struct {
	Endpoint string  // of an OTLP collector over HTTP: "http://127.0.0.1:4318"
	Ratio    float64 // share of the traces that begin here to send
	Service  string  // "keelson-api"
	Host     string
	Version  string
}

// Traces returns what New takes; call Shutdown at the end, which sends what
// waits. It does not connect yet, and a collector that is away costs traces
// only.
func Traces(ctx context.Context, o TraceOptions) (*sdk.TracerProvider, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("traces: endpoint: %w", err)
	}
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1/traces")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return sdk.NewTracerProvider(
		sdk.WithBatcher(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Ratio))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version), attribute.String("host.name", o.Host))),
	), nil
}

// w3c is the form in which traces go from process to process.
var w3c = propagation.TraceContext{}

// TraceParent implements api.Observer.
func (o *Observer) TraceParent(ctx context.Context) string {
	if o.tracer == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}

func (o *Observer) traceRequest(r *http.Request) (context.Context, func(route string, status int)) {
	if o.tracer == nil || strings.HasPrefix(r.URL.Path, health.LivePath) { // asked every few seconds, for ever
		return r.Context(), func(string, int) {}
	}
	ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := o.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method)))
	return ctx, func(route string, status int) {
		if route != "" {
			span.SetName(r.Method + " " + route)
			span.SetAttributes(attribute.String("http.route", route))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		span.End()
	}
}

// traceOperation goes on with the trace of the request that asked for the
// operation. The database carries it, as it carries all of the operation: so
// it outlives conductors and brokers.
func (o *Observer) traceOperation(ctx context.Context, op *model.Operation) (context.Context, func(outcome string)) {
	if o.tracer == nil {
		return ctx, func(string) {}
	}
	ctx = w3c.Extract(ctx, propagation.MapCarrier{"traceparent": op.TraceParent})
	ctx, span := o.tracer.Start(ctx, "operation "+string(op.Kind), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("keelson.operation", op.UUID), attribute.String("keelson.cluster", op.ClusterID),
		attribute.String("keelson.request_id", op.RequestID), attribute.Int64("keelson.generation", op.Generation)))
	return ctx, func(outcome string) {
		span.SetAttributes(attribute.String("keelson.outcome", outcome))
		if outcome == "failed" || outcome == "lost" {
			span.SetStatus(codes.Error, outcome)
		}
		span.End()
	}
}

func (o *Observer) traceStep(ctx context.Context, step, node string) (context.Context, func(outcome string)) {
	if o.tracer == nil {
		return ctx, func(string) {}
	}
	ctx, span := o.tracer.Start(ctx, "step "+step, trace.WithAttributes(attribute.String("keelson.node", node)))
	return ctx, func(outcome string) {
		if outcome == "failed" {
			span.SetStatus(codes.Error, outcome)
		}
		span.End()
	}
}

// traceRetry notes it in the step's span. Only what users may read is told.
func traceRetry(ctx context.Context, err error) {
	trace.SpanFromContext(ctx).AddEvent("retry", trace.WithAttributes(attribute.String("reason", fault.Reason(err, "internal error"))))
}
