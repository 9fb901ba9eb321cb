// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Ironic is the group [ironic]: where bare-metal hosts come from.
type Ironic struct {
	AuthType          string // "none" or "password"
	EndpointOverride  string
	AuthURL           string
	Username          string
	Password          Secret
	ProjectName       string
	UserDomainName    string
	ProjectDomainName string
	RegionName        string
	CAFile            string
	ResourceClass     string
	Traits            []string
	Image             string
	ImageChecksum     string
	PollInterval      time.Duration
	Builtin           bool
	BuiltinPort       int
	BuiltinNodes      []BareMetalNode
}

func (i *Ironic) declare() *group {
	g := &group{name: "ironic", help: "Bare Metal service, which deploys hosts."}
	g.choice(&i.AuthType, "auth_type", "none", []string{"none", "password"},
		"How Keelson logs in: not at all (a standalone Ironic), or with a user of Keystone.")
	g.string(&i.EndpointOverride, "endpoint_override", "",
		"Address of the Bare Metal API, like http://ironic:6385. When unset it is looked up in the service catalogue, which takes auth_type password.").
		must(httpURL)
	g.string(&i.AuthURL, "auth_url", "", "Address of Keystone, like http://controller:5000/v3.").must(httpURL)
	g.string(&i.Username, "username", "", "User to log in as.")
	g.secret(&i.Password, "password", "", "That user's password.")
	g.string(&i.ProjectName, "project_name", "service", "Project to log in to.")
	g.string(&i.UserDomainName, "user_domain_name", "Default", "Domain of the user.")
	g.string(&i.ProjectDomainName, "project_domain_name", "Default", "Domain of the project.")
	g.string(&i.RegionName, "region_name", "", "Region of the service catalogue to look in. When unset, any.")
	g.string(&i.CAFile, "cafile", "", "File of the authority that signed the certificates of Keystone and Ironic, PEM. When unset, those of the system.").must(absolutePath)
	g.string(&i.ResourceClass, "resource_class", "baremetal", "Resource class of the bare-metal nodes to use.")
	g.list(&i.Traits, "traits", "", trait, "Traits that a bare-metal node must have.")
	g.string(&i.Image, "image", "", "Image to deploy: an address that Ironic can read, or the uuid of an image in Glance.")
	g.string(&i.ImageChecksum, "image_checksum", "", "Checksum of that image, or the address of a file of checksums. Not needed for an image in Glance.")
	g.duration(&i.PollInterval, "poll_interval", 2, seconds, between(0.01, 600), "Seconds between two questions for the state of a host that is being deployed or released.")
	g.bool(&i.Builtin, "builtin", false, "Run a small Bare Metal API inside all-in-one, which hands out the machines of builtin_node. For trying Keelson without a cloud.")
	g.port(&i.BuiltinPort, "builtin_port", 6385, "Port of the built-in Bare Metal API, on 127.0.0.1. 0 takes a free one.")
	multi(g, &i.BuiltinNodes, "builtin_node", nil, parseBareMetalNode,
		"A machine that the built-in Bare Metal API hands out, as name:cpus:memory in MiB:disk in GiB:libvirt URI. Give the option once for each machine.")
	g.validate = func(fault func(option, rule string)) {
		if i.ResourceClass == "" {
			fault("resource_class", "must be set")
		}
		if i.Builtin && i.EndpointOverride != "" {
			fault("endpoint_override", "cannot be set when builtin is true")
		}
		if i.Builtin || i.AuthType != "password" {
			return
		}
		if i.AuthURL == "" {
			fault("auth_url", "must be set when auth_type is password")
		}
		if i.Username == "" {
			fault("username", "must be set when auth_type is password")
		}
		if i.Password == "" {
			fault("password", "must be set when auth_type is password")
		}
		if i.ProjectName == "" {
			fault("project_name", "must be set when auth_type is password")
		}
	}
	return g
}

