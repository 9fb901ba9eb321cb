// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/ironic"
)

// Reservations knows what is reserved in Ironic in our name.
type Reservations interface {
	Reserved(ctx context.Context) ([]ironic.Allocation, error)
}

// Orphan is something that costs room or money and that nobody needs, or a sum
// in the records that is not right.
type Orphan struct {
	Kind    string `json:"kind"`  // machine, reservation, or a kind of store.Leftover
	ID      string `json:"id"`    // uuid, or name of a service
	Where   string `json:"where"` // name of the host or machine, may be empty
	Why     string `json:"why"`
	Removed bool   `json:"removed"`
	Error   string `json:"error,omitempty"` // why it could not be removed
}

// Kinds of orphans that are not rows.
const (
	OrphanMachine     = "machine"     // a node's machine on a host, without a record
	OrphanPort        = "port"        // an address in Neutron, for a node without a record; ID is the node's uuid
	OrphanReservation = "reservation" // a machine of Ironic's, reserved for a host that is not known
)

// SweepReport is what a sweep found.
type SweepReport struct {
	Orphans []Orphan `json:"orphans"`
	Silent  []string `json:"silent_hosts"` // hosts that did not answer: what is on them is not known
}

// Sweeper looks for orphans. It keeps nothing: any number of them may run.
type Sweeper struct {
	Store        *store.Store
	Nodes        NodeHosts
	Reservations Reservations // nil when there is no Ironic
	Ports        Ports        // nil when all addresses are Keelson's own
	Logger       *slog.Logger

	// Grace is how old something must be to be an orphan: what an operation
	// that ended less than that ago, or has not ended, has had in hand is none.
	Grace time.Duration
	// Silent is how long a conductor must not have been heard of for its
	// service record to be an orphan.
	Silent time.Duration
}

// finding is an orphan with what removes it.
type finding struct {
	Orphan
	remove func(context.Context) error
}

// Sweep looks for orphans and, if it is to, removes them. The error says what
// could not be looked at; what was found is in the report all the same.
func (s *Sweeper) Sweep(ctx context.Context, remove bool) (*SweepReport, error) {
	report := &SweepReport{Orphans: []Orphan{}, Silent: []string{}}
	machines, silent, err := s.machines(ctx)
	report.Silent = append(report.Silent, silent...)
	reservations, err2 := s.reservations(ctx)
	ports, err4 := s.ports(ctx)
	rows, err3 := s.rows(ctx)
	for _, f := range slices.Concat(machines, reservations, ports, rows) {
		if remove {
			err := f.remove(ctx)
			if f.Removed = err == nil; err != nil {
				f.Error = fault.Reason(err, "it could not be removed; the log has the cause")
				s.Logger.Warn("could not remove an orphan", "kind", f.Kind, "id", f.ID, "where", f.Where, "error", err)
			}
		}
		report.Orphans = append(report.Orphans, f.Orphan)
	}
	return report, errors.Join(err, err2, err3, err4)
}

// machines finds those on hosts whose node has no record, or has its place
// elsewhere, and tells which hosts did not answer.
func (s *Sweeper) machines(ctx context.Context) (orphans []finding, silent []string, err error) {
	hosts, err := s.Store.Hosts(ctx)
	if err != nil {
		return nil, nil, err
	}
	type machine struct {
		host *model.Host
		lxc.Info
	}
	var mu sync.Mutex
	var found []machine
	var asked errgroup.Group
	asked.SetLimit(hostsAtOnce)
	for i := range hosts {
		h := &hosts[i]
		if h.LibvirtURI == nil || h.State != model.HostReady && h.State != model.HostDraining {
			continue
		}
		asked.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			list, err := s.Nodes.Host(h.Name, *h.LibvirtURI).List(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.Logger.Warn("host does not tell what is on it", "host", h.Name, "error", err)
				silent = append(silent, h.Name)
				return nil
			}
			for _, info := range list {
				found = append(found, machine{h, info})
			}
			return nil
		})
	}
	_ = asked.Wait()
	slices.Sort(silent)

	// The records are read after the hosts were asked, and there is a record
	// before there is a machine.
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].UUID
	}
	places, err := s.Store.NodeHosts(ctx, ids)
	if err != nil {
		return nil, silent, err
	}
	found = slices.DeleteFunc(found, func(m machine) bool { return places[m.UUID] == m.host.UUID })
	ids = ids[:0]
	for i := range found {
		ids = append(ids, found[i].UUID)
	}
	touched, err := s.Store.TouchedNodes(ctx, ids, s.Grace)
	if err != nil {
		return nil, silent, err
	}
	slices.SortFunc(found, func(a, b machine) int { return strings.Compare(a.host.Name+a.UUID, b.host.Name+b.UUID) })
	for _, m := range found {
		if touched[m.UUID] {
			continue
		}
		why := "no record knows it"
		if _, known := places[m.UUID]; known {
			why = "its node has its place elsewhere"
		}
		orphans = append(orphans, finding{
			Orphan{Kind: OrphanMachine, ID: m.UUID, Where: m.host.Name, Why: fmt.Sprintf("%s; it is %s", why, m.State)},
			func(ctx context.Context) error { return s.removeMachine(ctx, m.host, m.UUID) },
		})
	}
	return orphans, silent, nil
}

