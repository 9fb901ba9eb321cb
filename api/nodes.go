// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// listNodes shows a cluster's nodes one by one, which Magnum has no call for.
func (a *API) listNodes(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	nodes, err := a.Store.Nodes(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	groups, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	groupNames := make(map[string]string)
	for _, g := range groups[cluster.UUID] {
		groupNames[g.UUID] = g.Name
	}
	hostNames := make(map[string]string)
	if c.admin {
		hosts, err := a.Store.Hosts(c.Context())
		if err != nil {
			return response{}, err
		}
		for _, h := range hosts {
			hostNames[h.UUID] = h.Name
		}
	}
	return ok(v1.Nodes{Nodes: each(nodes[cluster.UUID], func(n *model.Node) v1.Node {
		status, reason := nodeStatus(n, cluster.HealthStatusReason[n.Name+".Ready"])
		node := v1.Node{
			UUID: n.UUID, Name: n.Name, NodeGroup: groupNames[n.NodeGroupID], Role: n.Role, Status: status, StatusReason: reason,
			Host: n.HostID, Address: n.Address, VCPUs: n.VCPUs, MemoryMB: n.MemoryMiB, DiskGB: n.DiskGiB, Image: n.Image,
			CreatedAt: v1.Time(n.CreatedAt), UpdatedAt: wireTime(n.UpdatedAt),
		}
		if n.HostID != nil && hostNames[*n.HostID] != "" {
			node.Host = new(hostNames[*n.HostID])
		}
		return node
	})}), nil
}

// nodeStatus is where a node is in its life, or what is wrong with a ready one:
// health is what was last seen of it.
func nodeStatus(n *model.Node, health string) (status string, reason *string) {
	if n.State != model.NodeReady {
		return string(n.State), nil
	}
	switch n.Machine {
	case model.MachineStopped:
		return string(n.Machine), new("Its machine stands still.")
	case model.MachineGone:
		return string(n.Machine), new("Its machine is not on its host any more.")
	}
	if wrong, bad := strings.CutPrefix(health, "False: "); bad {
		return string(n.State), &wrong
	}
	return string(n.State), nil
}

// listDrivers shows the drivers that this process has loaded or skipped.
func (a *API) listDrivers(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	return ok(v1.Drivers{Drivers: append([]v1.Driver{}, a.COEs.Drivers()...)}), nil
}

// listHosts shows the bare-metal hosts with what is left of each.
func (a *API) listHosts(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	hosts, err := a.Store.Hosts(c.Context())
	if err != nil {
		return response{}, err
	}
	nodes, err := a.Store.NodesPerHost(c.Context())
	if err != nil {
		return response{}, err
	}
	return ok(v1.Hosts{Hosts: each(hosts, func(h *model.Host) v1.Host {
		return v1.Host{
			UUID: h.UUID, Name: h.Name, State: string(h.State), Reason: h.Trouble(), Address: h.Address,
			ResourceClass: h.ResourceClass, Traits: append([]string{}, h.Traits...),
			VCPUs: h.TotalVCPUs, VCPUsUsed: h.UsedVCPUs, MemoryMB: h.TotalMemoryMiB, MemoryMBUsed: h.UsedMemoryMiB,
			DiskGB: h.TotalDiskGiB, DiskGBUsed: h.UsedDiskGiB, Nodes: nodes[h.UUID], Failures: h.Failures,
			CreatedAt: v1.Time(h.CreatedAt), UpdatedAt: wireTime(h.UpdatedAt),
		}
	})}), nil
}
