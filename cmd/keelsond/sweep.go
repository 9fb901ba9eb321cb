// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/lxc"
)

func sweepCommand(load loader) *cobra.Command {
	var dryRun, force bool
	var format string
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Look for what nobody needs any more, and remove it",
		Long: "Look for what nobody needs any more: machines of nodes that no record knows, machines reserved in Ironic for no host,\n" +
			"rows of clusters that are gone, room that is taken by nobody, records of conductors that are gone. What an operation\n" +
			"had in hand within [conductor] sweep_grace is left alone.\n\n" +
			"Without --force nothing changes. After a restored backup look twice: what was made since then is not in the records.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format must be table or json, not %q", format)
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			p := &process{cfg: cfg, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
			defer p.close()
			if err := p.openStore(cmd.Context(), false); err != nil {
				return err
			}
			if p.sealer, err = ca.LoadKeyFile(cfg.X509.MasterKeyFile); err != nil {
				return fmt.Errorf("[x509] master_key_file: %w", err)
			}
			libvirt, err := lxc.NewPool(p.log)
			if err != nil {
				return err
			}
			p.onClose(libvirt.Close)
			machines, err := p.machines(cmd.Context())
			if err != nil {
				return err
			}
			report, err := p.sweeper(nodeHosts{libvirt}, machines).Sweep(cmd.Context(), force && !dryRun)
			return errors.Join(writeSweep(cmd.OutOrStdout(), format, report), err)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell what would be removed, and remove nothing (the default)")
	cmd.Flags().BoolVar(&force, "force", false, "remove what is found")
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "force")
	return cmd
}

func writeSweep(to io.Writer, format string, report *conductor.SweepReport) error {
	if format == "json" {
		e := json.NewEncoder(to)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "KIND\tID\tWHERE\tWHY\tREMOVED")
	for _, o := range report.Orphans {
		removed := "no"
		if o.Removed {
			removed = "yes"
		} else if o.Error != "" {
			removed = "no: " + o.Error
		}
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Kind, o.ID, orDash(&o.Where), o.Why, removed)
		err = errors.Join(err, e)
	}
	err = errors.Join(err, w.Flush())
	if len(report.Silent) > 0 {
		_, e := fmt.Fprintln(to, "These hosts did not answer, what is on them is not known:", strings.Join(report.Silent, ", "))
		err = errors.Join(err, e)
	}
	return err
}
