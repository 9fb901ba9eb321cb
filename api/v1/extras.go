// SPDX-License-Identifier: Apache-2.0

package v1

// What Keelson answers beyond Magnum's API. Memory is in MiB, disks are in GiB;
// fields that are null are not known (yet). A client takes words of state, kind
// and level that it does not know for what they say.

// Node is one node of a cluster.
type Node struct {
	UUID         string  `json:"uuid"`
	Name         string  `json:"name"` // as the COE shows it
	NodeGroup    string  `json:"nodegroup"`
	Role         string  `json:"role"`
	Status       string  `json:"status"` // wanted, placed, running, ready, leaving; of a ready one also stopped or gone
	StatusReason *string `json:"status_reason"`
	// Host tells which nodes share a bare-metal host: its name for
	// administrators, else its uuid, which is also the node's engine label
	// keelson.host.
	Host      *string `json:"host"`
	Address   *string `json:"address"`
	VCPUs     int     `json:"vcpus"`
	MemoryMB  int     `json:"memory_mb"`
	DiskGB    int     `json:"disk_gb"`
	Image     string  `json:"image"` // node image, by the name that hosts know it by
	CreatedAt Time    `json:"created_at"`
	UpdatedAt *Time   `json:"updated_at"`
}

// Nodes are all nodes of a cluster, by node group and then in the order of
// their numbers.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// Operation is one piece of work on a cluster.
type Operation struct {
	UUID       string  `json:"uuid"`
	Kind       string  `json:"kind"`   // create, update, upgrade, rotate-ca, rebuild, repair, delete
	State      string  `json:"state"`  // pending, running, done, failed, cancelled
	Reason     *string `json:"reason"` // why it failed
	UserID     string  `json:"user_id"`
	RequestID  string  `json:"request_id"` // of the call that asked for it; empty when Keelson itself did
	CreatedAt  Time    `json:"created_at"`
	StartedAt  *Time   `json:"started_at"`
	FinishedAt *Time   `json:"finished_at"`
	Undo       bool    `json:"undo"` // it failed, and what it half made is, or was, removed
	Steps      []Step  `json:"steps"`
}

// Operations are a cluster's operations, the newest first.
type Operations struct {
	Operations []Operation `json:"operations"`
}

// Step is one step of an operation, in the order they were begun.
type Step struct {
	Name       string `json:"name"`
	Node       string `json:"node"`  // name; empty for what concerns the cluster as a whole
	State      string `json:"state"` // running, done, failed
	Attempts   int    `json:"attempts"`
	Message    string `json:"message"`
	StartedAt  Time   `json:"started_at"`
	FinishedAt *Time  `json:"finished_at"`
}

// Kinds of events.
const (
	EventOperationStart = "operation.start"
	EventOperationEnd   = "operation.end"
	EventOperationError = "operation.error" // failed, or cut short by a later one
	EventStepStart      = "step.start"
	EventStepEnd        = "step.end"
	EventStepError      = "step.error"
	EventClusterStatus  = "cluster.status"
	EventClusterHealth  = "cluster.health"
	EventAutoscale      = "autoscale"
)

// Levels of events.
const (
	LevelInfo    = "info"
	LevelWarning = "warning"
	LevelError   = "error"
)

// Event is something that happened to a cluster.
type Event struct {
	ID        int64  `json:"id"` // rises; ask for those after it
	Time      Time   `json:"time"`
	Kind      string `json:"kind"`
	Operation string `json:"operation"` // uuid; empty when it was none
	Step      string `json:"step"`
	Node      string `json:"node"` // name
	Level     string `json:"level"`
	Message   string `json:"message"` // a sentence for people
	UserID    string `json:"user_id"`
	RequestID string `json:"request_id"`
}

// Events are a cluster's events, the oldest first.
type Events struct {
	Events []Event `json:"events"`
}

// NodesRequest names nodes to rebuild or repair, by name or uuid; none means
// all that it may concern.
type NodesRequest struct {
	Nodes []string `json:"nodes,omitempty"`
}

// Autoscale is whether and how far a cluster grows by itself.
type Autoscale struct {
	Enabled          bool               `json:"enabled"`
	NodeGroups       []AutoscaleGroup   `json:"nodegroups"`
	ThresholdPercent int                `json:"threshold_percent"` // of real capacity; one node is added strictly above
	SettleSeconds    int                `json:"settle_seconds"`    // rest after a node was added
	LastDecision     *AutoscaleDecision `json:"last_decision"`
}

// AutoscaleGroup is what autoscaling knows of a node group.
type AutoscaleGroup struct {
	Name         string `json:"name"`
	MinNodeCount int    `json:"min_node_count"`
	MaxNodeCount *int   `json:"max_node_count"` // null: no bound but the operator's
	Autoscale    bool   `json:"autoscale"`      // this group takes part
}

