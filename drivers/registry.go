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
	byName map[string]Driver
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
// COE. A template for a COE that only a stub serves gets the stub.
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
	var stub Driver
	for _, d := range r.All() {
		switch info := d.Info(); {
		case !info.Serves(t):
		case info.Stub:
			stub = d
		default:
			return d, nil
		}
	}
	if stub != nil {
		return stub, nil
	}
	return nil, unsupported(t)
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
