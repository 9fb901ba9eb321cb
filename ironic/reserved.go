// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"context"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// extraOwner is where an allocation says who made it.
const extraOwner = "keelson"

// Reserved lists the allocations that were made under the owner's name, also
// those without a machine yet.
func (c *Client) Reserved(ctx context.Context, owner string) ([]Allocation, error) {
	sc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	// As with nodes, gophercloud does not follow the "next" link.
	var all []Allocation
	opts := allocations.ListOpts{Fields: []string{"uuid", "node_uuid", "extra"}}
	for more := true; more && err == nil; {
		more = false
		err = allocations.List(sc, opts).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
			some, err := allocations.ExtractAllocations(page)
			for _, a := range some {
				if a.Extra[extraOwner] == owner {
					all = append(all, Allocation{ID: a.UUID, NodeID: a.NodeUUID})
				}
			}
			if len(some) > 0 {
				opts.Marker = some[len(some)-1].UUID
				body, _ := page.GetBody().(map[string]any)
				_, more = body["next"]
			}
			return true, err
		})
	}
	return all, classify("list the allocations", err)
}
