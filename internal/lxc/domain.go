// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"encoding/xml"
	"fmt"
	"path"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// metadata is what the host's lxc hook reads from the domain, beside the
// domain's own uuid and id map. Anyone who may read domains sees it: no secrets.
type metadata struct {
	XMLName  xml.Name `xml:"urn:keelson:node:1 node"`
	Image    string   `xml:"image"`
	Revision string   `xml:"revision"`
	Disk     int      `xml:"disk"` // GiB
	PIDs     int      `xml:"pids"`

	Cluster      string `xml:"cluster"`
	Bandwidth    int    `xml:"bandwidth"`     // Mbit/s each way
	IORate       int    `xml:"io-rate"`       // MiB/s, reads and writes each
	IOOperations int    `xml:"io-operations"` // a second, reads and writes each
}

// domainXML describes the node to libvirt. stateDir is the host's directory
// that holds the storage pool and the roots.
func domainXML(s *Spec, stateDir string) (string, error) {
	meta, err := xml.Marshal(metadata{
		Image: s.Image, Revision: s.Revision, Disk: s.DiskGiB, PIDs: pidsMax, Cluster: s.Cluster,
		Bandwidth: s.Limits.BandwidthMbit, IORate: s.Limits.IOMiB, IOOperations: s.Limits.IOOperations,
	})
	if err != nil {
		return "", fmt.Errorf("metadata of node %s: %w", s.UUID, err)
	}
	ids := []libvirtxml.DomainIDMapRange{{Start: 0, Target: uint(s.IDBase), Count: IDCount}}
	bytes := uint64(s.MemoryMiB) << 20
	const period = 100000 // µs; libvirt applies period and quota to an LXC domain as a whole

	domain := libvirtxml.Domain{
		Type:        "lxc",
		UUID:        s.UUID,
		Name:        domainName(s.UUID),
		Title:       s.Name,
		Metadata:    &libvirtxml.DomainMetadata{XML: string(meta)},
		Memory:      &libvirtxml.DomainMemory{Value: uint(s.MemoryMiB), Unit: "MiB"},
		MemoryTune:  &libvirtxml.DomainMemoryTune{HardLimit: &libvirtxml.DomainMemoryTuneLimit{Value: bytes, Unit: "b"}},
		VCPU:        &libvirtxml.DomainVCPU{Value: uint(s.VCPUs)},
		CPUTune:     &libvirtxml.DomainCPUTune{Period: &libvirtxml.DomainCPUTunePeriod{Value: period}, Quota: &libvirtxml.DomainCPUTuneQuota{Value: int64(s.VCPUs) * period}},
		OS:          &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Type: "exe"}, Init: "/sbin/keelson-init"},
		IDMap:       &libvirtxml.DomainIDMap{UIDs: ids, GIDs: ids},
		Features:    &libvirtxml.DomainFeatureList{PrivNet: &libvirtxml.DomainFeature{}, Capabilities: capabilities()},
		Clock:       &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff:  "destroy",
		OnReboot:    "restart",
		OnCrash:     "destroy",
		Description: "Node of a Keelson cluster; made and removed by the conductor.",
		Devices: &libvirtxml.DomainDeviceList{
			Filesystems: []libvirtxml.DomainFilesystem{{
				// Mounted here by the lxc hook.
				Source: &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: path.Join(stateDir, "roots", s.UUID)}},
				Target: &libvirtxml.DomainFilesystemTarget{Dir: "/"},
			}},
			Interfaces: []libvirtxml.DomainInterface{networkInterface(s)},
			Consoles:   []libvirtxml.DomainConsole{{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}}},
		},
	}
	return domain.Marshal()
}

// capabilities lists all that root may do in the node's user namespace: what
// Docker gives its containers (with mknod, without which runc starts none) and
// what dockerd itself needs. Everything else stays dropped for good.
func capabilities() *libvirtxml.DomainFeatureCapabilities {
	on := &libvirtxml.DomainFeatureCapability{State: "on"}
	return &libvirtxml.DomainFeatureCapabilities{
		Policy:         "deny",
		AuditWrite:     on,
		Chown:          on,
		DACOverride:    on,
		FOwner:         on,
		FSetID:         on,
		IPCLock:        on,
		IPCOwner:       on,
		Kill:           on,
		Lease:          on,
		MkNod:          on,
		NetAdmin:       on,
		NetBindService: on,
		NetRaw:         on,
		SetFCap:        on,
		SetGID:         on,
		SetPCap:        on,
		SetUID:         on,
		SysAdmin:       on,
		SysChRoot:      on,
		SysNice:        on,
		SysPTrace:      on,
		SysResource:    on,
	}
}

func networkInterface(s *Spec) libvirtxml.DomainInterface {
	family := "ipv4"
	if s.Address.Addr().Is6() {
		family = "ipv6"
	}
	nic := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: s.MAC},
		Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: s.Bridge}},
		// A name of the node's own, for the host's firewall and its operator.
		Target: &libvirtxml.DomainInterfaceTarget{Dev: portName(s.UUID)},
		Guest:  &libvirtxml.DomainInterfaceGuest{Dev: "eth0"},
		IP:     []libvirtxml.DomainInterfaceIP{{Family: family, Address: s.Address.Addr().String(), Prefix: uint(s.Address.Bits())}},
	}
	if s.Gateway.IsValid() {
		everywhere := "0.0.0.0"
		if s.Gateway.Is6() {
			everywhere = "::"
		}
		nic.Route = []libvirtxml.DomainInterfaceRoute{{Family: family, Address: everywhere, Prefix: 0, Gateway: s.Gateway.String()}}
	}
	return nic
}

// rootFiles are the node's files: those of the specification and, unless it
// has them, those that make it a machine with a name.
func rootFiles(s *Spec) []File {
	files := append([]File(nil), s.Files...)
	given := map[string]bool{}
	for _, f := range files {
		given[f.Path] = true
	}
	for _, f := range []File{
		{Path: "/etc/hostname", Mode: 0o644, Content: []byte(s.Name + "\n")},
		{Path: "/etc/hosts", Mode: 0o644, Content: fmt.Appendf(nil, "127.0.0.1 localhost\n::1 localhost\n%s %s\n", s.Address.Addr(), s.Name)},
		{Path: "/etc/resolv.conf", Mode: 0o644, Content: resolvConf(s)},
	} {
		if !given[f.Path] {
			files = append(files, f)
		}
	}
	return files
}

// resolvConf points at the nameservers. With none it points at the node
// itself, where nobody listens: a look-up is refused at once, while it would
// take its whole time-out with an empty file.
func resolvConf(s *Spec) []byte {
	var b strings.Builder
	for _, ns := range s.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", ns)
	}
	if len(s.Nameservers) == 0 {
		b.WriteString("nameserver 127.0.0.1\n")
	}
	b.WriteString("options timeout:2 attempts:2\n")
	return []byte(b.String())
}
