// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// How hosts are asked what runs on them.
const (
	hostsAtOnce = 16               // by one conductor
	listTimeout = 20 * time.Second // one host
)

// repairTimeout bounds the start of one node in a repair. It is short: what the
// user asks for waits meanwhile.
const repairTimeout = time.Minute

// watchMachines asks the hosts, each about once in MachinesEvery, whichever
// conductor it is, whether the machines of ready nodes run.
func (c *Conductor) watchMachines(ctx context.Context) error {
	if c.opts.MachinesEvery < 0 {
		return nil
	}
	idle := min(max(c.opts.MachinesEvery/30, 10*time.Millisecond), 2*time.Second)
	for {
		hosts, err := c.Store.DueHosts(ctx, c.opts.MachinesEvery, hostsAtOnce)
		if err == nil && len(hosts) > 0 {
			err = errors.Join(c.checkMachines(ctx, hosts), c.evacuate(ctx))
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("could not compare the machines of nodes with the records", "error", err)
		}
		if (err != nil || len(hosts) < hostsAtOnce) && sleep(ctx, jitter(idle)) != nil {
			return nil
		}
	}
}

// checkMachines compares what runs on the hosts with the records, notes what
// differs and asks for the repair of what can be repaired. Of the nodes on a
// host that does not answer nothing is known, so nothing changes.
func (c *Conductor) checkMachines(ctx context.Context, hosts []model.Host) error {
	found := make([]map[string]lxc.State, len(hosts))
	failures := make([]error, len(hosts))
	var all errgroup.Group
	for i, h := range hosts {
		all.Go(func() error {
			found[i], failures[i] = c.machinesOn(ctx, &h)
			if failures[i] != nil && h.UnreachableSince == nil { // said once
				c.Logger.Warn("host does not tell what runs on it", "host", h.Name, "error", failures[i])
			}
			return nil
		})
	}
	_ = all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.noteAnswers(ctx, hosts, found, failures); err != nil {
		return err
	}
	ids := make([]string, len(hosts))
	for i := range hosts {
		ids[i] = hosts[i].UUID
	}
	// Read after the hosts were asked: a node that was removed meanwhile is not
	// missed. One that was made meanwhile is spared by SetMachines, or set right
	// the next time.
	nodes, err := c.Store.NodesOn(ctx, ids...)
	if err != nil {
		return err
	}
	changed := make(map[string]model.MachineState)
	still := make(map[string]string) // cluster → the name of a node that stands still
	for i := range hosts {
		if found[i] == nil {
			continue
		}
		for _, n := range nodes[hosts[i].UUID] {
			if n.State != model.NodeReady {
				continue
			}
			machine := machineState(found[i][n.UUID])
			if machine != n.Machine {
				changed[n.UUID] = machine
				c.Logger.Info("machine of a node changed", "node", n.Name, "cluster", n.ClusterID, "host", hosts[i].Name, "from", n.Machine, "to", machine)
			}
			if machine == model.MachineStopped {
				still[n.ClusterID] = n.Name
			}
		}
	}
	if err := c.Store.SetMachines(ctx, changed); err != nil {
		return err
	}
	for cluster, node := range still {
		request := store.NewOperation{RequestID: "req-" + uuid.NewString(), Deadline: 10 * repairTimeout}
		op, err := c.Store.RepairCluster(ctx, cluster, standing, c.opts.RepairRest, request)
		if err != nil {
			return err
		}
		if op != nil {
			c.Logger.Info("repair wanted: a node stands still", "cluster", cluster, "node", node, "operation", op.UUID, "request_id", op.RequestID)
			c.lookNow()
		}
	}
	return nil
}

func (c *Conductor) machinesOn(ctx context.Context, h *model.Host) (map[string]lxc.State, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := c.Nodes.Host(h.Name, deref(h.LibvirtURI)).List(ctx)
	if err != nil {
		return nil, err
	}
	states := make(map[string]lxc.State, len(list))
	for _, n := range list {
		states[n.UUID] = n.State
	}
	return states, nil
}

// machineState turns what a host says into what is noted.
func machineState(s lxc.State) model.MachineState {
	switch s {
	case lxc.StateRunning:
		return model.MachineFine
	case lxc.StateStopped:
		return model.MachineStopped
	default:
		return model.MachineGone
	}
}

// repair plans and takes the steps of an operation that Keelson asked of
// itself. What the COE needs to do when a node comes back it does by itself.
type repair struct{ *runner }

// stepStart is the one step of a repair, for a node.
const stepStart = "machine.start"

// Plan has the machines started that are noted as standing still.
func (r repair) Plan(ctx context.Context, job *drivers.Job) ([]drivers.Step, error) {
	nodes, err := r.Store.Nodes(ctx, job.Cluster.ID)
	if err != nil {
		return nil, fmt.Errorf("reading nodes: %w", err)
	}
	var steps []drivers.Step
	for _, n := range nodes[job.Cluster.ID] {
		if n.State == model.NodeReady && n.Machine == model.MachineStopped && n.HostID != nil {
			steps = append(steps, drivers.Step{Name: stepStart, NodeID: n.UUID, Timeout: repairTimeout})
		}
	}
	return steps, nil
}

// Run starts the machine of a node unless it runs.
func (r repair) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error) {
	node := job.Node(step.NodeID)
	if node == nil {
		return drivers.Done("the node is gone"), nil
	}
	host, err := r.Store.Host(ctx, node.Host)
	if err != nil {
		return drivers.Outcome{}, fmt.Errorf("reading the host of node %s: %w", node.Name, err)
	}
	err = r.Nodes.Host(host.Name, deref(host.LibvirtURI)).Start(ctx, node.ID)
	if err != nil {
		return drivers.Outcome{}, onNode(err, &model.Node{Name: node.Name}, host)
	}
	if err := r.Store.MachineRuns(ctx, r.fence, node.ID); err != nil {
		return drivers.Outcome{}, fenced(err)
	}
	return drivers.Done("runs on host " + host.Name), nil
}
