// SPDX-License-Identifier: Apache-2.0

// Package placement decides on which hosts a node should be tried, best first,
// with filters and weights as Nova's scheduler has them. It only looks at
// numbers it is given: the room itself is claimed in the store, where a lost
// race means to try the next host.
package placement

import (
	"cmp"
	"slices"

	"github.com/keelson/keelson/internal/model"
)

// Room is an amount of what hosts have and nodes take.
type Room struct {
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
}

// fits tells whether want is left of total when used is gone.
func fits(want, used, total Room) bool {
	return used.VCPUs+want.VCPUs <= total.VCPUs &&
		used.MemoryMiB+want.MemoryMiB <= total.MemoryMiB &&
		used.DiskGiB+want.DiskGiB <= total.DiskGiB
}

// Candidate is a host as it was seen last.
type Candidate struct {
	UUID          string
	Name          string
	State         model.HostState
	Total         Room // what may be given away
	Used          Room // what nodes hold
	ResourceClass string
	Traits        []string
	Siblings      int // nodes there of the cluster that asks
	Failures      int // node starts in a row that failed there
}

// Candidates makes candidates of hosts, for a cluster that has that many nodes
// on them, by host uuid.
func Candidates(hosts []model.Host, siblings map[string]int) []Candidate {
	candidates := make([]Candidate, len(hosts))
	for i, h := range hosts {
		candidates[i] = Candidate{
			UUID:          h.UUID,
			Name:          h.Name,
			State:         h.State,
			Total:         Room{h.TotalVCPUs, h.TotalMemoryMiB, h.TotalDiskGiB},
			Used:          Room{h.UsedVCPUs, h.UsedMemoryMiB, h.UsedDiskGiB},
			ResourceClass: h.ResourceClass,
			Traits:        h.Traits,
			Siblings:      siblings[h.UUID],
			Failures:      h.Failures,
		}
	}
	return candidates
}

// Request is what one node needs.
type Request struct {
	Room
	ResourceClass string
	OrNoClass     bool     // hosts without a class will do as well
	Traits        []string // all of them
}

// Fits tells whether a host of that class, with those traits and that much
// room, is one that was asked for.
func (r *Request) Fits(class string, traits []string, free Room) bool {
	lacking := func(trait string) bool { return !slices.Contains(traits, trait) }
	return (class == r.ResourceClass || class == "" && r.OrNoClass) &&
		!slices.ContainsFunc(r.Traits, lacking) &&
		fits(r.Room, Room{}, free)
}

// A filter keeps a host only if it may take the node at all.
type filter func(*Candidate, *Request) bool

var filters = []filter{
	func(c *Candidate, _ *Request) bool { return c.State == model.HostReady },
	func(c *Candidate, r *Request) bool { return r.Fits(c.ResourceClass, c.Traits, c.free()) },
}

// A weight says which of two hosts is the better one: negative for a, 0 if it
// does not care. The first weight that cares decides.
type weight func(a, b *Candidate) int

// The store's HostsWithRoom knows the first three, to read no more than needed.
var weights = []weight{
	// Leave hosts alone on which nothing starts.
	func(a, b *Candidate) int { return cmp.Compare(a.failing(), b.failing()) },
	// Spread a cluster, so that a lost host takes few of its nodes away.
	func(a, b *Candidate) int { return cmp.Compare(a.Siblings, b.Siblings) },
	// Leave room on every host.
	func(a, b *Candidate) int { return cmp.Compare(b.free().MemoryMiB, a.free().MemoryMiB) },
	func(a, b *Candidate) int { return cmp.Compare(a.Failures, b.Failures) },
	// The same answer to the same question.
	func(a, b *Candidate) int { return cmp.Compare(a.Name, b.Name) },
	func(a, b *Candidate) int { return cmp.Compare(a.UUID, b.UUID) },
}

func (c *Candidate) free() Room {
	return Room{c.Total.VCPUs - c.Used.VCPUs, c.Total.MemoryMiB - c.Used.MemoryMiB, c.Total.DiskGiB - c.Used.DiskGiB}
}

// failing is 1 for hosts that model.Host calls failing.
func (c *Candidate) failing() int {
	if c.Failures >= model.FailingAfter {
		return 1
	}
	return 0
}

// Choose returns the uuids of the hosts that take nodes, are of the kind that
// was asked for and have room, the best first: those on which nodes start, then
// fewest nodes of the same cluster, then most memory free, then fewest failures,
// then by name. Empty means that there is none.
func Choose(hosts []Candidate, r Request) []string {
	var possible []*Candidate
	for i := range hosts {
		c := &hosts[i]
		if !slices.ContainsFunc(filters, func(may filter) bool { return !may(c, &r) }) {
			possible = append(possible, c)
		}
	}
	slices.SortFunc(possible, func(a, b *Candidate) int {
		for _, better := range weights {
			if order := better(a, b); order != 0 {
				return order
			}
		}
		return 0
	})
	uuids := make([]string, len(possible))
	for i, c := range possible {
		uuids[i] = c.UUID
	}
	return uuids
}
