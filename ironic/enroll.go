// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/fault"
)

// EnrollRequest describes a machine for Ironic.
type EnrollRequest struct {
	Name          string // the key: enrolling twice makes one node
	Driver        string // empty means fake-hardware
	DriverInfo    map[string]any
	ResourceClass string
	Traits        []string
	CPUs          int
	MemoryMiB     int
	DiskGiB       int
	Extra         map[string]any // see ExtraAddress and ExtraLibvirtURI
}

// Enroll brings a machine into Ironic and makes it available. Operators do
// this with their own tools; this is for laboratories, tests and the demo.
func (c *Client) Enroll(ctx context.Context, req EnrollRequest) (nodeID string, r Result, err error) {
	if req.Name == "" || req.ResourceClass == "" {
		return "", Result{}, errors.New("enroll a bare-metal host: name and resource class are needed")
	}
	sc, err := c.connect(ctx)
	if err != nil {
		return "", Result{}, err
	}
	n, err := c.node(ctx, req.Name)
	if err != nil {
		return "", Result{}, err
	}
	if n == nil {
		made, err := nodes.Create(ctx, sc, nodes.CreateOpts{
			Name: req.Name, Driver: cmp.Or(req.Driver, "fake-hardware"), DriverInfo: req.DriverInfo, ResourceClass: req.ResourceClass,
			Properties: map[string]any{"cpus": req.CPUs, "memory_mb": req.MemoryMiB, "local_gb": req.DiskGiB},
			Extra:      req.Extra,
		}).Extract()
		switch {
		case isStatus(err, http.StatusConflict): // someone else has just made it
			return "", c.soon("enrolled"), nil
		case err != nil:
			return "", Result{}, classify("enroll node "+req.Name, err)
		}
		return made.UUID, c.soon("enrolled"), nil
	}
	r, err = c.makeAvailable(ctx, sc, n, req)
	return n.UUID, r, err
}

func (c *Client) makeAvailable(ctx context.Context, sc *gophercloud.ServiceClient, n *nodes.Node, req EnrollRequest) (Result, error) {
	switch n.ProvisionState {
	case "enroll", "manageable", "available":
		if n.Reservation != "" || n.TargetPowerState != "" {
			return c.soon("locked by Ironic"), nil
		}
	case "verifying", "inspecting", "inspect wait", "cleaning", "clean wait":
		return c.later(n.ProvisionUpdatedAt, n.ProvisionState), nil
	default:
		// In use, or broken: enrolled long ago, and not ours to judge here.
		return done("enrolled already, " + n.ProvisionState), nil
	}
	if missing := slices.ContainsFunc(req.Traits, func(t string) bool { return !slices.Contains(n.Traits, t) }); missing {
		body := map[string]any{"traits": req.Traits}
		_, err := sc.Put(ctx, sc.ServiceURL("nodes", n.UUID, "traits"), body, nil, &gophercloud.RequestOpts{OkCodes: []int{http.StatusNoContent}})
		if err != nil {
			return Result{}, classify("set the traits of node "+n.UUID, err)
		}
		return c.soon("set traits"), nil
	}
	switch {
	case n.ProvisionState == "enroll" && n.LastError != "":
		return Result{}, fault.Permanent(errors.New(n.LastError), "bare-metal host %s could not be verified", label(n))
	case n.ProvisionState == "enroll":
		return c.soon("verifying"), c.change(ctx, n, nodes.ProvisionStateOpts{Target: nodes.TargetManage})
	case n.ProvisionState == "manageable":
		return c.soon("made available"), c.change(ctx, n, nodes.ProvisionStateOpts{Target: nodes.TargetProvide})
	case n.PowerState == "":
		// Ironic gives no node out whose power state it does not know.
		return c.soon("asked for power off"), c.power(ctx, n, nodes.PowerOff)
	}
	return done("available"), nil
}
