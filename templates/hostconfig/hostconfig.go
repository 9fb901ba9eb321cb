// SPDX-License-Identifier: Apache-2.0

// Package hostconfig renders the user data of a bare-metal host's config drive:
// a cloud-config that makes the freshly deployed machine a Keelson host.
//
// The machine installs libvirt with its LXC driver, gets the host scripts and
// the lxc hook, and runs prepare.sh at this and every later boot. Its libvirt
// listens on a local socket only: nothing here opens it to the network, and the
// document holds no secret.
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
	Name       string       // host name: one DNS label
	Bridge     string       // bridge of the nodes; at most 15 characters
	BridgeCIDR netip.Prefix // the bridge's own address with the network's length
	BridgeNAT  bool         // nodes reach what the host reaches
}

// Where things lie on the host.
const (
	scripts     = "/usr/lib/keelson/host" // prepare.sh expects the hook beside it
	environment = "/etc/keelson/host.env"
	unitFile    = "/etc/systemd/system/keelson-host.service"
)

// packages are what prepare.sh, the hook and libvirt need on Debian.
var packages = []string{
	"e2fsprogs", "iproute2", "iptables", "libseccomp2", "libvirt-clients", "libvirt-daemon-driver-lxc", "libvirt-daemon-system", "nftables", "python3",
}

// unit runs prepare.sh at every boot. Stopping it leaves the nodes running.
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
		RunCmd: [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "enable", "--now", "keelson-host.service"}},
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
	)
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
	nat := "no"
	if h.BridgeNAT {
		nat = "yes"
	}
	return strings.Join([]string{
		"KEELSON_BRIDGE=" + h.Bridge, "KEELSON_BRIDGE_CIDR=" + h.BridgeCIDR.String(), "KEELSON_BRIDGE_NAT=" + nat, "",
	}, "\n")
}

var (
	hostName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	bridgeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`)
)

// check reports all faults at once.
func (h Host) check() error {
	var faults []error
	if !hostName.MatchString(h.Name) {
		faults = append(faults, errors.New("the name is not a DNS label (lower-case letters, digits, '-', at most 63)"))
	}
	if !bridgeName.MatchString(h.Bridge) {
		faults = append(faults, fmt.Errorf("bridge %q is not a name of 1 to 15 characters", h.Bridge))
	}
	if !h.BridgeCIDR.IsValid() || !h.BridgeCIDR.Addr().Is4() || h.BridgeCIDR.Addr() == h.BridgeCIDR.Masked().Addr() {
		faults = append(faults, fmt.Errorf("%q is not an IPv4 host address with a prefix length", h.BridgeCIDR))
	}
	return errors.Join(faults...)
}
