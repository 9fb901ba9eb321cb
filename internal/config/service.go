// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"time"
)

// Default is the group [DEFAULT].
type Default struct {
	Debug        bool
	LogFormat    string // "text" or "json"
	Host         string
	TransportURL Secret
	StatePath    string

	PeriodicEnable  bool
	ControlExchange string // of notifications
	ServiceDownTime time.Duration
}

func (d *Default) declare() *group {
	g := &group{name: defaultGroup, help: "Options of every process."}
	g.bool(&d.Debug, "debug", false, "Log at level DEBUG instead of INFO.")
	g.choice(&d.LogFormat, "log_format", "text", []string{"text", "json"},
		"Form of log lines: text is key=value pairs, json one JSON object a line.")
	host, _ := os.Hostname() // without one, the rule below speaks up
	g.string(&d.Host, "host", host,
		"Name of this conductor, unique among all. It owns its operations under this name, so it should stay the same over restarts.").
		shownAs("<the machine's host name>").
		must(hostName)
	g.secret(&d.TransportURL, "transport_url", "memory://",
		"How API and conductors reach each other: rabbit://user:password@host1:5672,user:password@host2:5672/vhost for RabbitMQ "+
			"(?ssl=1&ssl_ca_file=/path for TLS), or memory:// when both run in one process. Percent-encode special characters.").
		must(scheme("rabbit", "amqp", "amqps", "memory"))
	g.string(&d.StatePath, "state_path", "/var/lib/keelson",
		"Directory for files that Keelson keeps.").
		must(absolutePath)
	g.bool(&d.PeriodicEnable, "periodic_enable", true,
		"Look at clusters and hosts again and again: their health, what runs, and what nobody needs any more.")
	g.string(&d.ControlExchange, "control_exchange", "magnum",
		"RabbitMQ exchange that notifications go through; those who listen name the same.").
		must(name)
	g.duration(&d.ServiceDownTime, "service_down_time", 180, seconds, between(1, 86_400),
		"Seconds of silence after which `openstack coe service list` shows a conductor as down.")
	g.validate = func(fault func(option, rule string)) {
		if d.Host == "" {
			fault("host", "must be set, for this machine has no host name")
		}
		if d.TransportURL == "" {
			fault("transport_url", "must be set")
		}
	}
	return g
}

// API is the group [api]: the REST service.
type API struct {
	Host                         string
	Port                         int
	MaxLimit                     int
	MaxBodySize                  int // bytes
	PublicEndpoint               string
	EnableProxyHeadersParsing    bool
	EnabledSSL                   bool
	SSLCertFile, SSLKeyFile      string
	ReadTimeout, ShutdownTimeout time.Duration
	MaxPendingOperations         int // 0: no limit
}

