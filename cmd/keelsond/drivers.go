// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson/keelson/api"
	v1 "github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/kubernetes"
	"github.com/keelson/keelson/drivers/plugin"
	"github.com/keelson/keelson/drivers/swarm"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/model"
)

// inTree are the drivers that come with Keelson, by name. The fake driver
// pretends to be Swarm, for machines whose hosts are simulated.
var inTree = map[string]func(*config.Config) drivers.Driver{
	"swarm": func(cfg *config.Config) drivers.Driver {
		return swarm.New(swarm.Options{Refusals: cfg.Swarm.DockerRefusals})
	},
	"kubernetes": func(*config.Config) drivers.Driver { return kubernetes.New() },
	"fake": func(cfg *config.Config) drivers.Driver {
		return fake.New(fake.OpenCOE(filepath.Join(cfg.StatePath, "fake")), "fake", "swarm-mode", "swarm")
	},
}

// openDrivers makes the drivers that the configuration enables and starts those
// that are programs of their own, until closed.
func openDrivers(ctx context.Context, cfg *config.Config, log *slog.Logger) (registry *drivers.Registry, closeAll func() error, err error) {
	if registry, err = builtinDrivers(cfg); err != nil {
		return nil, nil, err
	}
	if cfg.Drivers.PluginDir == "" {
		return registry, func() error { return nil }, nil
	}
	plugins, err := plugin.Load(ctx, plugin.Options{
		Dir: cfg.Drivers.PluginDir, Checksums: cfg.Drivers.PluginChecksums, Logger: log,
		Limits: plugin.Limits{Memory: uint64(cfg.Drivers.PluginMemory) << 20, OpenFiles: uint64(cfg.Drivers.PluginOpenFiles)},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("[drivers] plugin_dir: %w", err)
	}
	plugins.AddTo(registry)
	return registry, plugins.Close, nil
}

// builtinDrivers makes those that come with Keelson.
func builtinDrivers(cfg *config.Config) (*drivers.Registry, error) {
	var all []drivers.Driver
	for _, name := range cfg.Drivers.Enabled {
		make, ok := inTree[name]
		if !ok {
			var known []string
			for k := range inTree {
				known = append(known, k)
			}
			slices.Sort(known)
			return nil, fmt.Errorf("[drivers] enabled: there is no driver %q, only %s", name, strings.Join(known, ", "))
		}
		all = append(all, make(cfg))
	}
	return drivers.NewRegistry(all...), nil
}

// coes answers the API's questions about drivers.
type coes struct{ *drivers.Registry }

var _ api.COEs = coes{}

func (c coes) NetworkDrivers(coe string) (names []string, known bool) {
	known = slices.ContainsFunc(c.All(), func(d drivers.Driver) bool { return slices.Contains(d.Info().COEs, coe) })
	return c.ofCOE(coe, func(i drivers.Info) []string { return i.NetworkDrivers }), known
}

func (c coes) VolumeDrivers(coe string) []string {
	return c.ofCOE(coe, func(i drivers.Info) []string { return i.VolumeDrivers })
}

// ofCOE gathers what the drivers of a COE say, each word once.
func (c coes) ofCOE(coe string, of func(drivers.Info) []string) []string {
	var all []string
	for _, d := range c.All() {
		if info := d.Info(); slices.Contains(info.COEs, coe) {
			for _, word := range of(info) {
				if !slices.Contains(all, word) {
					all = append(all, word)
				}
			}
		}
	}
	return all
}

func (c coes) ValidateTemplate(t *model.ClusterTemplate) error {
	template := conductor.JobTemplate(t)
	d, err := c.For(template)
	if err != nil {
		return err
	}
	return d.ValidateTemplate(template)
}

func (c coes) ValidateCluster(t *model.ClusterTemplate, cluster *model.Cluster, groups []model.NodeGroup) error {
	template := conductor.JobTemplate(t)
	d, err := c.For(template)
	if err != nil {
		return err
	}
	wanted := make([]drivers.NodeGroup, 0, len(groups))
	for _, g := range groups {
		wanted = append(wanted, drivers.NodeGroup{ID: g.UUID, Name: g.Name, Role: g.Role, NodeCount: g.NodeCount, Labels: g.Labels})
	}
	return d.ValidateCluster(template, &drivers.Cluster{
		ID: cluster.UUID, Name: cluster.Name, ProjectID: cluster.ProjectID, UserID: cluster.UserID, Labels: cluster.Labels,
	}, wanted)
}

func (c coes) Supports(t *model.ClusterTemplate, kind model.OperationKind) error {
	d, err := c.For(conductor.JobTemplate(t))
	if err != nil {
		return err
	}
	if info := d.Info(); !slices.Contains(info.Operations, string(kind)) {
		return fmt.Errorf("the driver %s does not support the operation %s", info.Name, kind)
	}
	return nil
}

// Drivers tells what was loaded. Only a reason may name a path: those who may ask
// are administrators.
func (c coes) Drivers() []v1.Driver { return shownDrivers(c.Listings()).Drivers }

// shownDrivers are listings as the API shows them.
func shownDrivers(all []drivers.Listing) v1.Drivers {
	shown := v1.Drivers{Drivers: []v1.Driver{}}
	for _, l := range all {
		shown.Drivers = append(shown.Drivers, shownDriver(l))
	}
	return shown
}

// shownDriver is a listing as the API shows it. That a driver is a stub is told
// by its kind and, of a plugin too, among its capabilities.
func shownDriver(l drivers.Listing) v1.Driver {
	capabilities := append([]string{}, l.Capabilities...)
	if l.Info.Stub {
		capabilities = append(capabilities, drivers.Stub)
	}
	list := func(words []string) []string { return append([]string{}, words...) }
	reason := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	return v1.Driver{
		Name: l.Info.Name, Kind: l.Kind, Version: l.Info.Version, COEs: list(l.Info.COEs), ServerTypes: list(l.Info.ServerTypes), Distros: list(l.Info.Distros),
		NetworkDrivers: list(l.Info.NetworkDrivers), VolumeDrivers: list(l.Info.VolumeDrivers), Capabilities: capabilities,
		Skipped: reason(l.Skipped), Problem: reason(l.Problem),
	}
}
