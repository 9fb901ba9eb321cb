// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Attacks on neighbours and on the host through the network, and what the
// tests need to see whether they arrive.
var _ = register(map[string]func(parameters) error{
	"send":    send,
	"sniff":   sniff,
	"listen":  listen,
	"connect": connect,
	"flood":   flood,
	"pings":   pings,
})

// endpoint is a machine on the bridge.
type endpoint struct {
	mac net.HardwareAddr
	ip  netip.Addr
}

// endpoint reads "MAC/IP".
func (p parameters) endpoint(key string) endpoint {
	mac, ip, _ := strings.Cut(p[key], "/")
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		fail(fmt.Errorf("%s: %w", key, err))
	}
	return endpoint{hardware, netip.MustParseAddr(ip)}
}

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	everyone  = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// frames that a node has no business sending, by the names of their attacks.
// own is the attacker, victim a node of another cluster, other a third node.
// All carry their name, which is what the victim looks for.
var frames = map[string]func(name string, own, victim, other endpoint) []byte{
	"spoof-mac": func(name string, own, victim, other endpoint) []byte {
		return ethernet(victim.mac, other.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(40000, 9, name)))
	},
	"spoof-ip-of-a-neighbour": func(name string, own, victim, other endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(other.ip, victim.ip, 17, udp(40000, 9, name)))
	},
	"spoof-ip-of-the-world": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(netip.MustParseAddr("203.0.113.9"), victim.ip, 17, udp(40000, 9, name)))
	},
	"spoof-mac-and-ip": func(name string, _, victim, other endpoint) []byte {
		return ethernet(victim.mac, other.mac, 0x0800, ipv4(other.ip, victim.ip, 17, udp(40000, 9, name)))
	},
	"spoof-arp-ip": func(name string, own, _, other endpoint) []byte {
		return ethernet(broadcast, own.mac, 0x0806, arp(own.mac, other.ip, name))
	},
	"spoof-arp-mac": func(name string, own, _, other endpoint) []byte {
		return ethernet(broadcast, own.mac, 0x0806, arp(other.mac, own.ip, name))
	},
	"rogue-dhcp-server": func(name string, own, _, _ endpoint) []byte {
		return ethernet(broadcast, own.mac, 0x0800, ipv4(own.ip, everyone, 17, udp(67, 68, name)))
	},
	"rogue-ipv6-router": func(name string, own, _, _ endpoint) []byte {
		advertisement := append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, name...)
		return ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, own.mac, 0x86dd, ipv6(58, "ff02::1", advertisement))
	},
	"around-the-rules-by-ipv6": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x86dd, ipv6(17, "fe80::2", udp(40000, 4789, name)))
	},
	"around-the-rules-by-vlan-tag": func(name string, own, victim, _ endpoint) []byte {
		inner := ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(40000, 4789, name)))
		return slices.Concat(inner[:12], []byte{0x81, 0, 0, 5}, inner[12:])
	},
	"around-the-rules-by-ethertype": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x88b5, []byte(name))
	},
	"rogue-spanning-tree": func(name string, own, _, _ endpoint) []byte {
		llc := append([]byte{0x42, 0x42, 0x03, 0, 0, 0, 0, 0}, name...)
		return ethernet(net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0}, own.mac, uint16(len(llc)), llc)
	},
	"rogue-igmp-querier": func(name string, own, _, _ endpoint) []byte {
		return ethernet(net.HardwareAddr{0x01, 0, 0x5e, 0, 0, 1}, own.mac, 0x0800,
			ipv4(own.ip, netip.MustParseAddr("224.0.0.1"), 2, checksummed(append([]byte{0x11, 100, 0, 0, 0, 0, 0, 0, 0, 125, 0, 0}, name...))))
	},
	"rogue-icmp-redirect": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 1, append([]byte{5, 1, 0, 0, 10, 0, 0, 1}, name...)))
	},
	"inject-into-overlay-network": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(40000, 4789, name)))
	},
	"inject-into-swarm-gossip": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(7946, 7946, name)))
	},
	"inject-encrypted-overlay": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 50, []byte("12345678"+name)))
	},
	"inject-tunnel": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 47, []byte("\x00\x00\x65\x58"+name)))
	},
	"inject-by-broadcast": func(name string, own, _, _ endpoint) []byte {
		return ethernet(broadcast, own.mac, 0x0800, ipv4(own.ip, everyone, 17, udp(40000, 9, name)))
	},
	// The bridge keeps it to itself, but might learn from it where other is.
	"steal-mac-by-link-local-frame": func(name string, _, _, other endpoint) []byte {
		return ethernet(net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x0e}, other.mac, 0x88cc, []byte(name))
	},
	// Not an attack: what published ports are for. It must arrive.
	"published-port": func(name string, own, victim, _ endpoint) []byte {
		return ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(40000, 8080, name)))
	},
}

func ethernet(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	return slices.Concat(to, from, binary.BigEndian.AppendUint16(nil, kind), payload, make([]byte, max(0, 46-len(payload))))
}

func ipv4(from, to netip.Addr, protocol byte, payload []byte) []byte {
	header := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload)))
	header = slices.Concat(header, from.AsSlice(), to.AsSlice())
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, payload...)
}

