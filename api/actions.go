// SPDX-License-Identifier: Apache-2.0

package api

import (
	"unicode/utf8"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// resizable are the statuses in which a cluster may be resized.
func resizable(s model.Status) bool {
	return s.Ready() || s == model.UpdateInProgress || s == model.UpdateFailed
}

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
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(targetCluster(cluster)); err != nil {
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
	if err := a.scale(c, group, *count, remove, resizable); err != nil {
		return response{}, err
	}
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

// upgradeCluster checks all that Magnum checks and then says, as Magnum does
// for drivers without upgrades, that it is not possible.
func (a *API) upgradeCluster(c *call) (response, error) {
	if c.version < withUpgrade {
		return response{}, badRequest("The upgrade of clusters begins with version %s.", withUpgrade)
	}
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	templateIdent := o.required("cluster_template", 1, maxText)
	o.integer("max_batch_size", 1)
	groupIdent := or(o.text("nodegroup", 1, maxText), defaultWorker)
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(targetCluster(cluster)); err != nil {
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
	if !cluster.Status.Ready() {
		return response{}, badRequest("Upgrading a cluster is not possible when its status is %q.", cluster.Status)
	}
	return response{}, badRequest("Upgrading a cluster is not supported by its driver.")
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
