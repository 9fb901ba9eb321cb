// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/fault"
)

// Keys of a node's extra that tell Keelson how to reach the host that it
// becomes; the operator sets them.
const (
	ExtraAddress    = "keelson_address"     // IPv4 address of the host
	ExtraLibvirtURI = "keelson_libvirt_uri" // where its libvirt listens
)

// Node is what Keelson needs to know of a bare-metal machine.
type Node struct {
	ID            string
	Name          string // may be empty
	ResourceClass string
	Traits        []string
	CPUs          int
	MemoryMiB     int
	DiskGiB       int

	// Address is where the host is reached: the node's extra keelson_address,
	// or else the first address of its static network_data. Empty when neither
	// is set; it is never that of the management controller.
	Address string
	// LibvirtURI is the node's extra keelson_libvirt_uri; empty means the usual
	// URI for Address.
	LibvirtURI string

	State       string // Ironic's provision_state
	Power       string // Ironic's power_state, empty while unknown
	Maintenance bool
	Problem     string // fault, maintenance reason or last error, for operators
	InstanceID  string // whose it is: the allocation's uuid; empty when free
}

// Node looks a bare-metal machine up by uuid or name.
func (c *Client) Node(ctx context.Context, ident string) (*Node, error) {
	n, err := c.node(ctx, ident)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fault.Permanent(fmt.Errorf("ironic has no node %s", ident), "the bare-metal host is not known to the bare-metal service any more")
	}
	extra := func(key string) string { s, _ := n.Extra[key].(string); return s }
	found := &Node{
		ID: n.UUID, Name: n.Name, ResourceClass: n.ResourceClass, Traits: n.Traits,
		CPUs: number(n.Properties["cpus"]), MemoryMiB: number(n.Properties["memory_mb"]), DiskGiB: number(n.Properties["local_gb"]),
		Address: extra(ExtraAddress), LibvirtURI: extra(ExtraLibvirtURI),
		State: n.ProvisionState, Power: n.PowerState, Maintenance: n.Maintenance, Problem: problem(n), InstanceID: n.InstanceUUID,
	}
	if found.Address == "" {
		found.Address = staticAddress(n.NetworkData)
	}
	return found, nil
}

// node returns nil without an error when Ironic has no such node.
func (c *Client) node(ctx context.Context, ident string) (*nodes.Node, error) {
	sc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	n, err := nodes.Get(ctx, sc, ident).Extract()
	switch {
	case isStatus(err, http.StatusNotFound):
		return nil, nil
	case err != nil:
		return nil, classify("look at node "+ident, err)
	}
	return n, nil
}

// TakeOut puts the machine into maintenance, with a reason for the operator; one
// that is in maintenance already keeps the reason it has. Ironic gives it to
// nobody then until the operator ends that.
func (c *Client) TakeOut(ctx context.Context, ident, reason string) error {
	n, err := c.node(ctx, ident)
	if err != nil || n == nil || n.Maintenance {
		return err
	}
	sc, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = nodes.SetMaintenance(ctx, sc, n.UUID, nodes.MaintenanceOpts{Reason: reason}).ExtractErr()
	return classify("put node "+n.UUID+" into maintenance", err)
}

// change asks Ironic to move a node that is in the state of n. A 400 with the
// state changed meanwhile is a lost race and temporary; without, Ironic will
// never do it.
func (c *Client) change(ctx context.Context, n *nodes.Node, opts nodes.ProvisionStateOpts) error {
	sc, err := c.connect(ctx)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("ask for %q of node %s, which is %s", opts.Target, n.UUID, n.ProvisionState)
	c.log.DebugContext(ctx, "change a bare-metal node", "node", n.UUID, "name", n.Name, "state", n.ProvisionState, "target", opts.Target)
	err = nodes.ChangeProvisionState(ctx, sc, n.UUID, opts).ExtractErr()
	var answer gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &answer) && answer.Actual == http.StatusBadRequest {
		if now, lookErr := c.node(ctx, n.UUID); lookErr == nil && (now == nil || now.ProvisionState != n.ProvisionState) {
			return fault.Temporary(said(doing, answer), "bare-metal host %s changed meanwhile", label(n))
		}
	}
	return classify(doing, err)
}

// power asks for a power state: nodes.PowerOn or nodes.PowerOff.
func (c *Client) power(ctx context.Context, n *nodes.Node, target nodes.TargetPowerState) error {
	sc, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = nodes.ChangePowerState(ctx, sc, n.UUID, nodes.PowerStateOpts{Target: target}).ExtractErr()
	return classify(fmt.Sprintf("ask for %q of node %s", target, n.UUID), err)
}

// label names a node for people.
func label(n *nodes.Node) string {
	if n.Name != "" {
		return n.Name
	}
	return n.UUID
}

// problem collects what Ironic says is wrong with a node.
func problem(n *nodes.Node) string {
	var parts []string
	if n.Fault != "" {
		parts = append(parts, "fault: "+n.Fault)
	}
	if n.Maintenance {
		parts = append(parts, strings.TrimSuffix("in maintenance: "+n.MaintenanceReason, ": "))
	}
	if n.LastError != "" {
		parts = append(parts, "last error: "+n.LastError)
	}
	return strings.Join(parts, "; ")
}

// number reads a property, which operators write as a number or as text.
func number(v any) int {
	switch v := v.(type) {
	case float64:
		if v >= 0 && v <= math.MaxInt32 {
			return int(v)
		}
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && n >= 0 && n <= math.MaxInt32 {
			return n
		}
	}
	return 0
}

// staticAddress finds the first IPv4 address in network_data, which has the
// form of OpenStack's network_data.json.
func staticAddress(networkData map[string]any) string {
	networks, _ := networkData["networks"].([]any)
	for _, one := range networks {
		network, _ := one.(map[string]any)
		text, _ := network["ip_address"].(string)
		text, _, _ = strings.Cut(text, "/")
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
			return a.String()
		}
	}
	return ""
}
