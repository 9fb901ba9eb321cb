// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/test/chaos/ledger"
)

// The rules that must hold.
const (
	ruleStuck       = "stuck"        // every accepted request ends in a final state, within a bound
	ruleLost        = "lost request" // what was accepted is worked on
	ruleUpdate      = "lost update"  // what was asked for last is what there is
	ruleDouble      = "double"       // a node, its address and its place exist once
	ruleOrphan      = "orphan"       // nothing is held that nobody needs
	ruleQuota       = "quota"
	ruleAnswer      = "answer" // no 5xx, but 503 with Retry-After while something is away
	ruleResumption  = "resumption"
	ruleShown       = "shown"       // the API shows what the records say
	ruleOverbooking = "overbooking" // no host gives away more than it has
)

// always are the rules that hold at any moment, also in the middle of work.
func always(s *state, quota int) (all []violation) {
	found := func(rule, format string, args ...any) {
		all = append(all, violation{rule, fmt.Sprintf(format, args...)})
	}
	recorded := make(map[string]string) // node → host's directory, of those that hold room
	dirs := make(map[string]string)
	for _, h := range s.Hosts {
		dirs[h.UUID] = strings.TrimPrefix(h.URI, "sim://")
		if h.UsedVCPUs > h.TotalVCPUs || h.UsedMemoryMiB > h.TotalMemoryMiB || h.UsedDiskGiB > h.TotalDiskGiB {
			found(ruleOverbooking, "host %s has given away more than it has: %+v", h.UUID, h)
		}
	}
	places, addresses := make(map[string]string), make(map[string]string)
	for _, n := range s.Nodes {
		if n.Host != "" {
			recorded[n.UUID] = dirs[n.Host]
			place := fmt.Sprintf("%s slot %d", n.Host, n.Slot)
			if other := places[place]; other != "" {
				found(ruleDouble, "nodes %s and %s are both in %s", other, n.UUID, place)
			}
			places[place] = n.UUID
		}
		if n.Address != "" {
			at := n.Network + " " + n.Address
			if other := addresses[at]; other != "" {
				found(ruleDouble, "nodes %s and %s both have %s", other, n.UUID, at)
			}
			addresses[at] = n.UUID
		}
	}
	on := make(map[string]string)
	for _, m := range s.Machines {
		if other, twice := on[m.UUID]; twice && recorded[m.UUID] != "" {
			found(ruleDouble, "node %s runs on %s and on %s", m.UUID, other, m.Host)
		}
		on[m.UUID] = m.Host
	}
	used := make(map[string]int)
	for _, c := range s.Clusters {
		used[c.Project]++
	}
	for project, n := range used {
		if n > quota {
			found(ruleQuota, "project %s has %d clusters, %d are allowed", project, n, quota)
		}
	}
	return all
}

// final are the rules that hold when all work is done.
func final(s *state, h *history) (all []violation) {
	all = append(all, h.Watched...)
	all = append(all, always(s, h.Quota)...)
	all = append(all, ended(s, h)...)
	all = append(all, updates(s, h)...)
	all = append(all, orphans(s)...)
	all = append(all, answers(h)...)
	slow, _ := resumptions(h)
	return append(all, slow...)
}

// accepted are the answers by which Keelson took something upon itself.
func accepted(h *history) (all []ledger.Entry) {
	for _, e := range h.Ledger {
		if e.Kind == ledger.Answer && e.Asked != "" && e.Status >= 200 && e.Status < 300 {
			all = append(all, e)
		}
	}
	return all
}

// ended finds work that is not done, or was forgotten.
func ended(s *state, h *history) (all []violation) {
	found := func(rule, format string, args ...any) {
		all = append(all, violation{rule, fmt.Sprintf(format, args...)})
	}
	byRequest := make(map[string]bool)
	deleted := make(map[string]bool)
	for _, o := range s.Operations {
		byRequest[o.RequestID] = true
		deleted[o.Cluster] = deleted[o.Cluster] || o.Kind == "delete"
		if !o.ended() {
			found(ruleStuck, "%s %s of cluster %s is %s", o.Kind, o.UUID, o.Cluster, o.State)
		} else if o.FinishedAt != nil && o.FinishedAt.Sub(o.CreatedAt) > h.Bound {
			found(ruleStuck, "%s %s of cluster %s took %s", o.Kind, o.UUID, o.Cluster, o.FinishedAt.Sub(o.CreatedAt))
		}
	}
	for _, c := range s.Clusters {
		if strings.HasSuffix(c.Status, "_IN_PROGRESS") {
			found(ruleStuck, "cluster %s is %s", c.UUID, c.Status)
		}
		if shown := s.Shown[c.UUID]; shown != c.Status {
			found(ruleShown, "cluster %s is %s, and shown as %q", c.UUID, c.Status, shown)
		}
	}
	for _, g := range s.Groups {
		if strings.HasSuffix(g.Status, "_IN_PROGRESS") {
			found(ruleStuck, "node group %s of cluster %s is %s", g.UUID, g.Cluster, g.Status)
		}
	}
	for _, e := range accepted(h) {
		// A second delete is answered as the first one is. A resize that the
		// cluster's status does not allow is accepted and has no effect, as in
		// Magnum.
		covered := e.Asked == "delete" && deleted[e.Cluster] || e.Asked == "resize" && s.closed(e.Cluster, e.From, e.To)
		if !byRequest[e.RequestID] && !covered {
			found(ruleLost, "%s of cluster %s (%s) was accepted, and there is no operation", e.Asked, e.Cluster, e.RequestID)
		}
	}
	return all
}

