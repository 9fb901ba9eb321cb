// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/notify"
	"github.com/keelson/keelson/internal/observe"
	"github.com/keelson/keelson/internal/queue"
)

// notifying tells whether other services are told of clusters.
func notifying(cfg *config.Config) bool { return cfg.Notifications.Driver == "messagingv2" }

// openObserver makes what counts and traces.
func (p *process) openObserver(ctx context.Context, do roles) error {
	var traces trace.TracerProvider // a nil of this type, unless they are wanted
	if c := &p.cfg.OTel; c.Enabled {
		provider, err := observe.Traces(ctx, observe.TraceOptions{
			Endpoint: c.Endpoint, Ratio: c.SampleRatio, Service: do.service(), Host: p.cfg.Host, Version: version,
		})
		if err != nil {
			return fmt.Errorf("[otel]: %w", err)
		}
		p.onClose(func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return provider.Shutdown(ctx)
		})
		// A collector that is away is no reason for more than a word.
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.log.Warn("traces are not sent", "error", err) }))
		traces = provider
	}
	p.observer = observe.New(version, traces)
	return nil
}

// service is what a process calls itself.
func (do roles) service() string {
	switch {
	case do.api && do.conductor:
		return "keelson"
	case do.api:
		return "keelson-api"
	default:
		return "keelson-conductor"
	}
}

// startNotifications lets the group send notifications, if they are wanted.
func (p *process) startNotifications(ctx context.Context, group *errgroup.Group) error {
	if !notifying(p.cfg) {
		return nil
	}
	c := &p.cfg.Notifications
	url := c.TransportURL
	if url == "" {
		url = p.cfg.TransportURL
	}
	exchange, err := queue.OpenExchange(url.Reveal(), queue.ExchangeOptions{
		Name: p.cfg.ControlExchange, Keys: notify.Keys(c.Topics...),
		Durable: p.cfg.Rabbit.DurableQueues, Quorum: p.cfg.Rabbit.QuorumQueue,
	}, queue.Options{Logger: p.log, Name: p.connectionName()})
	if err != nil {
		return fmt.Errorf("[oslo_messaging_notifications]: %w", err)
	}
	p.onClose(exchange.Close)
	p.notifications = notify.NewSender(p.store, exchange, p.log, p.cfg.Host, c.Topics...)
	p.observer.Up("notifications_broker_up", "Whether the broker of notifications can be used.", exchange.Healthy)
	group.Go(func() error { return p.notifications.Run(ctx) })
	return nil
}

// conductorObserver is the observer, which also sees to it that what happened
// is told at once.
func (p *process) conductorObserver() conductor.Observer {
	if p.notifications == nil {
		return p.observer
	}
	return telling{p.observer, p.notifications}
}

type telling struct {
	*observe.Observer
	notifications *notify.Sender
}

func (t telling) Operation(ctx context.Context, op *model.Operation) (context.Context, func(outcome string)) {
	t.notifications.Kick()
	ctx, let := t.Observer.Operation(ctx, op)
	return ctx, func(outcome string) {
		let(outcome)
		t.notifications.Kick()
	}
}

// readiness asks all that was opened so far.
func (p *process) readiness() *health.Readiness {
	if p.ready == nil {
		checks := append([]health.Check{
			health.NotDisabled(p.cfg.Healthcheck.DisableByFilePath),
			{Name: "database", Ask: p.store.Ping},
			{Name: "message_queue", Ask: func(context.Context) error { return p.queue.Healthy() }},
		}, p.checks...)
		p.ready = health.NewReadiness(p.log, checks...)
	}
	return p.ready
}

// startMetrics lets the group serve metrics and health, if that is wanted.
func (p *process) startMetrics(ctx context.Context, group *errgroup.Group) error {
	c := &p.cfg.Metrics
	if !c.Enabled {
		return nil
	}
	p.observer.Register(observe.NewCensus(p.store.Census))
	p.observer.Up("message_queue_up", "Whether the message queue can be used.", p.queue.Healthy)
	l, err := listen("metrics ([metrics] port)", c.Host, c.Port)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.observer.Metrics())
	mux.Handle(health.LivePath, health.Live(p.cfg.Healthcheck.DisableByFilePath))
	mux.Handle(health.ReadyPath, p.readiness())
	if c.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	}
	p.log.Info("metrics are served", "address", l.Addr().String())
	group.Go(func() error { return serveHTTP(ctx, l, mux, 10*time.Second, time.Second, p.log) })
	return nil
}
