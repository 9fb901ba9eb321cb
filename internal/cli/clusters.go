// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
)

// clusterFields are those of a cluster that tables show.
var clusterFields = []string{
	"name", "uuid", "status", "status_reason", "health_status", "cluster_template_id", "master_count", "node_count",
	"api_address", "master_addresses", "node_addresses", "coe_version", "labels", "created_at", "updated_at",
}

func (a *app) listCommand() *cobra.Command {
	return a.printing(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "clusters"},
		Short:   "List the clusters of the project",
		Example: "  keelson list\n  keelson list -f value -c name -c status",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.api(c.Context())
			if err != nil {
				return err
			}
			all, err := s.clusters(c.Context())
			if err != nil {
				return err
			}
			if len(all) == 0 && a.format == "table" {
				a.say("There is no cluster. Make one: keelson create NAME")
			}
			return printList(a, all, "name", "uuid", "status", "health_status", "master_count", "node_count")
		},
	})
}

func (a *app) getCommand() *cobra.Command {
	var w waiting
	c := a.printing(&cobra.Command{
		Use:               "get CLUSTER",
		Aliases:           []string{"show", "inspect"},
		Short:             "Show a cluster",
		Long:              "Show a cluster. With --wait, first wait until what is being done to it has ended.",
		Example:           "  keelson get demo\n  keelson get demo -f value -c api_address\n  keelson get demo --wait",
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.api(c.Context())
			if err != nil {
				return err
			}
			cluster, err := s.cluster(c.Context(), args[0])
			if err != nil {
				return err
			}
			if w.wait {
				if cluster, err = a.await(c.Context(), s, &w, job{uuid: cluster.UUID, name: cluster.Name}); err != nil {
					return err
				}
			}
			return a.printRecord(cluster, clusterFields...)
		},
	})
	w.flags(c)
	return c
}

func (a *app) createCommand() *cobra.Command {
	var w waiting
	var template string
	var labels []string
	var masters, nodes int
	c := a.printing(&cobra.Command{
		Use:   "create NAME",
		Short: "Make a cluster",
		Long: `Make a cluster from a cluster template. It has as many nodes as --nodes says, beside
the managers of --masters. If there is just one template, it need not be named.`,
		Example: `  keelson create demo --template swarm
  keelson create big --template swarm --nodes 5 --masters 3 --flavor m1.large --wait`,
		Args:              oneArgument,
		ValidArgsFunction: cobra.NoFileCompletions,
	})
	flags := c.Flags()
	flags.StringVarP(&template, "template", "t", "", "cluster template, by name or uuid")
	flags.IntVarP(&nodes, "nodes", "n", 1, "how many nodes, beside the managers")
	flags.IntVar(&masters, "masters", 1, "how many managers; more than one survive the loss of one")
	flags.String("flavor", "", "flavor of the nodes (default: the template's)")
	flags.String("master-flavor", "", "flavor of the managers (default: the template's)")
	flags.String("keypair", "", "key pair (default: the template's)")
	flags.StringArrayVar(&labels, "label", nil, "label KEY=VALUE, added to those of the template (may be repeated)")
	flags.Int("docker-volume-size", 0, "disk of each node for images and volumes, in GiB (default: the template's)")
	flags.String("fixed-network", "", "network of the nodes (default: the template's)")
	flags.String("fixed-subnet", "", "subnet of the nodes (default: the template's)")
	flags.Int("create-timeout", 0, "minutes after which Keelson gives the creation up (default: the service's)")
	_ = c.RegisterFlagCompletionFunc("template", a.completeTemplates)
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		request := map[string]any{"name": args[0], "node_count": nodes, "master_count": masters}
		if nodes < 0 || masters < 1 {
			return usage("a cluster has one manager or more and no less than 0 nodes, not --masters %d --nodes %d", masters, nodes)
		}
		if masters > 1 {
			request["master_lb_enabled"] = true
		}
		for flag, field := range map[string]string{
			"flavor": "flavor_id", "master-flavor": "master_flavor_id", "keypair": "keypair",
			"fixed-network": "fixed_network", "fixed-subnet": "fixed_subnet",
		} {
			if text, _ := flags.GetString(flag); text != "" {
				request[field] = text
			}
		}
		for flag, field := range map[string]string{"docker-volume-size": "docker_volume_size", "create-timeout": "create_timeout"} {
			if flags.Changed(flag) {
				request[field], _ = flags.GetInt(flag)
			}
		}
		if len(labels) > 0 {
			all, err := labelsOf(labels)
			if err != nil {
				return err
			}
			request["labels"], request["merge_labels"] = all, true
		}
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		if template == "" {
			if template, err = s.onlyTemplate(c.Context()); err != nil {
				return err
			}
		}
		request["cluster_template_id"] = template
		var made v1.UUID
		id, err := s.call(c.Context(), http.MethodPost, "/clusters", request, &made)
		if err != nil {
			if answered(err, http.StatusNotFound) || answered(err, http.StatusBadRequest) {
				err = withHint(err, "keelson templates shows the templates there are")
			}
			return err
		}
		return a.finish(c.Context(), s, &w, job{uuid: made.UUID, name: args[0], request: id, verb: "create"})
	}
	return c
}

