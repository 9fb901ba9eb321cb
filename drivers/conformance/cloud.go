// SPDX-License-Identifier: Apache-2.0

// Package conformance holds the rules that every driver must keep, as tests,
// and what it takes to run a driver without a conductor: [Cloud], the services
// in memory, and [Runner], which takes the steps of a plan.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// Machines is what nodes run on, real or pretended. It may be used from
// several goroutines at once.
type Machines interface {
	// Address returns the address of the i-th node ever placed, from 0.
	Address(i int) netip.Addr
	// Start makes the node's machine with these files and starts it; one that
	// runs already is left alone. revision names what it is made from.
	Start(ctx context.Context, node drivers.Node, revision string, files []drivers.File) error
	// Rebuild makes the root of the node's machine anew unless it is of that
	// revision already; what the COE keeps there stays.
	Rebuild(ctx context.Context, node drivers.Node, revision string, files []drivers.File) error
	// Delete removes the machine and all that it had; gone is success.
	Delete(ctx context.Context, nodeID string) error
	// List returns the ids of the nodes that have anything left here.
	List(ctx context.Context) ([]string, error)
}

// Cloud is one cluster with its nodes, certificates and records, kept in
// memory. It does for a driver what the conductor does with the database.
type Cloud struct {
	machines Machines
	certs    *certificates
	ca       *ca.CA
	template drivers.Template

	mu        sync.Mutex
	cluster   drivers.Cluster
	groups    []drivers.NodeGroup
	nodes     []drivers.Node
	placed    int               // nodes placed so far
	version   int               // of the template, raised by an upgrade
	authority int               // generation of the authorities, raised by a rotation
	built     map[string]string // revision by node id
	observed  drivers.Observed
	broken    error // what every service call answers, if set
	refused   int   // calls answered with broken
}

// NewCloud returns a cluster without nodes: see Resize.
func NewCloud(tb testing.TB, machines Machines, template drivers.Template) *Cloud {
	tb.Helper()
	path := tb.TempDir() + "/master.key"
	sealer, err := ca.LoadOrCreateKeyFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	certs := &certificates{rows: map[certificateKey]model.Certificate{}}
	authority, err := ca.New(certs, sealer, ca.Options{NotFound: errNoCertificate})
	if err != nil {
		tb.Fatal(err)
	}
	return &Cloud{
		machines: machines,
		certs:    certs,
		ca:       authority,
		template: template,
		built:    map[string]string{},
		cluster:  drivers.Cluster{ID: uuid.NewString(), Name: "blue", ProjectID: "project", UserID: "user"},
		groups: []drivers.NodeGroup{
			{ID: uuid.NewString(), Name: "default-master", Role: "master"},
			{ID: uuid.NewString(), Name: "default-worker", Role: "worker"},
		},
	}
}

// Resize changes the wanted nodes, as the conductor does when it claims an
// operation: new nodes are wanted, and those with the highest index leave.
func (c *Cloud) Resize(masters, workers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for g, count := range []int{masters, workers} {
		group := &c.groups[g]
		group.NodeCount = count
		var staying []int // indexes into c.nodes
		for i, n := range c.nodes {
			if n.GroupID == group.ID && n.State != drivers.NodeLeaving {
				staying = append(staying, i)
			}
		}
		for len(staying) > count {
			last := len(staying) - 1
			c.nodes[staying[last]].State = drivers.NodeLeaving
			staying = staying[:last]
		}
		for i := 0; len(staying) < count; i++ {
			taken := func(n drivers.Node) bool { return n.GroupID == group.ID && n.Index == i }
			if slices.ContainsFunc(c.nodes, taken) {
				continue
			}
			staying = append(staying, -1)
			c.nodes = append(c.nodes, drivers.Node{
				ID:      uuid.NewString(),
				Name:    fmt.Sprintf("%s-%s-%d", c.cluster.Name, group.Role, i),
				GroupID: group.ID,
				Role:    group.Role,
				Index:   i,
				State:   drivers.NodeWanted,
			})
		}
	}
	slices.SortFunc(c.nodes, func(a, b drivers.Node) int {
		if a.GroupID != b.GroupID {
			if a.Master() {
				return -1
			}
			return 1
		}
		return a.Index - b.Index
	})
}

// Renew changes the records as a request to upgrade the cluster or to rotate
// its authorities does: all nodes are stale from then on.
func (c *Cloud) Renew(kind string) { c.renew(kind, 1) }

// Revert takes back what Renew changed, as the conductor does when it begins
// to undo the operation.
func (c *Cloud) Revert(kind string) { c.renew(kind, -1) }

