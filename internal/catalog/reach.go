// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"

	"github.com/gophercloud/gophercloud/v2"
)

// Reached is a service of the cloud that was asked.
type Reached struct {
	Service  string // for people: "Compute"
	Endpoint string // "" when the service catalogue does not have it
	Err      error  // nil: it answered Keelson's own user
}

// Reach asks each service that is to be asked for anything one small question,
// as Keelson's own user.
func (c *Cloud) Reach(ctx context.Context) []Reached {
	var all []Reached
	for _, one := range []struct {
		wanted bool
		service
		question string
	}{
		{c.options.Flavors || c.options.Keypairs, compute, "flavors/detail?limit=1"},
		{c.options.Images, image, "images?limit=1"},
		{c.options.Networks, network, "networks?limit=1&fields=id"},
	} {
		if !one.wanted {
			continue
		}
		r := Reached{Service: one.name}
		if r.Endpoint, r.Err = c.endpoint(ctx, one.service); r.Endpoint != "" {
			r.Err = c.ask(ctx, one.service, r.Endpoint, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
				var answer struct{}
				_, err := sc.Get(ctx, sc.ServiceURL(one.question), &answer, nil)
				return err
			})
		}
		all = append(all, r)
	}
	return all
}
