// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/swarm"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Health implements drivers.Driver. The cluster is healthy when the Docker API
// answers where tenants look for it and the swarm calls each node ready; a
// manager must also be reachable for the other managers.
//
// Reasons are "api" → "ok" or what is wrong, and "<node>.Ready" → "True" or
// "False: …".
func (d *Driver) Health(ctx context.Context, job *drivers.Job) (drivers.Health, error) {
	health := drivers.Health{Status: drivers.Healthy, Reasons: map[string]string{"api": "ok"}}
	unhealthy := func(key, reason string) {
		health.Status = drivers.Unhealthy
		health.Reasons[key] = reason
	}
	manager, _, err := d.manager(ctx, job, leavingNodes(job)...)
	switch {
	case errors.Is(err, errNoManager) && ctx.Err() == nil:
		unhealthy("api", fault.Reason(err, errNoManager.Error()))
		return health, nil
	case err != nil:
		return drivers.Health{Status: drivers.Unknown}, err
	}
	defer manager.Close()
	if front := frontManager(job); front != manager.node {
		unhealthy("api", fmt.Sprintf("Docker on %s does not answer as a manager; %s does", front.Name, manager.node.Name))
	}
	known, err := manager.members(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		unhealthy("api", fault.Reason(err, errNoManager.Error()))
		return health, nil
	case err != nil:
		return drivers.Health{Status: drivers.Unknown}, err
	}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if n.State == drivers.NodeLeaving {
			continue
		}
		health.Reasons[n.Name+".Ready"] = "True"
		if reason := trouble(known.find(n), n); reason != "" {
			unhealthy(n.Name+".Ready", "False: "+reason)
		}
	}
	return health, nil
}

// trouble says what is wrong with a member, nothing if all is well.
func trouble(m *swarm.Node, n *drivers.Node) string {
	switch {
	case m == nil:
		return "it is not in the swarm"
	case m.Status.State != swarm.NodeStateReady && m.Status.Message != "":
		return string(m.Status.State) + ", " + m.Status.Message
	case m.Status.State != swarm.NodeStateReady:
		return string(m.Status.State)
	case n.Master() && m.ManagerStatus == nil:
		return "it is not a manager"
	case n.Master() && !reachable(m):
		return "the other managers do not reach it"
	}
	return ""
}
