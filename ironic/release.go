// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/fault"
)

// Release gives a machine back: undeploys it, waits until Ironic has cleaned
// it, and sees to it that the allocation is gone. Either argument may be empty:
// allocation is its id or the key given to Allocate. A machine that is free,
// gone, or another's by now is not touched, which makes repeating safe. A
// machine that cannot be cleaned is a permanent error until an operator has
// repaired it; its allocation is gone then all the same.
func (c *Client) Release(ctx context.Context, nodeID, allocation string) (Result, error) {
	var held *allocations.Allocation
	if allocation != "" {
		var err error
		if held, err = c.allocation(ctx, allocation); err != nil {
			return Result{}, err
		}
	}
	owner := allocation
	if held != nil {
		owner = held.UUID
		if held.NodeUUID != "" {
			nodeID = held.NodeUUID // the allocation knows best
		}
	}
	if nodeID == "" {
		return c.forget(ctx, held, "was never given out")
	}
	n, err := c.node(ctx, nodeID)
	switch {
	case err != nil:
		return Result{}, err
	case n == nil:
		return c.forget(ctx, held, "gone from Ironic")
	case n.InstanceUUID == "":
		return c.awaitCleaning(ctx, n, held)
	case n.InstanceUUID != owner:
		return c.forget(ctx, held, "belongs to another by now")
	}

	switch n.ProvisionState {
	case "active", "wait call-back", "deploy failed", "error",
		"rescue", "rescue wait", "rescue failed", "unrescue failed", "service wait", "service failed":
		if n.Protected {
			return Result{}, fault.Permanent(fmt.Errorf("node %s is protected: %s", n.UUID, n.ProtectedReason),
				"bare-metal host %s is protected in the bare-metal service; the operator must lift that first", label(n))
		}
		if n.Reservation != "" {
			return c.soon("locked by Ironic"), nil
		}
		if err := c.change(ctx, n, nodes.ProvisionStateOpts{Target: nodes.TargetDeleted}); err != nil {
			return Result{}, err
		}
		if n.ProvisionState == "error" { // an earlier undeploy failed: do not hammer the machine
			return c.slow("undeploy began again after: " + problem(n)), nil
		}
		return c.soon("undeploy began"), nil
	case "available", "enroll", "manageable", "inspect failed", "adopt failed", "clean failed":
		// Reserved, never deployed.
		return c.forget(ctx, held, "was not deployed")
	case "deploying", "rebuild", "deleting", "cleaning", "clean wait", "verifying", "inspecting", "inspect wait", "adopting",
		"rescuing", "unrescuing", "servicing":
		return c.later(n.ProvisionUpdatedAt, n.ProvisionState), nil
	case "deploy hold", "service hold", "clean hold":
		return c.slow("held by the operator: " + n.ProvisionState), nil
	default:
		return Result{}, unknownState(n)
	}
}

// awaitCleaning ends a release: the node is nobody's any more.
func (c *Client) awaitCleaning(ctx context.Context, n *nodes.Node, held *allocations.Allocation) (Result, error) {
	switch n.ProvisionState {
	case "deleting", "cleaning", "clean wait":
		return c.later(n.ProvisionUpdatedAt, n.ProvisionState), nil
	case "clean hold":
		return c.slow("held by the operator: " + n.ProvisionState), nil
	}
	result, err := c.forget(ctx, held, n.ProvisionState)
	if err == nil && n.ProvisionState == "clean failed" {
		return Result{}, failed(n, "could not be cleaned; the operator must repair it")
	}
	return result, err
}

// forget deletes what is left of the allocation.
func (c *Client) forget(ctx context.Context, held *allocations.Allocation, why string) (Result, error) {
	if held != nil {
		if err := c.deleteAllocation(ctx, held.UUID); err != nil {
			return Result{}, err
		}
	}
	return done("given back: " + why), nil
}
