// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/plugin"
	"github.com/keelson/keelson/internal/config"
)

func driverCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{Use: "driver", Short: "Drivers of container orchestration engines"}
	cmd.AddCommand(driverListCommand(load), driverShowCommand(load), driverCheckCommand(load), planCommand(load))
	return cmd
}

// withListings loads all drivers, as a server does, for a command.
func withListings(load loader, do func(*cobra.Command, *config.Config, []drivers.Listing, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		registry, closeDrivers, err := openDrivers(cmd.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return errors.Join(do(cmd, cfg, registry.Listings(), args), closeDrivers())
	}
}

func driverListCommand(load loader) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the drivers that are loaded, and those that are skipped",
		Args:  cobra.NoArgs,
		RunE: withListings(load, func(cmd *cobra.Command, _ *config.Config, all []drivers.Listing, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if format == "json" {
				return writeJSON(cmd.OutOrStdout(), shownDrivers(all))
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, err := fmt.Fprintln(w, "NAME\tVERSION\tKIND\tCOES\tSERVER TYPES\tSTATE")
			for _, l := range all {
				_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Info.Name, cmp.Or(l.Info.Version, "-"), l.Kind,
					commas(l.Info.COEs), commas(l.Info.ServerTypes), driverState(l))
				err = errors.Join(err, e)
			}
			return errors.Join(err, w.Flush())
		}),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	return cmd
}

// driverState is one word, and the reason if there is one.
func driverState(l drivers.Listing) string {
	switch {
	case l.Skipped != "":
		return "skipped: " + l.Skipped
	case l.Problem != "":
		return "down: " + l.Problem
	case l.Info.Stub:
		return "stub"
	}
	return "ready"
}

func commas(words []string) string { return cmp.Or(strings.Join(words, ","), "-") }

func driverShowCommand(load loader) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show all that is known of a driver",
		Args:  cobra.ExactArgs(1),
		RunE: withListings(load, func(cmd *cobra.Command, _ *config.Config, all []drivers.Listing, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			named := slices.DeleteFunc(slices.Clone(all), func(l drivers.Listing) bool { return l.Info.Name != args[0] })
			if len(named) == 0 {
				return fmt.Errorf("there is no driver %q: keelsond driver list shows all", args[0])
			}
			if format == "json" {
				return writeJSON(cmd.OutOrStdout(), shownDrivers(named))
			}
			for _, l := range named { // a plugin may have a name that is taken
				if err := writeDriver(cmd.OutOrStdout(), l); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	return cmd
}

func writeDriver(to io.Writer, l drivers.Listing) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	var err error
	for _, line := range [][2]string{
		{"name", l.Info.Name},
		{"kind", l.Kind},
		{"version", l.Info.Version},
		{"coes", strings.Join(l.Info.COEs, ", ")},
		{"server types", strings.Join(l.Info.ServerTypes, ", ")},
		{"distros", cmp.Or(strings.Join(l.Info.Distros, ", "), "any")},
		{"network drivers", strings.Join(l.Info.NetworkDrivers, ", ")},
		{"volume drivers", strings.Join(l.Info.VolumeDrivers, ", ")},
		{"capabilities", strings.Join(shownDriver(l).Capabilities, ", ")},
		{"path", l.Path},
		{"state", driverState(l)},
		{"mend", l.Mend},
	} {
		if line[1] != "" {
			_, e := fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, w.Flush())
}

func driverCheckCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Try all drivers, and say how to mend those that can not be loaded",
		Long: "Try all drivers as a server would: of those that are programs of their own the owner, the mode and the checksum are looked at, " +
			"then they are started and asked what they are. Ends with status 1 when one can not be loaded.",
		Args: cobra.NoArgs,
		RunE: withListings(load, func(cmd *cobra.Command, cfg *config.Config, all []drivers.Listing, _ []string) error {
			out := cmd.OutOrStdout()
			bad := 0
			say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
			for _, l := range all {
				where := l.Kind
				if l.Path != "" {
					where = l.Path
				}
				if l.Skipped == "" && l.Problem == "" {
					say("%s: good: version %s, serves %s (%s)", l.Info.Name, l.Info.Version, strings.Join(l.Info.COEs, ", "), where)
					continue
				}
				bad++
				say("%s: bad: %s\n    to mend it: %s", l.Info.Name, cmp.Or(l.Skipped, l.Problem), cmp.Or(l.Mend, "look into the log of keelsond"))
			}
			for _, name := range strayFiles(cfg.Drivers.PluginDir) {
				say("%s: left alone: the names of drivers begin with %s", name, plugin.Prefix)
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d drivers can not be used", bad, len(all))
			}
			return nil
		}),
	}
}

// strayFiles are those in the directory of drivers that are none by their name.
func strayFiles(dir string) []string {
	entries, _ := os.ReadDir(dir) // openDrivers has read it
	var stray []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), plugin.Prefix) {
			stray = append(stray, e.Name())
		}
	}
	return stray
}