func (a *API) declare() *group {
	g := &group{name: "api", help: "The Container Infrastructure API."}
	g.string(&a.Host, "host", "127.0.0.1",
		"Address to listen on. Only this machine can reach the default; use 0.0.0.0 or :: to listen on all addresses, "+
			"behind a proxy that ends TLS or with enabled_ssl.")
	g.port(&a.Port, "port", 9511, "Port to listen on. 0 takes a free one and logs it.")
	g.int(&a.MaxLimit, "max_limit", 1000, between(1, 100_000),
		"Most items that one list answer holds, whatever limit the request gives.")
	g.int(&a.MaxBodySize, "max_body_size", 1<<20, between(1<<10, 1<<30),
		"Largest request body in bytes; larger ones are answered 413.").
		formerly("oslo_middleware", "max_request_body_size")
	g.string(&a.PublicEndpoint, "public_endpoint", "",
		"Address of this service as users see it, for the links in answers. When unset it is taken from each request.").
		must(httpURL)
	g.bool(&a.EnableProxyHeadersParsing, "enable_proxy_headers_parsing", false,
		"Trust the X-Forwarded-* headers of requests. Only right behind a proxy that sets them itself.").
		formerly("oslo_middleware", "enable_proxy_headers_parsing")
	g.bool(&a.EnabledSSL, "enabled_ssl", false, "Serve HTTPS with ssl_cert_file and ssl_key_file.")
	g.string(&a.SSLCertFile, "ssl_cert_file", "", "File of the server certificate and its chain, PEM.").must(absolutePath)
	g.string(&a.SSLKeyFile, "ssl_key_file", "", "File of the server certificate's private key, PEM.").must(absolutePath)
	g.duration(&a.ReadTimeout, "read_timeout", 30, seconds, between(1, 600),
		"Seconds that a client may take to send one request.")
	g.duration(&a.ShutdownTimeout, "shutdown_timeout", 20, seconds, between(0, 600),
		"Seconds that running requests get to end when the service stops.")
	g.int(&a.MaxPendingOperations, "max_pending_operations", 10_000, between(0, 10_000_000),
		"Operations that may wait for a conductor. When there are more, requests for another one are answered 503 with Retry-After; deletes are still taken. 0 sets no limit.")
	g.validate = func(fault func(option, rule string)) {
		if a.EnabledSSL && a.SSLCertFile == "" {
			fault("ssl_cert_file", "must be set when enabled_ssl is true")
		}
		if a.EnabledSSL && a.SSLKeyFile == "" {
			fault("ssl_key_file", "must be set when enabled_ssl is true")
		}
	}
	return g
}

// Portal is the group [portal]: the web pages for people.
type Portal struct {
	Enabled                      bool
	SessionIdle, SessionLifetime time.Duration
	LoginsPerMinute              int // 0: no limit
}

func (p *Portal) declare() *group {
	g := &group{name: "portal", help: "Web pages for people, served by the API under /portal. They do what the API does, with the tokens and rules of the API."}
	g.bool(&p.Enabled, "enabled", true, "Serve them. People log in with Keystone's password method.")
	g.duration(&p.SessionIdle, "session_idle", 1800, seconds, between(60, 86_400),
		"Seconds after which somebody who does nothing has to log in again. Pages that refresh themselves do not count as doing something.")
	g.duration(&p.SessionLifetime, "session_lifetime", 28_800, seconds, between(60, 604_800),
		"Seconds after which everybody has to log in again. A session never outlives its Keystone token.")
	g.int(&p.LoginsPerMinute, "logins_per_minute", 10, between(0, 10_000),
		"Attempts to log in that each API process takes in a minute: so many for one user name, and three times as many from one address. 0 sets no limit. Keystone may have limits of its own.")
	return g
}

// Database is the group [database].
type Database struct {
	Connection  Secret
	MaxPoolSize int
	SlowQuery   time.Duration
}

func (d *Database) declare() *group {
	g := &group{name: "database", help: "Where clusters, hosts and operations are kept."}
	g.secret(&d.Connection, "connection", "sqlite:///$state_path/keelson.sqlite",
		"The database: mysql+pymysql://user:password@host/keelson?charset=utf8mb4, or sqlite:////path/to/file for one process on one machine.").
		must(scheme("mysql+pymysql", "mysql", "sqlite"))
	g.int(&d.MaxPoolSize, "max_pool_size", 10, between(1, 1000),
		"Most connections that one process opens.")
	g.duration(&d.SlowQuery, "slow_query", 0.5, seconds, between(0, 3600),
		"Log statements that take longer than this many seconds. 0 logs none.")
	g.validate = func(fault func(option, rule string)) {
		if d.Connection == "" {
			fault("connection", "must be set")
		}
	}
	return g
}

// OsloPolicy is the group [oslo_policy].
type OsloPolicy struct {
	PolicyFile         string // with its directory; may be missing
	EnforceNewDefaults bool
	EnforceScope       bool
}

