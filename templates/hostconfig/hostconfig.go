// SPDX-License-Identifier: Apache-2.0

// Package hostconfig renders the user data of a bare-metal host's config drive:
// a cloud-config that makes the freshly deployed machine a Keelson host.
//
// The machine installs libvirt with its LXC driver, gets the host scripts, the
// lxc hook, its firewall and its certificate, and runs prepare.sh at this and
// every later boot. From then on libvirt listens for conductors by mutual TLS.
//
// The document holds the private key of that one host. Where it goes, nobody
// else may read it: Ironic shows no config drive again, and cloud-init keeps it
// for root.
package hostconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keelson/keelson/templates"
)

// Host says what differs from host to host.
type Host struct {
	Name       string         // host name: one DNS label
	Bridge     string         // bridge of the nodes; at most 15 characters
	BridgeCIDR []netip.Prefix // the bridge's own address in each network, with its length; none, as Uplink wants it
	BridgeNAT  bool           // nodes reach what the host reaches
	Uplink     string         // interface that joins the bridge to the network of all hosts' nodes; empty: none
	Storage    string         // disk of the nodes, like /dev/sdb; empty: the root file system
	Images     []Image        // fetched before libvirt answers
	TLS        *TLS           // nil: libvirt listens on a local socket only
	Firewall   Firewall
}

// Image is the archive of a node image.
type Image struct {
	Name   string // of the node image
	SHA256 string // of the archive: 64 hexadecimal digits
	URL    string // http or https
}

// TLS is how libvirt and conductors know each other; all PEM.
type TLS struct {
	Authority   []byte // that signed the host's certificate and those of conductors
	Certificate []byte
	Key         []byte
}

// Firewall says who may open connections to the host itself.
type Firewall struct {
	Conductors []netip.Prefix // to libvirt; none named: everyone but nodes
	SSH        []netip.Prefix // to SSH; none named: nobody
	Nodes      []netip.Prefix // never let in
}

// Where things lie on the host.
const (
	scripts     = "/usr/lib/keelson/host" // prepare.sh expects the hook beside it
	environment = "/etc/keelson/host.env"
	pki         = "/etc/keelson/pki"
	firewall    = "/etc/keelson/firewall.nft"
	imageList   = "/etc/keelson/images"
	unitFile    = "/etc/systemd/system/keelson-host.service"
)

// packages are what prepare.sh, the hook and libvirt need on Debian.
var packages = []string{
	"ca-certificates", "curl", "e2fsprogs", "iproute2", "iptables", "libseccomp2", "libvirt-clients", "libvirt-daemon-driver-lxc",
	"libvirt-daemon-system", "nftables", "python3", "xz-utils", "zstd",
}

// packaged is the libvirtd that comes with the package, which nothing needs:
// prepare.sh starts one of Keelson's own.
var packaged = []string{"libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirt-guests.service"}

// unit runs prepare.sh at every boot, and again when something that it needs
// was not there yet. Stopping it leaves the nodes running.
const unit = `[Unit]
Description=Keelson host
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=` + environment + `
ExecStart=` + scripts + `/prepare.sh
KillMode=process
Restart=on-failure
RestartSec=15

[Install]
WantedBy=multi-user.target
`

// document is the part of cloud-config that is used here.
type document struct {
	Hostname      string     `yaml:"hostname"`
	PackageUpdate bool       `yaml:"package_update"`
	Packages      []string   `yaml:"packages"`
	WriteFiles    []file     `yaml:"write_files"`
	RunCmd        [][]string `yaml:"runcmd"`
}

// file is written before packages are installed and commands are run.
type file struct {
	Path        string `yaml:"path"`
	Owner       string `yaml:"owner"`
	Permissions string `yaml:"permissions"`
	Content     string `yaml:"content"`
}

// Render returns the cloud-config of a host.
func Render(h Host) ([]byte, error) { return render(h, templates.Host()) }

func render(h Host, hostFiles fs.FS) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("cloud-config of host %q: %w", h.Name, err)
	}
	doc := document{
		Hostname: h.Name, PackageUpdate: true, Packages: packages,
		RunCmd: [][]string{
			append([]string{"systemctl", "mask", "--now"}, packaged...),
			{"systemctl", "daemon-reload"},
			{"systemctl", "enable", "--now", "keelson-host.service"},
		},
	}
	for _, name := range []string{"confine", "lxc-hook", "prepare.sh", "unprepare.sh", "walls.nft"} {
		content, err := fs.ReadFile(hostFiles, name)
		if err != nil {
			return nil, fmt.Errorf("cloud-config of host %q: %w", h.Name, err)
		}
		doc.WriteFiles = append(doc.WriteFiles, file{scripts + "/" + name, "root:root", "0755", string(content)})
	}
	doc.WriteFiles = append(doc.WriteFiles,
		file{environment, "root:root", "0644", h.environment()},
		file{unitFile, "root:root", "0644", unit},
		file{firewall, "root:root", "0644", h.rules()},
	)
	if len(h.Images) > 0 {
		doc.WriteFiles = append(doc.WriteFiles, file{imageList, "root:root", "0644", h.imageLines()})
	}
	if h.TLS != nil {
		doc.WriteFiles = append(doc.WriteFiles,
			file{pki + "/cacert.pem", "root:root", "0644", lines(h.TLS.Authority)},
			file{pki + "/servercert.pem", "root:root", "0644", lines(h.TLS.Certificate)},
			file{pki + "/serverkey.pem", "root:root", "0600", lines(h.TLS.Key)},
		)
	}
	var out bytes.Buffer
	out.WriteString("#cloud-config\n")
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(doc), encoder.Close()); err != nil {
		return nil, fmt.Errorf("cloud-config of host %q: %w", h.Name, err)
	}
	return out.Bytes(), nil
}

