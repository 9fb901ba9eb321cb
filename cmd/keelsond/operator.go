// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
	"github.com/keelson/keelson/internal/store"
)

func dbCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "db", Short: "The database schema"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "sync",
			Short: "Bring the database schema to this release",
			Args:  cobra.NoArgs,
			RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config) error {
				return s.Migrate(cmd.Context())
			}),
		},
		&cobra.Command{
			Use:   "version",
			Short: "Print the schema that the database has, and the one that this release needs",
			Args:  cobra.NoArgs,
			RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config) error {
				have, want, err := s.SchemaCurrent(cmd.Context())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "database: %s\nneeded:   %s\n", have, want)
				return err
			}),
		},
		dbCheckCommand(load),
		dbPurgeCommand(load),
	)
	return cmd
}

// withStore opens the database for a command.
func withStore(load loader, do func(*cobra.Command, *store.Store, *config.Config) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		s, err := openStore(cmd.Context(), cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			return err
		}
		return errors.Join(do(cmd, s, cfg), s.Close())
	}
}

func configCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "The configuration"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "sample",
			Short: "Print a configuration file with every option, its help and its default",
			Args:  cobra.NoArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return config.WriteSample(cmd.OutOrStdout()) },
		},
		&cobra.Command{
			Use:   "show",
			Short: "Print the configuration in force, without its secrets",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				return config.WriteShow(cmd.OutOrStdout(), cfg)
			},
		},
	)
	return cmd
}

func policyCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "The rules of who may do what"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "sample",
			Short: "Print a policy file with every rule and its default",
			Args:  cobra.NoArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return policy.WriteSample(cmd.OutOrStdout()) },
		},
		&cobra.Command{
			Use:   "check",
			Short: "Check the policy file and print the rules in force",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				enforcer, err := loadPolicy(cfg, slog.New(slog.DiscardHandler))
				if err != nil {
					return err
				}
				return enforcer.WriteShow(cmd.OutOrStdout())
			},
		},
	)
	return cmd
}

func loadPolicy(cfg *config.Config, log *slog.Logger) (*policy.Enforcer, error) {
	c := &cfg.OsloPolicy
	return policy.Load(policy.Options{File: c.PolicyFile, EnforceNewDefaults: c.EnforceNewDefaults, EnforceScope: c.EnforceScope, Logger: log})
}

func hostCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Bare-metal hosts that carry nodes"}
	var host model.Host
	var uri, address string
	add := &cobra.Command{
		Use:   "add",
		Short: "Register a machine that exists, instead of taking one from Ironic",
		Args:  cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
			host.UUID = uuid.NewString()
			host.State = model.HostPreparing
			if uri == "" {
				uri = strings.ReplaceAll(cfg.Hosts.LibvirtURI, "{address}", address)
			}
			host.LibvirtURI = &uri
			if address != "" {
				host.Address = &address
			}
			host.Bridge = cfg.Network.Bridge
			slices.Sort(host.Traits)
			if err := s.AddHost(cmd.Context(), &host); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "host %s added; a conductor takes it into service when its libvirt answers\n", host.Name)
			return err
		}),
	}
	flags := add.Flags()
	flags.StringVar(&host.Name, "name", "", "its name")
	flags.StringVar(&address, "address", "", "where conductors reach it")
	flags.StringVar(&uri, "libvirt-uri", "", "where its libvirt listens, if [hosts] libvirt_uri does not tell, like lxc+tls://192.0.2.7/system")
	flags.IntVar(&host.TotalVCPUs, "vcpus", 0, "vCPUs that nodes may have together")
	flags.IntVar(&host.TotalMemoryMiB, "memory", 0, "MiB of memory that nodes may have together")
	flags.IntVar(&host.TotalDiskGiB, "disk", 0, "GiB of disk that nodes may have together")
	flags.StringVar(&host.ResourceClass, "resource-class", "", "its resource class, for clusters that ask for one; without, it serves those that ask for none")
	flags.StringSliceVar(&host.Traits, "trait", nil, "a trait that it has, for clusters that ask for it; may be repeated")
	for _, name := range []string{"name", "vcpus", "memory", "disk"} {
		cobra.CheckErr(add.MarkFlagRequired(name))
	}
	add.MarkFlagsOneRequired("address", "libvirt-uri")
	list := &cobra.Command{
		Use:   "list",
		Short: "List the hosts with what is used of them",
		Args:  cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config) error {
			hosts, err := s.Hosts(cmd.Context())
			if err != nil {
				return err
			}
			nodes, err := s.NodesPerHost(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, err = fmt.Fprintln(w, "NAME\tSTATE\tNODES\tVCPUS\tMEMORY MIB\tDISK GIB\tCLASS\tFAILURES\tIRONIC NODE\tREASON")
			for _, h := range hosts {
				_, e := fmt.Fprintf(w, "%s\t%s\t%d\t%d/%d\t%d/%d\t%d/%d\t%s\t%d\t%s\t%s\n", h.Name, h.State, nodes[h.UUID], h.UsedVCPUs, h.TotalVCPUs,
					h.UsedMemoryMiB, h.TotalMemoryMiB, h.UsedDiskGiB, h.TotalDiskGiB, orDash(&h.ResourceClass), h.Failures, orDash(h.IronicNodeID), orDash(h.Trouble()))
				err = errors.Join(err, e)
			}
			avoided, e := s.AvoidedMachines(cmd.Context(), time.Now())
			if err = errors.Join(err, e); err != nil || len(avoided) == 0 {
				return errors.Join(err, w.Flush())
			}
			_, err = fmt.Fprintln(w, "\nIRONIC NODE NOT TO BE USED\tNAME\tUNTIL\tREASON")
			for _, m := range avoided {
				_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.IronicNodeID, orDash(&m.Name), m.Until.Format(time.RFC3339), m.Reason)
				err = errors.Join(err, e)
			}
			return errors.Join(err, w.Flush())
		}),
	}
	cmd.AddCommand(add, list, hostDrainCommand(load), hostUndrainCommand(load), hostReleaseCommand(load), hostRemoveCommand(load), hostUserDataCommand(load))
	return cmd
}

func hostRemoveCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a machine that was added, and has no nodes",
		Long: "Forget a machine that was added with `host add`. The records must have no nodes on it: those of a host that does not answer are gone when\n" +
			"their clusters are deleted, or after [hosts] evacuate_after.\n\n" +
			"What may still run on the machine is forgotten, too, and others get its addresses: switch it off for good or wipe it before.",
		Args: cobra.ExactArgs(1),
		RunE: onHost(load, func(ctx context.Context, s *store.Store, h *model.Host) (string, error) {
			if h.IronicNodeID != nil || h.State == model.HostEnrolled {
				return "", fmt.Errorf("host %s is Ironic's: `keelsond host release` gives it back", h.Name)
			}
			err := s.RemoveHost(ctx, h.UUID)
			if errors.Is(err, store.ErrInUse) {
				return "", fmt.Errorf("host %s has nodes: delete their clusters, or wait until they are replaced", h.Name)
			}
			return fmt.Sprintf("host %s is forgotten", h.Name), err
		}),
	}
}

func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return *s
}
