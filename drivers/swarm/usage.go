// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"cmp"
	"context"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
)

// labelTask is on the containers of services, which are counted as tasks.
const labelTask = "com.docker.swarm.task.id"

// nanoPerMilli turns Docker's billionths of a CPU into thousandths.
const nanoPerMilli = 1_000_000

// Usage implements drivers.UsageReporter: the tasks of services as the swarm
// plans them, and the running containers that are of no service, which only
// their own engine knows.
func (d *Driver) Usage(ctx context.Context, job *drivers.Job) ([]drivers.Reserved, error) {
	manager, _, err := d.manager(ctx, job, leavingNodes(job)...)
	if err != nil {
		return nil, err
	}
	defer manager.Close()
	known, err := manager.members(ctx)
	if err != nil {
		return nil, err
	}
	planned, err := manager.planned(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*drivers.Reserved, len(job.Nodes))
	var looks sync.WaitGroup
	for i := range job.Nodes {
		n := &job.Nodes[i]
		m := known.find(n)
		if n.State == drivers.NodeLeaving || m == nil {
			continue
		}
		looks.Go(func() {
			e, err := d.connect(ctx, job, n)
			if err != nil {
				return
			}
			defer e.Close()
			if plain, err := e.plain(ctx); err == nil {
				tasks := planned[m.ID]
				found[i] = &drivers.Reserved{NodeID: n.ID, MilliCPU: plain.MilliCPU + tasks.MilliCPU, Memory: plain.Memory + tasks.Memory}
			}
		})
	}
	looks.Wait()
	var usage []drivers.Reserved
	for _, r := range found {
		if r != nil {
			usage = append(usage, *r)
		}
	}
	return usage, ctx.Err()
}

// planned adds up what tasks that are to run reserve, by the swarm's id of the
// node.
func (e *engine) planned(ctx context.Context) (map[string]drivers.Reserved, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := e.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("desired-state", "running")})
	if err != nil {
		return nil, e.failed(err)
	}
	sum := make(map[string]drivers.Reserved)
	for i := range result.Items {
		t := &result.Items[i]
		if ended(t.Status.State) || t.NodeID == "" {
			continue
		}
		cpu, memory := ofTask(t.Spec.Resources)
		s := sum[t.NodeID]
		s.MilliCPU, s.Memory = s.MilliCPU+cpu, s.Memory+memory
		sum[t.NodeID] = s
	}
	return sum, nil
}

func ended(s swarm.TaskState) bool {
	switch s {
	case swarm.TaskStateComplete, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateShutdown, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

// ofTask is what a task reserves, or else is limited to.
func ofTask(r *swarm.ResourceRequirements) (milliCPU, memory int64) {
	if r == nil {
		return 0, 0
	}
	if r.Reservations != nil {
		milliCPU, memory = r.Reservations.NanoCPUs, r.Reservations.MemoryBytes
	}
	if r.Limits != nil {
		milliCPU, memory = cmp.Or(milliCPU, r.Limits.NanoCPUs), cmp.Or(memory, r.Limits.MemoryBytes)
	}
	return milliCPU / nanoPerMilli, memory
}

// mostContainers bounds how many containers of a node are looked at.
const mostContainers = 500

// plain adds up what the engine's running containers that are of no service
// reserve.
func (e *engine) plain(ctx context.Context) (sum drivers.Reserved, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := e.ContainerList(ctx, client.ContainerListOptions{Limit: mostContainers, Filters: make(client.Filters).Add("status", "running")})
	if err != nil {
		return sum, e.failed(err)
	}
	for i := range result.Items {
		c := &result.Items[i]
		if c.Labels[labelTask] != "" {
			continue
		}
		one, err := e.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		if err != nil {
			if ctx.Err() != nil {
				return sum, e.failed(err)
			}
			continue // gone meanwhile
		}
		cpu, memory := ofContainer(one.Container.HostConfig)
		sum.MilliCPU, sum.Memory = sum.MilliCPU+cpu, sum.Memory+memory
	}
	return sum, nil
}

// ofContainer is what a container reserves, or else is limited to.
func ofContainer(h *container.HostConfig) (milliCPU, memory int64) {
	if h == nil {
		return 0, 0
	}
	milliCPU = h.NanoCPUs / nanoPerMilli
	if milliCPU == 0 && h.CPUQuota > 0 {
		milliCPU = h.CPUQuota * 1000 / cmp.Or(h.CPUPeriod, 100_000)
	}
	return milliCPU, cmp.Or(h.MemoryReservation, h.Memory)
}