// environment is what prepare.sh reads; check has seen to it that no value
// needs quotes.
func (h Host) environment() string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, value) }
	set("KEELSON_BRIDGE", h.Bridge)
	if len(h.BridgeCIDR) > 0 {
		set("KEELSON_BRIDGE_CIDR", commas(h.BridgeCIDR))
	} else {
		set("KEELSON_BRIDGE_CIDR", "none")
	}
	if len(h.Firewall.Nodes) > 0 {
		set("KEELSON_NODE_NETWORKS", commas(h.Firewall.Nodes))
	}
	if len(h.Firewall.Conductors) > 0 {
		set("KEELSON_FORBIDDEN", commas(h.Firewall.Conductors))
	}
	if h.BridgeNAT {
		set("KEELSON_BRIDGE_NAT", "yes")
	}
	if h.Uplink != "" {
		set("KEELSON_BRIDGE_UPLINK", h.Uplink)
	}
	if h.Storage != "" {
		set("KEELSON_STORAGE", h.Storage)
	}
	if len(h.Images) > 0 {
		set("KEELSON_IMAGE_LIST", imageList)
	}
	if h.TLS != nil {
		set("KEELSON_PKI", pki)
	}
	set("KEELSON_FIREWALL", firewall)
	return b.String()
}

func commas(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, n := range networks {
		words[i] = n.String()
	}
	return strings.Join(words, ",")
}

func (h Host) imageLines() string {
	var b strings.Builder
	for _, i := range h.Images {
		fmt.Fprintf(&b, "%s %s %s\n", i.Name, i.SHA256, i.URL)
	}
	return b.String()
}

// lines is PEM as files have it.
func lines(text []byte) string { return strings.TrimRight(string(text), "\n") + "\n" }

var (
	hostName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	netDevice  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`)
	diskDevice = regexp.MustCompile(`^/dev/[a-zA-Z0-9/_.:+-]+$`)
	imageName  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,100}$`)
	sha256Sum  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	imageURL   = regexp.MustCompile(`^https?://[!-~]+$`)
)

// check reports all faults at once.
func (h Host) check() error {
	var faults []error
	if !hostName.MatchString(h.Name) {
		faults = append(faults, errors.New("the name is not a DNS label (lower-case letters, digits, '-', at most 63)"))
	}
	if !netDevice.MatchString(h.Bridge) {
		faults = append(faults, fmt.Errorf("bridge %q is not a name of 1 to 15 characters", h.Bridge))
	}
	if h.Uplink != "" && !netDevice.MatchString(h.Uplink) {
		faults = append(faults, fmt.Errorf("uplink %q is not a name of 1 to 15 characters", h.Uplink))
	}
	if len(h.BridgeCIDR) == 0 && (h.Uplink == "" || h.BridgeNAT) { // else the network has a router
		faults = append(faults, errors.New("the bridge has no IPv4 address"))
	}
	for _, address := range h.BridgeCIDR {
		if !address.IsValid() || !address.Addr().Is4() || address.Addr() == address.Masked().Addr() {
			faults = append(faults, fmt.Errorf("%q is not an IPv4 host address with a prefix length", address))
		}
	}
	if h.Storage != "" && !diskDevice.MatchString(h.Storage) {
		faults = append(faults, fmt.Errorf("storage %q is not a disk below /dev", h.Storage))
	}
	for _, i := range h.Images {
		if !imageName.MatchString(i.Name) || !sha256Sum.MatchString(i.SHA256) || !imageURL.MatchString(i.URL) {
			faults = append(faults, fmt.Errorf("node image %q has no proper name, SHA-256 or URL", i.Name))
		}
	}
	if h.TLS != nil && (len(h.TLS.Authority) == 0 || len(h.TLS.Certificate) == 0 || len(h.TLS.Key) == 0) {
		faults = append(faults, errors.New("a certificate or its key is missing"))
	}
	return errors.Join(faults...)
}
