// SPDX-License-Identifier: Apache-2.0

// Package cli is the keelson command: clusters for people at a terminal and
// for their scripts.
//
// What scripts rely on: results go to standard output, everything else
// (progress, questions, advice) to standard error; the exit code says how it
// went (see [Main]); names and uuids are taken everywhere; nothing is asked
// where there is no terminal.
package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Streams are what the command reads and writes.
type Streams struct {
	In       *os.File
	Out, Err *os.File
}

// app is one run of the command.
type app struct {
	Streams
	version string
	cloud   string // --os-cloud
	region  string // --os-region-name
	format  string // -f
	columns []string

	service *service // made at the first call, see api
}

// Main runs the command with these arguments and returns its exit code:
//
//	  0  done
//	  1  failed in a way that has no code of its own
//	  2  the command line is wrong, or does not say enough
//	  3  there is no such thing
//	  4  the cluster, or what was done to it, ended in an error
//	  5  it took longer than --timeout allows; it goes on
//	  6  the login was refused, or the user may not do this
//	  7  Keystone or Keelson does not answer: worth trying again
//	130  interrupted
func Main(ctx context.Context, version string, args []string, streams Streams) int {
	a := &app{Streams: streams, version: version}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return codeDone
	}
	return a.explain(ctx, err)
}

const rootHelp = `Container clusters on bare metal, for tenants of an OpenStack cloud.

Who you are comes from the variables of an openrc file (OS_AUTH_URL, OS_USERNAME,
OS_PASSWORD, OS_PROJECT_NAME, ... or OS_APPLICATION_CREDENTIAL_ID and _SECRET), or
from a clouds.yaml with OS_CLOUD or --os-cloud. OS_CACERT names the authority of the
cloud's certificates; certificates are always verified.

Clusters, templates and nodes are named by name or uuid.`

const rootExample = `  keelson templates
  keelson create demo --template swarm --nodes 3 --wait
  eval "$(keelson env demo)"; docker info
  keelson grow demo --by 2 --wait
  keelson delete demo --wait`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "keelson",
		Short:         "Container clusters on bare metal",
		Long:          rootHelp,
		Example:       rootExample,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.checkFormat()
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%v", err).next("%s --help lists what there is", c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.cloud, "os-cloud", "", "cloud of clouds.yaml to use (default $OS_CLOUD)")
	flags.StringVar(&a.region, "os-region-name", "", "region to use (default $OS_REGION_NAME)")
	_ = root.RegisterFlagCompletionFunc("os-cloud", cobra.NoFileCompletions)

	root.AddGroup(
		&cobra.Group{ID: "clusters", Title: "Clusters:"},
		&cobra.Group{ID: "change", Title: "Change a cluster:"},
		&cobra.Group{ID: "use", Title: "Use a cluster:"},
		&cobra.Group{ID: "more", Title: "More:"},
	)
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("clusters", a.createCommand(), a.listCommand(), a.getCommand(), a.nodesCommand(), a.eventsCommand(), a.deleteCommand())
	group("change", a.growCommand(), a.resizeCommand(), a.autoscaleCommand(), a.rebuildCommand(), a.repairCommand(), a.upgradeCommand(), a.rotateAuthorityCommand())
	group("use", a.credentialsCommand(), a.envCommand())
	group("more", a.templatesCommand(), a.quotasCommand(), a.versionCommand())
	root.AddCommand(a.referenceCommand())
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this command",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.Out, "keelson", a.version)
			return err
		},
	}
}

// noArguments, oneArgument and someArguments check how many there are.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument, but there is %q", c.CommandPath(), args[0])
	}
	return nil
}

func oneArgument(c *cobra.Command, args []string) error {
	return wantArguments(c, args, 1)
}

func wantArguments(c *cobra.Command, args []string, n int) error {
	if len(args) == n {
		return nil
	}
	_, wanted, _ := strings.Cut(c.Use, " ")
	return usage("%s wants %s", c.CommandPath(), wanted).
		next("%s --help explains it", c.CommandPath())
}

func someArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	return wantArguments(c, args, 1)
}

// say tells people something, beside the result.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, format+"\n", args...)
}

// colours tells whether f shows colours and wants them (https://no-color.org).
func colours(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// width of the terminal in columns, 0 if f is none.
func width(f *os.File) int {
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// confirm asks before something is lost. Where nobody can be asked, --yes has
// to say it.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(a.In.Fd())) || !term.IsTerminal(int(a.Err.Fd())) {
		return usage("%s There is no terminal to ask on.", question).next("add --yes if that is what you want")
	}
	_, _ = fmt.Fprintf(a.Err, "%s Type yes to go on: ", question)
	var answer string
	_, err := fmt.Fscanln(a.In, &answer)
	if err != nil || !strings.EqualFold(answer, "yes") {
		return &failure{code: codeFailed, message: "nothing was done"}
	}
	return nil
}

// callTimeout bounds each call that is no stream.
const callTimeout = time.Minute
