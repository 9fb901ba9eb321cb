// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"context"
	"errors"
	"net/netip"
)

// Services is what Keelson does for drivers, bound to the cluster of the job.
// All of it may be used from several goroutines at once.
type Services struct {
	Nodes        Nodes
	Certificates Certificates
	Records      Records
}

// ErrSuperseded is returned by services when another conductor has taken the
// operation over: stop, and write nothing more.
var ErrSuperseded = errors.New("operation was taken over by another conductor")

// ErrReadOnly is returned by the services of a job that is only there to look
// at a cluster, see ReadOnly.
var ErrReadOnly = errors.New("a look at the cluster changes nothing")

// Nodes places, makes and removes the machines of the cluster. Every method
// is a step: short, repeatable, done already is success.
type Nodes interface {
	// Place gives the node room on a host, an address and an id range of its
	// own. When no host has room it begins to deploy one through Ironic and
	// asks to be called again. It fails permanently when there is no capacity
	// or no address left.
	Place(ctx context.Context, nodeID string) (Outcome, error)

	// Start makes the node on its host, puts files into its root and starts
	// it. Files are written before the first start only. The node runs its
	// init, not yet the COE, when it returns.
	Start(ctx context.Context, nodeID string, files []File) (Outcome, error)

	// Rebuild makes the root of a node that is there anew, from the image that
	// it should have and with these files, and starts it. What the COE keeps on
	// the node's disk (/var/lib/docker) stays, and so do name, address and id.
	// A node that is not Stale is only started, if it does not run.
	Rebuild(ctx context.Context, nodeID string, files []File) (Outcome, error)

	// Delete stops the node, removes all that it had on its host, gives back
	// its room and address, and removes its record. Deleting a node that is
	// gone is success.
	Delete(ctx context.Context, nodeID string) (Outcome, error)
}

// File is placed into a node's root, owned by the node's root user. Parent
// directories are made with mode 0755.
type File struct {
	Path    string // absolute
	Mode    uint32 // permission bits
	Content []byte // may be secret
}

// Certificates is the cluster's own certificate authority. Private keys are
// made and kept by Keelson, sealed at rest.
type Certificates interface {
	// Authority returns the cluster's CA certificate (PEM), made at the first
	// call.
	Authority(ctx context.Context) ([]byte, error)

	// Node returns a server certificate for the node and its key (PEM), signed
	// by the present authority, valid for the node's name, address and
	// localhost, for TLS servers and clients alike; the same pair at every call
	// for the same address.
	Node(ctx context.Context, nodeID string, name string, address netip.Addr) (cert, key []byte, err error)

	// Client returns Keelson's own client certificate for the cluster and its
	// key (PEM), signed by the present authority.
	Client(ctx context.Context) (cert, key []byte, err error)

	// Other returns the same for the other authority while the present one
	// takes over from it (or, when that failed, it from the present one), with
	// that authority's certificate (PEM): nodes still trust the one or already
	// the other. All nil when there is only one authority.
	Other(ctx context.Context) (authority, cert, key []byte, err error)
}

// Records is where a driver keeps what it saw. Each call is one transaction,
// fenced by the operation's lease.
type Records interface {
	// Joined notes that a node is part of the COE, under the COE's own id.
	Joined(ctx context.Context, nodeID, coeID string) error

	// Observed notes what is seen of the cluster; empty fields leave the
	// record as it is.
	Observed(ctx context.Context, o Observed) error

	// SaveState keeps up to 64 KiB of the driver's own, sealed at rest; it
	// comes back as Cluster.State.
	SaveState(ctx context.Context, state []byte) error
}

// Observed is what users see of a cluster's COE.
type Observed struct {
	StackID          string // the COE's id of the cluster
	APIAddress       string // "tcp://192.0.2.7:2376"
	COEVersion       string
	ContainerVersion string
}
