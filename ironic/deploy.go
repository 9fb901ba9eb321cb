// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/fault"
)

// Image is what is written to the machine's disk.
type Image struct {
	Href     string // http(s) URL, file URL, or uuid in the image service
	Checksum string // "sha256:…", "sha512:…", plain MD5 or a URL; not needed with the image service
}

// ConfigDrive is read by cloud-init at the first boot. It may hold secrets.
type ConfigDrive struct {
	MetaData    map[string]any
	UserData    string // cloud-config
	NetworkData map[string]any
}

// DeployRequest says what a reserved machine is to become.
type DeployRequest struct {
	NodeID       string
	AllocationID string // as Allocate returned it; guards against a machine that is another's now
	Image        Image
	ConfigDrive  ConfigDrive
}

// Deploy writes the image to a reserved machine and boots it. It is done when
// Ironic calls the node active and it is powered on; the host itself may still
// be booting. A failed deploy is a permanent error whose cause holds Ironic's
// words: release the machine, and allocate another with this one in Avoid.
func (c *Client) Deploy(ctx context.Context, req DeployRequest) (Result, error) {
	if req.NodeID == "" || req.AllocationID == "" || req.Image.Href == "" {
		return Result{}, errors.New("deploy a bare-metal host: node, allocation and image are needed")
	}
	n, err := c.node(ctx, req.NodeID)
	if err != nil {
		return Result{}, err
	}
	if n == nil {
		return Result{}, fault.Permanent(fmt.Errorf("ironic has no node %s", req.NodeID), "the bare-metal host is not known to the bare-metal service any more")
	}
	if n.InstanceUUID != req.AllocationID {
		return Result{}, fault.Permanent(fmt.Errorf("node %s belongs to %q, not to allocation %s", n.UUID, n.InstanceUUID, req.AllocationID),
			"bare-metal host %s is not reserved for Keelson any more", label(n))
	}

	switch n.ProvisionState {
	case "active":
		return c.powerOn(ctx, n)
	case "available":
		return c.startDeploy(ctx, n, req)
	case "deploying", "wait call-back":
		if n.Maintenance {
			return c.slow("deploying, but " + problem(n)), nil
		}
		return c.later(n.ProvisionUpdatedAt, n.ProvisionState), nil
	case "deploy failed", "error":
		return Result{}, failed(n, "could not be deployed")
	case "deploy hold", "service hold", "clean hold":
		return c.slow("held by the operator: " + n.ProvisionState), nil
	case "rebuild", "deleting", "cleaning", "clean wait", "verifying", "inspecting", "inspect wait", "adopting",
		"rescuing", "rescue wait", "unrescuing", "servicing", "service wait":
		// Somebody else works on our machine; where that ends decides.
		return c.later(n.ProvisionUpdatedAt, n.ProvisionState), nil
	case "enroll", "manageable", "clean failed", "inspect failed", "adopt failed", "rescue", "rescue failed", "unrescue failed", "service failed":
		return Result{}, failed(n, "was taken out of use")
	default:
		return Result{}, unknownState(n)
	}
}

// startDeploy first notes the image, then begins the deploy: two requests, so
// two calls.
func (c *Client) startDeploy(ctx context.Context, n *nodes.Node, req DeployRequest) (Result, error) {
	if n.Maintenance {
		return Result{}, failed(n, "is in maintenance")
	}
	if n.Reservation != "" || n.TargetPowerState != "" {
		return c.soon("locked by Ironic"), nil
	}
	wanted := req.Image.instanceInfo()
	var patch nodes.UpdateOpts
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if !reflect.DeepEqual(n.InstanceInfo[key], wanted[key]) {
			patch = append(patch, nodes.UpdateOperation{Op: nodes.AddOp, Path: "/instance_info/" + key, Value: wanted[key]})
		}
	}
	if len(patch) > 0 {
		sc, err := c.connect(ctx)
		if err != nil {
			return Result{}, err
		}
		if _, err := nodes.Update(ctx, sc, n.UUID, patch).Extract(); err != nil {
			return Result{}, classify("set the image of node "+n.UUID, err)
		}
		return Result{After: time.Millisecond, Message: "noted the image"}, nil
	}
	err := c.change(ctx, n, nodes.ProvisionStateOpts{Target: nodes.TargetActive, ConfigDrive: nodes.ConfigDrive{
		MetaData: req.ConfigDrive.MetaData, UserData: req.ConfigDrive.userData(), NetworkData: req.ConfigDrive.NetworkData,
	}})
	if err != nil {
		return Result{}, err
	}
	return c.soon("deploy began"), nil
}

// powerOn completes a deploy: "active" does not mean "on".
func (c *Client) powerOn(ctx context.Context, n *nodes.Node) (Result, error) {
	switch {
	case n.PowerState == string(nodes.PowerOn):
		return done("deployed and powered on"), nil
	case n.TargetPowerState != "":
		return c.soon("power is changing to " + n.TargetPowerState), nil
	case n.Maintenance:
		return c.slow("deployed, not powered on, " + problem(n)), nil
	case n.Reservation != "":
		return c.soon("locked by Ironic"), nil
	}
	if err := c.power(ctx, n, nodes.PowerOn); err != nil {
		return Result{}, err
	}
	return c.soon("asked for power on"), nil
}

// instanceInfo is the image in Ironic's words.
func (i Image) instanceInfo() map[string]any {
	info := map[string]any{"image_source": i.Href}
	algorithm, sum, named := strings.Cut(i.Checksum, ":")
	switch {
	case i.Checksum == "":
	case named && strings.HasPrefix(algorithm, "sha"):
		info["image_os_hash_algo"] = algorithm
		info["image_os_hash_value"] = sum
	default:
		info["image_checksum"] = i.Checksum
	}
	return info
}

// userData is left out of the request when empty.
func (d ConfigDrive) userData() any {
	if d.UserData == "" {
		return nil
	}
	return d.UserData
}

// failed is the permanent error for a node that will not get on by itself.
func failed(n *nodes.Node, what string) error {
	reason := problem(n)
	if reason == "" {
		reason = "Ironic gives no reason"
	}
	return fault.Permanent(fmt.Errorf("node %s is %s: %s", n.UUID, n.ProvisionState, reason), "bare-metal host %s %s", label(n), what)
}

func unknownState(n *nodes.Node) error {
	return fault.Temporary(fmt.Errorf("node %s is in state %q, which is not known", n.UUID, n.ProvisionState),
		"bare-metal host %s is in a state that Keelson does not know", label(n))
}
