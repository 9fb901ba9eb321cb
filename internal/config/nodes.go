// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Network is the group [network]: addresses of nodes.
type Network struct {
	Networks       []Subnet // at least one; ranges of no two overlap
	DefaultNetwork string   // names one of Networks
	Nameservers    []string // IPv4
	Bridge         string
	Uplink         string // empty: hosts are the gateway of their nodes

	NeutronNetworks []NeutronNetwork // of the others the addresses are Keelson's own
}

// NeutronNetwork is a network of Neutron's whose ports are the addresses of one
// of Keelson's networks.
type NeutronNetwork struct{ Name, ID string }

// String returns the pair as it is configured.
func (n NeutronNetwork) String() string { return n.Name + ":" + n.ID }

// Subnet is one network that nodes can be on: name, addresses, gateway and
// the ranges of addresses to give to nodes.
type Subnet struct {
	Name    string
	Prefix  netip.Prefix // IPv4, masked
	Gateway netip.Addr
	Ranges  []Range  // inside Prefix, not overlapping
	Labels  []string // key=value, for clusters that ask for a network by label
}

// Range is a range of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// String returns the range as first-last.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// String returns the subnet as it is configured.
func (s Subnet) String() string {
	ranges := make([]string, len(s.Ranges))
	for i, r := range s.Ranges {
		ranges[i] = r.String()
	}
	text := fmt.Sprintf("%s:%s:%s:%s", s.Name, s.Prefix, s.Gateway, strings.Join(ranges, ","))
	if len(s.Labels) > 0 {
		text += ":" + strings.Join(s.Labels, ",")
	}
	return text
}

// Subnet returns the network called name; "" means the default one.
func (n *Network) Subnet(name string) (Subnet, bool) {
	if name == "" {
		name = n.DefaultNetwork
	}
	for _, s := range n.Networks {
		if s.Name == name {
			return s, true
		}
	}
	return Subnet{}, false
}

func (n *Network) declare() *group {
	g := &group{name: "network", help: "Networks of nodes."}
	multi(g, &n.Networks, "network", []string{"tenants:10.88.0.0/16:10.88.0.1:10.88.1.0-10.88.255.250"}, parseSubnet,
		"A network that nodes can be on, as name:cidr:gateway:first-last, and labels behind one more colon if there are any, as key=value. "+
			"Nodes get addresses from first to last; several ranges, and several labels, are separated by commas. "+
			"Give the option once for each network. A cluster whose fixed_network or whose label node_network is the network's name "+
			"has its nodes there; node_network may also be one of the network's labels. "+
			"All networks are on the bridge of the hosts, so each gateway must be reachable there.")
	multi(g, &n.NeutronNetworks, "neutron_network", nil, parseNeutronNetwork,
		"A network whose addresses are ports of Neutron's, as name:uuid of the network in Neutron. Its cidr and gateway must be those of the IPv4 subnet there, and its range the allocation pool. "+
			"Keelson's user must own the network or be an administrator. Give the option once for each such network; the addresses of the others are Keelson's own.")
	g.string(&n.DefaultNetwork, "default_network", "", "Network of clusters that name none. When unset, the first one.")
	g.list(&n.Nameservers, "nameservers", "8.8.8.8", ipv4,
		"Name servers of nodes, for clusters whose template names none. One that does not answer delays every container start.")
	g.string(&n.Bridge, "bridge", "keelson0", "Bridge on the hosts that nodes are attached to.").must(bridgeName)
	g.string(&n.Uplink, "uplink", "",
		"Network interface of hosts, like eth1 or bond0.120, that joins their bridges to one network of all nodes. It must have no address; the gateway is a router on that network. "+
			"When unset, nodes of different hosts do not reach each other, and each host's bridge has the address of each network's gateway.").
		must(bridgeName)
	g.validate = func(fault func(option, rule string)) {
		if n.Bridge == "" {
			fault("bridge", "must be set")
		}
		if len(n.Networks) == 0 {
			fault("network", "must be given at least once")
			return
		}
		for i, a := range n.Networks {
			for _, b := range n.Networks[:i] {
				if a.Name == b.Name {
					fault("network", "has "+a.Name+" twice")
				} else if a.Prefix.Overlaps(b.Prefix) {
					fault("network", fmt.Sprintf("has addresses twice: %s and %s overlap", b.Name, a.Name))
				}
			}
		}
		for i, a := range n.NeutronNetworks {
			if !slices.ContainsFunc(n.Networks, func(s Subnet) bool { return s.Name == a.Name }) {
				fault("neutron_network", "must name a network of this group: "+a.Name)
			}
			if slices.ContainsFunc(n.NeutronNetworks[:i], func(b NeutronNetwork) bool { return a.Name == b.Name || a.ID == b.ID }) {
				fault("neutron_network", "has "+a.String()+" twice")
			}
		}
		if n.DefaultNetwork == "" {
			n.DefaultNetwork = n.Networks[0].Name
		}
		if _, ok := n.Subnet(n.DefaultNetwork); !ok {
			fault("default_network", "must name a network of this group")
		}
	}
	return g
}

