// SPDX-License-Identifier: Apache-2.0

//go:build !(cgo && libvirt_dlopen)

package lxc

import (
	"context"
	"log/slog"

	"github.com/keelson/keelson/internal/fault"
)

// Pool stands in for the real one in programs built without libvirt: all that
// touches a host fails.
type Pool struct{}

// Host is a host that cannot be reached.
type Host struct{}

// NewPool returns a pool whose hosts cannot be reached.
func NewPool(*slog.Logger) (*Pool, error) { return &Pool{}, nil }

// NewPoolWithTLS returns the same.
func NewPoolWithTLS(*slog.Logger, string) (*Pool, error) { return &Pool{}, nil }

// Close does nothing.
func (*Pool) Close() error { return nil }

// Host returns a host that cannot be reached.
func (*Pool) Host(_, _ string) *Host { return &Host{} }

func unavailable() error {
	return fault.Permanent(nil, "this conductor was built without libvirt and cannot run LXC nodes: build it with cgo and -tags libvirt_dlopen")
}

// Probe fails.
func (*Host) Probe(context.Context, ...string) (Capacity, error) { return Capacity{}, unavailable() }

// Ensure fails.
func (*Host) Ensure(context.Context, Spec) error { return unavailable() }

// Rebuild fails.
func (*Host) Rebuild(context.Context, Spec) error { return unavailable() }

// State fails.
func (*Host) State(context.Context, string) (State, error) { return "", unavailable() }

// Start fails.
func (*Host) Start(context.Context, string) error { return unavailable() }

// Restart fails.
func (*Host) Restart(context.Context, string) error { return unavailable() }

// Delete fails.
func (*Host) Delete(context.Context, string) error { return unavailable() }

// List fails.
func (*Host) List(context.Context) ([]Info, error) { return nil, unavailable() }
