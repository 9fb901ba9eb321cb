// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"strings"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/ironic"
)

// BareMetal takes machines from Ironic. It implements [Machines].
type BareMetal struct {
	Ironic *ironic.Client
	Image  ironic.Image
	Owner  string // names this cloud's Keelson, should it share its Ironic with another
	// LibvirtURI is where a host's libvirt listens, with {address} for the
	// host's address; a node's extra may name another one.
	LibvirtURI string
	// ConfigDrive renders what a host reads at its first boot on the machine,
	// with the certificate of its libvirt.
	ConfigDrive func(ctx context.Context, host *model.Host, machine *Machine) (ironic.ConfigDrive, error)
}

// Allocate implements Machines.
func (b *BareMetal) Allocate(ctx context.Context, host string, wish MachineWish) (ironic.Allocation, ironic.Result, error) {
	return b.Ironic.Allocate(ctx, ironic.AllocationRequest{
		Key: host, ResourceClass: wish.ResourceClass, Traits: wish.Traits, Avoid: wish.Avoid, Owner: b.Owner,
		CPUs: wish.VCPUs, MemoryMiB: wish.MemoryMiB, DiskGiB: wish.DiskGiB,
	})
}

// Deploy implements Machines.
func (b *BareMetal) Deploy(ctx context.Context, host *model.Host) (ironic.Result, error) {
	// Its address is in its certificate.
	machine, err := b.Describe(ctx, deref(host.IronicNodeID))
	if err != nil {
		return ironic.Result{}, err
	}
	drive, err := b.ConfigDrive(ctx, host, machine)
	if err != nil {
		return ironic.Result{}, err
	}
	return b.Ironic.Deploy(ctx, ironic.DeployRequest{
		NodeID: deref(host.IronicNodeID), AllocationID: deref(host.AllocationID), Image: b.Image, ConfigDrive: drive,
	})
}

// Describe implements Machines.
func (b *BareMetal) Describe(ctx context.Context, machine string) (*Machine, error) {
	n, err := b.Ironic.Node(ctx, machine)
	if err != nil {
		return nil, err
	}
	m := &Machine{
		Name: n.Name, Address: n.Address, LibvirtURI: n.LibvirtURI,
		VCPUs: n.CPUs, MemoryMiB: n.MemoryMiB, DiskGiB: n.DiskGiB, ResourceClass: n.ResourceClass, Traits: n.Traits,
	}
	switch {
	case m.LibvirtURI != "":
	case n.Address == "":
		return nil, fault.Permanent(nil, "bare-metal machine %s has no known address: the operator must set %s in its extra", n.ID, ironic.ExtraAddress)
	default:
		m.LibvirtURI = strings.ReplaceAll(b.LibvirtURI, "{address}", n.Address)
	}
	return m, nil
}

// Reserved lists what is reserved in Ironic under our name.
func (b *BareMetal) Reserved(ctx context.Context) ([]ironic.Allocation, error) {
	return b.Ironic.Reserved(ctx, b.Owner)
}

// Release implements Machines.
func (b *BareMetal) Release(ctx context.Context, host *model.Host) (ironic.Result, error) {
	return b.Ironic.Release(ctx, deref(host.IronicNodeID), host.UUID)
}

// Returned implements Machines.
func (b *BareMetal) Returned(ctx context.Context, host *model.Host) (bool, error) {
	n, err := b.Ironic.Node(ctx, deref(host.IronicNodeID))
	switch {
	case fault.IsPermanent(err): // gone from Ironic
		return true, nil
	case err != nil:
		return false, err
	}
	ours := n.InstanceID != "" && n.InstanceID == deref(host.AllocationID)
	return !ours && n.State != "clean failed", nil
}

// TakeOut implements Machines.
func (b *BareMetal) TakeOut(ctx context.Context, machine, reason string) error {
	return b.Ironic.TakeOut(ctx, machine, reason)
}
