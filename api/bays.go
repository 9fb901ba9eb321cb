// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/netip"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// Bays and baymodels are what Magnum called clusters and cluster templates
// before: the same records, under older names and with fewer fields.

var bayPatchRules = patchRules{internal: clusterPatchRules.internal, mandatory: []string{"baymodel_id"}}

func (a *API) listBays(c *call) (response, error) {
	bays, page, err := a.clusterPage(c)
	if err != nil {
		return response{}, err
	}
	groups, err := a.Store.NodeGroups(c.Context(), uuids(bays)...)
	if err != nil {
		return response{}, err
	}
	body := v1.BaySummaries{Bays: each(bays, func(b *model.Cluster) v1.BaySummary {
		return c.renderBay(c.renderCluster(b, nil, groups[b.UUID], nil)).BaySummary
	})}
	if n := len(bays); n > 0 {
		body.Next = c.next(c.route.path, page, n, bays[n-1].UUID)
	}
	return ok(body), nil
}

func (a *API) listBaysInDetail(c *call) (response, error) {
	bays, page, err := a.clusterPage(c)
	if err != nil {
		return response{}, err
	}
	details, err := a.clusterDetails(c, bays)
	if err != nil {
		return response{}, err
	}
	body := v1.Bays{Bays: each(details, func(b *v1.Cluster) v1.Bay { return c.renderBay(*b) })}
	if n := len(bays); n > 0 {
		body.Next = c.next(c.route.path, page, n, bays[n-1].UUID)
	}
	return ok(body), nil
}

// bay finds the bay that the path names, for whom the rule allows it.
func (a *API) bay(c *call) (*model.Cluster, v1.Bay, error) {
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return nil, v1.Bay{}, err
	}
	if err := c.authorize(targetCluster(cluster)); err != nil {
		return nil, v1.Bay{}, err
	}
	details, err := a.clusterDetails(c, []model.Cluster{*cluster})
	if err != nil {
		return nil, v1.Bay{}, err
	}
	return cluster, c.renderBay(details[0]), nil
}

func (a *API) showBay(c *call) (response, error) {
	_, bay, err := a.bay(c)
	if err != nil {
		return response{}, err
	}
	return ok(bay), nil
}

func (a *API) createBay(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	n := newCluster{cluster: &model.Cluster{}, kind: "bay", templateMissing: http.StatusBadRequest, keepNoLabels: true}
	n.readSpec(o, "baymodel_id", "bay_create_timeout")
	n.nodeCount = or(o.integer("node_count", 1), 1)
	if !o.has("labels") { // the baymodel's are for those who ask with null
		n.labels = model.Labels{}
	}
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, groups, err := a.makeCluster(c, n)
	if err != nil {
		return response{}, err
	}
	if c.version >= withAsyncBays {
		return accepted(v1.UUID{UUID: cluster.UUID}), nil
	}
	bay := c.renderBay(c.renderCluster(cluster, nil, groups, nil))
	return response{status: http.StatusCreated, body: bay, location: bay.Links[0].Href}, nil
}

func (a *API) updateBay(c *call) (response, error) {
	if err := checkRollback(c); err != nil {
		return response{}, err
	}
	patch, err := c.readPatch(bayPatchRules)
	if err != nil {
		return response{}, err
	}
	cluster, bay, err := a.bay(c)
	if err != nil {
		return response{}, err
	}
	doc, err := newDocument(bay)
	if err != nil {
		return response{}, err
	}
	want, err := patchCluster(c, doc, bay.NodeCount, patch)
	if err != nil {
		return response{}, err
	}
	if want.nodeCount != nil && *want.nodeCount < 1 {
		return response{}, badRequest("The node_count of a bay must be 1 or more.")
	}
	if err := a.changeCluster(c, cluster, want); err != nil {
		return response{}, err
	}
	if c.version >= withAsyncBays {
		return accepted(v1.UUID{UUID: cluster.UUID}), nil
	}
	return a.showBay(c)
}

func (c *call) renderBay(b v1.Cluster) v1.Bay {
	return v1.Bay{
		BaySummary: v1.BaySummary{
			UUID:              b.UUID,
			Name:              b.Name,
			BaymodelID:        b.ClusterTemplateID,
			NodeCount:         b.NodeCount,
			MasterCount:       b.MasterCount,
			DockerVolumeSize:  b.DockerVolumeSize,
			Labels:            b.Labels,
			MasterFlavorID:    b.MasterFlavorID,
			FlavorID:          b.FlavorID,
			BayCreateTimeout:  b.CreateTimeout,
			Links:             c.links("/bays/" + b.UUID),
			StackID:           b.StackID,
			Status:            b.Status,
			FloatingIPEnabled: b.FloatingIPEnabled,
		},
		StatusReason:     b.StatusReason,
		DiscoveryURL:     b.DiscoveryURL,
		APIAddress:       b.APIAddress,
		COEVersion:       b.COEVersion,
		ContainerVersion: b.ContainerVersion,
		NodeAddresses:    b.NodeAddresses,
		MasterAddresses:  b.MasterAddresses,
		FixedNetwork:     b.FixedNetwork,
		FixedSubnet:      b.FixedSubnet,
		MasterLBEnabled:  b.MasterLBEnabled,
		CreatedAt:        b.CreatedAt,
		UpdatedAt:        b.UpdatedAt,
	}
}

var baymodel = templateName{
	generated:  "model",
	collection: "baymodels",
	publish:    "baymodel:publish",
	read:       readBaymodel,
	render:     func(c *call, t *model.ClusterTemplate) any { return c.renderBaymodel(t) },
	renderPage: func(c *call, ts []model.ClusterTemplate, next string) any {
		return v1.Baymodels{Baymodels: each(ts, c.renderBaymodel), Next: next}
	},
}

// readBaymodel is stricter than readTemplate in three fields.
func readBaymodel(o *object, t *model.ClusterTemplate) {
	readTemplate(o, t)
	if t.KeypairID == nil && !o.patched { // one made as a template may have none
		o.refuse("keypair_id", "it is required")
	}
	if t.DNSNameserver != nil {
		if _, err := netip.ParseAddr(*t.DNSNameserver); err != nil {
			o.refuse("dns_nameserver", "it must be one IPv4 address")
		}
	}
	labels, _ := o.members["labels"].(map[string]any)
	for key, value := range labels {
		if _, text := value.(string); !text {
			o.refuse("labels", "the value of %q must be text", key)
		}
	}
}

func (c *call) renderBaymodel(t *model.ClusterTemplate) v1.Baymodel {
	fields := renderTemplateFields(t)
	fields.Links = c.links("/baymodels/" + t.UUID)
	return v1.Baymodel{TemplateFields: fields}
}