// checksummed fills in the checksum of an IGMP message.
func checksummed(message []byte) []byte {
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return message
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func ipv6(protocol byte, to string, payload []byte) []byte {
	header := []byte{0x60, 0, 0, 0, 0, 0, protocol, 255}
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	return slices.Concat(header, netip.MustParseAddr("fe80::1").AsSlice(), netip.MustParseAddr(to).AsSlice(), payload)
}

func udp(from, to uint16, text string) []byte {
	header := binary.BigEndian.AppendUint16(nil, from)
	header = binary.BigEndian.AppendUint16(header, to)
	header = binary.BigEndian.AppendUint16(header, uint16(8+len(text)))
	return append(append(header, 0, 0), text...) // no checksum
}

func arp(mac net.HardwareAddr, ip netip.Addr, text string) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac, ip.AsSlice(), broadcast, ip.AsSlice(), []byte(text))
}

// packetSocket sends and receives whole frames on eth0.
func packetSocket() (fd int, address *unix.SockaddrLinklayer, err error) {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return 0, nil, err
	}
	const all = 0x0300 // ETH_P_ALL in network order
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all); err != nil {
		return 0, nil, fmt.Errorf("packet socket: %w", err)
	}
	address = &unix.SockaddrLinklayer{Protocol: all, Ifindex: eth0.Index}
	return fd, address, unix.Bind(fd, address)
}

// send sends the frames that names= lists, from= own to= the victim, as= other.
func send(p parameters) error {
	fd, address, err := packetSocket()
	if err != nil {
		return err
	}
	own, victim, other := p.endpoint("from"), p.endpoint("to"), p.endpoint("as")
	for name := range strings.SplitSeq(p["names"], ",") {
		frame := frames[name]
		if frame == nil {
			return fmt.Errorf("no frame is called %q", name)
		}
		if err := unix.Sendto(fd, frame(name+"!", own, victim, other), 0, address); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// sniff prints which of the words= come by on eth0, within seconds=, and ends
// when all have, or until= has. It says "ready" first.
func sniff(p parameters) error {
	fd, address, err := packetSocket()
	if err != nil {
		return err
	}
	all := &unix.PacketMreq{Ifindex: int32(address.Ifindex), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, all); err != nil {
		return err
	}
	fmt.Println("ready")
	wanted := strings.Split(p["words"], ",")
	deadline := time.Now().Add(time.Duration(p.number("seconds")) * time.Second)
	buffer := make([]byte, 65536)
	for len(wanted) > 0 && time.Now().Before(deadline) {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			continue
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		for _, word := range slices.Clone(wanted) {
			if bytes.Contains(buffer[:n], []byte(word+"!")) {
				fmt.Println(word)
				wanted = slices.DeleteFunc(wanted, func(w string) bool { return w == word })
				if word == p["until"] {
					return nil
				}
			}
		}
	}
	return nil
}

// listen accepts TCP connections on the ports= until its client goes.
func listen(p parameters) error {
	for port := range strings.SplitSeq(p["ports"], ",") {
		listener, err := net.Listen("tcp4", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			for {
				if conn, err := listener.Accept(); err == nil {
					_ = conn.Close()
				}
			}
		}()
	}
	fmt.Println("ready")
	time.Sleep(time.Hour)
	return nil
}

// connect prints to which of the addresses= a TCP connection can be made.
func connect(p parameters) error {
	type result struct {
		address string
		err     error
	}
	results := make(chan result)
	addresses := strings.Split(p["addresses"], ",")
	for _, address := range addresses {
		go func() {
			conn, err := net.DialTimeout("tcp4", address, 1500*time.Millisecond)
			if err == nil {
				_ = conn.Close()
			}
			results <- result{address, err}
		}()
	}
	for range addresses {
		if r := <-results; r.err == nil {
			fmt.Println(r.address)
		}
	}
	return nil
}

// pings asks to= count= times whether it is there.
func pings(p parameters) error {
	conn, err := net.Dial("ip4:icmp", p["to"])
	if err != nil {
		return err
	}
	for range p.number("count") {
		if _, err := conn.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// flood sends count= frames of size= bytes to to= as fast as it can, from ever
// new addresses if macs= is set, for at most a second.
func flood(p parameters) error {
	fd, address, err := packetSocket()
	if err != nil {
		return err
	}
	own, victim := p.endpoint("from"), p.endpoint("to")
	count, size := p.number("count"), p.number("size")
	frame := ethernet(victim.mac, own.mac, 0x0800, ipv4(own.ip, victim.ip, 17, udp(40000, 9, strings.Repeat("flood", size/5))))
	if p["kind"] == "arp" {
		frame = ethernet(broadcast, own.mac, 0x0806, arp(own.mac, own.ip, "flood"))
	}
	began, sent := time.Now(), 0
	for sent < count && time.Since(began) < time.Second {
		if p["kind"] == "macs" {
			binary.BigEndian.PutUint32(frame[8:], uint32(sent))
		}
		switch err := unix.Sendto(fd, frame, 0, address); {
		case err == nil:
			sent++
		case !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN):
			return err
		}
	}
	_, err = fmt.Fprintln(os.Stdout, "sent "+strconv.Itoa(sent))
	return err
}