// closed tells whether at some moment from then to then the cluster was in a
// status that allows no resize: being created, not created, or being deleted.
func (s *state) closed(cluster string, from, to time.Time) bool {
	for _, o := range s.Operations {
		if o.Cluster != cluster || o.Kind != "create" && o.Kind != "delete" || o.CreatedAt.After(to) {
			continue
		}
		left := o.Kind == "create" && o.State == "done" && o.FinishedAt != nil && o.FinishedAt.Before(from)
		if o.Kind == "create" && o.State != "done" { // until it was made anew
			left = slices.ContainsFunc(s.Operations, func(later operation) bool {
				return later.Cluster == cluster && later.ID > o.ID && later.CreatedAt.Before(from)
			})
		}
		if !left {
			return true
		}
	}
	return false
}

// updates finds clusters that are not as was asked for last.
func updates(s *state, h *history) (all []violation) {
	found := func(format string, args ...any) {
		all = append(all, violation{ruleUpdate, fmt.Sprintf(format, args...)})
	}
	byRequest := make(map[string]*operation)
	last := make(map[string]*operation) // of each group's count
	for i := range s.Operations {
		o := &s.Operations[i]
		byRequest[o.RequestID] = o
		for group := range o.Spec.NodeCounts {
			if before := last[group]; before == nil || before.ID < o.ID {
				last[group] = o
			}
		}
	}
	nodes := make(map[string][]node)
	for _, n := range s.Nodes {
		nodes[n.Group] = append(nodes[n.Group], n)
	}
	on := make(map[string]string)
	for _, m := range s.Machines {
		on[m.UUID] = m.Host
	}
	dirs := make(map[string]string)
	for _, h := range s.Hosts {
		dirs[h.UUID] = strings.TrimPrefix(h.URI, "sim://")
	}
	in := make(map[member]bool)
	for _, m := range s.Members {
		in[m] = true
	}
	groups := make(map[string]group)
	status := make(map[string]string)
	for _, c := range s.Clusters {
		status[c.UUID] = c.Status
	}
	for _, g := range s.Groups {
		groups[g.UUID] = g
		if !strings.HasSuffix(status[g.Cluster], "_COMPLETE") {
			continue
		}
		if len(nodes[g.UUID]) != g.Count {
			found("cluster %s is %s, and node group %s has %d nodes instead of %d", g.Cluster, status[g.Cluster], g.UUID, len(nodes[g.UUID]), g.Count)
		}
		for _, n := range nodes[g.UUID] {
			switch {
			case n.State != "ready":
				found("cluster %s is %s, and node %s is %s", g.Cluster, status[g.Cluster], n.UUID, n.State)
			case on[n.UUID] != dirs[n.Host]:
				found("node %s is to be on %s, and is on %q", n.UUID, dirs[n.Host], on[n.UUID])
			case !in[member{n.Cluster, n.UUID}]:
				found("node %s is ready, and no member of its cluster", n.UUID)
			}
		}
	}
	for _, e := range accepted(h) {
		o := byRequest[e.RequestID]
		if o == nil {
			continue // told of as lost
		}
		switch g, there := groups[e.Group]; {
		case e.Asked == "resize" && there && last[e.Group] == o && o.State == "done" && g.Count != e.Count:
			found("node group %s was resized to %d and has %d", e.Group, e.Count, g.Count)
		case e.Asked == "delete" && o.State == "done" && status[e.Cluster] != "":
			found("cluster %s was deleted and is %s", e.Cluster, status[e.Cluster])
		case e.Asked == "create" && o.State == "done" && status[e.Cluster] == "" && !deleted(s, e.Cluster):
			found("cluster %s was created, and is not there", e.Cluster)
		}
	}
	return all
}

func deleted(s *state, cluster string) bool {
	return slices.ContainsFunc(s.Operations, func(o operation) bool { return o.Cluster == cluster && o.Kind == "delete" })
}

