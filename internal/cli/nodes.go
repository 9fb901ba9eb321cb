// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
)

func (s *service) nodes(ctx context.Context, cluster string) ([]v1.Node, error) {
	var all v1.Nodes
	_, err := s.act(ctx, http.MethodGet, cluster, "nodes", nil, &all)
	return all.Nodes, err
}

func (a *app) nodesCommand() *cobra.Command {
	return a.printing(&cobra.Command{
		Use:               "nodes CLUSTER",
		Short:             "List the nodes of a cluster",
		Long:              "List the nodes of a cluster. Nodes with the same host are on one bare-metal machine.",
		Example:           "  keelson nodes demo\n  keelson nodes demo -f value -c name -c address",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.api(c.Context())
			if err != nil {
				return err
			}
			all, err := s.nodes(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printList(a, all, "name", "role", "status", "address", "host", "vcpus", "memory_mb", "disk_gb", "status_reason")
		},
	})
}

func (a *app) rebuildCommand() *cobra.Command {
	return a.nodesAction("rebuild", "Make the nodes of a cluster anew, or some of them",
		`Make the nodes of a cluster anew, or those that --node names, one after the other: each is
drained, made anew from its image and filled again. Images, volumes and addresses stay; single
containers are stopped meanwhile.`)
}

func (a *app) repairCommand() *cobra.Command {
	return a.nodesAction("repair", "Bring unhealthy nodes of a cluster back",
		`Bring unhealthy nodes of a cluster back, or those that --node names. Nodes that stand still
are started; what can not be started is made anew. Healthy nodes are left alone.`)
}

func (a *app) nodesAction(verb, short, long string) *cobra.Command {
	var w waiting
	var request v1.NodesRequest
	c := a.printing(&cobra.Command{
		Use:               verb + " CLUSTER",
		Short:             short,
		Long:              long,
		Example:           "  keelson " + verb + " demo --wait\n  keelson " + verb + " demo --node demo-worker-1",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().StringArrayVar(&request.Nodes, "node", nil, "only this node, by name or uuid (may be repeated)")
	_ = c.RegisterFlagCompletionFunc("node", func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(c, func(ctx context.Context, s *service) ([]string, error) {
			if len(args) == 0 {
				return nil, nil
			}
			all, err := s.nodes(ctx, args[0])
			var names []string
			for _, n := range all {
				names = append(names, cobra.CompletionWithDesc(n.Name, n.Status))
			}
			return names, err
		})
	})
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		return a.act(c.Context(), s, &w, args[0], verb, request)
	}
	return c
}

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var after int64
	var last int
	c := a.printing(&cobra.Command{
		Use:   "events CLUSTER",
		Short: "Tell what happened to a cluster",
		Long: `Tell what happened to a cluster, the oldest first. With --follow, go on as it happens; that
ends when the cluster is gone.`,
		Example:           "  keelson events demo\n  keelson events demo --last 20\n  keelson events demo --follow\n  keelson events demo -f json",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().BoolVar(&follow, "follow", false, "go on as it happens")
	c.Flags().Int64Var(&after, "after", 0, "only events after the one with this id")
	c.Flags().IntVar(&last, "last", 0, "only so many, the newest; at most 1000")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("last") && last < 1 {
			return usage("--last %d: it is 1 or more", last)
		}
		if follow && a.format != "table" {
			return usage("--follow prints lines, and does not go with -f %s", a.format)
		}
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		var past []v1.Event
		if last > 0 {
			past, err = s.newest(c.Context(), args[0], after, last)
		} else {
			past, err = s.events(c.Context(), args[0], after)
		}
		if err != nil {
			return err
		}
		if a.format != "table" || len(a.columns) > 0 {
			return printList(a, past, "time", "level", "message")
		}
		for _, e := range past {
			a.tell(e)
			after = e.ID
		}
		if !follow {
			return nil
		}
		return a.followEvents(c.Context(), s, args[0], after)
	}
	return c
}