// AutoscaleDecision is what autoscaling last decided, and why.
type AutoscaleDecision struct {
	Time    Time   `json:"time"`
	Message string `json:"message"`
}

// AutoscaleRequest changes what it names and leaves the rest; node groups are
// found by name.
type AutoscaleRequest struct {
	Enabled          *bool                   `json:"enabled,omitempty"`
	NodeGroups       []AutoscaleGroupRequest `json:"nodegroups,omitempty"`
	ThresholdPercent *int                    `json:"threshold_percent,omitempty"` // 1 to 100
	SettleSeconds    *int                    `json:"settle_seconds,omitempty"`    // 0 to 86400
}

// AutoscaleGroupRequest changes one node group's part in it.
type AutoscaleGroupRequest struct {
	Name         string `json:"name"`
	MinNodeCount *int   `json:"min_node_count,omitempty"`
	MaxNodeCount *int   `json:"max_node_count,omitempty"`
	Autoscale    *bool  `json:"autoscale,omitempty"`
}

// Usage is what tasks and containers have reserved of a cluster.
type Usage struct {
	Nodes   []NodeUsage   `json:"nodes"`
	Samples []UsageSample `json:"samples"` // of the whole cluster, the oldest first
}

// NodeUsage is what is reserved of one node.
type NodeUsage struct {
	Name             string  `json:"name"`
	CPUsTotal        float64 `json:"cpus_total"`
	CPUsReserved     float64 `json:"cpus_reserved"`
	MemoryMBTotal    int     `json:"memory_mb_total"`
	MemoryMBReserved int     `json:"memory_mb_reserved"`
	SampledAt        Time    `json:"sampled_at"`
}

// UsageSample is what was reserved of the cluster at one time.
type UsageSample struct {
	Time             Time    `json:"time"`
	CPUsTotal        float64 `json:"cpus_total"`
	CPUsReserved     float64 `json:"cpus_reserved"`
	MemoryMBTotal    int     `json:"memory_mb_total"`
	MemoryMBReserved int     `json:"memory_mb_reserved"`
}

// BundleRequest asks for a credential bundle: a zip archive. With a CSR the
// private key stays with the client and is not in the archive.
type BundleRequest struct {
	CSR        string `json:"csr,omitempty"`         // PEM
	TTLSeconds int    `json:"ttl_seconds,omitempty"` // 300 to 31536000; 0: as long as the certificate API's
}

// Host is a bare-metal host, for administrators.
type Host struct {
	UUID          string   `json:"uuid"`
	Name          string   `json:"name"`
	State         string   `json:"state"` // enrolled, deploying, preparing, ready, draining, releasing, error
	Reason        *string  `json:"reason"`
	Address       *string  `json:"address"`
	ResourceClass string   `json:"resource_class"`
	Traits        []string `json:"traits"`
	VCPUs         int      `json:"vcpus"` // to be given away, allocation ratios applied; likewise below
	VCPUsUsed     int      `json:"vcpus_used"`
	MemoryMB      int      `json:"memory_mb"`
	MemoryMBUsed  int      `json:"memory_mb_used"`
	DiskGB        int      `json:"disk_gb"`
	DiskGBUsed    int      `json:"disk_gb_used"`
	Nodes         int      `json:"nodes"`
	Failures      int      `json:"failures"` // node starts in a row that failed
	CreatedAt     Time     `json:"created_at"`
	UpdatedAt     *Time    `json:"updated_at"`
}

// Hosts are all bare-metal hosts, by name.
type Hosts struct {
	Hosts []Host `json:"hosts"`
}

// Driver is a COE driver, for administrators. Of one that was skipped only
// name and kind are known.
type Driver struct {
	Name           string   `json:"name"`
	Kind           string   `json:"kind"` // built-in, plugin, stub
	Version        string   `json:"version"`
	COEs           []string `json:"coes"` // values of a template's coe that it serves, likewise below
	ServerTypes    []string `json:"server_types"`
	Distros        []string `json:"distros"` // none: any
	NetworkDrivers []string `json:"network_drivers"`
	VolumeDrivers  []string `json:"volume_drivers"`
	Capabilities   []string `json:"capabilities"` // beside create, update and delete: upgrade, rotate-ca, rebuild, usage; stub: it makes no clusters
	Skipped        *string  `json:"skipped"`      // why it is not loaded; null: it is
	Problem        *string  `json:"problem"`      // why it does not answer now; null: it does
}

// Drivers are all drivers of the process that answers, by name.
type Drivers struct {
	Drivers []Driver `json:"drivers"`
}
