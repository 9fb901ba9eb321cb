// SPDX-License-Identifier: Apache-2.0

package config

import "net"

// OsloMessagingNotifications is the group [oslo_messaging_notifications]: what
// other services are told of clusters.
type OsloMessagingNotifications struct {
	Driver       string // "noop" or "messagingv2"
	TransportURL Secret // empty: [DEFAULT] transport_url
	Topics       []string
}

func (n *OsloMessagingNotifications) declare() *group {
	g := &group{name: "oslo_messaging_notifications", help: "What other services are told of clusters: a CADF event for each begin and end of an operation, as Magnum sends them."}
	g.choice(&n.Driver, "driver", "noop", []string{"noop", "messagingv2"},
		"noop tells nobody, messagingv2 sends to RabbitMQ. All processes of one cloud need the same setting.").
		formerly(defaultGroup, "notification_driver")
	g.secret(&n.TransportURL, "transport_url", "",
		"The RabbitMQ to send to. When unset, [DEFAULT] transport_url.").
		must(scheme("rabbit", "amqp", "amqps")).
		formerly(defaultGroup, "notification_transport_url")
	g.list(&n.Topics, "topics", "notifications", name,
		"Topics to send to, each under <topic>.info and <topic>.error.").
		formerly(defaultGroup, "notification_topics")
	g.validate = func(fault func(option, rule string)) {
		if n.Driver == "messagingv2" && len(n.Topics) == 0 {
			fault("topics", "must name one when driver is messagingv2")
		}
	}
	return g
}

// OsloMessagingRabbit is the group [oslo_messaging_rabbit], as far as it is
// about what others share with us.
type OsloMessagingRabbit struct {
	DurableQueues bool
	QuorumQueue   bool
}

func (r *OsloMessagingRabbit) declare() *group {
	g := &group{name: "oslo_messaging_rabbit", help: "How the exchange and the queues of notifications are made, when they do not exist yet. Services that listen with oslo.messaging insist on their own settings of the same names. Keelson's own queue is always durable."}
	g.bool(&r.DurableQueues, "amqp_durable_queues", false, "Let them outlive a restart of the broker.")
	g.bool(&r.QuorumQueue, "rabbit_quorum_queue", false, "Make them quorum queues, which are durable as well.")
	return g
}

// Healthcheck is the group [healthcheck].
type Healthcheck struct {
	DisableByFilePath string
}

func (h *Healthcheck) declare() *group {
	g := &group{name: "healthcheck", help: "What load balancers are told under /healthcheck."}
	g.string(&h.DisableByFilePath, "disable_by_file_path", "/etc/keelson/healthcheck_disable",
		"While a file of this name exists /healthcheck answers 503, so that the operator can take this process out of service. Unset it for never.").
		must(absolutePath)
	return g
}

// Metrics is the group [metrics]: a listener for those who run the service.
type Metrics struct {
	Enabled bool
	Host    string
	Port    int
	Pprof   bool
}

func (m *Metrics) declare() *group {
	g := &group{name: "metrics", help: "A listener of its own for /metrics (Prometheus), /healthcheck and /healthcheck/ready, in each process. It asks for no token."}
	g.bool(&m.Enabled, "enabled", false, "Listen.")
	g.string(&m.Host, "host", "127.0.0.1", "Address to listen on.")
	g.port(&m.Port, "port", 9512, "Port to listen on. 0 takes a free one and logs it. Processes on one machine need one each.")
	g.bool(&m.Pprof, "pprof", false,
		"Serve profiles of the process (Go's net/http/pprof) under /debug/pprof/ as well. They show what is in memory, secrets among it, so only on a loopback address.")
	g.validate = func(fault func(option, rule string)) {
		if ip := net.ParseIP(m.Host); m.Enabled && m.Pprof && m.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			fault("pprof", "must be false unless host is a loopback address like 127.0.0.1")
		}
	}
	return g
}

// OTel is the group [otel]: OpenTelemetry traces.
type OTel struct {
	Enabled     bool
	Endpoint    string
	SampleRatio float64
}

func (o *OTel) declare() *group {
	g := &group{name: "otel", help: "OpenTelemetry traces: one trace from the request to the last step of its operation. A request's own traceparent is continued."}
	g.bool(&o.Enabled, "enabled", false, "Send them.")
	g.string(&o.Endpoint, "endpoint", "http://127.0.0.1:4318",
		"Where a collector takes OTLP over HTTP.").
		must(httpURL)
	g.float(&o.SampleRatio, "sample_ratio", 1, between(0, 1),
		"Share of the traces that begin here to send. Those that a caller began follow the caller's wish.")
	g.validate = func(fault func(option, rule string)) {
		if o.Enabled && o.Endpoint == "" {
			fault("endpoint", "must be set when enabled is true")
		}
	}
	return g
}
