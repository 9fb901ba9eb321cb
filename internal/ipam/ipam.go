// SPDX-License-Identifier: Apache-2.0

// Package ipam describes the pools that nodes get their IPv4 addresses from.
// Which address is held by whom is kept in the store.
package ipam

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Pool is the addresses of one network that nodes may have. It does not change
// and may be used from several goroutines.
type Pool struct {
	name    string
	prefix  netip.Prefix
	gateway netip.Addr
	labels  []string
	spans   []span // in order, apart from each other
}

// span is a run of addresses, both ends included.
type span struct{ first, last uint32 }

// Parse reads a pool: its network in CIDR form ("192.0.2.0/24"), the gateway
// ("192.0.2.1", empty if none) and the ranges that nodes may have
// ("192.0.2.10-192.0.2.99" or a single address; none means the whole network).
// Ranges may overlap. The network's own address, the broadcast address and the
// gateway are never given to nodes.
func Parse(name, cidr, gateway string, ranges ...string) (*Pool, error) {
	fail := func(format string, args ...any) (*Pool, error) {
		return nil, fmt.Errorf("network %s: "+format, append([]any{name}, args...)...)
	}
	prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
	if err != nil {
		return fail("%q is not a network in CIDR form", cidr)
	}
	if !prefix.Addr().Is4() {
		return fail("%s is not IPv4", prefix)
	}
	if prefix != prefix.Masked() {
		return fail("%s has host bits set: write %s", prefix, prefix.Masked())
	}
	p := &Pool{name: name, prefix: prefix}
	if gateway = strings.TrimSpace(gateway); gateway != "" {
		if p.gateway, err = p.host(gateway); err != nil {
			return fail("gateway %w", err)
		}
	}

	usable := p.usable()
	if len(ranges) == 0 {
		p.spans = append(p.spans, usable)
	}
	for _, r := range ranges {
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		first, err := p.host(strings.TrimSpace(from))
		if err != nil {
			return fail("range %q: %w", r, err)
		}
		last, err := p.host(strings.TrimSpace(to))
		if err != nil {
			return fail("range %q: %w", r, err)
		}
		if last.Less(first) {
			return fail("range %q ends before it begins", r)
		}
		p.spans = append(p.spans, span{max(number(first), usable.first), min(number(last), usable.last)})
	}
	p.spans = joined(p.spans)
	if p.Size() == 0 {
		return fail("no address is left for nodes")
	}
	return p, nil
}

// host reads an address of the network.
func (p *Pool) host(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return addr, fmt.Errorf("%q is not an IP address", s)
	}
	if !p.prefix.Contains(addr) {
		return addr, fmt.Errorf("%s is not in %s", addr, p.prefix)
	}
	return addr, nil
}

// usable is the network without its own and the broadcast address; networks of
// one or two addresses have neither (RFC 3021).
func (p *Pool) usable() span {
	first := number(p.prefix.Addr())
	last := first | uint32(1<<(32-p.prefix.Bits())-1)
	if p.prefix.Bits() < 31 {
		first, last = first+1, last-1
	}
	return span{first, last}
}

// joined puts spans in order and makes one of those that touch.
func joined(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	var out []span
	for _, s := range spans {
		if s.last < s.first {
			continue // was nothing but the network or broadcast address
		}
		if n := len(out); n > 0 && uint64(s.first) <= uint64(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Name is the network's name.
func (p *Pool) Name() string { return p.name }

// Labelled returns the same pool with these labels, key=value each.
func (p *Pool) Labelled(labels ...string) *Pool {
	labelled := *p
	labelled.labels = labels
	return &labelled
}

// Prefix is the network with its prefix length.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Gateway is the network's router; invalid (IsValid false) if there is none.
func (p *Pool) Gateway() netip.Addr { return p.gateway }

// Size is how many addresses nodes may have.
func (p *Pool) Size() int {
	n := 0
	for _, s := range p.spans {
		n += int(s.last-s.first) + 1
	}
	if p.ranged(p.gateway) {
		n-- // is never given away
	}
	return n
}

// ranged tells whether the address is in the ranges.
func (p *Pool) ranged(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	n := number(addr)
	return slices.ContainsFunc(p.spans, func(s span) bool { return s.first <= n && n <= s.last })
}

// All yields each address that nodes may have once, beginning behind the first
// skip ones and going round. Those who begin at different places rarely want
// the same address; any value of skip will do.
func (p *Pool) All(skip int) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		total := uint64(0)
		for _, s := range p.spans {
			total += uint64(s.last-s.first) + 1
		}
		if total == 0 {
			return
		}
		start := uint64(skip) % total
		for i := range total {
			addr := p.at((start + i) % total)
			if addr != p.gateway && !yield(addr) {
				return
			}
		}
	}
}

// at is the nth address of the ranges, from 0; n is less than their sum.
func (p *Pool) at(n uint64) netip.Addr {
	for _, s := range p.spans {
		size := uint64(s.last-s.first) + 1
		if n < size {
			return address(s.first + uint32(n))
		}
		n -= size
	}
	return netip.Addr{}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