func (c *Cloud) renew(kind string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == drivers.RotateCA {
		c.authority += by
	} else {
		c.version += by
	}
}

// Settle forgets all authorities but the present one, as the conductor does
// at the end of a rotation.
func (c *Cloud) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certs.keepOnly(c.authority)
}

// revision names what nodes are to be made from; c.mu is held.
func (c *Cloud) revision() string { return fmt.Sprintf("%d/%d", c.version, c.authority) }

// Operation returns an operation on the cluster.
func (c *Cloud) Operation(kind string) drivers.Operation {
	return drivers.Operation{ID: uuid.NewString(), Kind: kind, MaxBatchSize: 1}
}

// Job returns what a driver is told about the operation right now.
func (c *Cloud) Job(op drivers.Operation) *drivers.Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	cluster := c.cluster
	cluster.State = slices.Clone(cluster.State)
	all := slices.Clone(c.nodes)
	for i := range all {
		all[i].Stale = c.built[all[i].ID] != c.revision()
	}
	return &drivers.Job{
		Operation: op,
		Cluster:   cluster,
		Template:  c.template,
		Groups:    slices.Clone(c.groups),
		Nodes:     all,
		Services: drivers.Services{
			Nodes:        nodes{c},
			Certificates: guarded{c, c.authorities()},
			Records:      records{c},
		},
	}
}

// Look returns what a driver is told that is only to look at the cluster.
func (c *Cloud) Look() *drivers.Job {
	job := c.Job(drivers.Operation{})
	job.Nodes = slices.DeleteFunc(job.Nodes, func(n drivers.Node) bool { return n.State != drivers.NodeReady })
	job.Services.Nodes, job.Services.Records = drivers.ReadOnly{}, drivers.ReadOnly{}
	return job
}

// Authorities returns the present ones, to sign a tenant's request with.
func (c *Cloud) Authorities() *ca.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.authorities()
}

func (c *Cloud) authorities() *ca.Cluster {
	return c.ca.Cluster(c.cluster.ID, c.cluster.Name, c.authority)
}

// Nodes returns the nodes, ordered by group and index.
func (c *Cloud) Nodes() []drivers.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Observed returns what the driver has noted of the cluster.
func (c *Cloud) Observed() drivers.Observed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observed
}

// Break makes every service call fail with err until Repair.
func (c *Cloud) Break(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken, c.refused = err, 0
}

// Repair ends Break and returns how many calls failed.
func (c *Cloud) Repair() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = nil
	return c.refused
}

// fails returns the error that calls are to fail with; c.mu is held.
func (c *Cloud) fails() error {
	if c.broken != nil {
		c.refused++
	}
	return c.broken
}

func (c *Cloud) node(id string) *drivers.Node {
	for i := range c.nodes {
		if c.nodes[i].ID == id {
			return &c.nodes[i]
		}
	}
	return nil
}

// errNoNode is what a service says about a node without a record.
func errNoNode(id string) error {
	return fault.Permanent(nil, "node %s has no record", id)
}

type nodes struct{ *Cloud }

func (c nodes) Place(_ context.Context, nodeID string) (drivers.Outcome, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fails(); err != nil {
		return drivers.Outcome{}, err
	}
	n := c.node(nodeID)
	switch {
	case n == nil:
		return drivers.Outcome{}, errNoNode(nodeID)
	case n.Address != "":
		return drivers.Done("placed already"), nil
	}
	n.Host = fmt.Sprintf("host-%d", c.placed%3)
	n.Address = c.machines.Address(c.placed).String()
	n.State = drivers.NodePlaced
	c.placed++
	return drivers.Done("placed on " + n.Host), nil
}

func (c nodes) Start(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return c.build(ctx, nodeID, files, c.machines.Start)
}

func (c nodes) Rebuild(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return c.build(ctx, nodeID, files, c.machines.Rebuild)
}

func (c nodes) build(ctx context.Context, nodeID string, files []drivers.File, make func(context.Context, drivers.Node, string, []drivers.File) error) (drivers.Outcome, error) {
	c.mu.Lock()
	err := c.fails()
	var node drivers.Node
	if n := c.node(nodeID); n != nil {
		node = *n
	}
	revision := c.revision()
	c.mu.Unlock()
	switch {
	case err != nil:
		return drivers.Outcome{}, err
	case node.ID == "":
		return drivers.Outcome{}, errNoNode(nodeID)
	case node.Address == "":
		return drivers.Outcome{}, fault.Permanent(nil, "node %s is started before it is placed", node.Name)
	}
	if err := make(ctx, node, revision, files); err != nil {
		return drivers.Outcome{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.built[nodeID] = revision
	if n := c.node(nodeID); n != nil && n.State == drivers.NodePlaced {
		n.State = drivers.NodeRunning
	}
	return drivers.Done("started"), nil
}

func (c nodes) Delete(ctx context.Context, nodeID string) (drivers.Outcome, error) {
	c.mu.Lock()
	err := c.fails()
	c.mu.Unlock()
	if err != nil {
		return drivers.Outcome{}, err
	}
	if err := c.machines.Delete(ctx, nodeID); err != nil {
		return drivers.Outcome{}, err
	}
	c.certs.removeNode(nodeID)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n drivers.Node) bool { return n.ID == nodeID })
	return drivers.Done("deleted"), nil
}

