// SPDX-License-Identifier: Apache-2.0

// Package model holds the rows of Keelson's database.
//
// What the user asked for (the specification), what was seen (the observed
// state) and what is told (the status) are separate fields; the system never
// writes into the user's specification. Times are UTC with millisecond
// precision; sizes carry their unit in the name.
package model

import (
	"fmt"
	"slices"
	"time"
)

// Labels are free key-value pairs, stored as one JSON object.
type Labels map[string]string

// ClusterTemplate says how clusters made from it look. Field meanings are
// those of the Container Infrastructure API reference; optional text is nil
// when unset.
type ClusterTemplate struct {
	ID        int64  `gorm:"primaryKey"`
	UUID      string `gorm:"size:36;uniqueIndex"`
	ProjectID string `gorm:"size:255;index"`
	UserID    string `gorm:"size:255"`

	Name                *string `gorm:"size:255;index"`
	COE                 string  `gorm:"column:coe;size:32"`
	Driver              *string `gorm:"size:255"`
	ImageID             string  `gorm:"size:255"`
	FlavorID            *string `gorm:"size:255"`
	MasterFlavorID      *string `gorm:"size:255"`
	KeypairID           *string `gorm:"size:255"`
	ExternalNetworkID   *string `gorm:"size:255"`
	FixedNetwork        *string `gorm:"size:255"`
	FixedSubnet         *string `gorm:"size:255"`
	DNSNameserver       *string `gorm:"column:dns_nameserver;size:255"`
	NetworkDriver       *string `gorm:"size:255"`
	VolumeDriver        *string `gorm:"size:255"`
	DockerVolumeSize    *int
	DockerStorageDriver *string `gorm:"size:255"`
	ClusterDistro       *string `gorm:"size:255"`
	APIServerPort       *int    `gorm:"column:apiserver_port"`
	HTTPProxy           *string `gorm:"column:http_proxy;size:255"`
	HTTPSProxy          *string `gorm:"column:https_proxy;size:255"`
	NoProxy             *string `gorm:"size:255"`
	Labels              Labels  `gorm:"serializer:json;type:text"`
	InsecureRegistry    *string `gorm:"size:255"`
	RegistryEnabled     bool
	TLSDisabled         bool `gorm:"column:tls_disabled"`
	Public              bool
	Hidden              bool
	ServerType          string  `gorm:"size:16"`
	MasterLBEnabled     bool    `gorm:"column:master_lb_enabled"`
	FloatingIPEnabled   bool    `gorm:"column:floating_ip_enabled"`
	Tags                *string `gorm:"size:255"`

	CreatedAt time.Time
	UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
}

// Cluster is one tenant's cluster: its specification, its status and what
// the driver last saw. Node counts live in its node groups.
type Cluster struct {
	ID        int64  `gorm:"primaryKey"`
	UUID      string `gorm:"size:36;uniqueIndex"`
	ProjectID string `gorm:"size:255;index"`
	UserID    string `gorm:"size:255"`

	// Specification.
	Name              string  `gorm:"size:255;index"`
	TemplateID        string  `gorm:"column:cluster_template_id;size:36;index"`
	Keypair           *string `gorm:"size:255"`
	FlavorID          *string `gorm:"size:255"`
	MasterFlavorID    *string `gorm:"size:255"`
	DockerVolumeSize  *int
	FixedNetwork      *string `gorm:"size:255"`
	FixedSubnet       *string `gorm:"size:255"`
	FloatingIPEnabled bool    `gorm:"column:floating_ip_enabled"`
	MasterLBEnabled   bool    `gorm:"column:master_lb_enabled"`
	Labels            Labels  `gorm:"serializer:json;type:text"`
	CreateTimeout     *int    // minutes; nil or 0 means the configured default
	DiscoveryURL      *string `gorm:"column:discovery_url;size:255"`

	// Status.
	Status             Status  `gorm:"size:32;index"`
	StatusReason       *string `gorm:"type:text"`
	HealthStatus       *string `gorm:"size:16"`
	HealthStatusReason Labels  `gorm:"serializer:json;type:text"`

	// Observed.
	StackID          *string `gorm:"size:255"` // the driver's id of the cluster
	APIAddress       *string `gorm:"column:api_address;size:255"`
	COEVersion       *string `gorm:"column:coe_version;size:255"`
	ContainerVersion *string `gorm:"size:255"`
	DriverState      []byte  `gorm:"type:mediumblob"` // opaque to all but the driver; may be sealed

	// CAGeneration counts how often the cluster's authorities were replaced.
	CAGeneration int `gorm:"column:ca_generation;not null;default:0"`

	NextCheck *time.Time `gorm:"index"` // when its health is to be looked at again (database clock); nil: at once

	CreatedAt time.Time
	UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
}

