// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// hostNamed returns the host with that name.
func hostNamed(ctx context.Context, s *store.Store, name string) (*model.Host, error) {
	hosts, err := s.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(hosts, func(h model.Host) bool { return h.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no host %s", name)
	}
	return &hosts[i], nil
}

// onHost is a command that does something to one host, whose name is its
// argument.
func onHost(load loader, do func(ctx context.Context, s *store.Store, h *model.Host) (says string, err error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return withStore(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config) error {
			host, err := hostNamed(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			says, err := do(cmd.Context(), s, host)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), says)
			return err
		})(cmd, args)
	}
}

func hostDrainCommand(load loader) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "Have a host take no new nodes",
		Long: "Have a host take no new nodes. Those that are there run on: they go when their users remove them or delete their clusters.\n" +
			"`keelsond host list` shows how many are left. A drained host stays until it is released or undrained.",
		Args: cobra.ExactArgs(1),
		RunE: onHost(load, func(ctx context.Context, s *store.Store, h *model.Host) (string, error) {
			reason := strings.TrimSpace(reason)
			if reason == "" {
				return "", errors.New("--reason must not be empty")
			}
			if err := s.DrainHost(ctx, h.UUID, reason); err != nil {
				return "", err
			}
			nodes, err := s.NodesPerHost(ctx)
			return fmt.Sprintf("host %s takes no new nodes; it has %d", h.Name, nodes[h.UUID]), err
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "drained by the operator", "why, for `keelsond host list`")
	return cmd
}

func hostUndrainCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain NAME",
		Short: "Have a host take new nodes again",
		Args:  cobra.ExactArgs(1),
		RunE: onHost(load, func(ctx context.Context, s *store.Store, h *model.Host) (string, error) {
			return fmt.Sprintf("host %s takes new nodes", h.Name), s.UndrainHost(ctx, h.UUID)
		}),
	}
}

func hostReleaseCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "release NAME",
		Short: "Give a host without nodes back to Ironic",
		Long: "Give a host without nodes back to Ironic, which wipes it; a conductor sees to that. Hosts that are empty long enough go by themselves,\n" +
			"but for those that are drained, in error, or kept as a spare. Hosts with nodes are refused: drain them first.",
		Args: cobra.ExactArgs(1),
		RunE: onHost(load, func(ctx context.Context, s *store.Store, h *model.Host) (string, error) {
			if h.IronicNodeID == nil {
				return "", fmt.Errorf("host %s is not from Ironic: `keelsond host remove` forgets it", h.Name)
			}
			err := s.ReleaseHost(ctx, h.UUID)
			if errors.Is(err, store.ErrInUse) {
				return "", fmt.Errorf("host %s has nodes: drain it, and release it when `keelsond host list` shows none", h.Name)
			}
			return fmt.Sprintf("host %s goes back to Ironic", h.Name), err
		}),
	}
}
