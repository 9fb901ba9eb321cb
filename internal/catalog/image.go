// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/keelson/keelson/internal/fault"
)

// NodeImageProperty is the property of a Glance image that names the node
// image on the hosts.
const NodeImageProperty = "keelson_node_image"

// Image returns the image of that id or name. Its content is not used: nodes
// are made from the node image that [NodeImageProperty] names, or else the
// configured image of the same name or id. Only node images of the
// configuration count, since any user may set properties.
func (c *Cloud) Image(ctx context.Context, ident string) (Image, error) {
	if !c.options.Images {
		return c.Configured.Image(ctx, ident)
	}
	endpoint, err := c.endpoint(ctx, image)
	if err != nil {
		return Image{}, err
	}
	if endpoint == "" {
		return c.Configured.Image(ctx, ident)
	}
	return remembered(ctx, c.answers, "image", ident, func() (Image, error) {
		var found *images.Image
		err := c.ask(ctx, image, endpoint, func(ctx context.Context, glance *gophercloud.ServiceClient) (err error) {
			found, err = findImage(ctx, glance, ident)
			return err
		})
		if err != nil {
			return Image{}, err
		}
		return c.usable(found, ident)
	})
}

// usable makes a node's image of one in Glance.
func (c *Cloud) usable(found *images.Image, ident string) (Image, error) {
	distro, _ := found.Properties["os_distro"].(string)
	if distro == "" {
		return Image{}, fault.Permanent(nil, "The image %s (image_id) does not have the property os_distro", ident)
	}
	wanted, named := found.Properties[NodeImageProperty].(string)
	for _, own := range c.Configured.Images {
		if named && own.NodeImage == wanted || !named && (own.Name == found.Name || own.Name == found.ID) {
			return Image{Name: found.Name, Distro: distro, NodeImage: own.NodeImage}, nil
		}
	}
	return Image{}, fault.Permanent(nil, "The image %s (image_id) is not one that nodes can be made from: ask the operator for those that are", ident)
}

// findImage finds by id, and by name what has no such id.
func findImage(ctx context.Context, glance *gophercloud.ServiceClient, ident string) (*images.Image, error) {
	if _, err := uuid.Parse(ident); err == nil {
		found, err := images.Get(ctx, glance, ident).Extract()
		if err == nil {
			return found, imageIsFor(ctx, glance, found)
		}
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return nil, err
		}
	}
	var found *images.Image
	// Without an operator Glance takes what is before a colon for one.
	err := images.List(glance, images.ListOpts{Name: "eq:" + ident}).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		all, err := images.ExtractImages(page)
		if err != nil {
			return false, err
		}
		for _, i := range all {
			if i.Name != ident {
				continue
			}
			if err := imageIsFor(ctx, glance, &i); errors.Is(err, ErrNotFound) {
				continue
			} else if err != nil {
				return false, err
			}
			if found != nil {
				return false, fmt.Errorf("image %q: %w", ident, ErrAmbiguous)
			}
			found = &i
		}
		return true, nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("image %q: %w", ident, ErrNotFound)
	}
	return found, err
}

// imageIsFor tells with ErrNotFound that an image is of a project that has not
// shared it. A user's own token sees no such images.
func imageIsFor(ctx context.Context, glance *gophercloud.ServiceClient, i *images.Image) error {
	project := projectOf(ctx)
	switch {
	case byUser(ctx), i.Visibility == images.ImageVisibilityPublic, i.Visibility == images.ImageVisibilityCommunity,
		project != "" && i.Owner == project:
		return nil
	case i.Visibility == images.ImageVisibilityShared && project != "":
		_, err := members.Get(ctx, glance, i.ID, project).Extract()
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return err
		}
	}
	return fmt.Errorf("image %s is not for project %q: %w", i.ID, project, ErrNotFound)
}
