// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/apiversions"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/certificates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clustertemplates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/nodegroups"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/quotas"

	"github.com/keelson/keelson/internal/model"
)

// client is gophercloud's, as Terraform and others use it.
func (w *world) client(person, microversion string) *gophercloud.ServiceClient {
	server := httptest.NewServer(w.handler)
	w.t.Cleanup(server.Close)
	provider := &gophercloud.ProviderClient{TokenID: person}
	return &gophercloud.ServiceClient{
		ProviderClient: provider, Endpoint: server.URL + "/v1/", Type: "container-infrastructure-management", Microversion: microversion,
	}
}

func TestGophercloud_19_3_TemplatesClustersCertificates(t *testing.T) {
	each(t, func(w *world) {
		t, ctx := w.t, w.t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, microversion := range []string{"", "1.9", "latest"} {
			c := w.client("ann", microversion)

			template, err := clustertemplates.Create(ctx, c, clustertemplates.CreateOpts{
				Name: "swarm", COE: "swarm-mode", ImageID: "debian-12", DNSNameServer: "8.8.8.8", Labels: map[string]string{"a": "1"},
				FlavorID: "m1.small", MasterLBEnabled: new(false),
			}).Extract()
			must(err)
			got, err := clustertemplates.Get(ctx, c, template.UUID).Extract()
			must(err)
			if got.Name != "swarm" || got.Labels["a"] != "1" || got.CreatedAt.IsZero() || !got.FloatingIPEnabled {
				t.Errorf("template: %+v", got)
			}
			pages, err := clustertemplates.List(c, clustertemplates.ListOpts{Limit: 1}).AllPages(ctx)
			must(err)
			templates, err := clustertemplates.ExtractClusterTemplates(pages)
			must(err)
			if len(templates) != 1 || templates[0].UUID != template.UUID {
				t.Errorf("templates: %+v", templates)
			}
			changed, err := clustertemplates.Update(ctx, c, template.UUID, []clustertemplates.UpdateOpts{
				{Op: clustertemplates.ReplaceOp, Path: "/master_lb_enabled", Value: "True"},
				{Op: clustertemplates.RemoveOp, Path: "/flavor_id"},
			}).Extract()
			must(err)
			if !changed.MasterLBEnabled || changed.FlavorID != "" {
				t.Errorf("changed template: %+v", changed)
			}

			id, err := clusters.Create(ctx, c, clusters.CreateOpts{Name: "c", ClusterTemplateID: template.UUID, NodeCount: new(2), MasterCount: new(1)}).Extract()
			must(err)
			cluster, err := clusters.Get(ctx, c, id).Extract()
			must(err)
			if cluster.Name != "c" || cluster.NodeCount != 2 || cluster.Status != "CREATE_IN_PROGRESS" || cluster.CreatedAt.IsZero() {
				t.Errorf("cluster: %+v", cluster)
			}
			pages, err = clusters.ListDetail(c, clusters.ListOpts{SortKey: "name", Limit: 1}).AllPages(ctx)
			must(err)
			all, err := clusters.ExtractClusters(pages)
			must(err)
			if len(all) != 1 || all[0].UUID != id {
				t.Errorf("clusters: %+v", all)
			}
			_, err = clusters.List(c, clusters.ListOpts{}).AllPages(ctx)
			must(err)

			authority, err := certificates.Get(ctx, c, id).Extract()
			must(err)
			signed, err := certificates.Create(ctx, c, certificates.CreateOpts{ClusterUUID: id, CSR: request(t)}).Extract()
			must(err)
			must(parseCertificate(t, signed.PEM).CheckSignatureFrom(parseCertificate(t, authority.PEM)))
			_, err = certificates.Create(ctx, c, certificates.CreateOpts{BayUUID: id, CSR: request(t)}).Extract()
			must(err)
			if err := certificates.Update(ctx, c, id).ExtractErr(); !gophercloud.ResponseCodeIs(err, 400) {
				t.Errorf("rotation: %v", err)
			}

			w.joined(id, "10.1.0.5", "10.1.0.6")
			w.finish(id, model.CreateComplete)
			_, err = clusters.Update(ctx, c, id, []clusters.UpdateOpts{{Op: clusters.ReplaceOp, Path: "/node_count", Value: 3}}).Extract()
			must(err)
			w.finish(id, model.UpdateComplete)
			if microversion != "" {
				_, err = clusters.Resize(ctx, c, id, clusters.ResizeOpts{NodeCount: new(1), NodesToRemove: []string{"x"}}).Extract()
				must(err)
				w.finish(id, model.UpdateComplete)
				upgraded, err := clusters.Upgrade(ctx, c, id, clusters.UpgradeOpts{ClusterTemplate: template.UUID}).Extract()
				must(err)
				if upgraded != id {
					t.Errorf("upgraded %q", upgraded)
				}
				w.finish(id, model.UpdateComplete)
				must(certificates.Update(ctx, c, id).ExtractErr())
				w.finish(id, model.UpdateComplete)
				pages, err := nodegroups.List(c, id, nodegroups.ListOpts{Role: "worker"}).AllPages(ctx)
				must(err)
				groups, err := nodegroups.ExtractNodeGroups(pages)
				must(err)
				group, err := nodegroups.Get(ctx, c, id, groups[0].UUID).Extract()
				must(err)
				if len(groups) != 1 || group.Name != "default-worker" || group.NodeCount != 1 || group.ClusterID != id {
					t.Errorf("group: %+v", group)
				}
				made, err := nodegroups.Create(ctx, c, id, nodegroups.CreateOpts{Name: "gpu", NodeCount: new(2), Labels: map[string]string{"a": "b"}}).Extract()
				must(err)
				if made.Name != "gpu" || made.NodeCount != 2 || made.Labels["a"] != "b" {
					t.Errorf("new group: %+v", made)
				}
				w.finish(id, model.UpdateComplete)
				limited, err := nodegroups.Update(ctx, c, id, made.UUID, []nodegroups.UpdateOptsBuilder{
					nodegroups.UpdateOpts{Op: nodegroups.ReplaceOp, Path: "/max_node_count", Value: 7},
				}).Extract()
				must(err)
				if limited.MaxNodeCount == nil || *limited.MaxNodeCount != 7 {
					t.Errorf("limited group: %+v", limited)
				}
				w.finish(id, model.UpdateComplete)
				must(nodegroups.Delete(ctx, c, id, "gpu").ExtractErr())
				w.finish(id, model.UpdateComplete)
				if _, err := nodegroups.Get(ctx, c, id, "gpu").Extract(); !gophercloud.ResponseCodeIs(err, 404) {
					t.Errorf("deleted group: %v", err)
				}
			}

			must(clusters.Delete(ctx, c, id).ExtractErr())
			must(clusters.Delete(ctx, c, id).ExtractErr())
			w.finish(id, model.DeleteComplete)
			if _, err := clusters.Get(ctx, c, id).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
				t.Errorf("deleted cluster: %v", err)
			}
			must(clustertemplates.Delete(ctx, c, template.UUID).ExtractErr())
		}
		root := w.client("", "")
		root.Endpoint = strings.TrimSuffix(root.Endpoint, "v1/")
		pages, err := apiversions.List(root).AllPages(ctx)
		must(err)
		versions, err := apiversions.ExtractAPIVersions(pages)
		must(err)
		if len(versions) != 1 || versions[0].ID != "v1" || versions[0].Version != "1.11" || versions[0].MinVersion != "1.1" {
			t.Errorf("versions: %+v", versions)
		}
		quota, err := quotas.Create(ctx, w.client("admin", ""), quotas.CreateOpts{ProjectID: "project-1", Resource: "Cluster", HardLimit: 10}).Extract()
		must(err)
		if quota.HardLimit != 10 {
			t.Errorf("quota: %+v", quota)
		}
	})
}
