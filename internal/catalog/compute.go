// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// Flavor returns the flavor of that id or name. Its vCPUs, memory and root
// disk are what a node gets. "" means the default one, which is configured.
func (c *Cloud) Flavor(ctx context.Context, ident string) (Flavor, error) {
	if !c.options.Flavors || ident == "" {
		return c.Configured.Flavor(ctx, ident)
	}
	endpoint, err := c.endpoint(ctx, compute)
	if err != nil {
		return Flavor{}, err
	}
	if endpoint == "" {
		return c.Configured.Flavor(ctx, ident)
	}
	return remembered(ctx, c.answers, "flavor", ident, func() (Flavor, error) {
		var found *flavors.Flavor
		err := c.ask(ctx, compute, endpoint, func(ctx context.Context, nova *gophercloud.ServiceClient) (err error) {
			found, err = findFlavor(ctx, nova, ident)
			return err
		})
		if err != nil {
			return Flavor{}, err
		}
		return Flavor{Name: found.Name, VCPUs: found.VCPUs, MemoryMiB: found.RAM, DiskGiB: cmp.Or(found.Disk, c.options.DiskGiB)}, nil
	})
}

// findFlavor reads the list, as Nova finds flavors by id only. An id wins over
// a name.
func findFlavor(ctx context.Context, nova *gophercloud.ServiceClient, ident string) (*flavors.Flavor, error) {
	var options flavors.ListOpts
	if !byUser(ctx) {
		options.AccessType = flavors.AllAccess // else an administrator sees public ones only
	}
	var byID, byName *flavors.Flavor
	err := flavors.ListDetail(nova, options).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		all, err := flavors.ExtractFlavors(page)
		for _, f := range all {
			if f.ID == ident {
				byID = &f
			} else if f.Name == ident && byName == nil {
				byName = &f
			}
		}
		return byID == nil, err
	})
	if err != nil {
		return nil, err
	}
	found := cmp.Or(byID, byName)
	if found == nil {
		return nil, fmt.Errorf("flavor %q: %w", ident, ErrNotFound)
	}
	if found.IsPublic || byUser(ctx) {
		return found, nil
	}
	return found, flavorIsFor(ctx, nova, found.ID, projectOf(ctx))
}

// flavorIsFor tells with ErrNotFound that a private flavor is not for the
// project.
func flavorIsFor(ctx context.Context, nova *gophercloud.ServiceClient, id, projectID string) error {
	page, err := flavors.ListAccesses(nova, id).AllPages(ctx)
	if err != nil {
		return err
	}
	projects, err := flavors.ExtractAccesses(page)
	if err != nil {
		return err
	}
	for _, p := range projects {
		if p.TenantID == projectID {
			return nil
		}
	}
	return fmt.Errorf("flavor %s is not for project %q: %w", id, projectID, ErrNotFound)
}

// Keypair tells whether the user has a keypair of that name. Keypairs belong
// to users, so only a user's own token can find one; without a user there is
// nothing to ask and any name will do.
func (c *Cloud) Keypair(ctx context.Context, ident string) error {
	if !c.options.Keypairs || !byUser(ctx) {
		return nil
	}
	endpoint, err := c.endpoint(ctx, compute)
	if err != nil || endpoint == "" {
		return err
	}
	_, err = remembered(ctx, c.answers, "keypair", ident, func() (found struct{}, err error) {
		return found, c.ask(ctx, compute, endpoint, func(ctx context.Context, nova *gophercloud.ServiceClient) error {
			// The list and not the one: a name may hold what a path may not.
			page, err := keypairs.List(nova, nil).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := keypairs.ExtractKeyPairs(page)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(all, func(k keypairs.KeyPair) bool { return k.Name == ident }) {
				return fmt.Errorf("keypair %q: %w", ident, ErrNotFound)
			}
			return nil
		})
	})
	return err
}