func (p *OsloPolicy) declare() *group {
	g := &group{name: "oslo_policy", help: "Who may do what."}
	g.string(&p.PolicyFile, "policy_file", "policy.yaml",
		"File that changes the policy's defaults. A relative name counts from the directory of the first configuration file. The file may be missing.").
		formerly(defaultGroup, "policy_file")
	g.bool(&p.EnforceNewDefaults, "enforce_new_defaults", false,
		"Use the defaults with reader, member and admin roles alone, without the older rules beside them.")
	g.bool(&p.EnforceScope, "enforce_scope", false,
		"Refuse tokens for the system or a domain where a rule is made for projects.")
	return g
}

// Conductor is the group [conductor]: the process that carries out operations.
type Conductor struct {
	Workers       int
	StepTimeout   time.Duration
	Lease         time.Duration
	PollInterval  time.Duration
	Heartbeat     time.Duration
	CreateTimeout time.Duration

	ShutdownTimeout         time.Duration
	MaxOperationsPerProject int // 0: no limit
	MaxStartsPerHost        int // 0: no limit

	HealthPollingInterval time.Duration // not above 0: never
	HealthPollingTimeout  time.Duration
	MachineCheckInterval  time.Duration // not above 0: never
	Sweep                 string        // SweepReport, SweepDelete or SweepOff
	SweepInterval         time.Duration
	SweepGrace            time.Duration
	ServiceGoneAfter      time.Duration
	OperationHistory      time.Duration // 0: for ever
	OperationHistoryKeep  int
}

// Values of Conductor.Sweep.
const (
	SweepOff    = "off"
	SweepReport = "report"
	SweepDelete = "delete"
)

func (c *Conductor) declare() *group {
	g := &group{name: "conductor", help: "The process that carries out operations on clusters."}
	g.int(&c.Workers, "workers", 16, between(1, 1024),
		"Operations that one conductor carries out at the same time.")
	g.duration(&c.StepTimeout, "step_timeout", 300, seconds, between(1, 86_400),
		"Seconds after which one step of an operation that keeps failing is given up.")
	g.duration(&c.Lease, "lease", 30, seconds, between(1, 3600),
		"Seconds for which a conductor owns an operation before it must renew. When a conductor dies, another one takes over after at most this time.")
	g.duration(&c.PollInterval, "poll_interval", 2, seconds, between(0.01, 3600),
		"Seconds between two looks into the database for operations that no message told of.")
	g.duration(&c.Heartbeat, "heartbeat", 60, seconds, between(1, 3600),
		"Seconds between two signs of life, shown by `openstack coe service list`.")
	g.duration(&c.CreateTimeout, "create_timeout", 60, minutes, between(1, 10_080),
		"Minutes after which a create fails, for clusters that name no create_timeout of their own.").
		formerly("cluster_heat", "create_timeout")
	g.duration(&c.ShutdownTimeout, "shutdown_timeout", 20, seconds, between(0, 600),
		"Seconds that steps under way get to end when the service stops. Then the operations are handed over to other conductors.")
	g.int(&c.MaxOperationsPerProject, "max_operations_per_project", 10, between(0, 100_000),
		"Operations of one project that all conductors together carry out at the same time. The others wait. 0 sets no limit.")
	g.int(&c.MaxStartsPerHost, "max_starts_per_host", 8, between(0, 1000),
		"Nodes that one conductor starts or rebuilds on one host at the same time. 0 sets no limit.")
	g.duration(&c.HealthPollingInterval, "health_polling_interval", 60, seconds, between(-1, 86_400),
		"Seconds between two looks at the health of a cluster. Not above 0, nobody looks.").
		formerly("kubernetes", "health_polling_interval")
	g.duration(&c.HealthPollingTimeout, "health_polling_timeout", 30, seconds, between(1, 600),
		"Seconds that one look at the health of a cluster may take.")
	g.duration(&c.MachineCheckInterval, "machine_check_interval", 60, seconds, between(-1, 86_400),
		"Seconds between two looks at what runs on a host. Nodes that stand still are started again. Not above 0, nobody looks.")
	g.choice(&c.Sweep, "sweep", SweepReport, []string{SweepReport, SweepDelete, SweepOff},
		"What is done about what nobody needs any more (nodes without a record, machines reserved in Ironic for no host, rows of clusters that are gone): "+
			"log it, remove it as well, or do not look. See `keelsond sweep`.")
	g.duration(&c.SweepInterval, "sweep_interval", 3600, seconds, between(1, 2_592_000), "Seconds between two such looks.")
	g.duration(&c.SweepGrace, "sweep_grace", 3600, seconds, between(60, 2_592_000),
		"Seconds for which nothing is taken for useless after it was made or an operation had it in hand.")
	g.duration(&c.ServiceGoneAfter, "service_gone_after", 7, days, between(0.01, 3650),
		"Days after which the record of a conductor that was not heard of is useless.")
	g.duration(&c.OperationHistory, "operation_history_days", 30, days, between(0, 36_500),
		"Days for which ended operations are kept, with the journal of their steps. 0 keeps them for ever.")
	g.int(&c.OperationHistoryKeep, "operation_history_keep", 10, between(0, 1_000_000),
		"Ended operations that are kept of each cluster, however old.")
	return g
}

