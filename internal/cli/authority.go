// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
)

func (a *app) rotateAuthorityCommand() *cobra.Command {
	var w waiting
	var yes bool
	c := a.printing(&cobra.Command{
		Use:   "rotate-ca CLUSTER",
		Short: "Make all credentials of a cluster worthless",
		Long: `Replace the authority that signs a cluster's certificates: who has credentials of before is
locked out, node by node. Get new ones with keelson credentials or keelson env. Nodes are made
anew one after the other; images, volumes and addresses stay.`,
		Example:           "  keelson rotate-ca demo --wait\n  keelson rotate-ca demo --yes",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		cluster, err := s.cluster(c.Context(), args[0])
		if err != nil {
			return err
		}
		if err := a.confirm(yes, fmt.Sprintf("All credentials of cluster %s stop working.", cluster.Name)); err != nil {
			return err
		}
		var accepted v1.UUID
		id, err := s.call(c.Context(), http.MethodPatch, "/certificates/"+url.PathEscape(cluster.UUID), nil, &accepted)
		if err != nil {
			return err
		}
		return a.finish(c.Context(), s, &w, job{uuid: cluster.UUID, name: args[0], request: id, verb: "rotate-ca"})
	}
	return c
}