func parseNeutronNetwork(v string) (NeutronNetwork, error) {
	of, id, _ := strings.Cut(v, ":")
	if err := name(of); err != nil {
		return NeutronNetwork{}, err
	}
	if _, err := uuid.Parse(id); err != nil {
		return NeutronNetwork{}, errors.New("must be name:uuid")
	}
	return NeutronNetwork{of, id}, nil
}

func parseSubnet(v string) (Subnet, error) {
	parts := strings.Split(v, ":")
	if len(parts) != 4 && len(parts) != 5 {
		return Subnet{}, errors.New("must be name:cidr:gateway:first-last, or that and :key=value")
	}
	if err := name(parts[0]); err != nil {
		return Subnet{}, err
	}
	s := Subnet{Name: parts[0]}
	var err error
	if s.Prefix, err = netip.ParsePrefix(parts[1]); err != nil || !s.Prefix.Addr().Is4() || s.Prefix.Bits() < 8 || s.Prefix.Bits() > 30 {
		return Subnet{}, errors.New("needs an IPv4 network from /8 to /30 in second place")
	}
	if s.Prefix != s.Prefix.Masked() {
		return Subnet{}, fmt.Errorf("has host bits set in its network; %s is meant", s.Prefix.Masked())
	}
	if s.Gateway, err = netip.ParseAddr(parts[2]); err != nil || !s.usable(s.Gateway) {
		return Subnet{}, errors.New("needs a gateway inside its network in third place")
	}
	for written := range strings.SplitSeq(parts[3], ",") {
		first, last, ok := strings.Cut(written, "-")
		var r Range
		var errFirst, errLast error
		r.First, errFirst = netip.ParseAddr(strings.TrimSpace(first))
		r.Last, errLast = netip.ParseAddr(strings.TrimSpace(last))
		if !ok || errFirst != nil || errLast != nil {
			return Subnet{}, errors.New("needs ranges first-last, separated by commas, in fourth place")
		}
		if !s.usable(r.First) || !s.usable(r.Last) || r.Last.Less(r.First) {
			return Subnet{}, fmt.Errorf("has the range %s, which is not inside its network", r)
		}
		for _, other := range s.Ranges {
			if !r.Last.Less(other.First) && !other.Last.Less(r.First) {
				return Subnet{}, fmt.Errorf("has overlapping ranges %s and %s", other, r)
			}
		}
		s.Ranges = append(s.Ranges, r)
	}
	if len(parts) == 4 {
		return s, nil
	}
	for label := range strings.SplitSeq(parts[4], ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(label), "=")
		if !ok || name(key) != nil || name(value) != nil {
			return Subnet{}, errors.New("needs labels key=value, separated by commas, in fifth place")
		}
		s.Labels = append(s.Labels, key+"="+value)
	}
	return s, nil
}

// usable tells whether a machine can have address a in the subnet.
func (s Subnet) usable(a netip.Addr) bool {
	return s.Prefix.Contains(a) && a != s.Prefix.Addr() && s.Prefix.Contains(a.Next())
}

// Flavors is the group [flavors]: sizes of nodes.
type Flavors struct {
	Flavors       []Flavor // at least one
	DefaultFlavor string   // names one of Flavors
}

// Flavor is one size of nodes.
type Flavor struct {
	Name      string
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
}

// String returns the flavor as it is configured.
func (f Flavor) String() string {
	return fmt.Sprintf("%s:%d:%d:%d", f.Name, f.VCPUs, f.MemoryMiB, f.DiskGiB)
}

// Flavor returns the flavor called name; "" means the default one.
func (f *Flavors) Flavor(name string) (Flavor, bool) {
	if name == "" {
		name = f.DefaultFlavor
	}
	for _, flavor := range f.Flavors {
		if flavor.Name == name {
			return flavor, true
		}
	}
	return Flavor{}, false
}

func (f *Flavors) declare() *group {
	g := &group{name: "flavors", help: "Sizes of nodes."}
	multi(g, &f.Flavors, "flavor", []string{
		"keelson.small:1:2048:10",
		"keelson.standard:2:4096:20",
		"m1.small:1:2048:20",
		"m1.medium:2:4096:20",
	}, parseFlavor,
		"A size of nodes, as name:vcpus:memory in MiB:disk in GiB. Give the option once for each flavor. "+
			"m1.medium is what `openstack coe cluster template create` asks for by default.")
	g.string(&f.DefaultFlavor, "default_flavor", "keelson.standard", "Flavor of clusters that name none.")
	g.validate = func(fault func(option, rule string)) {
		for i, a := range f.Flavors {
			for _, b := range f.Flavors[:i] {
				if a.Name == b.Name {
					fault("flavor", "has "+a.Name+" twice")
				}
			}
		}
		if _, ok := f.Flavor(f.DefaultFlavor); !ok {
			fault("default_flavor", "must name a flavor of this group")
		}
	}
	return g
}

