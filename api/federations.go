// SPDX-License-Identifier: Apache-2.0

package api

import (
	"log/slog"
	"net/http"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
)

// Magnum has an API for federations of clusters and nothing behind it: a
// federation is accepted and never seen again. So it is here; there never is
// one to be shown, changed or deleted.

func (a *API) listFederations(c *call) (response, error) {
	page, err := a.page(c)
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	if page.Marker != "" {
		return response{}, notFound("Federation %s could not be found.", page.Marker)
	}
	return ok(v1.Federations{Federations: []struct{}{}}), nil
}

func noFederation(c *call) (response, error) {
	if c.Method == http.MethodPatch {
		if _, err := c.flag("rollback"); err != nil {
			return response{}, err
		}
		patch, err := c.readPatch(patchRules{})
		if err != nil {
			return response{}, err
		}
		if len(patch) == 0 {
			return response{}, badRequest("The patch of a federation must not be empty.")
		}
	}
	return response{}, notFound("Federation %s could not be found.", c.PathValue("ident"))
}

func (a *API) createFederation(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	o.matching("name", 1, 242, clusterName)
	host := o.required("hostcluster_id", 1, maxText)
	properties := o.labels("properties")
	if _, given := properties["dns-zone"]; !given {
		o.refuse("properties", "it must have the key dns-zone")
	}
	o.ignored("uuid", "member_ids", "status", "status_reason")
	if err := o.done(); err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	if _, err := a.cluster(c, host); err != nil {
		return response{}, err
	}
	a.Logger.LogAttrs(c.Context(), slog.LevelWarn, "a federation was accepted, but federations are not implemented")
	return accepted(v1.UUID{UUID: uuid.NewString()}), nil
}
