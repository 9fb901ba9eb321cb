// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/keelson/keelson/internal/fault"
)

// portOwner is the device_owner of Keelson's ports; their device_id is the
// node's uuid.
const portOwner = "keelson:node"

// Ports are the addresses of nodes, as Neutron hands them out: each node has a
// port on the Neutron network that one of Keelson's stands for. They are
// Keelson's own, not the tenant's, and are bound to no host, so no agent of
// Neutron does anything about them. Every method may be repeated.
type Ports struct {
	cloud    *Cloud
	networks map[string]string // uuid of Neutron's network, by the name of Keelson's
}

// NewPorts takes ports from the Neutron that the cloud's catalogue has.
func NewPorts(cloud *Cloud, networks map[string]string) *Ports {
	return &Ports{cloud: cloud, networks: networks}
}

// Serves tells whether the addresses of Keelson's network are Neutron's.
func (p *Ports) Serves(network string) bool { return p.networks[network] != "" }

// Hold returns the IPv4 address of the node's port, which is made if there is
// none. The error is permanent when Neutron refuses it: there is no address
// left, a quota is used up, or the network is gone.
func (p *Ports) Hold(ctx context.Context, network, node, name string) (netip.Addr, error) {
	var address netip.Addr
	err := p.ask(ctx, "make a port for node "+name, func(ctx context.Context, neutron *gophercloud.ServiceClient) error {
		port, err := findPort(ctx, neutron, node)
		if err != nil {
			return err
		}
		if port == nil {
			port, err = ports.Create(ctx, neutron, ports.CreateOpts{
				NetworkID: p.networks[network], Name: name, DeviceID: node, DeviceOwner: portOwner, Description: "Address of a Keelson node",
			}).Extract()
			if err != nil {
				return err
			}
		}
		for _, ip := range port.FixedIPs {
			if a, err := netip.ParseAddr(ip.IPAddress); err == nil && a.Is4() {
				address = a
				return nil
			}
		}
		return fault.Permanent(nil, "Networking gave node %s a port without an IPv4 address: network %s needs an IPv4 subnet", name, p.networks[network])
	})
	return address, err
}

// SetMAC tells Neutron which MAC address the node has.
func (p *Ports) SetMAC(ctx context.Context, node, mac string) error {
	return p.ask(ctx, "set the MAC address of a node's port", func(ctx context.Context, neutron *gophercloud.ServiceClient) error {
		port, err := findPort(ctx, neutron, node)
		if port == nil || err != nil || strings.EqualFold(port.MACAddress, mac) {
			return err
		}
		return ports.Update(ctx, neutron, port.ID, ports.UpdateOpts{MACAddress: &mac}).Err
	})
}

// Free gives the node's address back. One without a port is success.
func (p *Ports) Free(ctx context.Context, node string) error {
	return p.ask(ctx, "delete a node's port", func(ctx context.Context, neutron *gophercloud.ServiceClient) error {
		all, err := listPorts(ctx, neutron, ports.ListOpts{DeviceOwner: portOwner, DeviceID: node})
		for _, port := range all {
			deleted := ports.Delete(ctx, neutron, port.ID).ExtractErr()
			if !gophercloud.ResponseCodeIs(deleted, http.StatusNotFound) {
				err = errors.Join(err, deleted)
			}
		}
		return err
	})
}

// Held lists the uuids of the nodes that have a port.
func (p *Ports) Held(ctx context.Context) ([]string, error) {
	var nodes []string
	err := p.ask(ctx, "list the ports of nodes", func(ctx context.Context, neutron *gophercloud.ServiceClient) error {
		nodes = nil
		for _, network := range p.networks {
			all, err := listPorts(ctx, neutron, ports.ListOpts{NetworkID: network, DeviceOwner: portOwner})
			if err != nil {
				return err
			}
			for _, port := range all {
				nodes = append(nodes, port.DeviceID)
			}
		}
		return nil
	})
	return nodes, err
}

// findPort returns the node's port, nil if there is none. Of several, made by two
// who did not know of each other, everybody takes the same one.
func findPort(ctx context.Context, neutron *gophercloud.ServiceClient, node string) (*ports.Port, error) {
	all, err := listPorts(ctx, neutron, ports.ListOpts{DeviceOwner: portOwner, DeviceID: node})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	first := slices.MinFunc(all, func(a, b ports.Port) int { return strings.Compare(a.ID, b.ID) })
	return &first, nil
}

func listPorts(ctx context.Context, neutron *gophercloud.ServiceClient, opts ports.ListOpts) ([]ports.Port, error) {
	pages, err := ports.List(neutron, opts).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return ports.ExtractPorts(pages)
}

// ask makes calls to Neutron in Keelson's own name.
func (p *Ports) ask(ctx context.Context, doing string, calls func(context.Context, *gophercloud.ServiceClient) error) error {
	endpoint, err := p.cloud.endpoint(ctx, network)
	if err == nil && endpoint == "" {
		err = fmt.Errorf("%w: the service catalogue does not have it", ErrUnavailable)
	}
	if err == nil {
		err = p.cloud.session.Call(ctx, endpoint, calls)
	}
	switch {
	case err == nil, fault.Reason(err, "") != "":
		return err
	case gophercloud.ResponseCodeIs(err, http.StatusConflict):
		return fault.Permanent(unavailable(err), "Networking refuses to %s: no address is left in the network, or a quota is used up", doing)
	case gophercloud.ResponseCodeIs(err, http.StatusForbidden):
		return fault.Permanent(unavailable(err), "Networking does not let Keelson %s: its user must own the network or be an administrator", doing)
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound), gophercloud.ResponseCodeIs(err, http.StatusBadRequest):
		return fault.Permanent(unavailable(err), "Networking can not %s: the operator must correct [network] neutron_network", doing)
	}
	return fault.Temporary(unavailable(err), "Networking is not available to %s", doing)
}
