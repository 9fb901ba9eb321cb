// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/ipam"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/ironic"
)

// startConductor lets the group run a conductor.
func (p *process) startConductor(ctx context.Context, group *errgroup.Group) error {
	networks, nameservers, err := nodeNetworks(&p.cfg.Network)
	if err != nil {
		return err
	}
	machines, err := p.machines(ctx)
	if err != nil {
		return err
	}
	pki, err := p.clientPKI(ctx)
	if err != nil {
		return err
	}
	libvirt, err := lxc.NewPoolWithTLS(p.log, pki)
	if err != nil {
		return err
	}
	p.onClose(libvirt.Close)
	hosts := nodeHosts{libvirt}
	options := p.conductorOptions()
	c := conductor.New(conductor.Parts{
		Store: p.store, Messages: p.queue, Drivers: p.drivers,
		Hosts: conductor.NewHostPool(p.store, machines, hosts, p.log, conductor.HostOptions{
			Bridge: p.cfg.Network.Bridge, CPURatio: p.cfg.Hosts.CPUAllocationRatio, RAMRatio: p.cfg.Hosts.RAMAllocationRatio,
			DiskRatio: p.cfg.Hosts.DiskAllocationRatio, ReservedMemoryMiB: p.cfg.Hosts.ReservedMemoryMiB,
			MaxHosts: p.cfg.Hosts.MaxHosts, ReleaseAfter: p.cfg.Hosts.ReleaseAfter, MinSpare: p.cfg.Hosts.MinSpare,
			ResourceClass: p.cfg.Ironic.ResourceClass, Traits: p.cfg.Ironic.Traits, DeployAttempts: p.cfg.Hosts.DeployAttempts, DeployTimeout: p.cfg.Hosts.DeployTimeout, PrepareTimeout: p.cfg.Hosts.PrepareTimeout,
			AvoidFailed: p.cfg.Hosts.AvoidFailed, TakeOutFailed: p.cfg.Hosts.TakeOutFailed,
		}),
		Nodes: hosts, Sweeper: p.sweeper(hosts, machines), Certificates: p.certificates, Sealer: p.sealer, Catalog: p.catalog,
		Networks: networks, Ports: p.ports, Nameservers: nameservers, Logger: p.log, Zone: p.cfg.Hosts.Zone, Observer: p.conductorObserver(),
		Limits: lxc.Limits{
			BandwidthMbit: p.cfg.Hosts.NodeBandwidth, IOMiB: p.cfg.Hosts.NodeIORate, IOOperations: p.cfg.Hosts.NodeIOOperations,
		},
	}, options)
	group.Go(func() error { return c.Run(ctx) })
	return nil
}

func (p *process) conductorOptions() conductor.Options {
	c := &p.cfg.Conductor
	o := conductor.Options{
		Owner: fmt.Sprintf("%s/%d", p.cfg.Host, os.Getpid()), Host: p.cfg.Host, Workers: c.Workers,
		Lease: c.Lease, Poll: c.PollInterval, Heartbeat: c.Heartbeat, StepTimeout: c.StepTimeout, Drain: c.ShutdownTimeout,
		PerProject: c.MaxOperationsPerProject, StartsPerHost: c.MaxStartsPerHost,
		HealthEvery: c.HealthPollingInterval, HealthTimeout: c.HealthPollingTimeout, MachinesEvery: c.MachineCheckInterval,
		SweepEvery: c.SweepInterval, SweepRemoves: c.Sweep == config.SweepDelete,
		EvacuateAfter: p.cfg.Hosts.EvacuateAfter,
		HistoryKept:   c.OperationHistory, HistoryLeast: c.OperationHistoryKeep,
	}
	if c.Sweep == config.SweepOff {
		o.SweepEvery = -1
	}
	// Zero in the configuration means off, in the options the default.
	for _, interval := range []*time.Duration{&o.HealthEvery, &o.MachinesEvery, &o.HistoryKept} {
		if *interval == 0 {
			*interval = -1
		}
	}
	if !p.cfg.PeriodicEnable {
		o.HealthEvery, o.MachinesEvery, o.SweepEvery = -1, -1, -1
	}
	return o
}

// sweeper looks for orphans on the hosts, in Ironic (unless machines is nil)
// and in the records.
func (p *process) sweeper(hosts conductor.NodeHosts, machines conductor.Machines) *conductor.Sweeper {
	s := &conductor.Sweeper{Store: p.store, Nodes: hosts, Logger: p.log, Grace: p.cfg.Conductor.SweepGrace, Silent: p.cfg.Conductor.ServiceGoneAfter}
	s.Ports = p.ports
	if r, ok := machines.(conductor.Reservations); ok {
		s.Reservations = r
	}
	return s
}

