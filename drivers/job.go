// SPDX-License-Identifier: Apache-2.0

package drivers

import "slices"

// Job is all that a driver may know about the work at hand. The values are
// the driver's own copies, read when the call began. A job for Driver.Health
// has an empty operation.
type Job struct {
	Operation Operation
	Cluster   Cluster
	Template  Template
	Groups    []NodeGroup
	// Nodes are all nodes of the cluster: those wanted but not made yet, those
	// that run, and those that are to leave, ordered by group, then index.
	Nodes    []Node
	Services Services
}

// Kinds of operations.
const (
	Create   = "create"    // make all nodes and form the COE
	Update   = "update"    // bring the cluster to its nodes: join new ones, remove leaving ones
	Upgrade  = "upgrade"   // rebuild the stale nodes of the operation's groups, a few at a time
	RotateCA = "rotate-ca" // bring all nodes to the cluster's present authority, a few at a time
	Rebuild  = "rebuild"   // rebuild the stale ones of the operation's nodes, one at a time
	Delete   = "delete"    // remove all nodes; the conductor removes the records
)

// Operation is the work to do.
type Operation struct {
	ID   string // uuid
	Kind string // Create, Update, Upgrade, RotateCA, Rebuild or Delete
	// Undo: remove what this operation half made. For Upgrade and RotateCA:
	// bring the nodes to where template and authority are again, which is
	// where they were before.
	Undo bool
	// Groups are the ids of the node groups to work on; empty means all.
	Groups []string
	// Nodes are the ids of the nodes that a Rebuild is about; empty means all.
	Nodes []string
	// MaxBatchSize is how many workers of a group an Upgrade may take out of
	// service at once, 1 or more.
	MaxBatchSize int
}

// Concerns tells whether the operation is about the node: by its group and, if
// the operation names nodes, by its id.
func (o *Operation) Concerns(n *Node) bool {
	return (len(o.Groups) == 0 || slices.Contains(o.Groups, n.GroupID)) && (len(o.Nodes) == 0 || slices.Contains(o.Nodes, n.ID))
}

// Cluster is the user's specification of a cluster and what was seen of it.
type Cluster struct {
	ID        string // uuid
	Name      string
	ProjectID string
	UserID    string
	Labels    map[string]string

	APIAddress string // observed; empty until known
	State      []byte // the driver's own, see Records.SaveState
}

// Template is the cluster template.
type Template struct {
	ID                  string
	Name                string
	Driver              string // name of the driver that must serve it; empty: any that can
	COE                 string
	ServerType          string
	ImageID             string
	Distro              string
	NetworkDriver       string
	VolumeDriver        string
	DockerStorageDriver string
	TLSDisabled         bool
	MasterLBEnabled     bool
	RegistryEnabled     bool
	InsecureRegistry    string
	HTTPProxy           string
	HTTPSProxy          string
	NoProxy             string
	DNSNameserver       string
	Labels              map[string]string
}

// NodeGroup is a set of like nodes.
type NodeGroup struct {
	ID        string
	Name      string
	Role      string // "master" or a worker role
	NodeCount int
	Labels    map[string]string
}

// Node is one machine of the cluster.
type Node struct {
	ID      string // uuid
	Name    string // host name
	GroupID string
	Role    string
	Index   int
	State   NodeState
	Host    string // opaque name of the bare-metal host, empty until placed
	Zone    string // availability zone of the host, empty where the operator names none
	Address string // IPv4, empty until placed
	COEID   string // the COE's id of the node, empty until joined
	// Stale: its root was not made from what template, image and authority of
	// the cluster are now; see Nodes.Rebuild.
	Stale bool
}

// Master tells whether the node is a manager.
func (n *Node) Master() bool { return n.Role == "master" }

// NodeState is where a node is in its life.
type NodeState string

// A node is wanted, placed on a host, running there, ready (joined its COE)
// and at last leaving.
const (
	NodeWanted  NodeState = "wanted"
	NodePlaced  NodeState = "placed"
	NodeRunning NodeState = "running"
	NodeReady   NodeState = "ready"
	NodeLeaving NodeState = "leaving"
)

// Node returns the node with that uuid, or nil.
func (j *Job) Node(id string) *Node {
	for i := range j.Nodes {
		if j.Nodes[i].ID == id {
			return &j.Nodes[i]
		}
	}
	return nil
}