// Roles of node groups. Any other word is a worker group as well.
const (
	RoleMaster = "master"
	RoleWorker = "worker"
)

// NodeGroup is a set of like nodes of one cluster.
type NodeGroup struct {
	ID        int64  `gorm:"primaryKey"`
	UUID      string `gorm:"size:36;uniqueIndex"`
	ClusterID string `gorm:"size:36;uniqueIndex:node_groups_name"` // the cluster's uuid
	Name      string `gorm:"size:255;uniqueIndex:node_groups_name"`
	ProjectID string `gorm:"size:255"`

	Role             string  `gorm:"size:255"`
	FlavorID         *string `gorm:"size:255"`
	ImageID          *string `gorm:"size:255"`
	DockerVolumeSize *int
	Labels           Labels `gorm:"serializer:json;type:text"`
	NodeCount        int
	MinNodeCount     int
	MaxNodeCount     *int
	IsDefault        bool
	Autoscale        *bool // grows by itself, if its cluster may; nil: only the default worker group does

	Status       Status  `gorm:"size:32"`
	StatusReason *string `gorm:"type:text"`
	StackID      *string `gorm:"size:255"`
	Version      *string `gorm:"size:255"`

	CreatedAt time.Time
	UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
}

// Autoscales tells whether the group grows by itself when its cluster may.
// Managers never do.
func (g *NodeGroup) Autoscales() bool {
	if g.Autoscale == nil {
		return g.IsDefault && !g.Master()
	}
	return *g.Autoscale && !g.Master()
}

// Master tells whether the group's nodes are managers of the COE.
func (g *NodeGroup) Master() bool { return g.Role == RoleMaster }

// NodeState is where one node is in its life.
type NodeState string

// A node is wanted, then gets room on a host (placed), then runs, then has
// joined its COE (ready). A leaving node is drained, removed from the COE,
// deleted from its host and its row removed.
const (
	NodeWanted  NodeState = "wanted"
	NodePlaced  NodeState = "placed"
	NodeRunning NodeState = "running"
	NodeReady   NodeState = "ready"
	NodeLeaving NodeState = "leaving"
)

