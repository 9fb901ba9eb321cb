// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"time"

	"github.com/keelson/keelson/test/chaos/ledger"
)

// state is all there is to see from outside at one moment: the records, the
// hosts, the engines' members, Ironic, and what the API shows.
type state struct {
	Clusters     []cluster
	Groups       []group
	Nodes        []node
	Hosts        []host
	Certificates []certificate
	Operations   []operation
	Machines     []machine
	Members      []member
	Ironic       []bareMetal
	Shown        map[string]string // cluster uuid → status, as the API shows it
}

type cluster struct{ UUID, Project, Status string }

type group struct {
	UUID, Cluster, Status string
	Count                 int
}

type node struct {
	UUID, Cluster, Group, State, Host, Network, Address string
	Slot                                                int
	VCPUs, MemoryMiB, DiskGiB                           int
}

type host struct {
	UUID, State, URI, Machine, Allocation    string
	UsedVCPUs, UsedMemoryMiB, UsedDiskGiB    int
	TotalVCPUs, TotalMemoryMiB, TotalDiskGiB int
}

// certificate counts those of one cluster and node.
type certificate struct{ Cluster, Node string }

type operation struct {
	UUID, Cluster, Kind, State, RequestID, Owner string
	ID, Generation                               int64
	CreatedAt                                    time.Time
	FinishedAt                                   *time.Time
	Spec                                         spec
}

// spec is what the operation was asked for, as far as it matters here.
type spec struct {
	NodeCounts map[string]int `json:"node_counts"`
}

func (s *spec) read(text []byte) { _ = json.Unmarshal(text, s) }

func (o *operation) ended() bool {
	return o.State == "done" || o.State == "failed" || o.State == "cancelled"
}

// machine is a node's machine on a host, as the host's directory tells.
type machine struct{ Host, UUID, Address string }

// member of a pretended engine.
type member struct{ Cluster, Node string }

// bareMetal is a machine of Ironic's.
type bareMetal struct{ UUID, State, Instance, Allocation string }

// history is what was seen while the faults lasted.
type history struct {
	Ledger  []ledger.Entry
	Claims  []claim
	Quota   int           // of each project
	Lease   time.Duration // of the conductors
	Busy    time.Duration // that a machine with other work to do may add to two leases
	Bound   time.Duration // within which an operation must end
	Watched []violation   // that were seen on the way

	faults []ledger.Entry // of the ledger, once they were asked for
}

// claim is the first moment at which an operation was seen with that
// generation, or as ended.
type claim struct {
	Operation, Owner string
	Generation       int64
	Ended            bool
	Seen             time.Time
}

// violation is an invariant that did not hold.
type violation struct {
	Rule   string // see rules.go
	Detail string
}
