// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/store"
)

func masterKeyCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "master-key",
		Short: "The keys that seal private keys in the database",
		Long: "The keys that seal private keys in the database. The first one in the file seals, all of them open.\n\n" +
			"To replace a key, while everything runs: `add` a new one and bring the file to all machines; `use` the new one and\n" +
			"bring the file to all machines; `rotate` seals everything anew; then the old one may be taken out with `remove`. Running\n" +
			"processes find a changed file within 10 seconds, or at SIGHUP.",
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "create",
			Short: "Make the key file, unless there is one; API and conductors need the same",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				if _, err := ca.LoadOrCreateKeyFile(cfg.X509.MasterKeyFile); err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), cfg.X509.MasterKeyFile)
				return err
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the keys, and how many secrets in the database each has sealed",
			Args:  cobra.NoArgs,
			RunE: withKeys(load, func(cmd *cobra.Command, s *store.Store, sealer *ca.Sealer, _ string) error {
				return listKeys(cmd, s, sealer)
			}),
		},
		&cobra.Command{
			Use:   "add",
			Short: "Add a new key to the file, which opens but does not seal yet",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				id, err := ca.AddKey(cfg.X509.MasterKeyFile)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
				return err
			},
		},
		&cobra.Command{
			Use:   "use ID",
			Short: "Seal with this key of the file from now on; all machines must have it",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withKeys(load, func(cmd *cobra.Command, s *store.Store, sealer *ca.Sealer, path string) error {
					// The cloud is called after its first key, and stays so.
					if _, err := s.CloudID(cmd.Context(), sealer.KeyID()); err != nil {
						return err
					}
					return ca.UseKey(path, args[0])
				})(cmd, args)
			},
		},
		&cobra.Command{
			Use:   "rotate",
			Short: "Seal anew, with the key that seals now, what other keys have sealed",
			Long: "Seal anew, with the key that seals now, what other keys have sealed. The service may run. When it is cut off, run it again:\n" +
				"what is done stays done.",
			Args: cobra.NoArgs,
			RunE: withKeys(load, func(cmd *cobra.Command, s *store.Store, sealer *ca.Sealer, _ string) error {
				seen, resealed := 0, 0
				err := sealer.Reseal(cmd.Context(), s, func(n, m int) { seen, resealed = n, m })
				_, e := fmt.Fprintf(cmd.OutOrStdout(), "%d secrets, %d of them sealed anew with key %s\n", seen, resealed, sealer.KeyID())
				if err != nil {
					return err
				}
				return e
			}),
		},
		&cobra.Command{
			Use:   "remove ID",
			Short: "Take a key out of the file that has sealed nothing in the database any more",
			Long: "Take a key out of the file that has sealed nothing in the database any more. Keep it with the backups of the database that\n" +
				"are older than its end: they can not be used without it.",
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withKeys(load, func(cmd *cobra.Command, s *store.Store, _ *ca.Sealer, path string) error {
					count, err := ca.SealedWith(cmd.Context(), s)
					if err != nil {
						return err
					}
					if n := count[args[0]]; n > 0 {
						return fmt.Errorf("%d secrets are sealed with key %s: run keelsond master-key rotate", n, args[0])
					}
					return ca.RemoveKey(path, args[0])
				})(cmd, args)
			},
		},
	)
	return cmd
}

// withKeys opens the database and the key file for a command.
func withKeys(load loader, do func(cmd *cobra.Command, s *store.Store, sealer *ca.Sealer, path string) error) func(*cobra.Command, []string) error {
	return withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
		path := cfg.X509.MasterKeyFile
		sealer, err := ca.LoadKeyFile(path)
		if err != nil {
			return fmt.Errorf("[x509] master_key_file: %w", err)
		}
		return do(cmd, s, sealer, path)
	})
}

func listKeys(cmd *cobra.Command, s *store.Store, sealer *ca.Sealer) error {
	count, err := ca.SealedWith(cmd.Context(), s)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSEALS\tSEALED")
	ids := sealer.KeyIDs()
	for i, id := range ids {
		seals := "no"
		if i == 0 {
			seals = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\n", id, seals, count[id])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for id, n := range count {
		if !slices.Contains(ids, id) {
			fmt.Fprintf(os.Stderr, "keelsond: warning: %d secrets are sealed with key %q, which is not in the file\n", n, id)
		}
	}
	return nil
}