// Node is one LXC container that joins a cluster's COE. While HostID is set
// the node holds room on that host; the claim is made and given back in the
// same transaction that writes HostID.
type Node struct {
	ID          int64     `gorm:"primaryKey"`
	UUID        string    `gorm:"size:36;uniqueIndex"`
	ClusterID   string    `gorm:"size:36;uniqueIndex:nodes_name"` // the cluster's uuid
	NodeGroupID string    `gorm:"size:36;index"`                  // the node group's uuid
	Name        string    `gorm:"size:63;uniqueIndex:nodes_name"` // host name, as the COE shows it
	Index       int       `gorm:"column:ordinal"`                 // counts up from 0 in its group, never reused while taken
	Role        string    `gorm:"size:255"`
	State       NodeState `gorm:"size:16"`

	VCPUs     int    `gorm:"column:vcpus"`
	MemoryMiB int    `gorm:"column:memory_mib"`
	DiskGiB   int    `gorm:"column:disk_gib"`
	Image     string `gorm:"size:255"`                     // node image that it is to run
	Revision  string `gorm:"size:255;not null;default:''"` // what its root was made from, see RootRevision
	Rebuilds  int    `gorm:"not null;default:0"`           // how often its root was to be made anew as it is

	HostID  *string `gorm:"size:36;index;uniqueIndex:nodes_host_slot"` // the host's uuid
	Slot    *int    `gorm:"uniqueIndex:nodes_host_slot"`               // which id range of the host is this node's
	Network *string `gorm:"size:64;uniqueIndex:nodes_address"`         // name of the configured network
	Address *string `gorm:"size:45;uniqueIndex:nodes_address"`         // IPv4, without prefix length
	MAC     *string `gorm:"column:mac;size:17"`

	COEID *string `gorm:"column:coe_id;size:255"` // the COE's own id of the node

	Machine MachineState `gorm:"size:16;not null;default:''"` // what was wrong with its machine when its host was last asked

	CreatedAt time.Time
	UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
}

// RootRevision names all that a node's root is made from: its image, the
// cluster template, the generation of the cluster's authorities, and how often
// it was asked for. A node
// whose Revision is another one is to be rebuilt.
func (n *Node) RootRevision(c *Cluster) string {
	revision := fmt.Sprintf("%s/%s/%d", n.Image, c.TemplateID, c.CAGeneration)
	if n.Rebuilds > 0 { // else as it always was
		revision += fmt.Sprintf("/%d", n.Rebuilds)
	}
	return revision
}

// MachineState is what a node's host says of the node's machine, seen from
// outside. A node that is not ready has none that would matter.
type MachineState string

// States of a machine.
const (
	MachineFine    MachineState = ""        // it runs, as far as is known
	MachineStopped MachineState = "stopped" // it is there and stands still
	MachineGone    MachineState = "gone"    // the host answers, and has no such machine
)

// Master tells whether the node is a manager of its COE.
func (n *Node) Master() bool { return n.Role == RoleMaster }

// HostState is where a bare-metal host is in its life.
type HostState string

// States of a host.
const (
	HostEnrolled  HostState = "enrolled"  // wanted; nothing asked of Ironic yet
	HostDeploying HostState = "deploying" // Ironic is at work
	HostPreparing HostState = "preparing" // deployed; libvirt does not answer yet
	HostReady     HostState = "ready"     // takes nodes
	HostDraining  HostState = "draining"  // takes no new nodes
	HostReleasing HostState = "releasing" // being given back to Ironic
	HostError     HostState = "error"     // see Reason; not used for nodes, and looked at again now and then
)

