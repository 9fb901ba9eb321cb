// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"slices"
	"strings"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// rebuildNodes has nodes made anew from what they are made from: all of the
// cluster, or those that are named.
func (a *API) rebuildNodes(c *call) (response, error) {
	return a.rebuild(c, func(*model.Cluster, *model.Node) bool { return true })
}

// repairNodes does so for nodes that are not well.
func (a *API) repairNodes(c *call) (response, error) {
	return a.rebuild(c, func(cluster *model.Cluster, n *model.Node) bool {
		return n.Machine != model.MachineFine || strings.HasPrefix(cluster.HealthStatusReason[n.Name+".Ready"], "False")
	})
}

// rebuild asks for those of the named nodes, or of all, that are wanted. When
// there are none nothing happens.
func (a *API) rebuild(c *call, wanted func(*model.Cluster, *model.Node) bool) (response, error) {
	o := newObject(nil)
	if !c.noBody() {
		var err error
		if o, err = c.readObject(); err != nil {
			return response{}, err
		}
	}
	names := o.texts("nodes")
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	template, err := a.templateOf(c, cluster)
	if err != nil {
		return response{}, err
	}
	if err := refusal(a.COEs.Supports(template, model.OpRebuild)); err != nil {
		return response{}, err
	}
	nodes, err := a.Store.Nodes(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	chosen := nodes[cluster.UUID]
	if len(names) > 0 {
		if chosen, err = namedNodes(chosen, names); err != nil {
			return response{}, err
		}
	}
	var ids []string
	for i := range chosen {
		if wanted(cluster, &chosen[i]) {
			ids = append(ids, chosen[i].UUID)
		}
	}
	if !cluster.Status.Renewable() {
		return response{}, notRebuilt(cluster.Status)
	}
	if len(ids) == 0 {
		return accepted(v1.UUID{UUID: cluster.UUID}), nil
	}
	operation, err := a.Store.RebuildNodes(c.Context(), cluster.UUID, ids, model.Status.Renewable, a.operation(c, a.config.OperationTimeout))
	if status, refused := errors.AsType[*store.StatusError](err); refused {
		return response{}, notRebuilt(status.Status)
	}
	if err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	if operation != nil {
		a.announce(c, operation)
	}
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

func notRebuilt(status model.Status) error {
	return badRequest("Rebuilding nodes is not possible when the cluster's status is %q.", status)
}

// namedNodes returns the nodes with these names or uuids.
func namedNodes(nodes []model.Node, names []string) ([]model.Node, error) {
	var found []model.Node
	for _, name := range names {
		i := slices.IndexFunc(nodes, func(n model.Node) bool { return n.Name == name || n.UUID == name })
		if i < 0 {
			return nil, badRequest("Invalid input for attribute \"nodes\": the cluster has no node %q.", name)
		}
		found = append(found, nodes[i])
	}
	return found, nil
}
