// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/mishap"
)

// COE is the pretended engine: it knows the members of all clusters, as real
// nodes do, and so outlives drivers. It may be used from several goroutines
// at once.
type COE struct {
	dir string // where the members are files, see OpenCOE; empty: in memory

	mu       sync.Mutex
	clusters map[string]map[string]string // cluster id → node id → node name
	dead     map[string]bool              // by node id
	reserved map[string]drivers.Reserved  // likewise
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
		reserved: map[string]drivers.Reserved{},
		faults:   map[target]*Fault{},
		taken:    map[target]int{},
	}
}

// Mishaps is the name of the file in an engine's directory that makes steps go
// wrong by chance: see package mishap.
const Mishaps = "mishaps"

// OpenCOE returns an engine that keeps its members in a directory, one file
// each, so that they outlive the process and several processes share them. The
// directory is made with the first member.
func OpenCOE(dir string) *COE {
	c := NewCOE()
	c.dir = dir
	return c
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
	if c.dir != "" {
		var names []string
		files, _ := filepath.Glob(c.file(clusterID, "*"))
		for _, file := range files {
			if name, err := os.ReadFile(file); err == nil {
				names = append(names, string(name))
			}
		}
		slices.Sort(names)
		return names
	}
	return slices.Sorted(maps.Values(c.clusters[clusterID]))
}

func (c *COE) join(clusterID string, n *drivers.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.dead, n.ID)
	if c.dir != "" {
		file := c.file(clusterID, n.ID)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("joining %s: %w", n.Name, err)
		}
		return os.WriteFile(file, []byte(n.Name), 0o600)
	}
	if c.clusters[clusterID] == nil {
		c.clusters[clusterID] = map[string]string{}
	}
	c.clusters[clusterID][n.ID] = n.Name
	return nil
}

// file is there while the node is a member, in an engine with a directory.
func (c *COE) file(clusterID, nodeID string) string {
	return filepath.Join(c.dir, filepath.Base(clusterID), filepath.Base(nodeID))
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

func (c *COE) leave(clusterID, nodeID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir != "" {
		file := c.file(clusterID, nodeID)
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("leaving: %w", err)
		}
		_ = os.Remove(filepath.Dir(file)) // if this was the last one
		return nil
	}
	delete(c.clusters[clusterID], nodeID)
	if len(c.clusters[clusterID]) == 0 {
		delete(c.clusters, clusterID)
	}
	return nil
}

func (c *COE) member(clusterID, nodeID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir != "" {
		_, err := os.Stat(c.file(clusterID, nodeID))
		return err == nil
	}
	_, ok := c.clusters[clusterID][nodeID]
	return ok
}

// mishap plays what the engine's directory says.
func (c *COE) mishap(ctx context.Context, step string) (lost func() error, err error) {
	if c.dir == "" {
		return func() error { return nil }, nil
	}
	return mishap.Play(ctx, filepath.Join(c.dir, Mishaps), step)
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

// Reserve pretends that workloads have reserved that much of a node.
func (c *COE) Reserve(r drivers.Reserved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved[r.NodeID] = r
}

// Usage implements drivers.UsageReporter: what was pretended with COE.Reserve.
func (d *Driver) Usage(_ context.Context, job *drivers.Job) ([]drivers.Reserved, error) {
	d.coe.mu.Lock()
	defer d.coe.mu.Unlock()
	var usage []drivers.Reserved
	for _, n := range job.Nodes {
		r := d.coe.reserved[n.ID]
		r.NodeID = n.ID
		usage = append(usage, r)
	}
	return usage, nil
}