// Host is one bare-metal machine that carries nodes of many tenants. Total is
// what placement may give away (allocation ratios already applied; before it
// is known: what it must have at least), Used is what nodes hold now.
type Host struct {
	ID           int64     `gorm:"primaryKey"`
	UUID         string    `gorm:"size:36;uniqueIndex"`
	Name         string    `gorm:"size:255;uniqueIndex"`
	State        HostState `gorm:"size:16;index;index:hosts_room,priority:1"`
	Reason       *string   `gorm:"type:text"` // why it is in error, for the operator
	IronicNodeID *string   `gorm:"size:36;uniqueIndex"`
	AllocationID *string   `gorm:"size:36"`
	Address      *string   `gorm:"size:45"`
	LibvirtURI   *string   `gorm:"column:libvirt_uri;size:512"`
	Bridge       string    `gorm:"size:15"`

	TotalVCPUs     int `gorm:"column:total_vcpus"`
	TotalMemoryMiB int `gorm:"column:total_memory_mib"`
	TotalDiskGiB   int `gorm:"column:total_disk_gib"`
	UsedVCPUs      int `gorm:"column:used_vcpus"`
	UsedMemoryMiB  int `gorm:"column:used_memory_mib"`
	UsedDiskGiB    int `gorm:"column:used_disk_gib"`

	// Total less Used, reckoned by the database for its index: neither written
	// nor read here.
	FreeVCPUs     int `gorm:"column:free_vcpus;->:false;<-:false;type:int GENERATED ALWAYS AS (total_vcpus - used_vcpus) VIRTUAL;index:hosts_room,priority:3"`
	FreeMemoryMiB int `gorm:"column:free_memory_mib;->:false;<-:false;type:int GENERATED ALWAYS AS (total_memory_mib - used_memory_mib) VIRTUAL;index:hosts_room,priority:2"`
	FreeDiskGiB   int `gorm:"column:free_disk_gib;->:false;<-:false;type:int GENERATED ALWAYS AS (total_disk_gib - used_disk_gib) VIRTUAL;index:hosts_room,priority:4"`

	// What kind of machine it is: as wished for until it is deployed, then as
	// Ironic or the operator says. Without a class it serves those who ask for
	// the configured one.
	ResourceClass string   `gorm:"size:80;index:hosts_room,priority:5"`
	Traits        []string `gorm:"serializer:json;type:text"` // sorted

	EmptySince *time.Time // when the last node left; nil while in use
	Failures   int        `gorm:"index:hosts_room,priority:6"` // node starts in a row that failed here
	Attempts   int        // machines that were tried for this host before and could not be deployed
	NextCheck  *time.Time `gorm:"index"` // when it is to be asked again what runs on it (database clock); nil: at once
	CreatedAt  time.Time
	UpdatedAt  *time.Time `gorm:"autoUpdateTime:false"`

	// Whether its libvirt answers, by the database's clock. While it does not,
	// and afterwards until nothing of lost nodes is left there, the host takes
	// no nodes.
	LastSeenAt        *time.Time // when it was last asked what runs there, and answered
	UnreachableSince  *time.Time `gorm:"index:hosts_room,priority:7"` // nil: it answers
	UnreachableReason *string    `gorm:"type:text"`                   // for people
}

// FailingAfter is how many node starts in a row must fail on a host until
// other hosts are preferred to it, whatever else speaks for it.
const FailingAfter = 3

// Failing tells whether nodes fail to start on the host.
func (h *Host) Failing() bool { return h.Failures >= FailingAfter }

// Trouble is what the operator should know of the host: the reason of its
// state, and since when it does not answer. Nil means nothing.
func (h *Host) Trouble() *string {
	if h.UnreachableSince == nil {
		return h.Reason
	}
	trouble := "has not answered since " + h.UnreachableSince.UTC().Format(time.RFC3339)
	if h.UnreachableReason != nil {
		trouble += ": " + *h.UnreachableReason
	}
	if h.Reason != nil {
		trouble = *h.Reason + "; " + trouble
	}
	return &trouble
}

// LostNode is what may be left of a node on a host that did not answer when the
// node went. Nobody else gets the node's address before the host has said that
// nothing of it runs any more, or is gone itself.
type LostNode struct {
	ID        int64  `gorm:"primaryKey"`
	UUID      string `gorm:"size:36;uniqueIndex:lost_nodes_place"`       // the node's uuid
	HostID    string `gorm:"size:36;index;uniqueIndex:lost_nodes_place"` // the host's uuid
	ClusterID string `gorm:"size:36;index"`                              // the cluster's uuid, which may be gone
	Name      string `gorm:"size:63"`
	Network   string `gorm:"size:64"`
	Address   string `gorm:"size:45"` // empty if it had none
	MAC       string `gorm:"column:mac;size:17"`
	CreatedAt time.Time
}