// Drivers is the group [drivers].
type Drivers struct {
	Enabled         []string
	PluginDir       string // empty: no plugins
	PluginChecksums string
	PluginMemory    int // MiB
	PluginOpenFiles int
}

func (d *Drivers) declare() *group {
	g := &group{name: "drivers", help: "Container orchestration engines."}
	g.list(&d.Enabled, "enabled", "swarm,kubernetes", name,
		"Drivers to offer of those that come with Keelson. `keelsond driver list` shows which there are.")
	g.string(&d.PluginDir, "plugin_dir", "/usr/lib/keelson/drivers",
		"Directory of drivers that are programs of their own: all files named keelson-driver-*. They, the directory and those above it must belong to root or the user that keelsond runs as, and nobody else may write to them. Empty: none.").
		must(absolutePath)
	g.string(&d.PluginChecksums, "plugin_checksums", "/etc/keelson/drivers.sha256",
		"File that names the programs in plugin_dir that may run, as `sha256sum keelson-driver-*` writes it there. It is read before each start of one.").
		must(absolutePath)
	g.int(&d.PluginMemory, "plugin_memory", 1024, between(64, 1<<20), "MiB of data that the process of each such driver may have.")
	g.int(&d.PluginOpenFiles, "plugin_open_files", 1024, between(64, 1<<20), "Files and connections that the process of each such driver may have open.")
	return g
}

// Quotas is the group [quotas].
type Quotas struct {
	MaxClustersPerProject int
}

func (q *Quotas) declare() *group {
	g := &group{name: "quotas", help: "Limits of projects without a quota of their own."}
	g.int(&q.MaxClustersPerProject, "max_clusters_per_project", 20, between(0, 1_000_000),
		"Clusters that a project may have.")
	return g
}

// X509 is the group [x509]: certificates of clusters.
type X509 struct {
	KeyType        string // "ecdsa" or "rsa"
	RSAKeySize     int
	TermOfValidity time.Duration
	MasterKeyFile  string
}

func (x *X509) declare() *group {
	g := &group{name: "x509", help: "Certificates that Keelson issues for clusters."}
	g.choice(&x.KeyType, "key_type", "ecdsa", []string{"ecdsa", "rsa"},
		"Kind of the private keys: ecdsa is on curve P-256, rsa is for old clients.")
	g.int(&x.RSAKeySize, "rsa_key_size", 2048, between(2048, 8192), "Bits of RSA keys.")
	g.duration(&x.TermOfValidity, "term_of_validity", 365*5, days, between(1, 36_500),
		"Days for which certificates are valid.")
	g.string(&x.MasterKeyFile, "master_key_file", "$state_path/master.key",
		"File of the key that private keys are encrypted with in the database. All processes of one cloud need the same one.").
		must(absolutePath)
	g.validate = func(fault func(option, rule string)) {
		if x.MasterKeyFile == "" {
			fault("master_key_file", "must be set")
		}
	}
	return g
}
