// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/store"
)

func dbCheckCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check that the database fits this release, and that its rows fit each other",
		Long: "Check that the database has the schema that this release works with, and that no rows are left of what is gone (what keelsond sweep\n" +
			"removes). Nothing is changed. Ends with status 1 when something is wrong.",
		Args: cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
			newer, err := s.CheckSchema(cmd.Context())
			if err != nil {
				return err
			}
			has := "this release's schema"
			if newer {
				has = "a newer release's schema, with which this one can work"
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "the database has", has); err != nil {
				return err
			}
			left, err := s.Leftovers(cmd.Context(), cfg.Conductor.SweepGrace, cfg.Conductor.ServiceGoneAfter)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "its rows fit each other")
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, err = fmt.Fprintln(w, "LEFT OVER\tID\tWHY")
			for _, l := range left {
				_, e := fmt.Fprintf(w, "%s\t%s\t%s\n", l.Kind, l.ID, l.Why)
				err = errors.Join(err, e)
			}
			return errors.Join(err, w.Flush(), fmt.Errorf("%d rows are left of what is gone: keelsond sweep --force removes them", len(left)))
		}),
	}
}

func dbPurgeCommand(load loader) *cobra.Command {
	var yes bool
	var days float64
	var keep, batch int
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Forget operations that ended long ago, their steps and events, and old events",
		Long: "Forget operations that ended long ago, with their steps and events, and old events that are about no operation. Conductors do so by\n" +
			"themselves, by [conductor] operation_history_days and operation_history_keep; this is for those who want to keep less. The last ended\n" +
			"operations of each cluster that exists are kept whatever their age. Rows are removed in batches, beside what is going on.\n\n" +
			"Without --yes nothing is removed.",
		Args: cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
			age := time.Duration(days * 24 * float64(time.Hour))
			if !cmd.Flags().Changed("older-than") {
				age = cfg.Conductor.OperationHistory
			}
			if !cmd.Flags().Changed("keep") {
				keep = cfg.Conductor.OperationHistoryKeep
			}
			switch {
			case age <= 0:
				return errors.New("--older-than must be more than 0 days")
			case keep < 0:
				return errors.New("--keep must not be less than 0")
			case batch < 1 || batch > 10_000:
				return errors.New("--batch must be from 1 to 10000")
			}
			if _, err := s.CheckSchema(cmd.Context()); err != nil {
				return err
			}
			what := "forgotten"
			operations, events, err := 0, 0, error(nil)
			if yes {
				operations, events, err = purge(cmd, s, age, keep, batch)
			} else {
				what = "would be forgotten with --yes"
				var some, others int64
				some, others, err = s.Prunable(cmd.Context(), age, keep)
				operations, events = int(some), int(others)
			}
			_, e := fmt.Fprintf(cmd.OutOrStdout(), "%d operations with their steps and events, and %d other rows, older than %s: %s\n",
				operations, events, humanDays(age), what)
			return errors.Join(err, e)
		}),
	}
	flags := cmd.Flags()
	flags.Float64Var(&days, "older-than", 0, "how many days ago they ended (default: [conductor] operation_history_days)")
	flags.IntVar(&keep, "keep", 0, "how many of each cluster to keep all the same (default: [conductor] operation_history_keep)")
	flags.IntVar(&batch, "batch", 500, "how many to remove in one transaction")
	flags.BoolVar(&yes, "yes", false, "remove them, instead of counting them")
	return cmd
}

// purge removes what is old, and tells how much was removed even when it is cut
// off.
func purge(cmd *cobra.Command, s *store.Store, age time.Duration, keep, batch int) (operations, events int, err error) {
	ctx := cmd.Context()
	for after := int64(0); ; {
		n, next, err := s.PruneOperations(ctx, age, keep, batch, after)
		operations += n
		if err != nil {
			return operations, events, err
		}
		if n == 0 {
			break
		}
		after = next
	}
	for {
		n, err := s.PruneEvents(ctx, age, batch)
		events += n
		if err != nil || n == 0 {
			return operations, events, err
		}
	}
}

func humanDays(d time.Duration) string { return fmt.Sprintf("%g days", d.Hours()/24) }
