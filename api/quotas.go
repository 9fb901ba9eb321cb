// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// quotaResource is the one thing that quotas count.
const quotaResource = "Cluster"

// quotaLimit is how many clusters a project may have.
func (a *API) quotaLimit(c *call, project string) (int, error) {
	q, err := a.Store.Quota(c.Context(), project, quotaResource)
	if errors.Is(err, store.ErrNotFound) {
		return a.config.MaxClusters, nil
	}
	if err != nil {
		return 0, err
	}
	return q.HardLimit, nil
}

func (a *API) listQuotas(c *call) (response, error) {
	page, err := a.anyPage(c)
	if err != nil {
		return response{}, err
	}
	if page.Marker != "" {
		if _, err := strconv.ParseInt(page.Marker, 10, 64); err != nil {
			return response{}, badRequest("The marker must be the id of a quota, not %q.", page.Marker)
		}
	}
	all, err := c.flag("all_tenants")
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	quotas, err := a.Store.ListQuotas(c.Context(), c.caller.projectID, all, page)
	if err != nil {
		return response{}, err
	}
	body := v1.Quotas{Quotas: each(quotas, renderQuota)}
	if n := len(quotas); n > 0 {
		body.Next = c.next(c.route.path, page, n, strconv.FormatInt(quotas[n-1].ID, 10))
	}
	return ok(body), nil
}

// showQuota shows the limit that holds, be it the default. The resource is not
// looked at.
func (a *API) showQuota(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	project := c.PathValue("project")
	if !c.admin && project != c.caller.projectID {
		return response{}, forbidden("The quota of another project may not be seen.")
	}
	q, err := a.Store.Quota(c.Context(), project, c.PathValue("resource"))
	if errors.Is(err, store.ErrNotFound) {
		return ok(v1.QuotaLimit{ProjectID: project, Resource: quotaResource, HardLimit: a.config.MaxClusters}), nil
	}
	if err != nil {
		return response{}, err
	}
	return ok(renderQuota(q)), nil
}

func (a *API) createQuota(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	q := model.Quota{
		ProjectID: o.required("project_id", 1, maxText),
		Resource:  or(o.enum("resource", quotaResource), quotaResource),
		HardLimit: or(o.integer("hard_limit", 0), 1),
	}
	q.ID = int64(or(o.integer("id", 1), 0))
	o.readOnly("created_at", "updated_at")
	if err := o.done(); err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	known, err := a.Projects.ProjectExists(c.Context(), q.ProjectID)
	if err != nil {
		return response{}, err
	}
	if !known {
		return response{}, notFound("Project %s could not be found.", q.ProjectID)
	}
	if err := a.Store.CreateQuota(c.Context(), &q); err != nil {
		if errors.Is(err, store.ErrExists) {
			return response{}, conflict("The project %s has a quota for %s already.", q.ProjectID, q.Resource)
		}
		return response{}, err
	}
	return response{status: http.StatusCreated, body: renderQuota(&q)}, nil
}

// updateQuota takes a plain object; the path says which quota.
func (a *API) updateQuota(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	o.text("project_id", 1, maxText)
	o.enum("resource", quotaResource)
	o.integer("id", 1)
	limit := or(o.integer("hard_limit", 0), 1)
	o.readOnly("created_at", "updated_at")
	if err := o.done(); err != nil {
		return response{}, err
	}
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	project, resource := c.PathValue("project"), c.PathValue("resource")
	q, err := a.Store.UpdateQuota(c.Context(), project, resource, limit)
	if err != nil {
		return response{}, noQuota(project, resource, err)
	}
	return accepted(renderQuota(q)), nil
}

func (a *API) deleteQuota(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	project, resource := c.PathValue("project"), c.PathValue("resource")
	if err := a.Store.DeleteQuota(c.Context(), project, resource); err != nil {
		return response{}, noQuota(project, resource, err)
	}
	return noContent(), nil
}

func noQuota(project, resource string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return notFound("The project %s has no quota for %s.", project, resource)
	}
	return err
}

func renderQuota(q *model.Quota) v1.Quota {
	return v1.Quota{
		ID:         q.ID,
		QuotaLimit: v1.QuotaLimit{ProjectID: q.ProjectID, Resource: q.Resource, HardLimit: q.HardLimit},
		CreatedAt:  v1.Time(q.CreatedAt),
		UpdatedAt:  wireTime(q.UpdatedAt),
	}
}