type records struct{ *Cloud }

func (c records) Joined(_ context.Context, nodeID, coeID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fails(); err != nil {
		return err
	}
	n := c.node(nodeID)
	if n == nil {
		return errNoNode(nodeID)
	}
	n.State, n.COEID = drivers.NodeReady, coeID
	return nil
}

func (c records) Observed(_ context.Context, o drivers.Observed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fails(); err != nil {
		return err
	}
	for _, field := range []struct{ old, new *string }{
		{&c.observed.StackID, &o.StackID},
		{&c.observed.APIAddress, &o.APIAddress},
		{&c.observed.COEVersion, &o.COEVersion},
		{&c.observed.ContainerVersion, &o.ContainerVersion},
	} {
		if *field.new != "" {
			*field.old = *field.new
		}
	}
	c.cluster.APIAddress = c.observed.APIAddress
	return nil
}

// maxState is how much of its own a driver may keep.
const maxState = 64 << 10

func (c records) SaveState(_ context.Context, state []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fails(); err != nil {
		return err
	}
	if len(state) > maxState {
		return fault.Permanent(nil, "the driver's state has %d bytes, more than %d", len(state), maxState)
	}
	c.cluster.State = slices.Clone(state)
	return nil
}

// guarded is the cluster's certificate authority; it fails while the cloud is
// broken.
type guarded struct {
	cloud *Cloud
	ca    *ca.Cluster
}

func (g guarded) fails() error {
	g.cloud.mu.Lock()
	defer g.cloud.mu.Unlock()
	return g.cloud.fails()
}

func (g guarded) Authority(ctx context.Context) ([]byte, error) {
	if err := g.fails(); err != nil {
		return nil, err
	}
	return g.ca.Authority(ctx)
}

func (g guarded) Node(ctx context.Context, nodeID, name string, address netip.Addr) (cert, key []byte, err error) {
	if err := g.fails(); err != nil {
		return nil, nil, err
	}
	return g.ca.Node(ctx, nodeID, name, address)
}

func (g guarded) Client(ctx context.Context) (cert, key []byte, err error) {
	if err := g.fails(); err != nil {
		return nil, nil, err
	}
	return g.ca.Client(ctx)
}

func (g guarded) Other(ctx context.Context) (authority, cert, key []byte, err error) {
	if err := g.fails(); err != nil {
		return nil, nil, nil, err
	}
	return g.ca.Other(ctx)
}

// certificates keeps them like package store.
type certificates struct {
	mu   sync.Mutex
	rows map[certificateKey]model.Certificate
}

type certificateKey struct {
	generation int
	kind, node string
}

var errNoCertificate = errors.New("no such certificate")

func (m *certificates) Certificate(_ context.Context, _ string, generation int, kind, nodeUUID string) (*model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[certificateKey{generation, kind, nodeUUID}]
	if !ok {
		return nil, errNoCertificate
	}
	return &row, nil
}

func (m *certificates) Certificates(_ context.Context, _ string, kinds ...string) ([]model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []model.Certificate
	for key, row := range m.rows {
		if slices.Contains(kinds, key.kind) {
			found = append(found, row)
		}
	}
	slices.SortFunc(found, func(a, b model.Certificate) int { return b.Generation - a.Generation })
	return found, nil
}

func (m *certificates) PutCertificates(_ context.Context, certificates ...model.Certificate) ([]model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stored := slices.Clone(certificates)
	for i, c := range stored {
		key := certificateKey{c.Generation, c.Kind, c.NodeID}
		if _, ok := m.rows[key]; !ok {
			m.rows[key] = c
		}
		stored[i] = m.rows[key]
	}
	return stored, nil
}

func (m *certificates) removeNode(nodeUUID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.rows, func(k certificateKey, _ model.Certificate) bool { return k.node == nodeUUID })
}

func (m *certificates) keepOnly(generation int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.rows, func(k certificateKey, _ model.Certificate) bool { return k.generation != generation })
}
