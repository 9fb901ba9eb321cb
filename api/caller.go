// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"

	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/policy"
)

// Policy decides who may do what. *policy.Enforcer is one.
type Policy interface {
	// Allow tells whether the caller passes the rule for the target.
	Allow(rule string, caller *policy.Caller, target map[string]string) bool
	// IsAdmin tells whether the caller is an administrator.
	IsAdmin(caller *policy.Caller) bool
}

var _ Policy = (*policy.Enforcer)(nil)

// caller is who sent a request, as Keystone vouches for it.
type caller struct {
	userID    string
	projectID string // empty for tokens without a project
	*policy.Caller
}

// identify finds out who sent the request. Authenticate has let it pass, so there
// is a token.
func (c *call) identify() error {
	t := keystone.FromContext(c.Context())
	if t == nil {
		return errors.New("a request came through without a validated token")
	}
	info := infoOf(c.Context())
	info.user, info.domain, info.project = t.UserID, t.UserDomainID, t.ProjectID
	c.caller = &caller{userID: t.UserID, projectID: t.ProjectID, Caller: policy.NewCaller(policy.Credentials{
		UserID:            t.UserID,
		UserName:          t.UserName,
		UserDomainID:      t.UserDomainID,
		UserDomainName:    t.UserDomainName,
		ProjectID:         t.ProjectID,
		ProjectName:       t.ProjectName,
		ProjectDomainID:   t.ProjectDomainID,
		ProjectDomainName: t.ProjectDomainName,
		DomainID:          t.DomainID,
		DomainName:        t.DomainName,
		SystemScope:       t.SystemScope,
		TrustID:           t.TrustID,
		IsAdminProject:    t.IsAdminProject,
		Roles:             t.Roles,
	})}
	return nil
}

// target is what a policy rule compares the caller with: the attributes of
// the resource, or the caller's own where there is none.
type target = map[string]string

func targetTemplate(t *model.ClusterTemplate) target {
	return target{"uuid": t.UUID, "project_id": t.ProjectID, "user_id": t.UserID}
}

func targetCluster(c *model.Cluster) target {
	return target{
		"uuid": c.UUID, "project_id": c.ProjectID, "user_id": c.UserID,
		"name": c.Name, "cluster_template_id": c.TemplateID,
	}
}
