// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"errors"
	"testing"
)

func TestConfiguredFindsByName(t *testing.T) {
	c := &Configured{
		Flavors:  []Flavor{{Name: "m1.small", VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20}},
		Images:   []Image{{Name: "debian-12", Distro: "debian", NodeImage: "debian-12-docker"}},
		Networks: []Network{{Name: "public", External: true}, {Name: "tenants"}},
	}
	ctx := t.Context()

	if f, err := c.Flavor(ctx, "m1.small"); err != nil || f.MemoryMiB != 4096 {
		t.Errorf("Flavor(m1.small) = %+v, %v", f, err)
	}
	if i, err := c.Image(ctx, "debian-12"); err != nil || i.Distro != "debian" {
		t.Errorf("Image(debian-12) = %+v, %v", i, err)
	}
	if err := c.ExternalNetwork(ctx, "public"); err != nil {
		t.Errorf("ExternalNetwork(public): %v", err)
	}
	if err := c.Keypair(ctx, "whatever"); err != nil {
		t.Errorf("Keypair(whatever): %v", err)
	}

	_, flavor := c.Flavor(ctx, "m1.tiny")
	_, image := c.Image(ctx, "")
	for what, err := range map[string]error{
		"unknown flavour":            flavor,
		"image without a name":       image,
		"network unknown":            c.ExternalNetwork(ctx, "nope"),
		"network that is not public": c.ExternalNetwork(ctx, "tenants"),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
}

func TestNoFlavorNamedMeansTheDefault(t *testing.T) {
	c := Configured{Flavors: []Flavor{{Name: "small"}, {Name: "standard"}}, DefaultFlavor: "standard"}
	if f, err := c.Flavor(t.Context(), ""); err != nil || f.Name != "standard" {
		t.Errorf("got %v, %v; want the flavor standard", f, err)
	}
}
