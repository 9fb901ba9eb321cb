// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/store"
)

// statusError is an error that ends keelsond with a status of its own.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// exitStatus is what keelsond ends with after the error.
func exitStatus(err error) int {
	if e, ok := errors.AsType[statusError](err); ok {
		return e.status
	}
	return 1
}

// Results of oslo.upgradecheck, which are also the command's status.
const (
	upgradeSuccess = 0
	upgradeWarning = 1
	upgradeFailure = 2
	upgradeUnknown = 255 // a check could not be made
)

var upgradeWords = map[int]string{upgradeSuccess: "Success", upgradeWarning: "Warning", upgradeFailure: "Failure"}

// upgradeResult is one check, in the form of oslo.upgradecheck's JSON.
type upgradeResult struct {
	Check   string  `json:"check"`
	Result  int     `json:"result"`
	Details *string `json:"details"`
}

func statusCommand(load loader, sources *config.Sources) *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "What deployment tools ask"}
	var format string
	check := &cobra.Command{
		Use:   "upgrade-check",
		Short: "Check whether this release's API and conductors can be started here",
		Long: "Check whether this release's API and conductors can be started here: to be run with the new release, after its keelsond db sync and before\n" +
			"the first restart. As with other OpenStack services the status is 0 when all is well, 1 when a check has a warning, 2 when one\n" +
			"failed, 255 when something unexpected happened.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return statusError{upgradeUnknown, err}
			}
			results, err := upgradeCheck(cmd.Context(), *sources)
			if err != nil {
				return statusError{upgradeUnknown, err}
			}
			if format == "json" {
				err = writeJSON(cmd.OutOrStdout(), map[string]any{"name": "Upgrade Check Results", "checks": results})
			} else {
				err = writeUpgradeTable(cmd.OutOrStdout(), results)
			}
			if err != nil {
				return statusError{upgradeUnknown, err}
			}
			worst := slices.MaxFunc(results, func(a, b upgradeResult) int { return a.Result - b.Result })
			if worst.Result == upgradeSuccess {
				return nil
			}
			return statusError{worst.Result, fmt.Errorf("upgrade check: %s", upgradeWords[worst.Result])}
		},
	}
	check.Flags().StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	cmd.AddCommand(check)
	return cmd
}

// upgradeCheck makes all checks. The error says that one could not be made.
func upgradeCheck(ctx context.Context, sources config.Sources) ([]upgradeResult, error) {
	var results []upgradeResult
	say := func(check string, result int, details ...string) {
		r := upgradeResult{Check: check, Result: result}
		if len(details) > 0 {
			text := strings.Join(details, "\n")
			r.Details = &text
		}
		results = append(results, r)
	}
	sources.Env = os.Environ()
	cfg, warnings, err := config.Load(sources)
	if err != nil {
		return nil, err
	}
	var odd []string
	for _, w := range warnings {
		odd = append(odd, fmt.Sprint(w))
	}
	if len(odd) > 0 {
		say("Configuration", upgradeWarning, odd...)
	} else {
		say("Configuration", upgradeSuccess)
	}
	log := slog.New(slog.DiscardHandler)
	if _, err := loadPolicy(cfg, log); err != nil {
		say("Policy File", upgradeFailure, err.Error())
	} else {
		say("Policy File", upgradeSuccess)
	}
	registry, closeDrivers, err := openDrivers(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	odd = nil
	for _, l := range registry.Listings() {
		if why := l.Skipped + l.Problem; why != "" {
			odd = append(odd, l.Info.Name+": "+why)
		}
	}
	if err := closeDrivers(); err != nil {
		return nil, err
	}
	if len(odd) > 0 {
		say("Drivers", upgradeFailure, odd...)
	} else {
		say("Drivers", upgradeSuccess)
	}
	s, err := openStore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	newer, err := s.CheckSchema(ctx)
	switch {
	case errors.Is(err, store.ErrSchema):
		say("Database Schema", upgradeFailure, err.Error())
		return results, nil // the others would ask for what it lacks
	case err != nil:
		return nil, err
	case newer:
		say("Database Schema", upgradeWarning, "It is of a newer release, with which this one can work.")
	default:
		say("Database Schema", upgradeSuccess)
	}
	if err := checkKeys(ctx, cfg, s, say); err != nil {
		return nil, err
	}
	unknown, err := s.UnknownKinds(ctx)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		say("Operations", upgradeWarning, fmt.Sprintf("Some wait that this release can not carry out: %v. A conductor of a newer one must.", unknown))
	} else {
		say("Operations", upgradeSuccess)
	}
	return results, nil
}

func checkKeys(ctx context.Context, cfg *config.Config, s *store.Store, say func(check string, result int, details ...string)) error {
	const check = "Master Keys"
	sealer, err := ca.LoadKeyFile(cfg.X509.MasterKeyFile)
	if err != nil {
		say(check, upgradeFailure, err.Error())
		return nil
	}
	sealed, err := ca.SealedWith(ctx, s)
	if err != nil {
		return err
	}
	old := 0
	for id, n := range sealed {
		switch {
		case !slices.Contains(sealer.KeyIDs(), id):
			say(check, upgradeFailure, fmt.Sprintf("%d secrets are sealed with key %s, which the file lacks.", n, id))
			return nil
		case id != sealer.KeyID():
			old += n
		}
	}
	if old > 0 {
		say(check, upgradeWarning, fmt.Sprintf("%d secrets are sealed with an old key: keelsond master-key rotate.", old))
		return nil
	}
	say(check, upgradeSuccess)
	return nil
}

// writeUpgradeTable writes the results as oslo.upgradecheck does.
func writeUpgradeTable(to io.Writer, results []upgradeResult) error {
	lines := [][]string{{"Upgrade Check Results"}}
	for _, r := range results {
		details := "None"
		if r.Details != nil {
			details = *r.Details
		}
		row := []string{"Check: " + r.Check, "Result: " + upgradeWords[r.Result]}
		for i, line := range wrap("Details: "+details, 60) {
			if i > 0 {
				line = "  " + line
			}
			row = append(row, line)
		}
		lines = append(lines, row)
	}
	width := 0
	for _, row := range lines {
		for _, line := range row {
			width = max(width, utf8.RuneCountInString(line))
		}
	}
	rule := "+" + strings.Repeat("-", width+2) + "+\n"
	text := rule
	for _, row := range lines {
		for _, line := range row {
			text += "| " + line + strings.Repeat(" ", width-utf8.RuneCountInString(line)) + " |\n"
		}
		text += rule
	}
	_, err := io.WriteString(to, text)
	return err
}

// wrap breaks the text at white space into lines of about that many characters.
func wrap(text string, width int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