// orphans finds what is held for nobody.
func orphans(s *state) (all []violation) {
	found := func(format string, args ...any) {
		all = append(all, violation{ruleOrphan, fmt.Sprintf(format, args...)})
	}
	clusters, groups := make(map[string]bool), make(map[string]bool)
	for _, c := range s.Clusters {
		clusters[c.UUID] = true
	}
	for _, g := range s.Groups {
		groups[g.UUID] = true
		if !clusters[g.Cluster] {
			found("node group %s is of no cluster", g.UUID)
		}
	}
	type room struct{ vcpus, memory, disk int }
	used := make(map[string]room)
	nodes := make(map[string]node)
	for _, n := range s.Nodes {
		nodes[n.UUID] = n
		if !clusters[n.Cluster] || !groups[n.Group] {
			found("node %s with address %s on host %s is of no cluster", n.UUID, n.Address, n.Host)
		}
		if n.Host != "" {
			u := used[n.Host]
			used[n.Host] = room{u.vcpus + n.VCPUs, u.memory + n.MemoryMiB, u.disk + n.DiskGiB}
		}
	}
	hosts := make(map[string]host) // by directory
	reserved := make(map[string]bool)
	for _, h := range s.Hosts {
		hosts[strings.TrimPrefix(h.URI, "sim://")] = h
		reserved[h.UUID], reserved[h.Machine], reserved[h.Allocation] = true, true, true
		if have := (room{h.UsedVCPUs, h.UsedMemoryMiB, h.UsedDiskGiB}); have != used[h.UUID] {
			found("host %s has given away %+v, its nodes have %+v", h.UUID, have, used[h.UUID])
		}
	}
	runs := make(map[string]bool)
	for _, m := range s.Machines {
		runs[m.UUID] = true
		h, known := hosts[m.Host]
		if !known || h.State != "ready" && h.State != "draining" {
			continue // its disk is wiped before anyone gets it
		}
		if n, ok := nodes[m.UUID]; !ok || n.Host != h.UUID {
			found("machine %s with address %s on %s has no record", m.UUID, m.Address, m.Host)
		}
	}
	delete(reserved, "")
	for _, m := range s.Members {
		// Who has no machine any more is a member in name only.
		if n, ok := nodes[m.Node]; (!ok || n.Cluster != m.Cluster) && runs[m.Node] {
			found("member %s of cluster %s has no record", m.Node, m.Cluster)
		}
	}
	for _, c := range s.Certificates {
		if _, ok := nodes[c.Node]; !clusters[c.Cluster] || c.Node != "" && !ok {
			found("certificate of cluster %s, node %q, is of nobody", c.Cluster, c.Node)
		}
	}
	for _, b := range s.Ironic {
		if (b.Instance != "" || b.Allocation != "") && !reserved[b.UUID] && !reserved[b.Allocation] && !reserved[b.Instance] {
			found("machine %s of Ironic's is %s for %s, which is no host", b.UUID, b.State, b.Instance)
		}
	}
	return all
}

// slack is how long after a fault its traces may still be seen.
const slack = 3 * time.Second

// answers finds those that the API must not give.
func answers(h *history) (all []violation) {
	for _, e := range h.Ledger {
		if e.Kind != ledger.Answer || e.Status < 500 {
			continue
		}
		detail := fmt.Sprintf("%s %s (%s): %d", e.Method, e.Path, e.RequestID, e.Status)
		switch {
		case e.Status != 503:
			all = append(all, violation{ruleAnswer, detail})
		case e.RetryAfter == "":
			all = append(all, violation{ruleAnswer, detail + " without Retry-After"})
		case away(h, e.From, e.To.Add(time.Millisecond), ledger.Database, ledger.Keystone) == 0:
			all = append(all, violation{ruleAnswer, detail + " while nothing was away"})
		}
	}
	return all
}

// away is for how long one of these was away between two moments, give or take
// the slack.
func away(h *history, from, to time.Time, what ...string) (sum time.Duration) {
	if h.faults == nil {
		for _, e := range h.Ledger {
			if e.Kind == ledger.Fault {
				h.faults = append(h.faults, e)
			}
		}
	}
	for _, f := range h.faults {
		if !slices.Contains(what, f.What) {
			continue
		}
		end := f.To
		if end.IsZero() {
			end = to
		}
		begin, end := later(f.From.Add(-slack/3), from), earlier(end.Add(slack), to)
		if end.After(begin) {
			sum += end.Sub(begin)
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// resumptions tells how long the operations of killed conductors lay idle, and
// finds those that did so for more than two leases; while the database is away
// nobody can take them.
func resumptions(h *history) (all []violation, took []time.Duration) {
	byOperation := make(map[string][]claim)
	for _, c := range h.Claims {
		byOperation[c.Operation] = append(byOperation[c.Operation], c)
	}
	for _, kill := range h.Ledger {
		if kill.Kind != ledger.Fault || kill.What != ledger.KillConductor {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(byOperation)) {
			claims := byOperation[id]
			held := -1 // the claim that was the last one when the conductor died
			for i, c := range claims {
				if !c.Seen.After(kill.From) {
					held = i
				}
			}
			if held < 0 || claims[held].Owner != kill.Owner || claims[held].Ended {
				continue
			}
			if held+1 == len(claims) {
				continue // told of as stuck
			}
			idle := claims[held+1].Seen.Sub(kill.From)
			took = append(took, idle)
			if most := 2*h.Lease + h.Busy + away(h, kill.From, claims[held+1].Seen, ledger.Database); idle > most {
				all = append(all, violation{ruleResumption, fmt.Sprintf("operation %s lay idle for %s after %s was killed", id, idle, kill.Owner)})
			}
		}
	}
	return all, took
}
