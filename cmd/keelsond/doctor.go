// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
)

// How a thing is that the doctor looked at.
const (
	stateGood    = "good"
	stateWarning = "warning" // works now, but not for long, or not as it should
	stateBad     = "bad"
)

// finding is what the doctor says of one thing.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"`
	Says  string `json:"says"`
	Mend  string `json:"mend,omitempty"` // what to do about it
}

// doctor looks at all that Keelson depends on, and changes nothing.
type doctor struct {
	*process
	sources  config.Sources
	timeout  time.Duration // of one question
	findings []finding

	noDatabase bool // it can not be used: what needs it is left out
}

func (d *doctor) good(check, says string, args ...any) {
	d.findings = append(d.findings, finding{check, stateGood, fmt.Sprintf(says, args...), ""})
}

func (d *doctor) warn(check, mend, says string, args ...any) {
	d.findings = append(d.findings, finding{check, stateWarning, fmt.Sprintf(says, args...), mend})
}

func (d *doctor) bad(check, mend, says string, args ...any) {
	d.findings = append(d.findings, finding{check, stateBad, fmt.Sprintf(says, args...), mend})
}

// doctorChecks are in the order in which to mend things: what comes later
// often fails only because of what comes before.
var doctorChecks = []struct {
	name  string
	about string
	look  func(*doctor, context.Context)
}{
	{"files", "owner and mode of configuration, secrets and state_path, and room on its disk", (*doctor).lookAtFiles},
	{"policy", "the policy file", (*doctor).lookAtPolicy},
	{"drivers", "drivers of COEs", (*doctor).lookAtDrivers},
	{"database", "connection, schema, clock, master keys, operations that wait", (*doctor).lookAtDatabase},
	{"broker", "each RabbitMQ of transport_url", (*doctor).lookAtBroker},
	{"keystone", "Keystone, the service user, its role, the service catalogue, the clock", (*doctor).lookAtKeystone},
	{"cloud", "Compute, Image and Networking service", (*doctor).lookAtCloud},
	{"ironic", "the Bare Metal service", (*doctor).lookAtIronic},
	{"hosts", "libvirt, hooks and node images of each host, and its certificate", (*doctor).lookAtHosts},
	{"certificates", "end dates", (*doctor).lookAtCertificates},
	{"conductors", "whether any is alive", (*doctor).lookAtConductors},
}

func doctorCommand(load loader, sources *config.Sources) *cobra.Command {
	var format string
	var only, skip []string
	var timeout time.Duration
	names := make([]string, len(doctorChecks))
	long := "Look at all that Keelson depends on, as this machine sees it, and say how to mend what is wrong. Nothing is changed. Run it as the\n" +
		"user that keelsond runs as. Ends with status 1 when something is bad, 0 when there is nothing worse than a warning.\n\nChecks:\n"
	for i, c := range doctorChecks {
		names[i] = c.name
		long += fmt.Sprintf("  %-13s %s\n", c.name, c.about)
	}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that Keelson depends on, and say how to mend it",
		Long:  long,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			for _, name := range slices.Concat(only, skip) {
				if !slices.Contains(names, name) {
					return fmt.Errorf("there is no check %q: keelsond help doctor lists them", name)
				}
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			d := &doctor{process: &process{cfg: cfg, log: slog.New(slog.DiscardHandler)}, sources: *sources, timeout: timeout}
			defer d.close()
			for _, c := range doctorChecks {
				if slices.Contains(skip, c.name) || len(only) > 0 && !slices.Contains(only, c.name) {
					continue
				}
				c.look(d, cmd.Context())
				if err := cmd.Context().Err(); err != nil {
					return err
				}
			}
			return d.report(cmd.OutOrStdout(), format)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	flags.StringSliceVar(&only, "only", nil, "make only these checks")
	flags.StringSliceVar(&skip, "skip", nil, "leave these checks out, like hosts on a machine that only has the API")
	flags.DurationVar(&timeout, "timeout", 15*time.Second, "how long to wait for each answer")
	return cmd
}

// report writes what was found; the error says how much of it is bad.
func (d *doctor) report(to io.Writer, format string) error {
	var err error
	if format == "json" {
		err = writeJSON(to, d.findings)
	} else {
		w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		_, err = fmt.Fprintln(w, "CHECK\tSTATE\tSAYS")
		for _, f := range d.findings {
			_, e := fmt.Fprintf(w, "%s\t%s\t%s\n", f.Check, f.State, f.Says)
			if f.Mend != "" {
				_, e2 := fmt.Fprintf(w, "\t\tto mend it: %s\n", f.Mend)
				e = errors.Join(e, e2)
			}
			err = errors.Join(err, e)
		}
		err = errors.Join(err, w.Flush())
	}
	bad := 0
	for _, f := range d.findings {
		if f.State == stateBad {
			bad++
		}
	}
	if bad > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d things are bad", bad, len(d.findings)))
	}
	return err
}

// ask bounds one question.
func (d *doctor) ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.timeout)
}
