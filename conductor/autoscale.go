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
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// autoscale looks at what is reserved of a cluster after its health, keeps that
// for people, and adds a node when it is too much. It never removes one.
func (c *Conductor) autoscale(ctx context.Context, l look) {
	usage, ok, err := c.usage(ctx, l)
	log := c.Logger.With("cluster", l.cluster.UUID)
	if err != nil || !ok || ctx.Err() != nil {
		if err != nil && ctx.Err() == nil {
			log.Warn("what is reserved of the cluster could not be found out", "error", err)
		}
		return
	}
	err = c.Store.AddSample(ctx, l.cluster.UUID, usage)
	var all map[string]model.Autoscaling
	if err == nil {
		all, err = c.Store.Autoscalings(ctx, l.cluster.UUID)
	}
	if err == nil {
		err = c.decide(ctx, l, all[l.cluster.UUID], usage)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		log.Warn("autoscaling could not be done", "error", err)
	}
}

// usage asks the cluster's driver, if it can tell, and adds what each node has
// by its record. Nodes that do not answer are left out.
func (c *Conductor) usage(ctx context.Context, l look) (usage []model.NodeUsage, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.HealthTimeout)
	defer cancel()
	job, driver, err := c.lookJob(l)
	if err != nil {
		return nil, false, err
	}
	reporter, can := driver.(drivers.UsageReporter)
	if !can {
		return nil, false, nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("driver panicked: %v", p)
		}
	}()
	reserved, err := reporter.Usage(ctx, job)
	if err != nil {
		return nil, false, err
	}
	byNode := make(map[string]drivers.Reserved, len(reserved))
	for _, r := range reserved {
		byNode[r.NodeID] = r
	}
	for _, n := range job.Nodes {
		r, answers := byNode[n.ID]
		i := indexOf(l.nodes, n.ID)
		if !answers || i < 0 {
			continue
		}
		usage = append(usage, model.NodeUsage{
			Name: n.Name, CPUs: int64(l.nodes[i].VCPUs) * 1000, CPUsReserved: r.MilliCPU,
			Memory: int64(l.nodes[i].MemoryMiB) << 20, MemoryReserved: r.Memory,
		})
	}
	return usage, len(usage) > 0, nil
}

func indexOf(nodes []model.Node, id string) int {
	for i := range nodes {
		if nodes[i].UUID == id {
			return i
		}
	}
	return -1
}

// decide applies the rule, and does what comes of it.
func (c *Conductor) decide(ctx context.Context, l look, known model.Autoscaling, usage []model.NodeUsage) error {
	settings := known.Settings(&l.cluster)
	if !settings.Enabled {
		return nil
	}
	d := scalingRule(settings, l.groups, usage)
	if d.group == nil {
		return c.Store.Decide(ctx, l.cluster.UUID, d.why, d.stuck)
	}
	request := store.NewOperation{RequestID: "req-" + uuid.NewString(), Deadline: growTimeout}
	op, err := c.Store.Grow(ctx, l.cluster.UUID, d.group.UUID, d.group.NodeCount, settings.Settle, d.why, request)
	if err != nil || op == nil {
		return err
	}
	c.Logger.Info("cluster grows by itself", "cluster", l.cluster.UUID, "group", d.group.Name, "why", d.why, "operation", op.UUID, "request_id", op.RequestID)
	c.lookNow()
	return nil
}

// scaling is what the rule says: a group to give one node more, or none, and
// why. stuck: a node is needed, but no group may have it.
type scaling struct {
	group *model.NodeGroup
	why   string
	stuck bool
}

// scalingRule is when a cluster gets one node more: when strictly more than the
// threshold of its CPUs or of its memory is reserved, each for itself, over all
// nodes together. The first group that takes part and is below its maximum
// gets it.
func scalingRule(s model.AutoscaleSettings, groups []model.NodeGroup, usage []model.NodeUsage) scaling {
	var cpus, cpusReserved, memory, memoryReserved int64
	for _, n := range usage {
		cpus, cpusReserved = cpus+n.CPUs, cpusReserved+n.CPUsReserved
		memory, memoryReserved = memory+n.Memory, memoryReserved+n.MemoryReserved
	}
	var above []string
	if cpusReserved*100 > int64(s.ThresholdPercent)*cpus {
		above = append(above, "CPU")
	}
	if memoryReserved*100 > int64(s.ThresholdPercent)*memory {
		above = append(above, "memory")
	}
	if len(above) == 0 {
		return scaling{why: fmt.Sprintf("No node is needed: not more than %d %% of CPU and memory is reserved.", s.ThresholdPercent)}
	}
	need := fmt.Sprintf("More than %d %% of the cluster's %s is reserved", s.ThresholdPercent, strings.Join(above, " and "))
	var full []string
	for i := range groups {
		g := &groups[i]
		if !g.Autoscales() {
			continue
		}
		if g.MaxNodeCount == nil || *g.MaxNodeCount == 0 || g.NodeCount < *g.MaxNodeCount {
			return scaling{group: g, why: fmt.Sprintf("%s: node group %s gets node number %d.", need, g.Name, g.NodeCount+1)}
		}
		full = append(full, fmt.Sprintf("%s has its max_node_count of %d", g.Name, *g.MaxNodeCount))
	}
	if len(full) == 0 {
		return scaling{stuck: true, why: need + ", but no node group takes part in autoscaling."}
	}
	return scaling{stuck: true, why: fmt.Sprintf("%s, but autoscaling adds no node: %s.", need, strings.Join(full, ", "))}
}

// growTimeout is how long a node that was added by itself may take to come.
const growTimeout = time.Hour
