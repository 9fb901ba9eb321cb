// SPDX-License-Identifier: Apache-2.0

// Command keelsond is Keelson's server: the REST API, the conductor, and the
// operator's commands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "keelsond:", err)
		os.Exit(exitStatus(err))
	}
}

func newRoot() *cobra.Command {
	var sources config.Sources
	root := &cobra.Command{
		Use:           "keelsond",
		Short:         "Containers as a service on bare metal, for OpenStack clouds",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringArrayVar(&sources.Files, "config-file", nil, "read this file instead of "+config.DefaultFile+" (may be repeated)")
	flags.StringArrayVar(&sources.Dirs, "config-dir", nil, "read *.conf of this directory instead of "+config.DefaultDir+" (may be repeated)")
	load := func() (*config.Config, error) {
		sources.Env = os.Environ()
		cfg, warnings, err := config.Load(sources)
		for _, w := range warnings {
			fmt.Fprintln(os.Stderr, "keelsond: warning:", w)
		}
		return cfg, err
	}
	root.AddCommand(
		apiCommand(load),
		conductorCommand(load),
		allInOneCommand(load),
		dbCommand(load),
		configCommand(load),
		policyCommand(load),
		driverCommand(load),
		hostCommand(load),
		sweepCommand(load),
		masterKeyCommand(load),
		doctorCommand(load, &sources),
		keystoneSetupCommand(load),
		statusCommand(load, &sources),
		operationCommand(load),
		clusterCommand(load),
	)
	return root
}

// loader reads the configuration that the command line names.
type loader func() (*config.Config, error)