func parseFlavor(v string) (Flavor, error) {
	parts := strings.Split(v, ":")
	if len(parts) != 4 {
		return Flavor{}, errors.New("must be name:vcpus:memory in MiB:disk in GiB")
	}
	return parseSize(parts)
}

// parseSize reads a name, vCPUs, MiB of memory and GiB of disk.
func parseSize(parts []string) (Flavor, error) {
	if err := name(parts[0]); err != nil {
		return Flavor{}, err
	}
	f := Flavor{Name: parts[0]}
	for i, size := range []struct {
		into  *int
		what  string
		limit limits
	}{
		{&f.VCPUs, "vcpus", between(1, 1024)},
		{&f.MemoryMiB, "memory", between(256, 1<<24)},
		{&f.DiskGiB, "disk", between(1, 1<<20)},
	} {
		n, err := strconv.Atoi(parts[i+1])
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return Flavor{}, fmt.Errorf("has %s that is not an integer", size.what)
		}
		if err := size.limit.check(float64(n)); err != nil {
			return Flavor{}, fmt.Errorf("has %s out of limits: it %w", size.what, err)
		}
		*size.into = n
	}
	return f, nil
}

// Images is the group [images]: what nodes are made from.
type Images struct {
	Images   []Image
	Archives []Archive
}

// Archive is a node image that hosts fetch when they are prepared.
type Archive struct {
	NodeImage string // its name on the hosts
	SHA256    string // 64 hexadecimal digits
	URL       string
}

// String returns the archive as it is configured.
func (a Archive) String() string { return a.NodeImage + ":" + a.SHA256 + ":" + a.URL }

// Image is one image that cluster templates can name.
type Image struct {
	Name      string // name or uuid, as image_id of a cluster template gives it
	OSDistro  string // shown as cluster_distro
	NodeImage string // name of the node image on the hosts
}

// String returns the image as it is configured.
func (i Image) String() string { return i.Name + ":" + i.OSDistro + ":" + i.NodeImage }

// Image returns the image called name.
func (i *Images) Image(name string) (Image, bool) {
	for _, image := range i.Images {
		if image.Name == name {
			return image, true
		}
	}
	return Image{}, false
}

func (i *Images) declare() *group {
	g := &group{name: "images", help: "Images of nodes."}
	multi(g, &i.Images, "image", []string{"keelson-node:debian:keelson-node"}, parseImage,
		"An image that cluster templates can name, as name or uuid:os_distro:name of the node image on the hosts. "+
			"Give the option once for each image.")
	multi(g, &i.Archives, "archive", nil, parseArchive,
		"A node image that hosts fetch when they are prepared, as name of the node image:SHA-256 of the archive:URL. Archives are made by "+
			"templates/node/pack.sh. Give the option once for each node image. Hosts need one for each that they do not have already.")
	g.validate = func(fault func(option, rule string)) {
		for n, a := range i.Archives {
			for _, b := range i.Archives[:n] {
				if a.NodeImage == b.NodeImage {
					fault("archive", "has "+a.NodeImage+" twice")
				}
			}
		}
		for n, a := range i.Images {
			for _, b := range i.Images[:n] {
				if a.Name == b.Name {
					fault("image", "has "+a.Name+" twice")
				}
			}
		}
	}
	return g
}

func parseImage(v string) (Image, error) {
	parts := strings.Split(v, ":")
	if len(parts) != 3 {
		return Image{}, errors.New("must be name or uuid:os_distro:node image")
	}
	for _, part := range parts {
		if err := name(part); err != nil {
			return Image{}, fmt.Errorf("has %s, which %w", quote(part), err)
		}
	}
	return Image{parts[0], parts[1], parts[2]}, nil
}

var (
	nodeImagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,100}$`)
	sha256Pattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	archivePattern   = regexp.MustCompile(`^https?://[!-~]+$`)
)

func parseArchive(v string) (Archive, error) {
	parts := strings.SplitN(v, ":", 3)
	if len(parts) != 3 {
		return Archive{}, errors.New("must be node image:SHA-256:URL")
	}
	switch {
	case !nodeImagePattern.MatchString(parts[0]):
		return Archive{}, errors.New("has a first part that is not the name of a node image: lower-case letters, digits and . _ -")
	case !sha256Pattern.MatchString(parts[1]):
		return Archive{}, errors.New("has a second part that is not a SHA-256 checksum: 64 lower-case hexadecimal digits")
	case !archivePattern.MatchString(parts[2]):
		return Archive{}, errors.New("has a third part that is not an http or https URL")
	}
	return Archive{parts[0], parts[1], parts[2]}, nil
}

func ipv4(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
		return errors.New("is not an IPv4 address")
	}
	return nil
}

var bridgePattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,14}$`)

func bridgeName(v string) error {
	if !bridgePattern.MatchString(v) {
		return errors.New("must be a name of a network interface, at most 15 characters")
	}
	return nil
}
