// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Config is what an operator may set.
type Config struct {
	MaxLimit         int           // longest page of a list, [api] max_limit; 0 means 1000
	MaxBody          int64         // bytes of a request body; 0 means 112 KiB
	ProxyHeaders     bool          // believe X-Forwarded-Proto and -Host, [oslo_middleware] enable_proxy_headers_parsing
	MaxClusters      int           // quota of a project that has none stored, [quotas] max_clusters_per_project
	OperationTimeout time.Duration // of operations that no create_timeout bounds
	MaxPending       int           // operations that may wait for a conductor before more are refused; 0: any number
	ServiceDownTime  time.Duration // silence after which a conductor counts as down; 0 means 180 s
	MaxStreams       int           // of events that one project may listen to at once in this process; 0 means 16
	EventPoll        time.Duration // how often all of them together look for new events; 0 means 500 ms
	Reads, Changes   RateLimit     // of each project in this process, [rate_limit]
	AllowedOrigins   []string      // of pages that may use the API from a browser, [cors] allowed_origin
	PreflightAge     time.Duration // how long browsers remember that, [cors] max_age
	// DisabledByFile makes /healthcheck answer 503 while a file of that name
	// exists, for load balancers; empty means never.
	DisabledByFile string
}

// Deps is all that the API works with. All of it is needed.
type Deps struct {
	Logger       *slog.Logger
	Store        Store
	Policy       Policy
	COEs         COEs
	Certificates *ca.CA // the authorities of all clusters
	Flavors      Flavors
	Images       Images
	Networks     Networks
	Keypairs     Keypairs
	Projects     Projects

	// Authenticate is keystone.Middleware: it lets requests with a valid token
	// pass and answers the others itself (401, 503). Public paths do not get
	// to it.
	Authenticate func(http.Handler) http.Handler
	// Announce says that operations were stored that conductors do not know
	// of yet. It returns at once.
	Announce func()
	// Now is the clock.
	Now func() time.Time

	// Observer is told of each request; nil means nobody is.
	Observer Observer
	// Closing is closed when the process ends, so that streams do, too; nil
	// means never.
	Closing <-chan struct{}
	// Readiness answers whether all is there that requests need; nil means
	// that it always is.
	Readiness http.Handler
}

// Observer is told of requests, for metrics and traces. Its methods are quick
// and may be called by many goroutines.
type Observer interface {
	// Request is called when a request has come in; all work on it happens in
	// the context returned. answered is called once, when the answer is out,
	// with the route's pattern (empty for paths that are nowhere), the status
	// and the bytes of the answer's body.
	Request(r *http.Request) (ctx context.Context, answered func(route string, status int, sent int64))
	// TraceParent returns the W3C trace context of work that begins in ctx;
	// empty when it is not traced.
	TraceParent(ctx context.Context) string
}

// nobody observes.
type nobody struct{}

func (nobody) Request(r *http.Request) (context.Context, func(string, int, int64)) {
	return r.Context(), func(string, int, int64) {}
}

func (nobody) TraceParent(context.Context) string { return "" }

