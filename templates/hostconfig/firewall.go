// SPDX-License-Identifier: Apache-2.0

package hostconfig

import (
	"fmt"
	"net/netip"
	"strings"
)

// libvirtPort is where libvirt listens with TLS.
const libvirtPort = 16514

// rules are the host's nftables rules: who may open a connection to the host
// itself. What nodes may do to each other is not theirs. They replace
// themselves when loaded again, and have a table of their own, so that others
// may keep rules beside them.
func (h Host) rules() string {
	var b strings.Builder
	rule := func(format string, args ...any) { fmt.Fprintf(&b, "\t\t"+format+"\n", args...) }
	b.WriteString(`table inet keelson-host
delete table inet keelson-host
table inet keelson-host {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif "lo" accept
		icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } limit rate 100/second accept
`)
	// Nodes come over the bridge, or through a router of their network.
	rule(`iifname %q drop`, h.Bridge)
	from(rule, h.Firewall.Nodes, "drop")
	rule(`icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept`)
	rule(`udp dport { 68, 546 } accept`) // the host's own DHCP client
	if h.TLS != nil {
		allow(rule, h.Firewall.Conductors, libvirtPort, true)
	}
	allow(rule, h.Firewall.SSH, 22, false)
	b.WriteString("\t}\n}\n")
	return b.String()
}

// allow lets the networks in to a port; everyone, or nobody, when none is named.
func allow(rule func(string, ...any), networks []netip.Prefix, port int, everyone bool) {
	if len(networks) == 0 && everyone {
		rule("tcp dport %d accept", port)
	}
	from(rule, networks, fmt.Sprintf("tcp dport %d accept", port))
}

// from makes a rule for each address family of the networks.
func from(rule func(string, ...any), networks []netip.Prefix, then string) {
	var v4, v6 []string
	for _, n := range networks {
		if n.Addr().Is4() {
			v4 = append(v4, n.Masked().String())
		} else {
			v6 = append(v6, n.Masked().String())
		}
	}
	if len(v4) > 0 {
		rule("ip saddr { %s } %s", strings.Join(v4, ", "), then)
	}
	if len(v6) > 0 {
		rule("ip6 saddr { %s } %s", strings.Join(v6, ", "), then)
	}
}
