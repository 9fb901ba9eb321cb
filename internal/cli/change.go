// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
)

// group finds a node group of a cluster; "" means that of its first nodes.
func (s *service) group(ctx context.Context, cluster, ident string) (*v1.NodeGroupSummary, error) {
	if ident != "" {
		var g v1.NodeGroup
		if _, err := s.act(ctx, http.MethodGet, cluster, "nodegroups/"+url.PathEscape(ident), nil, &g); err != nil {
			return nil, withHint(err, "openstack coe nodegroup list shows the node groups of a cluster")
		}
		return &g.NodeGroupSummary, nil
	}
	var found *v1.NodeGroupSummary
	err := s.list(ctx, clusterPath(cluster, "nodegroups"), func(text json.RawMessage) (string, error) {
		var page v1.NodeGroupSummaries
		err := json.Unmarshal(text, &page)
		for i, g := range page.NodeGroups {
			if g.IsDefault && g.Role != "master" {
				found = &page.NodeGroups[i]
			}
		}
		return page.Next, err
	})
	if err != nil {
		return nil, s.whichCluster(ctx, cluster, err)
	}
	if found == nil {
		return nil, &failure{code: codeNotFound, message: fmt.Sprintf("cluster %s has no default node group", cluster), hint: "name one with --nodegroup"}
	}
	return found, nil
}

// resize is the body of a resize action.
type resize struct {
	NodeCount int      `json:"node_count"`
	Remove    []string `json:"nodes_to_remove,omitempty"`
	NodeGroup string   `json:"nodegroup,omitempty"`
}

func (a *app) growCommand() *cobra.Command {
	var w waiting
	var by int
	var groupName string
	c := a.printing(&cobra.Command{
		Use:               "grow CLUSTER",
		Short:             "Add nodes to a cluster",
		Example:           "  keelson grow demo\n  keelson grow demo --by 3 --wait",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().IntVar(&by, "by", 1, "how many nodes to add")
	c.Flags().StringVar(&groupName, "nodegroup", "", "node group, by name or uuid (default: the cluster's first)")
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if by < 1 {
			return usage("--by %d: a cluster grows by 1 node or more", by).next("keelson resize %s --nodes N takes nodes away", args[0])
		}
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		group, err := s.group(c.Context(), args[0], groupName)
		if err != nil {
			return err
		}
		return a.act(c.Context(), s, &w, args[0], "resize", resize{NodeCount: group.NodeCount + by, NodeGroup: groupName})
	}
	return c
}

func (a *app) resizeCommand() *cobra.Command {
	var w waiting
	var nodes int
	var groupName string
	var remove []string
	var yes bool
	c := a.printing(&cobra.Command{
		Use:   "resize CLUSTER --nodes N",
		Short: "Set how many nodes a cluster has",
		Long: `Set how many nodes a cluster has. Nodes that are taken away are drained first: services
go to other nodes; single containers and volumes on them are lost.`,
		Example:           "  keelson resize demo --nodes 5\n  keelson resize demo --nodes 2 --remove demo-worker-1 --yes --wait",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().IntVarP(&nodes, "nodes", "n", -1, "how many nodes, beside the managers")
	c.Flags().StringVar(&groupName, "nodegroup", "", "node group, by name or uuid (default: the cluster's first)")
	c.Flags().StringArrayVar(&remove, "remove", nil, "node to take away, by name or uuid (may be repeated)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask when nodes are taken away")
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if nodes < 0 {
			return usage("keelson resize wants --nodes N, and N is no less than 0")
		}
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		group, err := s.group(c.Context(), args[0], groupName)
		if err != nil {
			return err
		}
		if less := group.NodeCount - nodes; less > 0 || len(remove) > 0 {
			question := fmt.Sprintf("Cluster %s goes from %d to %d nodes: containers and volumes on those that leave are lost.", args[0], group.NodeCount, nodes)
			if err := a.confirm(yes, question); err != nil {
				return err
			}
		}
		return a.act(c.Context(), s, &w, args[0], "resize", resize{NodeCount: nodes, Remove: remove, NodeGroup: groupName})
	}
	return c
}

func (a *app) upgradeCommand() *cobra.Command {
	var w waiting
	var template, groupName string
	var batch int
	c := a.printing(&cobra.Command{
		Use:   "upgrade CLUSTER --template TEMPLATE",
		Short: "Rebuild the nodes of a cluster from another template",
		Long: `Rebuild the nodes of a cluster from another template, or from the present state of their
own. One node after the other is drained, made anew and filled again; images, volumes and the
cluster's addresses stay.`,
		Example:           "  keelson upgrade demo --template swarm-2027 --wait",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().StringVarP(&template, "template", "t", "", "cluster template, by name or uuid")
	c.Flags().StringVar(&groupName, "nodegroup", "", "only this node group, by name or uuid")
	c.Flags().IntVar(&batch, "batch", 1, "how many nodes at a time")
	_ = c.RegisterFlagCompletionFunc("template", a.completeTemplates)
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if template == "" {
			return usage("keelson upgrade wants --template TEMPLATE").next("keelson templates shows the templates there are")
		}
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		body := map[string]any{"cluster_template": template, "max_batch_size": batch}
		if groupName != "" {
			body["nodegroup"] = groupName
		}
		return a.act(c.Context(), s, &w, args[0], "upgrade", body)
	}
	return c
}

// act begins an action on a cluster, and waits for its end if asked to.
func (a *app) act(ctx context.Context, s *service, w *waiting, ident, action string, body any) error {
	var accepted v1.UUID
	id, err := s.act(ctx, http.MethodPost, ident, "actions/"+action, body, &accepted)
	if err != nil {
		return err
	}
	return a.finish(ctx, s, w, job{uuid: accepted.UUID, name: ident, request: id, verb: action})
}

// finish tells how the job goes on, or waits for its end, and prints the cluster.
func (a *app) finish(ctx context.Context, s *service, w *waiting, j job) error {
	var cluster *v1.Cluster
	var err error
	if w.wait {
		cluster, err = a.await(ctx, s, w, j)
	} else {
		cluster, err = s.cluster(ctx, j.uuid)
	}
	if err != nil {
		return err
	}
	if err := a.printRecord(cluster, clusterFields...); err != nil {
		return err
	}
	if !w.wait {
		a.say("The %s of %s has begun. Follow it: keelson get %s --wait", j.verb, cluster.Name, cluster.Name)
	}
	return nil
}
