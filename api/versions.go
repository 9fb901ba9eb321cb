// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/keelson/keelson/api/v1"

// showVersions answers GET /, which names the versions of the API.
func (a *API) showVersions(c *call) (response, error) {
	return ok(v1.Versions{
		Name:        "OpenStack Magnum API",
		Description: "Keelson, containers as a service on bare metal, speaks the API of OpenStack Magnum.",
		Versions: []v1.Version{{
			ID: "v1", Status: "CURRENT", MaxVersion: maxVersion.String(), MinVersion: minVersion.String(),
			Links: []v1.Link{{Href: c.base + "/v1/", Rel: "self"}},
		}},
	}), nil
}

// collections that GET /v1 links to.
var collections = []string{
	"clustertemplates", "clusters", "quotas", "certificates", "mservices", "stats", "federations",
	"baymodels", "bays",
}

// showVersion1 answers GET /v1, which names the collections.
func (a *API) showVersion1(c *call) (response, error) {
	body := map[string]any{
		"id":          "v1",
		"media_types": []v1.MediaType{{Base: "application/json", Type: "application/vnd.openstack.magnum.v1+json"}},
		"links": []v1.DocumentLink{
			{Link: v1.Link{Href: c.base + "/v1/", Rel: "self"}},
			{Link: v1.Link{Href: "https://docs.openstack.org/api-ref/container-infrastructure-management/", Rel: "describedby"}, Type: "text/html"},
		},
		"nodegroups": c.links("/clusters/{cluster_id}/nodegroups"),
	}
	for _, name := range collections {
		body[name] = c.links("/" + name + "/")
	}
	return ok(body), nil
}
