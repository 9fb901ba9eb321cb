// SPDX-License-Identifier: Apache-2.0

// Package catalog knows the things that a cluster template may name but that
// are not Keelson's own rows: flavours, images, networks and keypairs.
//
// [Configured] answers from the configuration file. [Cloud] asks Nova, Glance
// and Neutron where Keystone's service catalogue has them, and Configured where
// it does not.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Flavor is the size of one node. A tenant's node never gets more.
type Flavor struct {
	Name      string
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
}

// Image is what a node's root file system is made from.
type Image struct {
	Name      string // as templates and users call it
	Distro    string // the os_distro property; chooses the driver
	NodeImage string // name of the node image on the hosts
}

// Network is a network that nodes may be attached to.
type Network struct {
	Name     string
	External bool // reachable from outside the cloud
}

// What a look-up may come to besides an error that package fault calls
// permanent: the thing is there, but no node can be made from it.
var (
	ErrNotFound  = errors.New("not found")
	ErrForbidden = errors.New("not permitted")
	ErrAmbiguous = errors.New("several have that name")

	// ErrUnavailable means that the service that knows could not be asked: it
	// is away, too slow or does not make sense. It says nothing of the thing.
	ErrUnavailable = errors.New("service is not available")
)

// Configured is a catalogue held in the configuration. It is read-only once
// made and may be used from several goroutines at once.
//
// It knows no keypairs: nothing logs in to a node over SSH, so the name that a
// client sends is kept and shown, and any name will do.
type Configured struct {
	Flavors       []Flavor
	DefaultFlavor string // of nodes for which no flavor is named
	Images        []Image
	Networks      []Network
}

// Flavor returns the flavour of that name; "" means the default one.
func (c *Configured) Flavor(_ context.Context, ident string) (Flavor, error) {
	return find(c.Flavors, cmp.Or(ident, c.DefaultFlavor), func(f Flavor) string { return f.Name })
}

// Image returns the image of that name.
func (c *Configured) Image(_ context.Context, ident string) (Image, error) {
	return find(c.Images, ident, func(i Image) string { return i.Name })
}

// ExternalNetwork tells whether there is a network of that name and it is
// external.
func (c *Configured) ExternalNetwork(_ context.Context, ident string) error {
	n, err := find(c.Networks, ident, func(n Network) string { return n.Name })
	if err == nil && !n.External {
		return fmt.Errorf("network %q is not external: %w", ident, ErrNotFound)
	}
	return err
}

// FixedNetwork accepts every name: the network of nodes is the operator's choice.
func (c *Configured) FixedNetwork(context.Context, string) error { return nil }

// FixedSubnet accepts every name, as FixedNetwork does.
func (c *Configured) FixedSubnet(context.Context, string) error { return nil }

// Keypair accepts every name; see [Configured].
func (c *Configured) Keypair(context.Context, string) error { return nil }

// find returns the one whose name is ident.
func find[T any](all []T, ident string, name func(T) string) (T, error) {
	for _, one := range all {
		if name(one) == ident {
			return one, nil
		}
	}
	var none T
	return none, fmt.Errorf("%q is not configured: %w", ident, ErrNotFound)
}
