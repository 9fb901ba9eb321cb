// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// ExternalNetwork tells whether there is an external network of that id or
// name.
func (c *Cloud) ExternalNetwork(ctx context.Context, ident string) error {
	return c.askNeutron(ctx, "external network", ident, func(neutron *gophercloud.ServiceClient, id, name string) pagination.Pager {
		return networks.List(neutron, external.ListOptsExt{ListOptsBuilder: networks.ListOpts{ID: id, Name: name}, External: new(true)})
	}, c.Configured.ExternalNetwork)
}

// FixedNetwork tells whether there is a network of that id or name.
func (c *Cloud) FixedNetwork(ctx context.Context, ident string) error {
	return c.askNeutron(ctx, "network", ident, func(neutron *gophercloud.ServiceClient, id, name string) pagination.Pager {
		return networks.List(neutron, networks.ListOpts{ID: id, Name: name})
	}, c.Configured.FixedNetwork)
}

// FixedSubnet tells whether there is a subnet of that id or name.
func (c *Cloud) FixedSubnet(ctx context.Context, ident string) error {
	return c.askNeutron(ctx, "subnet", ident, func(neutron *gophercloud.ServiceClient, id, name string) pagination.Pager {
		return subnets.List(neutron, subnets.ListOpts{ID: id, Name: name})
	}, c.Configured.FixedSubnet)
}

// askNeutron looks in a list of Neutron, or else in the configuration.
func (c *Cloud) askNeutron(ctx context.Context, kind, ident string,
	list func(neutron *gophercloud.ServiceClient, id, name string) pagination.Pager,
	configured func(context.Context, string) error,
) error {
	if !c.options.Networks {
		return configured(ctx, ident)
	}
	endpoint, err := c.endpoint(ctx, network)
	if err != nil {
		return err
	}
	if endpoint == "" {
		return configured(ctx, ident)
	}
	_, err = remembered(ctx, c.answers, kind, ident, func() (found struct{}, err error) {
		return found, c.ask(ctx, network, endpoint, func(ctx context.Context, neutron *gophercloud.ServiceClient) error {
			if _, err := uuid.Parse(ident); err == nil {
				if n, err := count(ctx, list(neutron, ident, "")); n == 1 || err != nil {
					return err
				}
			}
			n, err := count(ctx, list(neutron, "", ident))
			switch {
			case err != nil:
				return err
			case n == 0:
				return fmt.Errorf("%s %q: %w", kind, ident, ErrNotFound)
			case n > 1:
				return fmt.Errorf("%s %q: %w", kind, ident, ErrAmbiguous)
			}
			return nil
		})
	})
	return err
}

// count returns how many things the list has.
func count(ctx context.Context, list pagination.Pager) (n int, err error) {
	err = list.EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		var things struct {
			Networks, Subnets []struct{}
		}
		err := page.(interface{ ExtractInto(any) error }).ExtractInto(&things)
		n += len(things.Networks) + len(things.Subnets)
		return true, err
	})
	return n, err
}