// nodeHosts reaches real hosts through libvirt and simulated ones through
// their directory.
type nodeHosts struct{ libvirt *lxc.Pool }

func (h nodeHosts) Host(name, uri string) conductor.NodeHost {
	if simhost.IsURI(uri) {
		return simhost.Open(uri)
	}
	return libvirtHost{h.libvirt.Host(name, uri)}
}

// libvirtHost is a host whose capacity is known from Ironic or the operator.
type libvirtHost struct{ *lxc.Host }

func (h libvirtHost) Probe(ctx context.Context) error {
	_, err := h.Host.Probe(ctx)
	return err
}

// machines is the bare-metal service, or nil when none is configured.
func (p *process) machines(ctx context.Context) (conductor.Machines, error) {
	client, err := p.openIronic()
	if client == nil || err != nil {
		return nil, err
	}
	c := &p.cfg.Ironic
	owner, err := p.store.CloudID(ctx, p.sealer.KeyID())
	if err != nil {
		return nil, err
	}
	return &conductor.BareMetal{
		Ironic: client, Image: ironic.Image{Href: c.Image, Checksum: c.ImageChecksum}, LibvirtURI: p.cfg.Hosts.LibvirtURI,
		ConfigDrive: p.configDrive, Owner: owner,
	}, nil
}

// openIronic makes the client of the bare-metal service, nil when none is
// configured. Nothing is asked yet.
func (p *process) openIronic() (*ironic.Client, error) {
	c := &p.cfg.Ironic
	if c.EndpointOverride == "" && c.AuthURL == "" {
		return nil, nil
	}
	client, err := ironic.New(ironic.Options{
		Auth: c.AuthType, Endpoint: c.EndpointOverride, AuthURL: c.AuthURL, Username: c.Username, Password: c.Password.Reveal(),
		UserDomainName: c.UserDomainName, ProjectName: c.ProjectName, ProjectDomainName: c.ProjectDomainName,
		Region: c.RegionName, CAFile: c.CAFile, MinDelay: c.PollInterval, Logger: p.log,
	})
	if err != nil {
		return nil, fmt.Errorf("[ironic]: %w", err)
	}
	p.onClose(func() error { client.Close(); return nil })
	return client, nil
}

// nodeNetworks are the networks that nodes get their addresses from, the default
// one first.
func nodeNetworks(c *config.Network) (ipam.Networks, []netip.Addr, error) {
	var networks ipam.Networks
	for _, subnet := range c.Networks {
		var ranges []string
		for _, r := range subnet.Ranges {
			ranges = append(ranges, r.String())
		}
		pool, err := ipam.Parse(subnet.Name, subnet.Prefix.String(), subnet.Gateway.String(), ranges...)
		if err != nil {
			return nil, nil, fmt.Errorf("[network]: %w", err)
		}
		pool = pool.Labelled(subnet.Labels...)
		if subnet.Name == c.DefaultNetwork {
			networks = append(ipam.Networks{pool}, networks...)
		} else {
			networks = append(networks, pool)
		}
	}
	nameservers := make([]netip.Addr, 0, len(c.Nameservers))
	for _, s := range c.Nameservers {
		address, err := netip.ParseAddr(s)
		if err != nil {
			return nil, nil, fmt.Errorf("[network] nameservers: %w", err)
		}
		nameservers = append(nameservers, address)
	}
	return networks, nameservers, nil
}

// configuredCatalog is the catalogue of a cloud without Nova, Glance and Neutron.
func configuredCatalog(cfg *config.Config) *catalog.Configured {
	c := catalog.Configured{DefaultFlavor: cfg.Flavors.DefaultFlavor}
	for _, f := range cfg.Flavors.Flavors {
		c.Flavors = append(c.Flavors, catalog.Flavor{Name: f.Name, VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: f.DiskGiB})
	}
	for _, i := range cfg.Images.Images {
		c.Images = append(c.Images, catalog.Image{Name: i.Name, Distro: i.OSDistro, NodeImage: i.NodeImage})
	}
	for _, n := range cfg.Network.Networks {
		c.Networks = append(c.Networks, catalog.Network{Name: n.Name, External: true})
	}
	return &c
}
