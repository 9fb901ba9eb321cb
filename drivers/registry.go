// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"fmt"
	"slices"
	"strings"
)

// Registry holds the drivers that a process has loaded. It is filled at start
// and read-only afterwards.
type Registry struct {
	byName  map[string]Driver
	skipped []Listing
}

// Kinds of drivers.
const (
	BuiltIn = "built-in" // part of this program
	Plugin  = "plugin"   // a process of its own, see package plugin
	Stub    = "stub"     // part of this program, makes no clusters
)

// Listing is what there is to know about a driver that is loaded, or was not.
type Listing struct {
	Info Info // of one that is skipped, only the name
	// Capabilities are the optional things that it does: operations beside
	// those that every driver plans ("upgrade"), and powers ("usage").
	Capabilities []string
	Kind         string // BuiltIn, Plugin or Stub
	Path         string // of a plugin: its program
	Skipped      string // why it is not loaded; empty: it is
	Mend         string // of one that is skipped: what an operator can do
	Problem      string // loaded, but does not answer now: why
}

// Listed is an optional power of a driver: it says more about itself than its
// Info. Plugins have it.
type Listed interface {
	Listing() Listing
}

// List describes a driver.
func List(d Driver) Listing {
	if l, ok := d.(Listed); ok {
		return l.Listing()
	}
	l := Listing{Info: d.Info(), Kind: BuiltIn, Capabilities: slices.Clone(d.Info().Operations)}
	if l.Info.Stub {
		l.Kind = Stub
	}
	if _, ok := d.(UsageReporter); ok {
		l.Capabilities = append(l.Capabilities, "usage")
	}
	return l
}

// NewRegistry returns a registry of the given drivers. It panics on an empty
// or doubled name: both are mistakes in the program, not in its input.
func NewRegistry(all ...Driver) *Registry {
	r := &Registry{byName: make(map[string]Driver, len(all))}
	for _, d := range all {
		name := d.Info().Name
		if name == "" {
			panic(fmt.Sprintf("driver %T has no name", d))
		}
		if _, twice := r.byName[name]; twice {
			panic(fmt.Sprintf("two drivers are named %q", name))
		}
		r.byName[name] = d
	}
	return r
}

// Add adds a driver. It refuses one whose name is taken.
func (r *Registry) Add(d Driver) error {
	name := d.Info().Name
	if _, taken := r.byName[name]; taken {
		return fmt.Errorf("there is a driver named %q already", name)
	}
	r.byName[name] = d
	return nil
}

// Skip notes a driver that was not loaded, for Listings.
func (r *Registry) Skip(l Listing) { r.skipped = append(r.skipped, l) }

// Listings returns all drivers, those that were skipped too, ordered by name.
func (r *Registry) Listings() []Listing {
	all := slices.Clone(r.skipped)
	for _, d := range r.byName {
		all = append(all, List(d))
	}
	slices.SortStableFunc(all, func(a, b Listing) int { return strings.Compare(a.Info.Name, b.Info.Name) })
	return all
}

// All returns the drivers ordered by name.
func (r *Registry) All() []Driver {
	all := make([]Driver, 0, len(r.byName))
	for _, d := range r.byName {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Driver) int {
		return strings.Compare(a.Info().Name, b.Info().Name)
	})
	return all
}

// Named returns the driver of that name.
func (r *Registry) Named(name string) (Driver, error) {
	if d, ok := r.byName[name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("driver %q is not loaded; loaded are %s", name, strings.Join(r.names(), ", "))
}

// For returns the driver that serves clusters of this kind: the one named by
// the template, or the first by name that serves the server type, distro and
// COE. One that is part of the program comes before plugins, so that adding a
// plugin changes nothing of what is there, and a stub after all others.
func (r *Registry) For(t *Template) (Driver, error) {
	if t.Driver != "" {
		d, err := r.Named(t.Driver)
		if err != nil {
			return nil, err
		}
		if !d.Info().Serves(t) {
			return nil, unsupported(t)
		}
		return d, nil
	}
	var best Driver
	rank := func(d Driver) int {
		l := List(d)
		switch {
		case l.Info.Stub:
			return 2
		case l.Kind == Plugin:
			return 1
		}
		return 0
	}
	for _, d := range r.All() {
		if d.Info().Serves(t) && (best == nil || rank(d) < rank(best)) {
			best = d
		}
	}
	if best == nil {
		return nil, unsupported(t)
	}
	return best, nil
}

// Serves tells whether the driver makes clusters of the template's kind.
func (i Info) Serves(t *Template) bool {
	return slices.Contains(i.COEs, t.COE) &&
		slices.Contains(i.ServerTypes, t.ServerType) &&
		(len(i.Distros) == 0 || slices.Contains(i.Distros, t.Distro))
}

// UnsupportedError says that no driver makes clusters of this kind.
type UnsupportedError struct{ ServerType, Distro, COE string }

func (e *UnsupportedError) Error() string {
	distro := e.Distro
	if distro == "" {
		distro = "None"
	}
	return fmt.Sprintf("Cluster type (%s, %s, %s) not supported.", e.ServerType, distro, e.COE)
}

func unsupported(t *Template) error {
	return &UnsupportedError{t.ServerType, t.Distro, t.COE}
}

func (r *Registry) names() []string {
	var names []string
	for _, d := range r.All() {
		names = append(names, d.Info().Name)
	}
	return names
}
