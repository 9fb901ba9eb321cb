// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strconv"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// Lengths of lists that are not paged by markers.
const (
	usualOperations, mostOperations = 20, 100
	usualEvents                     = 100
)

// listOperations shows what was done to a cluster, step by step.
func (a *API) listOperations(c *call) (response, error) {
	limit, err := c.limit(usualOperations, mostOperations)
	if err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	operations, journals, err := a.Store.LatestOperations(c.Context(), cluster.UUID, limit)
	if err != nil {
		return response{}, err
	}
	return ok(v1.Operations{Operations: each(operations, func(op *model.Operation) v1.Operation {
		return v1.Operation{
			UUID: op.UUID, Kind: string(op.Kind), State: string(op.State), Reason: op.Reason,
			UserID: op.UserID, RequestID: op.RequestID, Undo: op.Undo,
			CreatedAt: v1.Time(op.CreatedAt), StartedAt: wireTime(op.StartedAt), FinishedAt: wireTime(op.FinishedAt),
			Steps: each(journals[op.UUID], func(s *model.Step) v1.Step {
				return v1.Step{
					Name: s.Name, Node: s.NodeName, State: string(s.State), Attempts: s.Attempts, Message: s.Message,
					StartedAt: v1.Time(s.StartedAt), FinishedAt: wireTime(s.FinishedAt),
				}
			}),
		}
	})}), nil
}

// limit reads the argument of that name: what is above the most counts as that.
func (c *call) limit(usual, most int) (int, error) {
	text, given := c.args["limit"]
	if !given {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return 0, badRequest("The limit must be a whole number above 0, not %q.", text)
	}
	return min(n, most), nil
}