// Hosts is the group [hosts]: how hosts are used once they are deployed.
type Hosts struct {
	LibvirtURI          string // holds {address}
	CPUAllocationRatio  float64
	RAMAllocationRatio  float64
	DiskAllocationRatio float64
	ReservedMemoryMiB   int
	ConductorNetworks   []netip.Prefix
	SSHNetworks         []netip.Prefix
	StorageDevice       string
	ReleaseAfter        time.Duration
	MaxHosts            int // 0: no limit
	MinSpare            int
	DeployAttempts      int
	DeployTimeout       time.Duration
	PrepareTimeout      time.Duration
	AvoidFailed         time.Duration
	TakeOutFailed       bool
	EvacuateAfter       time.Duration // 0: never
	Zone                string
	NodeBandwidth       int // Mbit/s; 0: no limit
	NodeIORate          int // MiB/s; 0: no limit
	NodeIOOperations    int // a second; 0: no limit
}

func (h *Hosts) declare() *group {
	g := &group{name: "hosts", help: "How bare-metal hosts are used once they are deployed."}
	g.string(&h.LibvirtURI, "libvirt_uri", "lxc+tls://{address}/system",
		"How the conductor reaches libvirt on a host; {address} stands for the host's address. Over the network that is lxc+tls, with certificates that Keelson makes.").
		must(libvirtURI)
	g.float(&h.CPUAllocationRatio, "cpu_allocation_ratio", 4, between(0.1, 64),
		"Virtual CPUs given to nodes for each of a host's CPUs.")
	g.float(&h.RAMAllocationRatio, "ram_allocation_ratio", 1, between(0.1, 16),
		"Memory given to nodes for each MiB of a host's memory that is not reserved.")
	g.float(&h.DiskAllocationRatio, "disk_allocation_ratio", 1, between(0.1, 64),
		"Disk given to nodes for each GiB of a host's disk. Nodes' disks are sparse, so above 1 hosts may run full.")
	g.int(&h.ReservedMemoryMiB, "reserved_memory_mib", 1024, between(0, 1<<20),
		"Memory of each host in MiB that is kept for the host itself.")
	multi(g, &h.ConductorNetworks, "conductor_network", nil, parsePrefix,
		"A network from which conductors reach libvirt on hosts, as address/length; the firewall of hosts lets in no others. "+
			"Give the option once for each network. When it is not given, libvirt can be reached from everywhere but nodes, and asks for a conductor's certificate.")
	multi(g, &h.SSHNetworks, "ssh_network", nil, parsePrefix,
		"A network from which operators reach hosts by SSH, as address/length. Give the option once for each network. When it is not given, nobody does.")
	g.string(&h.StorageDevice, "storage_device", "",
		"Disk of hosts for what nodes store, like /dev/disk/by-id/…; formatted if it is empty. When unset, their root file system, which nodes' data may then fill if disk_allocation_ratio is above 1.").
		must(diskDevice)
	g.duration(&h.ReleaseAfter, "release_after", 900, seconds, between(0, 31_536_000),
		"Seconds after which a host without nodes is given back to Ironic.")
	g.int(&h.MaxHosts, "max_hosts", 0, between(0, 100_000),
		"Most hosts to take from Ironic. Those that are being given back do not count. 0 sets no limit.")
	g.int(&h.MinSpare, "min_spare", 0, between(0, 10_000),
		"Hosts without nodes that are kept ready, so that new nodes need not wait for a deployment. Never more than max_hosts allows.")
	g.int(&h.DeployAttempts, "deploy_attempts", 3, between(1, 100),
		"Bare-metal nodes that are tried, one after the other, when the deployment of a host fails. After that no more are tried for five minutes.")
	g.duration(&h.DeployTimeout, "deploy_timeout", 3600, seconds, between(1, 86_400),
		"Seconds after which the deployment of a bare-metal node counts as failed.")
	g.duration(&h.PrepareTimeout, "prepare_timeout", 600, seconds, between(1, 86_400),
		"Seconds after which a bare-metal node that was deployed, and on which libvirt still does not answer, counts as failed.")
	g.duration(&h.AvoidFailed, "avoid_failed_for", 3600, seconds, between(0, 31_536_000),
		"Seconds for which a bare-metal node that could not be deployed is not used again. `keelsond host list` shows them.")
	g.bool(&h.TakeOutFailed, "take_out_failed", false,
		"Put such bare-metal nodes into maintenance in Ironic, with the reason, once they are cleaned.")
	g.duration(&h.EvacuateAfter, "evacuate_after", 900, seconds, between(0, 31_536_000),
		"Seconds for which a host must not have answered until its nodes, unless their COE says that they work, are replaced by new ones on other hosts. "+
			"What they had stored is lost. It should be more than the reboot of a machine takes. 0: they wait for their host.")
	g.string(&h.Zone, "zone", "", "Availability zone that the hosts of this conductor are in. Nodes tell it as the Docker engine label keelson.zone.").must(name)
	g.int(&h.NodeBandwidth, "node_bandwidth", 1000, between(0, 1_000_000),
		"Network bandwidth of one node in Mbit/s, each way. 0 sets no limit.")
	g.int(&h.NodeIORate, "node_io_rate", 256, between(0, 1_000_000),
		"Disk traffic of one node in MiB/s, reads and writes each. 0 sets no limit.")
	g.int(&h.NodeIOOperations, "node_io_operations", 4000, between(0, 100_000_000),
		"Disk operations of one node a second, reads and writes each. 0 sets no limit.")
	g.validate = func(fault func(option, rule string)) {
		if h.LibvirtURI == "" {
			fault("libvirt_uri", "must be set")
		}
	}
	return g
}

