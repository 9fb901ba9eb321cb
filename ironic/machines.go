// SPDX-License-Identifier: Apache-2.0

package ironic

import "context"

// Machines counts the nodes of the resource class that the user may see, and
// those of them that have the traits and could be deployed now.
func (c *Client) Machines(ctx context.Context, class string, traits ...string) (free, all int, err error) {
	pool, err := c.nodesOfClass(ctx, class)
	request := AllocationRequest{Traits: traits}
	for i := range pool {
		if request.whyNot(&pool[i]) == "" {
			free++
		}
	}
	return free, len(pool), err
}
