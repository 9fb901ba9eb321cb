// SPDX-License-Identifier: Apache-2.0

// Package placement decides on which hosts a node should be tried, best first.
// It only looks at numbers it is given: the room itself is claimed in the
// store, where a lost race means to try the next host.
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
	UUID     string
	Name     string
	State    model.HostState
	Total    Room // what may be given away
	Used     Room // what nodes hold
	Siblings int  // nodes there of the cluster that asks
	Failures int  // node starts in a row that failed there
}

// Candidates makes candidates of all hosts, for a cluster with these nodes.
func Candidates(hosts []model.Host, nodes []model.Node) []Candidate {
	siblings := make(map[string]int)
	for i := range nodes {
		if nodes[i].HostID != nil {
			siblings[*nodes[i].HostID]++
		}
	}
	candidates := make([]Candidate, len(hosts))
	for i, h := range hosts {
		candidates[i] = Candidate{
			UUID:     h.UUID,
			Name:     h.Name,
			State:    h.State,
			Total:    Room{h.TotalVCPUs, h.TotalMemoryMiB, h.TotalDiskGiB},
			Used:     Room{h.UsedVCPUs, h.UsedMemoryMiB, h.UsedDiskGiB},
			Siblings: siblings[h.UUID],
			Failures: h.Failures,
		}
	}
	return candidates
}

// Request is what one node needs.
type Request struct {
	Room
}

// A filter keeps a host only if it may take the node at all.
type filter func(Candidate, Request) bool

var filters = []filter{
	func(c Candidate, _ Request) bool { return c.State == model.HostReady },
	func(c Candidate, r Request) bool { return fits(r.Room, c.Used, c.Total) },
}

// A weight says which of two hosts is the better one: negative for a, 0 if it
// does not care. The first weight that cares decides.
type weight func(a, b Candidate) int

var weights = []weight{
	// Spread a cluster, so that a lost host takes few of its nodes away.
	func(a, b Candidate) int { return cmp.Compare(a.Siblings, b.Siblings) },
	// Leave room on every host; compared as free_a/total_a > free_b/total_b.
	func(a, b Candidate) int { return cmp.Compare(freeOf(b)*totalOf(a), freeOf(a)*totalOf(b)) },
	func(a, b Candidate) int { return cmp.Compare(a.Failures, b.Failures) },
	// The same answer to the same question.
	func(a, b Candidate) int { return cmp.Compare(a.Name, b.Name) },
	func(a, b Candidate) int { return cmp.Compare(a.UUID, b.UUID) },
}

func freeOf(c Candidate) int64  { return int64(c.Total.MemoryMiB) - int64(c.Used.MemoryMiB) }
func totalOf(c Candidate) int64 { return max(int64(c.Total.MemoryMiB), 1) }

// Choose returns the uuids of the hosts that take nodes and have room, the
// best first: fewest nodes of the same cluster, then the largest fraction of
// memory free, then fewest failures, then by name. Empty means that no host
// has room.
func Choose(hosts []Candidate, r Request) []string {
	var possible []Candidate
	for _, c := range hosts {
		if !slices.ContainsFunc(filters, func(may filter) bool { return !may(c, r) }) {
			possible = append(possible, c)
		}
	}
	slices.SortFunc(possible, func(a, b Candidate) int {
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
