// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/magnum"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

func clusterCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Clusters of all projects"}
	cmd.AddCommand(adoptCommand(load))
	return cmd
}

// adopted is a record of Magnum's and what becomes of it.
type adopted struct {
	What   string `json:"what"`
	Name   string `json:"name"`
	ID     string `json:"id"`
	Action string `json:"action"`
}

func adoptCommand(load loader) *cobra.Command {
	var format, from, inventory string
	var yes bool
	cmd := &cobra.Command{
		Use:   "adopt-from-magnum",
		Short: "Take over cluster templates and quotas from a Magnum's database",
		Long: "Take over cluster templates, with their uuids, and quotas from a Magnum's database. What Keelson has already stays as it is, so it may be\n" +
			"run again. Magnum's database is only read.\n\n" +
			"Clusters are not taken over: Heat made their machines, and Keelson has neither a driver for these nor their keys. They stay with Magnum\n" +
			"until their users have moved. They are listed as unmanaged, and --clusters-file keeps what Magnum knows of them, without its secrets.\n\n" +
			"Without --yes nothing is written.",
		Args: cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if _, err := s.CheckSchema(cmd.Context()); err != nil {
				return err
			}
			connection, err := readConnection(cmd.InOrStdin(), from)
			if err != nil {
				return err
			}
			records, err := magnum.Read(cmd.Context(), connection)
			if err != nil {
				return err
			}
			served, err := servedCOEs(cmd, cfg)
			if err != nil {
				return err
			}
			done, err := adopt(cmd, s, records, served, yes)
			if err == nil && yes && inventory != "" {
				err = writeInventory(inventory, records.Clusters)
			}
			return errors.Join(writeAdopted(cmd.OutOrStdout(), format, done), err)
		}),
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	flags.StringVar(&from, "connection-file", "", `file with the connection of Magnum's database, as [database] connection in magnum.conf; "-" reads it from standard input`)
	flags.StringVar(&inventory, "clusters-file", "", "file to keep what Magnum knows of its clusters in, as JSON")
	flags.BoolVar(&yes, "yes", false, "write, instead of telling what would be written")
	cobra.CheckErr(cmd.MarkFlagRequired("connection-file"))
	return cmd
}

// readConnection reads a connection from a file: it has a password in it, so it
// is no argument.
func readConnection(stdin io.Reader, name string) (string, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, 1<<16))
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return "", fmt.Errorf("--connection-file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// servedCOEs are those that clusters can be made of.
func servedCOEs(cmd *cobra.Command, cfg *config.Config) ([]string, error) {
	registry, closeDrivers, err := openDrivers(cmd.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	var coes []string
	for _, l := range registry.Listings() {
		if usable(l) {
			coes = append(coes, l.Info.COEs...)
		}
	}
	return coes, closeDrivers()
}

func usable(l drivers.Listing) bool { return l.Skipped == "" && l.Problem == "" && !l.Info.Stub }

// adopt writes what is not there yet, and tells what became of each record.
func adopt(cmd *cobra.Command, s *store.Store, records *magnum.Records, served []string, write bool) (done []adopted, err error) {
	ctx := cmd.Context()
	ids := make([]string, len(records.Templates))
	for i, t := range records.Templates {
		ids[i] = t.UUID
	}
	there, err := s.TemplatesByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range records.Templates {
		t := &records.Templates[i]
		action := "would be adopted"
		switch {
		case there[t.UUID] != nil:
			action = "is there"
		case write:
			if err := s.CreateTemplate(ctx, t); err != nil && !errors.Is(err, store.ErrExists) {
				return done, fmt.Errorf("template %s: %w", t.UUID, err)
			}
			action = "adopted"
		}
		if !slices.Contains(served, t.COE) {
			action += "; no driver makes clusters of " + cmp.Or(t.COE, "no COE")
		}
		done = append(done, adopted{"template", valueOf(t.Name), t.UUID, action})
	}
	for i := range records.Quotas {
		q := &records.Quotas[i]
		action := "would be adopted"
		known, err := s.Quota(ctx, q.ProjectID, q.Resource)
		switch {
		case err == nil && known.HardLimit != q.HardLimit:
			action = fmt.Sprintf("is there, with %d instead of %d", known.HardLimit, q.HardLimit)
		case err == nil:
			action = "is there"
		case !errors.Is(err, store.ErrNotFound):
			return done, err
		case write:
			if err := s.CreateQuota(ctx, &model.Quota{ProjectID: q.ProjectID, Resource: q.Resource, HardLimit: q.HardLimit}); err != nil && !errors.Is(err, store.ErrExists) {
				return done, fmt.Errorf("quota of project %s: %w", q.ProjectID, err)
			}
			action = "adopted"
		}
		done = append(done, adopted{"quota", fmt.Sprintf("%s: %d", q.Resource, q.HardLimit), q.ProjectID, action})
	}
	for _, c := range records.Clusters {
		done = append(done, adopted{"cluster", c.Name, c.UUID, "unmanaged: stays with Magnum"})
	}
	return done, nil
}

func writeAdopted(to io.Writer, format string, done []adopted) error {
	if format == "json" {
		return writeJSON(to, done)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "WHAT\tNAME\tID\tACTION")
	for _, a := range done {
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.What, orDash(&a.Name), a.ID, a.Action)
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// writeInventory replaces the file by one that only its owner reads.
func writeInventory(name string, clusters []magnum.Cluster) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".clusters-*") // has mode 0600
	if err != nil {
		return fmt.Errorf("--clusters-file: %w", err)
	}
	defer os.Remove(f.Name())
	err = errors.Join(writeJSON(f, clusters), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("--clusters-file: %w", err)
	}
	return nil
}
