// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// COE is the pretended engine: it knows the members of all clusters, as real
// nodes do, and so outlives drivers. It may be used from several goroutines
// at once.
type COE struct {
	mu       sync.Mutex
	clusters map[string]map[string]string // cluster id → node id → node name
	dead     map[string]bool              // by node id
	faults   map[target]*Fault
	taken    map[target]int
}

// target is a step for one node, or for every node when the name is empty.
type target struct{ step, nodeName string }

// NewCOE returns an engine with no clusters.
func NewCOE() *COE {
	return &COE{
		clusters: map[string]map[string]string{},
		dead:     map[string]bool{},
		faults:   map[target]*Fault{},
		taken:    map[target]int{},
	}
}

// Fault is what goes wrong with a step. Each part works by itself, in the
// order of the fields.
type Fault struct {
	// Temporary is how many times the step fails for a temporary reason.
	Temporary int
	// Permanent is the reason for which it fails for good, if any.
	Permanent string
	// Hang makes it wait until its context ends.
	Hang bool
	// Again is how many times it asks to be looked at again.
	Again int
	// Crash is called when the step has done its work and its outcome is not
	// known to anyone: the worst moment to end the process.
	Crash func()
}

// Inject makes the named step go wrong, for the node of that name or, when it
// is empty, for every node. It replaces an earlier fault of the same target.
func (c *COE) Inject(step, nodeName string, f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[target{step, nodeName}] = &f
}

// Heal takes all faults away.
func (c *COE) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.faults)
}

// Taken tells how often the step was run for the node of that name, or for all
// nodes together when it is empty.
func (c *COE) Taken(step, nodeName string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken[target{step, nodeName}]
}

// Members returns the names of the cluster's nodes, ordered.
func (c *COE) Members(clusterID string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Values(c.clusters[clusterID]))
}

func (c *COE) join(clusterID string, n *drivers.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clusters[clusterID] == nil {
		c.clusters[clusterID] = map[string]string{}
	}
	c.clusters[clusterID][n.ID] = n.Name
	delete(c.dead, n.ID)
}

// Kill ends the node's part of the engine, as when its machine dies. It stays
// a member, but is not ready, until it joins again.
func (c *COE) Kill(nodeID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[nodeID] = true
}

func (c *COE) ready(clusterID, nodeID string) bool {
	return c.member(clusterID, nodeID) && !c.isDead(nodeID)
}

func (c *COE) isDead(nodeID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[nodeID]
}

func (c *COE) leave(clusterID, nodeID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clusters[clusterID], nodeID)
	if len(c.clusters[clusterID]) == 0 {
		delete(c.clusters, clusterID)
	}
}

func (c *COE) member(clusterID, nodeID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.clusters[clusterID][nodeID]
	return ok
}

// before plays the parts of a fault that come before the step's work. A nil
// outcome and error mean: go on.
func (c *COE) before(ctx context.Context, step, nodeName string) (*drivers.Outcome, error) {
	f, temporary, again := c.play(step, nodeName)
	switch {
	case f == nil:
		return nil, nil
	case temporary:
		return nil, fault.Temporary(nil, "%s failed and may work later", step)
	case f.Permanent != "":
		return nil, fault.Permanent(nil, "%s", f.Permanent)
	case f.Hang:
		<-ctx.Done()
		return nil, fmt.Errorf("%s hung: %w", step, ctx.Err())
	case again:
		o := drivers.Again(1, step+" is not done yet")
		return &o, nil
	}
	return nil, nil
}

// play counts the step and uses up what is counted in its fault.
func (c *COE) play(step, nodeName string) (f *Fault, temporary, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken[target{step, ""}]++
	if nodeName != "" {
		c.taken[target{step, nodeName}]++
	}
	kept := c.fault(step, nodeName)
	if kept == nil {
		return nil, false, false
	}
	played := *kept
	switch {
	case kept.Temporary > 0:
		kept.Temporary--
		return &played, true, false
	case kept.Permanent == "" && !kept.Hang && kept.Again > 0:
		kept.Again--
		return &played, false, true
	}
	return &played, false, false
}

// crash plays the end of a fault.
func (c *COE) crash(step, nodeName string) {
	c.mu.Lock()
	f := c.fault(step, nodeName)
	var crash func()
	if f != nil {
		crash = f.Crash
	}
	c.mu.Unlock()
	if crash != nil {
		crash()
	}
}

// fault returns the fault of the step, nil if there is none; c.mu is held.
func (c *COE) fault(step, nodeName string) *Fault {
	if f := c.faults[target{step, nodeName}]; f != nil {
		return f
	}
	return c.faults[target{step, ""}]
}