// AvoidedMachine is a machine of Ironic's that could not be deployed and is
// not asked for again before Until.
type AvoidedMachine struct {
	ID           int64  `gorm:"primaryKey"`
	IronicNodeID string `gorm:"size:36;uniqueIndex"`
	Name         string `gorm:"size:255"` // as Ironic calls it, may be empty
	Host         string `gorm:"size:255"` // which host it was to become
	Reason       string `gorm:"type:text"`
	Until        time.Time
	CreatedAt    time.Time
}

// OperationKind says what an operation does to its cluster.
type OperationKind string

// Kinds of operations.
const (
	OpCreate   OperationKind = "create"
	OpUpdate   OperationKind = "update"  // bring node groups to their counts
	OpUpgrade  OperationKind = "upgrade" // rebuild nodes for another template or image
	OpRotateCA OperationKind = "rotate-ca"
	OpRebuild  OperationKind = "rebuild" // make the roots of nodes anew as they are
	OpRepair   OperationKind = "repair"  // start nodes that stand still; asked for by Keelson itself, leaves the status alone
	OpDelete   OperationKind = "delete"
)

// OperationKinds are the kinds that this program knows. Others are of a newer
// one, and left to its conductors.
var OperationKinds = []OperationKind{OpCreate, OpUpdate, OpUpgrade, OpRotateCA, OpRebuild, OpRepair, OpDelete}

// OperationState is where an operation is.
type OperationState string

// Pending and running operations may be claimed; the others are terminal.
const (
	OpPending   OperationState = "pending"
	OpRunning   OperationState = "running"
	OpDone      OperationState = "done"
	OpFailed    OperationState = "failed"
	OpCancelled OperationState = "cancelled"
)

// Operation is one piece of work on one cluster. Its row is written in the
// transaction that accepts the request, and is the outbox of the message to
// the conductors: PublishedAt stays nil until the broker has confirmed.
//
// A conductor owns the operation until LeaseUntil (database clock). Each claim
// raises Generation by one; every write of a conductor names the generation it
// claimed, so one that lost its lease can write no more.
type Operation struct {
	ID        int64  `gorm:"primaryKey"`
	UUID      string `gorm:"size:36;uniqueIndex"`
	ClusterID string `gorm:"size:36;index"` // the cluster's uuid; the row outlives the cluster
	ProjectID string `gorm:"size:255;index"`
	UserID    string `gorm:"size:255"`
	RequestID string `gorm:"size:64"` // of the REST call, req-<uuid>

	// UserDomainID is the user's domain, GlobalRequestID the id that the
	// caller's own service sent along, and TraceParent the W3C trace context of
	// the REST call. Each may be empty.
	UserDomainID    string `gorm:"size:64;not null;default:''"`
	GlobalRequestID string `gorm:"size:64;not null;default:''"`
	TraceParent     string `gorm:"size:64;not null;default:''"`

	Kind  OperationKind  `gorm:"size:16"`
	State OperationState `gorm:"size:16;index"`
	Spec  OperationSpec  `gorm:"serializer:json;type:text"`

	CancelRequested bool    // a later operation supersedes this one
	Undo            bool    // failed or cancelled; now removing what was half made
	Reason          *string `gorm:"type:text"` // why it failed, for the user

	Owner       string `gorm:"size:255;index"` // conductor host name and process, empty if none
	Generation  int64
	Writes      int64 // fenced writes so far: each changes the row, so that on Galera it conflicts with a claim elsewhere
	LeaseUntil  *time.Time
	NotBefore   *time.Time // do not claim earlier (waiting to be stepped again)
	Deadline    *time.Time // fail when not ended by then
	PublishedAt *time.Time `gorm:"index"`

	CreatedAt  time.Time
	StartedAt  *time.Time
	FinishedAt *time.Time `gorm:"index"`

	// TakenFrom is whose lease had run out when this claim was made; empty when
	// nobody's had. Only Store.Claim sets it.
	TakenFrom string `gorm:"-"`
}

// Terminal tells whether the operation has ended.
func (s OperationState) Terminal() bool {
	return s == OpDone || s == OpFailed || s == OpCancelled
}

