// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Bounds of a cluster's autoscaling.
const (
	mostThreshold = 100
	mostSettle    = 86400 // seconds
)

func (a *API) showAutoscale(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	return a.autoscaleOf(c, cluster)
}

func (a *API) autoscaleOf(c *call, cluster *model.Cluster) (response, error) {
	known, err := a.Store.Autoscalings(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	groups, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	row := known[cluster.UUID]
	settings := row.Settings(cluster)
	answer := v1.Autoscale{
		Enabled: settings.Enabled, ThresholdPercent: settings.ThresholdPercent, SettleSeconds: int(settings.Settle.Seconds()),
		NodeGroups: each(groups[cluster.UUID], func(g *model.NodeGroup) v1.AutoscaleGroup {
			return v1.AutoscaleGroup{Name: g.Name, MinNodeCount: g.MinNodeCount, MaxNodeCount: g.MaxNodeCount, Autoscale: g.Autoscales()}
		}),
	}
	if row.Decision != nil && row.DecidedAt != nil {
		answer.LastDecision = &v1.AutoscaleDecision{Time: v1.Time(*row.DecidedAt), Message: *row.Decision}
	}
	return ok(answer), nil
}

// setAutoscale changes what the body names and leaves the rest.
func (a *API) setAutoscale(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	change := store.AutoscaleChange{
		Enabled: o.boolean("enabled"), ThresholdPercent: o.integer("threshold_percent", 1), SettleSeconds: o.integer("settle_seconds", 0),
		Groups: make(map[string]store.GroupChange),
	}
	if or(change.ThresholdPercent, 0) > mostThreshold {
		o.refuse("threshold_percent", "it must be from 1 to %d", mostThreshold)
	}
	if or(change.SettleSeconds, 0) > mostSettle {
		o.refuse("settle_seconds", "it must be from 0 to %d", mostSettle)
	}
	o.ignored("last_decision")
	wanted, err := readGroups(o)
	if err != nil {
		return response{}, err
	}
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	groups, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	for name, g := range wanted {
		i := slices.IndexFunc(groups[cluster.UUID], func(g model.NodeGroup) bool { return g.Name == name })
		if i < 0 {
			return response{}, badRequest("Invalid input for attribute \"nodegroups\": the cluster has no node group %q.", name)
		}
		group := &groups[cluster.UUID][i]
		if err := checkGrowth(group, g); err != nil {
			return response{}, err
		}
		change.Groups[group.UUID] = g
	}
	if err := a.Store.SetAutoscaling(c.Context(), cluster.UUID, change); err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	return a.autoscaleOf(c, cluster)
}

// readGroups reads the node groups of the body, by name.
func readGroups(o *object) (map[string]store.GroupChange, error) {
	value := o.take("nodegroups")
	if value == nil {
		return nil, nil
	}
	elements, isArray := value.([]any)
	if !isArray {
		return nil, badRequest("Invalid input for attribute \"nodegroups\": it must be an array of objects.")
	}
	wanted := make(map[string]store.GroupChange)
	for _, element := range elements {
		members, isObject := element.(map[string]any)
		if !isObject {
			return nil, badRequest("Invalid input for attribute \"nodegroups\": it must be an array of objects.")
		}
		one := newObject(members)
		name := one.required("name", 1, maxText)
		wanted[name] = store.GroupChange{
			Autoscale: one.boolean("autoscale"), Least: one.integer("min_node_count", 0), Most: one.integer("max_node_count", 1),
		}
		if err := one.done(); err != nil {
			return nil, err
		}
	}
	return wanted, nil
}

// checkGrowth refuses bounds that contradict each other or the group's count.
func checkGrowth(group *model.NodeGroup, g store.GroupChange) error {
	least := or(g.Least, group.MinNodeCount)
	most := or(either(g.Most, group.MaxNodeCount), 0)
	switch {
	case group.Master() && or(g.Autoscale, false):
		return badRequest("Node group %s can not grow by itself: its role is master.", group.Name)
	case g.Least == nil && g.Most == nil:
		return nil
	case most > 0 && least > most:
		return badRequest("The min_node_count %d of node group %s is more than its max_node_count %d.", least, group.Name, most)
	case least > group.NodeCount:
		return badRequest("The min_node_count %d of node group %s is more than the %d nodes that it has.", least, group.Name, group.NodeCount)
	case most > 0 && most < group.NodeCount:
		return badRequest("The max_node_count %d of node group %s is less than the %d nodes that it has.", most, group.Name, group.NodeCount)
	}
	return nil
}

// showUsage tells what is reserved of a cluster, now and over time.
func (a *API) showUsage(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	known, err := a.Store.Autoscalings(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	samples, err := a.Store.Samples(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	row := known[cluster.UUID]
	usage := v1.Usage{Nodes: []v1.NodeUsage{}, Samples: each(samples, func(s *model.UsageSample) v1.UsageSample {
		return v1.UsageSample{
			Time: v1.Time(s.CreatedAt), CPUsTotal: cpus(s.CPUs), CPUsReserved: cpus(s.CPUsReserved),
			MemoryMBTotal: mebibytes(s.Memory), MemoryMBReserved: mebibytes(s.MemoryReserved),
		}
	})}
	if row.SampledAt != nil {
		usage.Nodes = each(row.Nodes, func(n *model.NodeUsage) v1.NodeUsage {
			return v1.NodeUsage{
				Name: n.Name, CPUsTotal: cpus(n.CPUs), CPUsReserved: cpus(n.CPUsReserved),
				MemoryMBTotal: mebibytes(n.Memory), MemoryMBReserved: mebibytes(n.MemoryReserved), SampledAt: v1.Time(*row.SampledAt),
			}
		})
	}
	return ok(usage), nil
}

func cpus(milli int64) float64  { return float64(milli) / 1000 }
func mebibytes(bytes int64) int { return int(bytes >> 20) }
