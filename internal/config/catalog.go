// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// Catalog is the group [catalog]: who knows the flavors, images, networks and
// keypairs that users name.
type Catalog struct {
	Flavors   string // "auto" or "configured", as the next three
	Images    string
	Networks  string
	Keypairs  string
	Interface string // "public", "internal" or "admin"
	CacheTime time.Duration
	NodeDisk  int // GiB
}

func (c *Catalog) declare() *group {
	g := &group{name: "catalog", help: "Who knows the flavors, images, networks and keypairs that users name: other services of the cloud, " +
		"as far as Keystone's service catalogue has them, or this configuration."}
	from := []string{"auto", "configured"}
	g.choice(&c.Flavors, "flavors", "auto", from,
		"auto: Nova's flavors when the service catalogue has a compute service, else those of [flavors]. configured: always those.")
	g.choice(&c.Images, "images", "auto", from,
		"auto: Glance's images when the service catalogue has an image service, else those of [images]. configured: always those. "+
			"Also with Glance nodes are made from the node images of [images]: from the one that the image's property "+
			"keelson_node_image names, else from that of the entry with the image's name or uuid. Other images are refused.")
	g.choice(&c.Networks, "networks", "auto", from,
		"auto: names are looked up in Neutron when the service catalogue has a network service, else in [network]. configured: always there. "+
			"Nodes are on [network] default_network either way.")
	g.choice(&c.Keypairs, "keypairs", "auto", from,
		"auto: the user must have the keypair in Nova when the service catalogue has a compute service, else any name will do. configured: always any.")
	g.choice(&c.Interface, "interface", "public", []string{"public", "internal", "admin"},
		"Endpoints of the service catalogue to use. The region is [keystone_authtoken] region_name.")
	g.duration(&c.CacheTime, "cache_time", 60, seconds, between(0, 3600),
		"Seconds for which what was found, and the service catalogue, are not asked for again. 0 asks every time.")
	g.int(&c.NodeDisk, "node_disk", 20, between(1, 1<<20),
		"Disk in GiB of nodes whose Nova flavor has none.")
	return g
}