// OperationSpec is what the request asked of this operation.
type OperationSpec struct {
	// NodeGroups are the groups to work on; empty means all.
	NodeGroups []string `json:"node_groups,omitempty"`
	// NodeCounts are the groups' counts before the request, by group uuid, put
	// back when the operation fails.
	NodeCounts map[string]int `json:"node_counts,omitempty"`
	// NodesToRemove are node uuids, names, COE ids or addresses to prefer when shrinking.
	NodesToRemove []string `json:"nodes_to_remove,omitempty"`
	// GroupKind is what the operation is to its NodeGroups where that differs
	// from what it is to the cluster: an update of the cluster that creates or
	// deletes a group. Empty means the operation's own kind.
	GroupKind OperationKind `json:"group_kind,omitempty"`
	// Replace are the uuids of nodes to replace by new ones, because their hosts
	// do not answer. Those whose host does when the operation begins stay.
	Replace []string `json:"replace,omitempty"`
	// MaxBatchSize is how many workers of a group may be out of service at
	// once; 0 means 1.
	MaxBatchSize int `json:"max_batch_size,omitempty"`
	// Nodes are the uuids of the nodes to rebuild.
	Nodes []string `json:"nodes,omitempty"`
	// Before is what the request changed in the cluster's records, put back
	// when the operation fails.
	Before *ClusterBefore `json:"before,omitempty"`
}

// ClusterBefore is what an upgrade or a rotation of the authorities changes in
// the records, as it was before.
type ClusterBefore struct {
	TemplateID   string             `json:"template_id"`
	CAGeneration int                `json:"ca_generation"`
	Images       map[string]*string `json:"images,omitempty"` // by node group uuid
}

// Concerns tells whether the operation is about that node group.
func (s *OperationSpec) Concerns(groupUUID string) bool {
	return len(s.NodeGroups) == 0 || slices.Contains(s.NodeGroups, groupUUID)
}

// StepState is where a step is.
type StepState string

