// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// showStats counts a project's clusters and nodes; for administrators who name
// no project, everybody's.
func (a *API) showStats(c *call) (response, error) {
	project := c.args["project_id"]
	if kind, given := c.args["type"]; given && !strings.EqualFold(kind, "cluster") {
		return response{}, badRequest("The type of statistics %q is not supported: it must be cluster.", kind)
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	if !c.admin {
		if project != "" && project != c.caller.projectID {
			return response{}, forbidden("The statistics of another project may not be seen.")
		}
		project = c.caller.projectID
	}
	if !c.admin && project == "" {
		return ok(v1.Stats{}), nil // a token without a project has no clusters to count
	}
	clusters, nodes, err := a.Store.Stats(c.Context(), project)
	if err != nil {
		return response{}, err
	}
	return ok(v1.Stats{Clusters: clusters, Nodes: nodes}), nil
}