// removeMachine removes a node's machine from a host, unless the node has its
// place there by now.
func (s *Sweeper) removeMachine(ctx context.Context, h *model.Host, node string) error {
	places, err := s.Store.NodeHosts(ctx, []string{node})
	if err != nil {
		return err
	}
	if places[node] == h.UUID {
		return fault.Permanent(nil, "it is needed by now")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*listTimeout)
	defer cancel()
	return s.Nodes.Host(h.Name, deref(h.LibvirtURI)).Delete(ctx, node)
}

// reservations finds machines that Ironic keeps for hosts without a record. To
// remove one is to make it a host that is being given back, which the pool then
// takes to its end.
func (s *Sweeper) reservations(ctx context.Context) ([]finding, error) {
	if s.Reservations == nil {
		return nil, nil
	}
	reserved, err := s.Reservations.Reserved(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing what is reserved in Ironic: %w", err)
	}
	// After Ironic was asked: there is a record before there is a reservation.
	hosts, err := s.Store.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, h := range hosts {
		known[h.UUID], known[deref(h.AllocationID)], known[deref(h.IronicNodeID)] = true, true, true
	}
	var orphans []finding
	for _, a := range reserved {
		if a.NodeID == "" || known[a.ID] || known[a.NodeID] {
			continue
		}
		orphans = append(orphans, finding{
			Orphan{Kind: OrphanReservation, ID: a.ID, Where: a.NodeID, Why: "no host is known that it is for"},
			func(ctx context.Context) error {
				err := s.Store.AddHost(ctx, &model.Host{
					UUID: a.ID, Name: "orphan-" + a.ID, State: model.HostReleasing, AllocationID: &a.ID, IronicNodeID: &a.NodeID,
				})
				if errors.Is(err, store.ErrExists) {
					return fault.Permanent(err, "its machine is a host by now")
				}
				return err
			},
		})
	}
	return orphans, nil
}

// ports finds those that Neutron keeps for nodes without a record.
func (s *Sweeper) ports(ctx context.Context) ([]finding, error) {
	if s.Ports == nil {
		return nil, nil
	}
	held, err := s.Ports.Held(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the ports of nodes: %w", err)
	}
	// After Neutron was asked: there is a record before there is a port.
	useless, err := s.Store.UnknownNodes(ctx, held)
	if err != nil {
		return nil, err
	}
	touched, err := s.Store.TouchedNodes(ctx, useless, s.Grace)
	if err != nil {
		return nil, err
	}
	var orphans []finding
	for _, node := range useless {
		if !touched[node] {
			orphans = append(orphans, finding{
				Orphan{Kind: OrphanPort, ID: node, Why: "no record knows the node that it is for"},
				func(ctx context.Context) error { return s.Ports.Free(ctx, node) },
			})
		}
	}
	return orphans, nil
}

// rows finds what is left over in the records.
func (s *Sweeper) rows(ctx context.Context) ([]finding, error) {
	left, err := s.Store.Leftovers(ctx, s.Grace, s.Silent)
	if err != nil {
		return nil, err
	}
	var orphans []finding
	for _, l := range left {
		orphans = append(orphans, finding{
			Orphan{Kind: string(l.Kind), ID: l.ID, Where: l.Where, Why: l.Why},
			func(ctx context.Context) error {
				if l.Kind == store.LeftNode {
					if err := s.deleteLeftNode(ctx, l); err != nil {
						return err
					}
				}
				return s.Store.RemoveLeftover(ctx, l, s.Grace, s.Silent)
			},
		})
	}
	return orphans, nil
}

// deleteLeftNode removes the machine of a node whose record is useless.
func (s *Sweeper) deleteLeftNode(ctx context.Context, l store.Leftover) error {
	if l.Where == "" {
		return nil
	}
	host, err := s.Store.Host(ctx, l.Where)
	if errors.Is(err, store.ErrNotFound) {
		return nil // gone, with all that was on it
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*listTimeout)
	defer cancel()
	if err := s.Nodes.Host(host.Name, deref(host.LibvirtURI)).Delete(ctx, l.ID); err != nil {
		return onNode(err, &model.Node{Name: l.ID}, host)
	}
	return nil
}