var (
	hostNamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	traitPattern    = regexp.MustCompile(`^[A-Z0-9_]{1,255}$`)
)

func hostName(v string) error {
	if !hostNamePattern.MatchString(v) {
		return errors.New("must be a host name")
	}
	return nil
}

// name: what networks, flavors and drivers may be called.
func name(v string) error {
	if !namePattern.MatchString(v) {
		return errors.New("is not a name: up to 63 letters, digits and . _ - between them")
	}
	return nil
}

func trait(v string) error {
	if !traitPattern.MatchString(v) {
		return errors.New("is not a trait: capital letters, digits and _")
	}
	return nil
}

func parsePrefix(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return p, errors.New("must be a network, like 192.0.2.0/24")
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has host bits set; %s is meant", p.Masked())
	}
	return p, nil
}

var diskPattern = regexp.MustCompile(`^/dev/[a-zA-Z0-9/_.:+-]+$`)

func diskDevice(v string) error {
	if !diskPattern.MatchString(v) {
		return errors.New("must be a disk below /dev")
	}
	return nil
}

// libvirtURI: what package lxc connects to. libvirt knows more ways over the
// network, on which one side or the other would not prove who it is.
func libvirtURI(v string) error {
	scheme, rest, ok := strings.Cut(v, "://")
	if !ok || scheme != "lxc" && scheme != "lxc+tls" || scheme == "lxc" != strings.HasPrefix(rest, "/") {
		return errors.New("must be lxc+tls:// with {address}, or lxc:/// for this machine")
	}
	return nil
}

// BareMetalNode is one machine of the built-in Bare Metal API.
type BareMetalNode struct {
	Flavor     // its name and size
	LibvirtURI string
}

// String returns the machine as it is configured.
func (n BareMetalNode) String() string { return n.Flavor.String() + ":" + n.LibvirtURI }

func parseBareMetalNode(v string) (BareMetalNode, error) {
	parts := strings.SplitN(v, ":", 5)
	if len(parts) != 5 || parts[4] == "" {
		return BareMetalNode{}, errors.New("must be name:cpus:memory in MiB:disk in GiB:libvirt URI")
	}
	size, err := parseSize(parts[:4])
	return BareMetalNode{Flavor: size, LibvirtURI: parts[4]}, err
}
