// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

func (a *API) resizeCluster(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	count := o.integer("node_count", 0)
	remove := o.texts("nodes_to_remove")
	groupIdent := or(o.text("nodegroup", 1, maxText), defaultWorker)
	if count == nil {
		o.refuse("node_count", "it is required")
	}
	if err := o.done(); err != nil {
		return response{}, err
	}
	if err := checkNodeCount(c, *count); err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	group, err := a.nodeGroup(c, cluster, groupIdent)
	if err != nil {
		return response{}, err
	}
	if group.Master() {
		return response{}, badRequest("Resizing the node group %s is not possible: its role is master.", group.Name)
	}
	if *count < group.MinNodeCount {
		return response{}, badRequest("The node_count %d is less than the min_node_count %d of the node group %s.", *count, group.MinNodeCount, group.Name)
	}
	if most := or(group.MaxNodeCount, 0); most > 0 && *count > most {
		return response{}, badRequest("The node_count %d is more than the max_node_count %d of the node group %s.", *count, most, group.Name)
	}
	if err := a.scale(c, group, *count, remove, model.Status.Resizable, a.resizeDeadline(cluster)); err != nil {
		return response{}, err
	}
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

// resizeDeadline is how long a resize may take; one that makes a cluster anew
// has as long as its creation.
func (a *API) resizeDeadline(c *model.Cluster) time.Duration {
	if c.Status == model.CreateFailed {
		return a.deadline(c)
	}
	return a.config.OperationTimeout
}

// upgradeCluster has the nodes of a group rebuilt from another template, or
// from their own template's present image. The default groups are upgraded
// together, since their template is the cluster's.
func (a *API) upgradeCluster(c *call) (response, error) {
	if c.version < withUpgrade {
		return response{}, badRequest("The upgrade of clusters begins with version %s.", withUpgrade)
	}
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	templateIdent := o.required("cluster_template", 1, maxText)
	batch := or(o.integer("max_batch_size", 1), 1)
	groupIdent := or(o.text("nodegroup", 1, maxText), defaultWorker)
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	template, err := a.template(c, templateIdent)
	if err != nil {
		return response{}, err
	}
	group, err := a.nodeGroup(c, cluster, groupIdent)
	if err != nil {
		return response{}, err
	}
	if !group.IsDefault && template.UUID != cluster.TemplateID {
		return response{}, conflict("The node group %s can only be upgraded to the cluster's own template.", group.Name)
	}
	groups, err := a.Store.NodeGroups(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	if err := a.upgradable(c, cluster, template, groups[cluster.UUID]); err != nil {
		return response{}, err
	}
	upgraded := []string{group.UUID}
	if group.IsDefault {
		upgraded = nil
		for _, g := range groups[cluster.UUID] {
			if g.IsDefault {
				upgraded = append(upgraded, g.UUID)
			}
		}
	}
	operation, err := a.Store.UpgradeCluster(c.Context(), cluster.UUID, template.UUID, upgraded, batch, model.Status.Renewable, a.operation(c, a.config.OperationTimeout))
	if status, refused := errors.AsType[*store.StatusError](err); refused {
		return response{}, badRequest("Upgrading a cluster is not possible when its status is %q.", status.Status)
	}
	if err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	a.announce(c, operation)
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

// upgradable refuses a template that the cluster can not be upgraded to.
func (a *API) upgradable(c *call, cluster *model.Cluster, t *model.ClusterTemplate, groups []model.NodeGroup) error {
	present, err := a.templateOf(c, cluster)
	if err != nil {
		return err
	}
	if t.COE != present.COE || t.ServerType != present.ServerType {
		return badRequest("The cluster can not be upgraded to the cluster template %s: its coe and server_type are %s and %s, the cluster's are %s and %s.",
			t.UUID, t.COE, t.ServerType, present.COE, present.ServerType)
	}
	if _, err := a.Images.Image(c.Context(), t.ImageID); err != nil {
		return lookedUp("image_id", "Image", t.ImageID, err)
	}
	if err := refusal(a.COEs.Supports(t, model.OpUpgrade)); err != nil {
		return err
	}
	return refusal(a.COEs.ValidateCluster(t, cluster, groups))
}

// templateOf returns the cluster's template, whoever may see it.
func (a *API) templateOf(c *call, cluster *model.Cluster) (*model.ClusterTemplate, error) {
	templates, err := a.Store.TemplatesByID(c.Context(), []string{cluster.TemplateID})
	if err != nil {
		return nil, err
	}
	t := templates[cluster.TemplateID]
	if t == nil {
		return nil, fmt.Errorf("cluster template %s of cluster %s is gone", cluster.TemplateID, cluster.UUID)
	}
	return t, nil
}

// texts reads an array of text.
func (o *object) texts(name string) []string {
	value := o.take(name)
	if value == nil {
		return nil
	}
	elements, ok := value.([]any)
	if !ok {
		o.refuse(name, "it must be an array of text")
		return nil
	}
	texts := make([]string, 0, len(elements))
	for _, element := range elements {
		text, ok := element.(string)
		if !ok || utf8.RuneCountInString(text) > maxText {
			o.refuse(name, "it must be an array of text, each of %d characters or less", maxText)
			return nil
		}
		texts = append(texts, text)
	}
	o.fits(name, texts)
	return texts
}