// followEvents prints events until the cluster is gone.
func (a *app) followEvents(ctx context.Context, s *service, cluster string, after int64) error {
	for {
		err := s.follow(ctx, cluster, after, func(e v1.Event) error {
			after = e.ID
			a.tell(e)
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return &failure{code: codeInterrupted}
		case answered(err, http.StatusNotFound):
			return nil // the cluster is gone
		case errors.Is(err, errNoStream):
			more, err := s.events(ctx, cluster, after)
			if answered(err, http.StatusNotFound) {
				return nil
			}
			if err != nil && !isUnreachable(err) {
				return err
			}
			for _, e := range more {
				a.tell(e)
				after = e.ID
			}
		case err != nil && !isUnreachable(err):
			return err
		}
		pause(ctx, maxPause)
	}
}

// tell prints an event as a line.
func (a *app) tell(e v1.Event) {
	c := none
	switch e.Level {
	case v1.LevelWarning:
		c = yellow
	case v1.LevelError:
		c = red
	}
	at := time.Time(e.Time).Local().Format("2006-01-02 15:04:05")
	_, _ = a.Out.WriteString(at + "  " + paint(a.Out, c, printable(e.Message)) + "\n")
}

func (a *app) autoscaleCommand() *cobra.Command {
	var least, most, threshold, settle int
	var groupName string
	c := a.printing(&cobra.Command{
		Use:   "autoscale CLUSTER [on|off]",
		Short: "Show or set whether a cluster grows by itself",
		Long: `Show or set whether a cluster grows by itself. When more than the threshold of its CPUs or of
its memory is reserved by services and containers, a node is added, up to --max; after the settle
time it is looked at again. Nodes are never taken away by this. The bounds are those of a node
group: --nodegroup, or else the cluster's first.`,
		Example: "  keelson autoscale demo\n  keelson autoscale demo on --max 6\n  keelson autoscale demo off",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 2 && (args[1] == "on" || args[1] == "off") {
				return nil
			}
			return oneArgument(c, args)
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeClusters(c, args, word)
		},
	})
	flags := c.Flags()
	flags.IntVar(&least, "min", 0, "fewest nodes of the node group")
	flags.IntVar(&most, "max", 0, "most nodes of the node group")
	flags.IntVar(&threshold, "threshold", 80, "percentage of reserved CPUs or memory above which a node is added")
	flags.IntVar(&settle, "settle", 0, "seconds to let pass after a node was added")
	flags.StringVar(&groupName, "nodegroup", "", "node group that --min and --max are for (default: the cluster's first)")
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		var request v1.AutoscaleRequest
		changes := false
		if len(args) == 2 {
			on := args[1] == "on"
			request.Enabled, changes = &on, true
		}
		for flag, field := range map[string]struct {
			value *int
			of    **int
		}{"threshold": {&threshold, &request.ThresholdPercent}, "settle": {&settle, &request.SettleSeconds}} {
			if flags.Changed(flag) {
				*field.of, changes = field.value, true
			}
		}
		if flags.Changed("min") || flags.Changed("max") || groupName != "" {
			group, err := s.group(c.Context(), args[0], groupName)
			if err != nil {
				return err
			}
			change := v1.AutoscaleGroupRequest{Name: group.Name}
			if flags.Changed("min") {
				change.MinNodeCount = &least
			}
			if flags.Changed("max") {
				change.MaxNodeCount = &most
			}
			if request.Enabled != nil {
				change.Autoscale = request.Enabled
			}
			request.NodeGroups, changes = []v1.AutoscaleGroupRequest{change}, true
		}
		var now v1.Autoscale
		if changes {
			_, err = s.act(c.Context(), http.MethodPut, args[0], "autoscale", request, &now)
		} else {
			_, err = s.act(c.Context(), http.MethodGet, args[0], "autoscale", nil, &now)
		}
		if err != nil {
			return err
		}
		if a.format != "table" && a.format != "value" {
			return a.printRecord(now)
		}
		return a.printRecord(autoscaleRow(now), "enabled", "nodegroups", "threshold_percent", "settle_seconds", "last_decision")
	}
	return c
}

// autoscaleRow is autoscaling in words, for tables.
func autoscaleRow(s v1.Autoscale) any {
	var groups []string
	for _, g := range s.NodeGroups {
		most := "any number of"
		if g.MaxNodeCount != nil {
			most = "at most " + plain(*g.MaxNodeCount, "")
		}
		word := g.Name + ": " + most + " nodes"
		if !g.Autoscale {
			word = g.Name + ": does not take part"
		}
		groups = append(groups, word)
	}
	decision := ""
	if s.LastDecision != nil {
		decision = time.Time(s.LastDecision.Time).Local().Format(time.DateTime) + " " + s.LastDecision.Message
	}
	return struct {
		Enabled          bool   `json:"enabled"`
		NodeGroups       string `json:"nodegroups"`
		ThresholdPercent int    `json:"threshold_percent"`
		SettleSeconds    int    `json:"settle_seconds"`
		LastDecision     string `json:"last_decision"`
	}{s.Enabled, strings.Join(groups, "; "), s.ThresholdPercent, s.SettleSeconds, decision}
}
