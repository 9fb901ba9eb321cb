// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// replaceTimeout bounds the replacement of a cluster's lost nodes, for which a
// machine may have to be deployed first.
const replaceTimeout = 2 * time.Hour

// noteAnswers writes which hosts have answered (states is not nil) and which
// have not. Of those that have, what is left of lost nodes is removed first:
// until then they take no nodes.
func (c *Conductor) noteAnswers(ctx context.Context, hosts []model.Host, states []map[string]lxc.State, failures []error) error {
	var all error
	var answered []string
	for i := range hosts {
		h := &hosts[i]
		if states[i] != nil {
			answered = append(answered, h.UUID)
			continue
		}
		reason := fault.Reason(failures[i], "libvirt reports an error that is in the conductor's log")
		since, err := c.Store.HostSilent(ctx, h.UUID, reason, max(c.opts.MachinesEvery/4, 10*time.Millisecond))
		if err != nil {
			all = errors.Join(all, err)
		} else if h.UnreachableSince == nil && since != nil {
			c.Logger.Error("host does not answer and takes no nodes", "host", h.Name, "error", failures[i])
		}
	}
	lost, err := c.Store.LostNodes(ctx, answered)
	if err != nil {
		return errors.Join(all, err)
	}
	for i := range hosts {
		h := &hosts[i]
		for _, n := range lost[h.UUID] {
			if err := c.removeLost(ctx, h, &n); err != nil {
				all = errors.Join(all, fmt.Errorf("removing what is left of node %s on host %s: %w", n.Name, h.Name, err))
			}
		}
		if states[i] != nil && h.UnreachableSince != nil {
			c.Logger.Info("host answers again", "host", h.Name, "was_silent_since", *h.UnreachableSince, "nodes_removed", len(lost[h.UUID]))
		}
	}
	return errors.Join(all, c.Store.HostsAnswered(ctx, answered))
}

// removeLost removes the machine of a lost node from its host.
func (c *Conductor) removeLost(ctx context.Context, h *model.Host, n *model.LostNode) error {
	ctx, cancel := context.WithTimeout(ctx, 2*listTimeout)
	defer cancel()
	if err := c.Nodes.Host(h.Name, deref(h.LibvirtURI)).Delete(ctx, n.UUID); err != nil {
		return err
	}
	if c.ported(n.Network) {
		if err := c.Ports.Free(ctx, n.UUID); err != nil {
			return err
		}
	}
	c.Logger.Info("what was left of a lost node is removed", "host", h.Name, "node", n.Name, "cluster", n.ClusterID)
	return c.Store.ForgetLostNode(ctx, n.UUID, h.UUID)
}

// evacuate asks for the nodes of hosts that have been silent for EvacuateAfter
// to be replaced by new ones elsewhere.
func (c *Conductor) evacuate(ctx context.Context) error {
	if c.opts.EvacuateAfter <= 0 {
		return nil
	}
	dead, err := c.Store.DeadHosts(ctx, c.opts.EvacuateAfter)
	if err != nil || len(dead) == 0 {
		return err
	}
	hosts := make(map[string]string, len(dead)) // names
	var ids []string
	for i := range dead {
		hosts[dead[i].UUID] = dead[i].Name
		ids = append(ids, dead[i].UUID)
	}
	on, err := c.Store.NodesOn(ctx, ids...)
	if err != nil {
		return err
	}
	clusters := make(map[string]bool)
	for _, nodes := range on {
		for _, n := range nodes {
			if n.State == model.NodeReady {
				clusters[n.ClusterID] = true
			}
		}
	}
	var all error
	for cluster := range clusters {
		if err := c.evacuateCluster(ctx, cluster, hosts); err != nil {
			all = errors.Join(all, fmt.Errorf("cluster %s: %w", cluster, err))
		}
	}
	return all
}

// evacuateCluster asks for those nodes of the cluster to be replaced that are
// on the dead hosts and of which the COE does not say that they work. It takes
// a majority of managers that is left.
func (c *Conductor) evacuateCluster(ctx context.Context, id string, dead map[string]string) error {
	cluster, err := c.Store.Cluster(ctx, everything, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !selfHealing(cluster.Labels) {
		return nil
	}
	nodes, err := c.Store.Nodes(ctx, id)
	if err != nil {
		return err
	}
	var lost, on []string
	managers, lostManagers := 0, 0
	for _, n := range nodes[id] {
		if n.State != model.NodeReady {
			continue
		}
		host, isDead := dead[deref(n.HostID)]
		isDead = isDead && !saidReady(cluster.HealthStatusReason, n.Name)
		if n.Master() {
			managers++
			if isDead {
				lostManagers++
			}
		}
		if isDead {
			lost, on = append(lost, n.UUID), append(on, n.Name+" on "+host)
		}
	}
	if len(lost) == 0 || majorityLost(managers, lostManagers) {
		return nil // the health tells
	}
	request := store.NewOperation{RequestID: "req-" + uuid.NewString(), Deadline: replaceTimeout}
	op, err := c.Store.ReplaceNodes(ctx, id, lost, standing, c.opts.RepairRest, request)
	if op != nil {
		c.Logger.Warn("nodes of dead hosts are to be replaced", "cluster", id, "nodes", strings.Join(on, ", "), "operation", op.UUID, "request_id", op.RequestID)
		c.lookNow()
	}
	return err
}

// selfHealing tells whether Keelson may replace the cluster's nodes. The labels
// are Magnum's.
func selfHealing(labels model.Labels) bool {
	switch strings.ToLower(strings.TrimSpace(labels["auto_healing_enabled"])) {
	case "0", "f", "false", "off", "n", "no":
		return false
	}
	return !healedFromOutside(labels)
}

// saidReady tells whether the COE says that the node works, whatever its host
// says or does not say.
func saidReady(reasons model.Labels, node string) bool { return reasons[node+".Ready"] == "True" }

// majorityLost tells whether the managers that are left can not decide any more.
func majorityLost(managers, lost int) bool { return 2*lost >= managers }

// tellOfSilentHosts adds to the health what is known of the hosts that do not
// answer. A node of which the COE says that it works does: then only Keelson
// does not reach the host.
func (c *Conductor) tellOfSilentHosts(health *drivers.Health, l look) {
	managers, lostManagers := 0, 0
	var names []string
	for i := range l.nodes {
		n := &l.nodes[i]
		if n.State != model.NodeReady {
			continue
		}
		host, silent := l.silent[deref(n.HostID)]
		silent = silent && !saidReady(health.Reasons, n.Name)
		if n.Master() {
			managers++
		}
		if !silent {
			continue
		}
		if health.Reasons == nil {
			health.Reasons = make(map[string]string)
		}
		if n.Master() {
			lostManagers++
			names = append(names, n.Name+" on "+host.Name)
		}
		health.Status = drivers.Unhealthy
		health.Reasons[n.Name+".Ready"] = fmt.Sprintf("False: its host %s has not answered since %s: %s",
			host.Name, host.UnreachableSince.UTC().Format(time.RFC3339), deref(host.UnreachableReason))
	}
	if lostManagers > 0 && majorityLost(managers, lostManagers) {
		health.Reasons["managers"] = fmt.Sprintf("of %d managers %d are on hosts that do not answer (%s), so the cluster can not be changed and its nodes are not replaced: "+
			"the operator must bring a host back; if its disk is lost, delete the cluster and create it anew", managers, lostManagers, strings.Join(names, ", "))
	}
}
