// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout is how long a shell waits for names at most.
const completionTimeout = 2 * time.Second

// completeClusters offers the names of the clusters that are not named yet.
func (a *app) completeClusters(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && c.Name() != "delete" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(c, func(ctx context.Context, s *service) ([]string, error) {
		all, err := s.clusters(ctx)
		var names []string
		for _, cluster := range all {
			names = append(names, cobra.CompletionWithDesc(cluster.Name, cluster.Status))
		}
		return names, err
	})
}

// completeTemplates offers the names of the cluster templates.
func (a *app) completeTemplates(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, func(ctx context.Context, s *service) ([]string, error) {
		all, err := s.templates(ctx)
		var names []string
		for _, t := range all {
			if t.Name != nil {
				names = append(names, cobra.CompletionWithDesc(*t.Name, t.COE))
			}
		}
		return names, err
	})
}

// complete asks the API; without an answer nothing is offered.
func (a *app) complete(c *cobra.Command, ask func(context.Context, *service) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completionTimeout)
	defer cancel()
	s, err := a.api(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := ask(ctx, s)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