// labelsOf reads KEY=VALUE words.
func labelsOf(words []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, w := range words {
		key, value, found := strings.Cut(w, "=")
		if !found || key == "" {
			return nil, usage("--label %s: a label is KEY=VALUE", w)
		}
		labels[key] = value
	}
	return labels, nil
}

func (a *app) deleteCommand() *cobra.Command {
	var w waiting
	var yes bool
	c := &cobra.Command{
		Use:               "delete CLUSTER...",
		Aliases:           []string{"rm"},
		Short:             "Delete clusters, with all that runs and lies in them",
		Long:              "Delete clusters, with all that runs and lies in them: containers, images and volumes.",
		Example:           "  keelson delete demo --wait\n  keelson delete old older --yes",
		Args:              someArguments,
		ValidArgsFunction: a.completeClusters,
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		if err := a.confirm(yes, "This deletes "+strings.Join(args, ", ")+" with all containers and volumes."); err != nil {
			return err
		}
		// All are looked up first: a name that is wrong deletes nothing.
		var jobs []job
		for _, ident := range args {
			cluster, err := s.cluster(c.Context(), ident)
			if err != nil {
				return err
			}
			jobs = append(jobs, job{uuid: cluster.UUID, name: cluster.Name, verb: "delete", deletes: true})
		}
		for i := range jobs {
			if jobs[i].request, err = s.call(c.Context(), http.MethodDelete, clusterPath(jobs[i].uuid), nil, nil); err != nil && !answered(err, http.StatusNotFound) {
				return err
			}
			if !w.wait {
				a.say("Cluster %s (%s) is being deleted.", jobs[i].name, jobs[i].uuid)
			}
		}
		for _, j := range jobs {
			if !w.wait {
				continue
			}
			if _, err := a.await(c.Context(), s, &w, j); err != nil {
				return err
			}
			a.say("Cluster %s (%s) is deleted.", j.name, j.uuid)
		}
		return nil
	}
	return c
}

func (a *app) templatesCommand() *cobra.Command {
	return a.printing(&cobra.Command{
		Use:     "templates [TEMPLATE]",
		Aliases: []string{"template"},
		Short:   "List the cluster templates, or show one",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wantArguments(c, args, 1)
			}
			return nil
		},
		ValidArgsFunction: a.completeTemplates,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.api(c.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				var t v1.ClusterTemplate
				if _, err := s.call(c.Context(), http.MethodGet, templatePath(args[0]), nil, &t); err != nil {
					return withHint(err, "keelson templates shows the templates there are")
				}
				return a.printRecord(t, "name", "uuid", "coe", "image_id", "flavor_id", "master_flavor_id", "keypair_id",
					"external_network_id", "fixed_network", "network_driver", "docker_volume_size", "labels", "public", "hidden", "created_at", "updated_at")
			}
			all, err := s.templates(c.Context())
			if err != nil {
				return err
			}
			if len(all) == 0 && a.format == "table" {
				a.say("There is no cluster template. An operator makes public ones; your own: openstack coe cluster template create")
			}
			return printList(a, all, "name", "uuid", "coe", "image_id", "flavor_id", "public")
		},
	})
}

func (a *app) quotasCommand() *cobra.Command {
	return a.printing(&cobra.Command{
		Use:   "quotas",
		Short: "Show how many clusters the project may have, and how many it has",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.api(c.Context())
			if err != nil {
				return err
			}
			if s.ProjectID == "" {
				return usage("the login names no project, and quotas belong to projects").next("set OS_PROJECT_NAME or OS_PROJECT_ID")
			}
			var limit v1.QuotaLimit
			if _, err := s.call(c.Context(), http.MethodGet, "/quotas/"+s.ProjectID+"/Cluster", nil, &limit); err != nil {
				return err
			}
			var stats v1.Stats
			if _, err := s.call(c.Context(), http.MethodGet, "/stats?project_id="+s.ProjectID, nil, &stats); err != nil {
				return err
			}
			return a.printRecord(struct {
				ProjectID   string `json:"project_id"`
				MaxClusters int    `json:"max_clusters"`
				Clusters    int    `json:"clusters"`
				Nodes       int    `json:"nodes"` // managers included
			}{s.ProjectID, limit.HardLimit, stats.Clusters, stats.Nodes}, "project_id", "max_clusters", "clusters", "nodes")
		},
	})
}
