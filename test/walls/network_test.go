// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// frameAttacks are frames that the victim must not see.
var frameAttacks = []string{
	"spoof-mac", "spoof-ip-of-a-neighbour", "spoof-ip-of-the-world", "spoof-mac-and-ip", "spoof-arp-ip", "spoof-arp-mac",
	"rogue-dhcp-server", "rogue-ipv6-router", "rogue-spanning-tree", "rogue-igmp-querier", "rogue-icmp-redirect",
	"around-the-rules-by-ipv6", "around-the-rules-by-vlan-tag", "around-the-rules-by-ethertype",
	"inject-into-overlay-network", "inject-into-swarm-gossip", "inject-encrypted-overlay", "inject-tunnel", "inject-by-broadcast",
}

// published is the frame that must arrive: what published ports are for.
const published = "published-port"

// connections that a node must not be able to make, by the port of the victim
// or the address of the host.
var (
	victimPorts = map[string]string{"reach-swarm-management": "2377", "reach-swarm-gossip": "7946"}
	hostPorts   = map[string]string{
		"reach-ssh-of-host": "22", "reach-libvirt": "16509", "reach-libvirt-tls": "16514",
		"reach-database": "3306", "reach-amqp": "5672", "reach-ironic": "6385", "reach-keelson": "9511",
	}
)

// Addresses of the host beside that on the bridge.
const (
	otherAddress = "198.18.79.1" // reached through the gateway
	otherNetwork = "198.18.81.1/24"
	metadata     = "169.254.169.254"
)

// Machines beyond the host: one of the control plane, and one of the world.
const (
	controlPlane = "198.18.80.2"
	world        = "198.18.80.3"
)

func testNetwork(t *testing.T, s *scene) {
	t.Run("frames", func(t *testing.T) { testFrames(t, s) })
	t.Run("connections", func(t *testing.T) { testConnections(t, s) })
	t.Run("bridge", func(t *testing.T) { testBridge(t, s) })
	t.Run("floods", func(t *testing.T) { testFloods(t, s) })
}

// open takes the network walls of these nodes down, and puts them up again
// when the test ends.
func (s *scene) open(t *testing.T, nodes ...*node) {
	t.Helper()
	s.change(t, nodes, "accept", "accept", "on")
	t.Cleanup(func() { s.change(t, nodes, "goto sent-%s", "goto received-%s", "off") })
}

func (s *scene) change(t *testing.T, nodes []*node, sent, received, ways string) {
	t.Helper()
	var rules, links strings.Builder
	for _, n := range nodes {
		for set, verdict := range map[string]string{"from-node": sent, "to-node": received} {
			if strings.Contains(verdict, "%s") {
				verdict = fmt.Sprintf(verdict, n.port())
			}
			fmt.Fprintf(&rules, "delete element bridge keelson %s { %q }\nadd element bridge keelson %s { %q : %s }\n", set, n.port(), set, n.port(), verdict)
		}
		fmt.Fprintf(&links, "link set dev %s learning %s flood %s mcast_flood %s\n", n.port(), ways, ways, ways)
	}
	run(t, rules.String(), "nft", "-f", "-")
	run(t, links.String(), "bridge", "-batch", "-")
}

// layRules puts up again what is not about single nodes.
func (s *scene) layRules(t *testing.T) {
	t.Helper()
	run(t, "", "nft", "-f", filepath.Join(s.state, "etc/hooks/walls.nft"))
}

// arrived returns which of the attacker's frames the victim sees.
func (s *scene) arrived(t *testing.T, names []string) []string {
	t.Helper()
	return s.seen(t, names, func(orders ...string) (string, error) {
		return s.evil.attack(t.Context(), append(orders, "from="+s.evil.endpoint())...)
	})
}

// seen is arrived for any sender.
func (s *scene) seen(t *testing.T, names []string, sender func(orders ...string) (string, error)) []string {
	t.Helper()
	patience := "seconds=5"
	if len(names) == 0 { // it may well be that nothing comes
		patience = "seconds=1"
	}
	conn, err := s.victim.begin(t.Context(), "sniff", "words="+strings.Join(append(names, published), ","), "until="+published, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the victim says %q, %v", line, err)
	}
	// The good frame goes last: when it has arrived, nothing is under way.
	out, err := sender("send", "names="+strings.Join(append(names, published), ","), "to="+s.victim.endpoint(), "as="+s.sibling.endpoint())
	if err != nil {
		t.Fatalf("the attacker cannot send: %v\n%s", err, out)
	}
	seen, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	words, _, _ := strings.Cut(string(seen), "\nexit")
	return strings.Fields(words)
}