// Store is the part of *store.Store that the API uses.
type Store interface {
	ListTemplates(ctx context.Context, scope store.Scope, page store.Page) ([]model.ClusterTemplate, error)
	Template(ctx context.Context, scope store.Scope, ident string) (*model.ClusterTemplate, error)
	CreateTemplate(ctx context.Context, t *model.ClusterTemplate) error
	UpdateTemplate(ctx context.Context, t *model.ClusterTemplate, onlyIfUnused bool) error
	DeleteTemplate(ctx context.Context, uuid string) error
	TemplateUsers(ctx context.Context, uuid string) (int, error)
	TemplatesByID(ctx context.Context, uuids []string) (map[string]*model.ClusterTemplate, error)

	ListClusters(ctx context.Context, scope store.Scope, page store.Page) ([]model.Cluster, error)
	ClusterSummaries(ctx context.Context, scope store.Scope, page store.Page) ([]store.ClusterSummary, error)
	ClusterParts(ctx context.Context, clusterUUIDs ...string) (map[string]*store.ClusterParts, error)
	Cluster(ctx context.Context, scope store.Scope, ident string) (*model.Cluster, error)
	NodeGroups(ctx context.Context, clusterUUIDs ...string) (map[string][]model.NodeGroup, error)
	Nodes(ctx context.Context, clusterUUIDs ...string) (map[string][]model.Node, error)
	NodeGroup(ctx context.Context, clusterUUID, ident string) (*model.NodeGroup, error)
	CreateCluster(ctx context.Context, c *model.Cluster, groups []model.NodeGroup, defaultQuota int, op store.NewOperation) (*model.Operation, error)
	ScaleNodeGroup(ctx context.Context, clusterUUID, groupUUID string, count int, nodesToRemove []string, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	CreateNodeGroup(ctx context.Context, g *model.NodeGroup, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	UpdateNodeGroupLimits(ctx context.Context, clusterUUID, groupUUID string, least int, most *int, check func(model.NodeGroup) error, op store.NewOperation) (*model.Operation, error)
	DeleteNodeGroup(ctx context.Context, clusterUUID, groupUUID string, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	UpgradeCluster(ctx context.Context, clusterUUID, templateUUID string, groupUUIDs []string, maxBatchSize int, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	RebuildNodes(ctx context.Context, clusterUUID string, nodeUUIDs []string, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	RotateAuthorities(ctx context.Context, clusterUUID string, allowed func(model.Status) bool, op store.NewOperation) (*model.Operation, error)
	DeleteCluster(ctx context.Context, clusterUUID string, op store.NewOperation) (*model.Operation, error)
	SetHealth(ctx context.Context, clusterUUID string, status *string, reasons model.Labels) error

	ListQuotas(ctx context.Context, projectID string, all bool, page store.Page) ([]model.Quota, error)
	Quota(ctx context.Context, projectID, resource string) (*model.Quota, error)
	CreateQuota(ctx context.Context, q *model.Quota) error
	UpdateQuota(ctx context.Context, projectID, resource string, hardLimit int) (*model.Quota, error)
	DeleteQuota(ctx context.Context, projectID, resource string) error
	Stats(ctx context.Context, projectID string) (clusters, nodes int, err error)
	LatestOperations(ctx context.Context, clusterUUID string, limit int) ([]model.Operation, map[string][]model.Step, error)
	Autoscalings(ctx context.Context, clusterUUIDs ...string) (map[string]model.Autoscaling, error)
	SetAutoscaling(ctx context.Context, clusterUUID string, change store.AutoscaleChange) error
	Samples(ctx context.Context, clusterUUID string) ([]model.UsageSample, error)
	Events(ctx context.Context, clusterUUID string, after int64, limit int) ([]model.Event, error)
	NewestEvents(ctx context.Context, clusterUUID string, after int64, limit int) ([]model.Event, error)
	LatestEvents(ctx context.Context, clusterUUIDs []string) (latest map[string]int64, gone map[string]bool, err error)
	Hosts(ctx context.Context) ([]model.Host, error)
	NodesPerHost(ctx context.Context) (map[string]int, error)
	ListServices(ctx context.Context) ([]model.ServiceRecord, error)
}

var _ Store = (*store.Store)(nil)

// COEs knows which kinds of clusters can be made here. All of it is quick and
// local. The text of an error goes to the user with a 400.
type COEs interface {
	// NetworkDrivers that a template of this COE may name, the default first,
	// and whether any driver serves the COE.
	NetworkDrivers(coe string) (names []string, known bool)
	// VolumeDrivers that a template of this COE may name.
	VolumeDrivers(coe string) []string
	// ValidateTemplate refuses a template whose (server type, distro, COE) no
	// driver serves, or that its driver refuses.
	ValidateTemplate(t *model.ClusterTemplate) error
	// ValidateCluster refuses a cluster, with its groups and their counts,
	// that could not be made from the template, or not by this release.
	ValidateCluster(t *model.ClusterTemplate, c *model.Cluster, groups []model.NodeGroup) error
	// Supports refuses a kind of operation that the template's driver can not
	// do with its clusters.
	Supports(t *model.ClusterTemplate, kind model.OperationKind) error
	// Drivers tells of all drivers that this process knows, those too that it
	// has skipped, by name.
	Drivers() []v1.Driver
}

// Flavors knows the sizes of nodes. Errors are those of package catalog, also
// for the interfaces below.
type Flavors interface {
	Flavor(ctx context.Context, ident string) (catalog.Flavor, error)
}

// Images knows what nodes are made from.
type Images interface {
	Image(ctx context.Context, ident string) (catalog.Image, error)
}

// Networks knows the networks that clusters may use.
type Networks interface {
	ExternalNetwork(ctx context.Context, ident string) error
	FixedNetwork(ctx context.Context, ident string) error
	FixedSubnet(ctx context.Context, ident string) error
}

// Keypairs knows the SSH keys of the caller.
type Keypairs interface {
	Keypair(ctx context.Context, ident string) error
}

// Projects knows the projects of the cloud. *keystone.Client is one.
type Projects interface {
	// ProjectExists is asked before a quota is stored.
	ProjectExists(ctx context.Context, projectID string) (bool, error)
}