// States of a step. A step that failed for a temporary reason stays running
// and its Attempts rise.
const (
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// Step is one line of an operation's journal: one step of the driver's plan,
// for one node or for the cluster as a whole.
type Step struct {
	ID          int64     `gorm:"primaryKey"`
	OperationID string    `gorm:"size:36;uniqueIndex:steps_key"` // the operation's uuid
	Name        string    `gorm:"size:64;uniqueIndex:steps_key"`
	NodeID      string    `gorm:"size:36;uniqueIndex:steps_key"` // empty for cluster-wide steps
	NodeName    string    `gorm:"size:63"`
	Undo        bool      `gorm:"uniqueIndex:steps_key"`
	State       StepState `gorm:"size:16"`
	Attempts    int
	Message     string `gorm:"type:text"` // last outcome, for people
	StartedAt   time.Time
	FinishedAt  *time.Time
}

// Outcome is what a notification tells of an operation, in CADF's words.
type Outcome string

// Outcomes of notifications.
const (
	OutcomePending Outcome = "pending" // a conductor has begun
	OutcomeSuccess Outcome = "success"
	OutcomeFailure Outcome = "failure" // failed, or given up in favour of a later operation
)

// Notification is one message to other services about an operation that has
// begun or ended. It is written in the transaction that begins or ends the
// operation, and deleted once the broker keeps its message safe.
type Notification struct {
	ID              int64         `gorm:"primaryKey"`
	UUID            string        `gorm:"size:36;uniqueIndex"` // the message's id, the same each time it is sent
	Kind            OperationKind `gorm:"size:16"`
	Outcome         Outcome       `gorm:"size:16"`
	ClusterID       string        `gorm:"size:36"`
	ClusterName     string        `gorm:"size:255"`
	ProjectID       string        `gorm:"size:255"`
	UserID          string        `gorm:"size:255"`
	UserDomainID    string        `gorm:"size:64"`
	RequestID       string        `gorm:"size:64"`
	GlobalRequestID string        `gorm:"size:64"`
	Cluster         ClusterData   `gorm:"serializer:json;type:mediumtext"` // as it was in that moment
	TakenUntil      *time.Time    // somebody is sending it (database clock)
	CreatedAt       time.Time
}

// ClusterData is what notifications tell of a cluster: Magnum's fields, with
// Magnum's spelling of them.
type ClusterData struct {
	Status            Status   `json:"status"`
	StatusReason      *string  `json:"status_reason"`
	ProjectID         string   `json:"project_id"`
	CreatedAt         *string  `json:"created_at"` // ISO 8601, UTC, without an offset
	UpdatedAt         *string  `json:"updated_at"`
	ClusterTemplateID string   `json:"cluster_template_id"`
	Keypair           *string  `json:"keypair"`
	DockerVolumeSize  *int     `json:"docker_volume_size:"` // the colon is Magnum's
	Labels            Labels   `json:"labels"`
	MasterFlavorID    *string  `json:"master_flavor_id"`
	FlavorID          *string  `json:"flavor_id"`
	StackID           *string  `json:"stack_id"`
	HealthStatus      *string  `json:"health_status"`
	CreateTimeout     *int     `json:"create_timeout"`
	APIAddress        *string  `json:"api_address"`
	DiscoveryURL      *string  `json:"discovery_url"`
	NodeAddresses     []string `json:"node_addresses"`
	MasterAddresses   []string `json:"master_addresses"`
	NodeCount         int      `json:"node_count"`
	MasterCount       int      `json:"master_count"`
}

// Kinds of certificates.
const (
	CertCA         = "ca"          // the cluster's authority
	CertEtcdCA     = "etcd_ca"     // kept for the API's ca_cert_type
	CertFrontProxy = "front_proxy" // likewise
	CertService    = "service"     // Keelson's own client certificate
	CertNode       = "node"        // a node's server certificate
	CertHostCA     = "host_ca"     // the authority of all hosts, which is no cluster's
)

// Certificate is one X.509 certificate of a cluster, or the authority
// of the hosts (of no cluster); its private key is sealed
// (AES-256-GCM) before it gets here. While the authorities are being replaced
// there are those of two generations.
type Certificate struct {
	ID         int64  `gorm:"primaryKey"`
	ClusterID  string `gorm:"size:36;uniqueIndex:certificates_generation"`
	Kind       string `gorm:"size:16;uniqueIndex:certificates_generation"`
	NodeID     string `gorm:"size:36;uniqueIndex:certificates_generation"` // empty unless Kind is node
	Generation int    `gorm:"not null;default:0;uniqueIndex:certificates_generation"`
	PEM        string `gorm:"column:pem;type:text"`
	SealedKey  []byte `gorm:"type:blob"`
	NotAfter   time.Time
	CreatedAt  time.Time
}

// Quota is a project's limit of one resource.
type Quota struct {
	ID        int64  `gorm:"primaryKey"`
	ProjectID string `gorm:"size:255;uniqueIndex:quotas_key"`
	Resource  string `gorm:"size:255;uniqueIndex:quotas_key"`
	HardLimit int
	CreatedAt time.Time
	UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
}

// TableName keeps gorm from taking "quota" for a plural.
func (Quota) TableName() string { return "quotas" }

// ServiceRecord is one conductor's sign of life.
type ServiceRecord struct {
	ID             int64  `gorm:"primaryKey"`
	Host           string `gorm:"size:255;uniqueIndex:services_key"`
	Binary         string `gorm:"size:255;uniqueIndex:services_key"`
	ReportCount    int
	Disabled       bool
	DisabledReason *string `gorm:"size:255"`
	ForcedDown     bool
	LastSeenUp     *time.Time
	CreatedAt      time.Time
	UpdatedAt      *time.Time `gorm:"autoUpdateTime:false"`
}