func testFrames(t *testing.T, s *scene) {
	up := s.arrived(t, frameAttacks)
	var down []string
	t.Run("walls down", func(t *testing.T) {
		s.open(t, s.evil, s.victim)
		down = s.arrived(t, frameAttacks)
	})
	if !slices.Contains(up, published) {
		t.Error("with the walls up the victim's published port is shut")
	}
	for _, name := range frameAttacks {
		t.Run(name, func(t *testing.T) {
			if slices.Contains(up, name) {
				t.Error("it arrives")
			}
			if !slices.Contains(down, name) {
				t.Error("without walls it does not arrive either")
			}
		})
	}
	// From another host, whose walls have fallen, over the network that both
	// are on.
	t.Run("claim-a-nodes-address-from-another-machine", func(t *testing.T) {
		name := "ku" + strings.TrimPrefix(s.bridge, "kw")
		run(t, "", "ip", "netns", "add", name)
		defer run(t, "", "ip", "netns", "delete", name)
		run(t, "", "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
		run(t, "", "ip", "link", "set", name, "master", s.bridge, "up")
		run(t, "", "ip", "-n", name, "link", "set", "eth0", "up")
		sender := func(orders ...string) (string, error) {
			command := slices.Concat([]string{"netns", "exec", name, s.attacker}, orders, []string{"from=52:54:00:78:00:c8/198.18.78.200"})
			out, err := exec.Command("ip", command...).CombinedOutput()
			return string(out), err
		}
		claims := []string{"spoof-mac", "spoof-ip-of-a-neighbour", "spoof-arp-ip"}
		if seen := s.seen(t, claims, sender); !slices.Equal(seen, []string{published}) {
			t.Errorf("%q arrive", seen)
		}
		run(t, "", "nft", "flush", "chain", "bridge", "keelson", "arrives")
		defer s.layRules(t)
		if seen := s.seen(t, claims, sender); len(seen) != 4 {
			t.Errorf("without walls no more than %q arrive", seen)
		}
	})
	// Before the hook has added a node, and if it fails, nothing goes out.
	t.Run("send-before-the-walls-are-up", func(t *testing.T) {
		run(t, "", "nft", "delete", "element", "bridge", "keelson", "from-node", fmt.Sprintf("{ %q }", s.evil.port()))
		defer run(t, "", "nft", "add", "element", "bridge", "keelson", "from-node", fmt.Sprintf("{ %q : goto sent-%s }", s.evil.port(), s.evil.port()))
		if seen := s.arrived(t, nil); len(seen) != 0 {
			t.Errorf("%q arrived", seen)
		}
		run(t, "", "nft", "flush", "chain", "bridge", "keelson", "arrives")
		defer s.layRules(t)
		if seen := s.arrived(t, nil); len(seen) != 1 {
			t.Error("without walls it does not arrive either")
		}
	})
}

// reached returns to which addresses the attacker can connect.
func (s *scene) reached(t *testing.T, addresses []string) []string {
	t.Helper()
	out, err := s.evil.attack(t.Context(), "connect", "addresses="+strings.Join(addresses, ","))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(out)
}

func testConnections(t *testing.T, s *scene) {
	attacks := map[string]string{} // address by name
	for name, port := range victimPorts {
		attacks[name] = net.JoinHostPort(s.victim.Address.Addr().String(), port)
	}
	for name, port := range hostPorts {
		attacks[name] = net.JoinHostPort(s.address.Addr().String(), port)
	}
	attacks["reach-gateway-of-another-network"] = net.JoinHostPort(strings.TrimSuffix(otherNetwork, "/24"), "16514")
	attacks["reach-another-address-of-host"] = net.JoinHostPort(otherAddress, "6385")
	attacks["reach-metadata"] = net.JoinHostPort(metadata, "80")
	for _, address := range []string{otherAddress, metadata} {
		run(t, "", "ip", "address", "add", address+"/32", "dev", s.bridge)
	}
	for _, address := range attacks {
		if host := netip.MustParseAddrPort(address); host.Addr() != s.victim.Address.Addr() { // the rest is the host's
			answerOn(t, address)
		}
	}
	attacks["reach-control-plane-through-gateway"] = net.JoinHostPort(controlPlane, "6385")
	s.beyond(t)
	var all []string
	for _, address := range attacks {
		all = append(all, address)
	}

	const open = "2376,2377,7946,8080"
	s.victim.while(t, []string{"listen", "ports=" + open}, func() {
		s.sibling.while(t, []string{"listen", "ports=" + open}, func() {
			t.Run("what must be reached is", func(t *testing.T) {
				for _, port := range []string{"2376", "8080"} { // from the host, like the conductor's packets and the world's
					conn, err := net.Dial("tcp", net.JoinHostPort(s.victim.Address.Addr().String(), port))
					if err != nil {
						t.Errorf("from the host: %v", err)
						continue
					}
					_ = conn.Close()
				}
				var good []string
				for _, port := range strings.Split(open, ",") {
					good = append(good, net.JoinHostPort(s.sibling.Address.Addr().String(), port))
				}
				for _, port := range []string{"2376", "8080"} {
					good = append(good, net.JoinHostPort(s.victim.Address.Addr().String(), port))
				}
				good = append(good, net.JoinHostPort(world, "6385"))
				reached := s.reached(t, good)
				for _, address := range good {
					if !slices.Contains(reached, address) {
						t.Errorf("%s is not reached", address)
					}
				}
			})
			up := s.reached(t, all)
			var down []string
			t.Run("walls down", func(t *testing.T) {
				s.open(t, s.evil, s.victim)
				run(t, "", "nft", "flush", "chain", "inet", "keelson-"+s.bridge, "input")
				run(t, "", "nft", "flush", "chain", "inet", "keelson-"+s.bridge, "forward")
				defer s.layRules(t)
				down = s.reached(t, all)
			})
			for name, address := range attacks {
				t.Run(name, func(t *testing.T) {
					if slices.Contains(up, address) {
						t.Errorf("%s is reached", address)
					}
					if !slices.Contains(down, address) {
						t.Errorf("without walls %s is not reached either", address)
					}
				})
			}
		})
	})
}

// beyond makes a network on the other side of the host, with machines that
// answer on the port of Ironic.
func (s *scene) beyond(t *testing.T) {
	t.Helper()
	name := "kb" + strings.TrimPrefix(s.bridge, "kw")
	run(t, "", "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "", "ip", "netns", "delete", name) })
	run(t, "", "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
	run(t, "", "ip", "address", "add", "198.18.80.1/24", "dev", name)
	run(t, "", "ip", "link", "set", name, "up")
	for _, command := range [][]string{
		{"address", "add", controlPlane + "/24", "dev", "eth0"},
		{"address", "add", world + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		run(t, "", append([]string{"ip", "-n", name}, command...)...)
	}
	listen := exec.Command("ip", "netns", "exec", name, s.attacker, "listen", "ports=6385")
	out, err := listen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listen.Process.Kill()
		_ = listen.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// answerOn accepts connections on an address of the host. Where something does
// already, that will do.
func answerOn(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}

// learned counts what the bridge has learned from the node's port.
func (n *node) learned(t *testing.T) int {
	t.Helper()
	return strings.Count(run(t, "", "bridge", "fdb", "show", "brport", n.port(), "dynamic"), "\n") + 1
}

func testBridge(t *testing.T, s *scene) {
	forget := func(t *testing.T) {
		run(t, "", "ip", "link", "set", s.evil.port(), "type", "bridge_slave", "fdb_flush")
	}

	t.Run("fill-the-bridges-table", func(t *testing.T) {
		flood := func() int {
			if out, err := s.evil.attack(t.Context(), "flood", "kind=macs", "count=500", "size=20", "from="+s.evil.endpoint(), "to="+s.victim.endpoint()); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return s.evil.learned(t)
		}
		if entries := flood(); entries > 5 {
			t.Errorf("the bridge has learned %d addresses", entries)
		}
		s.open(t, s.evil)
		if entries := flood(); entries < 400 {
			t.Errorf("without walls it has learned no more than %d", entries)
		}
		forget(t)
	})

	t.Run("steal-mac-by-link-local-frame", func(t *testing.T) {
		const stolen = "52:54:00:78:00:99" // nobody's: a node's own is safe twice
		steal := func() bool {
			if out, err := s.evil.attack(t.Context(), "send", "names=steal-mac-by-link-local-frame",
				"from="+s.evil.endpoint(), "to="+s.victim.endpoint(), "as="+stolen+"/198.18.78.99"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return strings.Contains(run(t, "", "bridge", "fdb", "show", "brport", s.evil.port()), stolen)
		}
		if steal() {
			t.Error("the bridge has learned it")
		}
		s.open(t, s.evil)
		run(t, "", "nft", "flush", "chain", "bridge", "keelson", "received")
		defer s.layRules(t)
		if !steal() {
			t.Error("without walls the bridge does not learn it either")
		}
		forget(t)
	})

	t.Run("steal-mac-of-a-neighbour", func(t *testing.T) {
		steal := func() bool {
			if out, err := s.evil.attack(t.Context(), "send", "names=spoof-mac",
				"from="+s.evil.endpoint(), "to="+s.sibling.endpoint(), "as="+s.victim.endpoint()); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return strings.Contains(run(t, "", "bridge", "fdb", "show", "brport", s.evil.port()), s.victim.MAC)
		}
		if steal() {
			t.Error("the bridge sends the victim's packets to the attacker")
		}
		s.open(t, s.evil)
		run(t, "", "bridge", "fdb", "del", s.victim.MAC, "dev", s.victim.port(), "master")
		defer func() {
			forget(t)
			run(t, "", "bridge", "fdb", "replace", s.victim.MAC, "dev", s.victim.port(), "master", "static", "sticky")
		}()
		if !steal() {
			t.Error("without walls it does not either")
		}
	})

	t.Run("sniff-neighbours-traffic", func(t *testing.T) {
		sniff := func() string {
			conn, err := s.evil.begin(t.Context(), "sniff", "words=private,end", "until=end", "seconds=5")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			reader := bufio.NewReader(conn)
			if line, err := reader.ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("%q, %v", line, err)
			}
			for _, message := range []struct {
				to   *node
				word string
			}{{s.victim, "private!"}, {s.evil, "end!"}} {
				from, err := net.Dial("udp", net.JoinHostPort(message.to.Address.Addr().String(), "8080"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := from.Write([]byte(message.word)); err != nil {
					t.Fatal(err)
				}
				_ = from.Close()
			}
			seen, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			return string(seen)
		}
		for _, n := range []*node{s.victim, s.evil} { // the host knows their MAC addresses before
			run(t, "", "ip", "neighbour", "replace", n.Address.Addr().String(), "lladdr", n.MAC, "dev", s.bridge, "nud", "reachable")
		}
		// Also while the bridge has forgotten where the victim is.
		run(t, "", "bridge", "fdb", "del", s.victim.MAC, "dev", s.victim.port(), "master")
		defer run(t, "", "bridge", "fdb", "replace", s.victim.MAC, "dev", s.victim.port(), "master", "static", "sticky")
		if seen := sniff(); strings.Contains(seen, "private") || !strings.Contains(seen, "end") {
			t.Errorf("the attacker sees %q", seen)
		}
		s.open(t, s.evil)
		if seen := sniff(); !strings.Contains(seen, "private") {
			t.Errorf("without walls it sees no more than %q", seen)
		}
	})
}

// received counts what the node has received: bytes or packets.
func (n *node) received(t *testing.T, what string) int {
	t.Helper()
	return number(t, read(t, "/sys/class/net/"+n.port()+"/statistics/tx_"+what))
}

func testFloods(t *testing.T, s *scene) {
	flood := func(t *testing.T, to *node, what string, arguments ...string) int {
		t.Helper()
		before := to.received(t, what)
		if out, err := s.evil.attack(t.Context(), append([]string{"flood", "from=" + s.evil.endpoint(), "to=" + to.endpoint()}, arguments...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return to.received(t, what) - before
	}

	t.Run("network-flood", func(t *testing.T) {
		began := time.Now()
		few := flood(t, s.sibling, "bytes", "kind=udp", "count=20000", "size=1300")
		// What the time allows, and a second's worth at once.
		if most := int(float64(s.evil.Limits.BandwidthMbit) * 128000 * (time.Since(began).Seconds() + 1.1)); few > most {
			t.Errorf("%d bytes arrive, more than %d", few, most)
		}
		s.open(t, s.evil, s.sibling)
		if many := flood(t, s.sibling, "bytes", "kind=udp", "count=20000", "size=1300"); many < 2*few {
			t.Errorf("without walls only %d bytes arrive, with them %d", many, few)
		}
	})

	t.Run("broadcast-storm", func(t *testing.T) {
		few := flood(t, s.victim, "packets", "kind=arp", "count=3000", "size=0")
		if few > 500 {
			t.Errorf("%d broadcasts arrive", few)
		}
		s.open(t, s.evil, s.victim)
		if many := flood(t, s.victim, "packets", "kind=arp", "count=3000", "size=0"); many < 2*few+100 {
			t.Errorf("without walls only %d broadcasts arrive, with them %d", many, few)
		}
	})

	t.Run("ping-flood-on-the-host", func(t *testing.T) {
		count := func() int {
			fields := strings.Fields(statistics(t, "IcmpMsg:", "InType8"))
			if len(fields) == 0 {
				return 0
			}
			return number(t, fields[0])
		}
		ping := func() int {
			before := count()
			out, err := s.evil.attack(t.Context(), "pings", "to="+s.address.Addr().String(), "count=500")
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return count() - before
		}
		if few := ping(); few > 50 {
			t.Errorf("the host answers %d pings", few)
		}
		run(t, "", "nft", "flush", "chain", "inet", "keelson-"+s.bridge, "input")
		defer s.layRules(t)
		if many := ping(); many < 400 {
			t.Errorf("without walls only %d", many)
		}
	})
}

// statistics returns a counter of /proc/net/snmp.
func statistics(t *testing.T, group, name string) string {
	t.Helper()
	content, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if fields[0] != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i := range names {
			if names[i] == name {
				return fields[i]
			}
		}
	}
	return ""
}
