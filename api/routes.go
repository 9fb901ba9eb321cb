// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strings"
)

// route is one method of one path.
type route struct {
	method  string
	path    string       // with /v1, without a slash at the end
	since   microversion // below it the method does not exist (406)
	rule    string       // policy rule; the handler names the target. Empty: anybody, without a token
	across  string       // further rule for administrators, who then reach into all projects
	args    []string     // query arguments; all others are refused
	handler handler
}

// handler answers one call.
type handler = func(*call) (response, error)

// unversioned routes know no microversions.
const unversioned microversion = 0

// table lists all that the API answers. A path that is not here is 404, a
// method that is not here 405.
//
// "across" is what Magnum gives administrators: where it is empty, another
// project's resource is 404 for them too.
func (a *API) table() []route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	return []route{
		{get, "/", unversioned, "", "", nil, a.showVersions},
		{get, "/v1", always, "", "", nil, a.showVersion1},

		{get, "/v1/clustertemplates", always, "clustertemplate:get_all", "clustertemplate:get_all_all_projects", paging, a.listTemplates(clusterTemplate)},
		{get, "/v1/clustertemplates/detail", always, "clustertemplate:detail", "clustertemplate:detail_all_projects", paging, a.listTemplates(clusterTemplate)},
		{get, "/v1/clustertemplates/{ident}", always, "clustertemplate:get", "clustertemplate:get_one_all_projects", nil, a.showTemplate(clusterTemplate)},
		{post, "/v1/clustertemplates", always, "clustertemplate:create", "", nil, a.createTemplate(clusterTemplate)},
		{patch, "/v1/clustertemplates/{ident}", always, "clustertemplate:update", "clustertemplate:update_all_projects", nil, a.updateTemplate(clusterTemplate)},
		{del, "/v1/clustertemplates/{ident}", always, "clustertemplate:delete", "clustertemplate:delete_all_projects", nil, a.deleteTemplate},
		{patch, "/v1/clustertemplates", always, "clustertemplate:update", "", nil, missingIdent},
		{del, "/v1/clustertemplates", always, "clustertemplate:delete", "", nil, missingIdent},

		{get, "/v1/clusters", always, "cluster:get_all", "cluster:get_all_all_projects", paging, a.listClusters},
		{get, "/v1/clusters/detail", always, "cluster:detail", "cluster:detail_all_projects", paging, a.listClustersInDetail},
		{get, "/v1/clusters/{ident}", always, "cluster:get", "cluster:get_one_all_projects", nil, a.showCluster},
		{post, "/v1/clusters", always, "cluster:create", "", nil, a.createCluster},
		{patch, "/v1/clusters/{ident}", always, "cluster:update", "cluster:update_all_projects", []string{"rollback"}, a.updateCluster},
		{del, "/v1/clusters/{ident}", always, "cluster:delete", "cluster:delete_all_projects", nil, a.deleteCluster},
		{patch, "/v1/clusters", always, "cluster:update", "", []string{"rollback"}, missingIdent},
		{del, "/v1/clusters", always, "cluster:delete", "", nil, missingIdent},

		{post, "/v1/clusters/{ident}/actions/resize", withActions, "cluster:resize", "", nil, a.resizeCluster},
		{post, "/v1/clusters/{ident}/actions/upgrade", withActions, "cluster:upgrade", "cluster:upgrade_all_projects", nil, a.upgradeCluster},

		{post, "/v1/clusters/{ident}/actions/rebuild", always, "cluster:update", "cluster:update_all_projects", nil, a.rebuildNodes},
		{post, "/v1/clusters/{ident}/actions/repair", always, "cluster:update", "cluster:update_all_projects", nil, a.repairNodes},
		{get, "/v1/clusters/{ident}/nodes", always, "cluster:get", "cluster:get_one_all_projects", nil, a.listNodes},
		{get, "/v1/clusters/{ident}/operations", always, "cluster:get", "cluster:get_one_all_projects", []string{"limit"}, a.listOperations},
		{get, eventsPath, always, "cluster:get", "cluster:get_one_all_projects", []string{"after", "limit", "sort_dir"}, a.listEvents},
		{get, "/v1/clusters/{ident}/autoscale", always, "cluster:get", "cluster:get_one_all_projects", nil, a.showAutoscale},
		{put, "/v1/clusters/{ident}/autoscale", always, "cluster:update", "cluster:update_all_projects", nil, a.setAutoscale},
		{get, "/v1/clusters/{ident}/usage", always, "cluster:get", "cluster:get_one_all_projects", nil, a.showUsage},
		{post, bundlePath, always, "certificate:create", "", nil, a.makeBundle},

		{get, "/v1/clusters/{ident}/nodegroups", withNodeGroups, "nodegroup:get_all", "nodegroup:get_all_all_projects", append([]string{"role"}, paging...), a.listNodeGroups},
		{get, "/v1/clusters/{ident}/nodegroups/{group}", withNodeGroups, "nodegroup:get", "nodegroup:get_one_all_projects", nil, a.showNodeGroup},
		{post, "/v1/clusters/{ident}/nodegroups", withNodeGroups, "nodegroup:create", "", nil, a.createNodeGroup},
		{patch, "/v1/clusters/{ident}/nodegroups/{group}", withNodeGroups, "nodegroup:update", "", nil, a.updateNodeGroup},
		{del, "/v1/clusters/{ident}/nodegroups/{group}", withNodeGroups, "nodegroup:delete", "", nil, a.deleteNodeGroup},
		{patch, "/v1/clusters/{ident}/nodegroups", withNodeGroups, "nodegroup:update", "", nil, missingIdent},
		{del, "/v1/clusters/{ident}/nodegroups", withNodeGroups, "nodegroup:delete", "", nil, missingIdent},

		{get, "/v1/certificates/{ident}", always, "certificate:get", "", []string{"ca_cert_type"}, a.showAuthority},
		{get, "/v1/certificates/{ident}/{kind}", always, "certificate:get", "", nil, a.showAuthority},
		{post, "/v1/certificates", always, "certificate:create", "", nil, a.signCertificate},
		{patch, "/v1/certificates/{ident}", always, "certificate:rotate_ca", "", nil, a.rotateAuthority},
		{patch, "/v1/certificates", always, "certificate:rotate_ca", "", nil, missingIdent},

		{get, "/v1/quotas", always, "quota:get_all", "", append([]string{"all_tenants"}, paging...), a.listQuotas},
		{get, "/v1/quotas/{project}", always, "quota:get", "", nil, missingIdent},
		{get, "/v1/quotas/{project}/{resource}", always, "quota:get", "", nil, a.showQuota},
		{post, "/v1/quotas", always, "quota:create", "", nil, a.createQuota},
		{patch, "/v1/quotas/{project}/{resource}", always, "quota:update", "", nil, a.updateQuota},
		{del, "/v1/quotas/{project}/{resource}", always, "quota:delete", "", nil, a.deleteQuota},
		{patch, "/v1/quotas", always, "quota:update", "", nil, missingIdent},
		{del, "/v1/quotas", always, "quota:delete", "", nil, missingIdent},
		{patch, "/v1/quotas/{project}", always, "quota:update", "", nil, missingIdent},
		{del, "/v1/quotas/{project}", always, "quota:delete", "", nil, missingIdent},

		{get, "/v1/stats", always, "stats:get_all", "", []string{"project_id", "type"}, a.showStats},
		{get, "/v1/drivers", always, "driver:get_all", "", nil, a.listDrivers},
		{get, "/v1/hosts", always, "host:get_all", "", nil, a.listHosts},
		{get, "/v1/mservices", always, "magnum-service:get_all", "", nil, a.listServices},

		{get, "/v1/baymodels", always, "baymodel:get_all", "", paging, a.listTemplates(baymodel)},
		{get, "/v1/baymodels/detail", always, "baymodel:detail", "", paging, a.listTemplates(baymodel)},
		{get, "/v1/baymodels/{ident}", always, "baymodel:get", "", nil, a.showTemplate(baymodel)},
		{post, "/v1/baymodels", always, "baymodel:create", "", nil, a.createTemplate(baymodel)},
		{patch, "/v1/baymodels/{ident}", always, "baymodel:update", "", nil, a.updateTemplate(baymodel)},
		{del, "/v1/baymodels/{ident}", always, "baymodel:delete", "", nil, a.deleteTemplate},
		{patch, "/v1/baymodels", always, "baymodel:update", "", nil, missingIdent},
		{del, "/v1/baymodels", always, "baymodel:delete", "", nil, missingIdent},

		{get, "/v1/bays", always, "bay:get_all", "", paging, a.listBays},
		{get, "/v1/bays/detail", always, "bay:detail", "", paging, a.listBaysInDetail},
		{get, "/v1/bays/{ident}", always, "bay:get", "", nil, a.showBay},
		{post, "/v1/bays", always, "bay:create", "", nil, a.createBay},
		{patch, "/v1/bays/{ident}", always, "bay:update", "", []string{"rollback"}, a.updateBay},
		{del, "/v1/bays/{ident}", always, "bay:delete", "", nil, a.deleteCluster},
		{patch, "/v1/bays", always, "bay:update", "", []string{"rollback"}, missingIdent},
		{del, "/v1/bays", always, "bay:delete", "", nil, missingIdent},

		{get, "/v1/federations", always, "federation:get_all", "", paging, a.listFederations},
		{get, "/v1/federations/detail", always, "federation:detail", "", paging, a.listFederations},
		{get, "/v1/federations/{ident}", always, "federation:get", "", nil, noFederation},
		{post, "/v1/federations", always, "federation:create", "", nil, a.createFederation},
		{patch, "/v1/federations/{ident}", always, "federation:update", "", []string{"rollback"}, noFederation},
		{del, "/v1/federations/{ident}", always, "federation:delete", "", nil, noFederation},
	}
}

// Paths that answer with something else than JSON, too.
const (
	eventsPath = "/v1/clusters/{ident}/events"
	bundlePath = "/v1/clusters/{ident}/credentials/bundle"
)

// otherKind is the media type, beside JSON, that a client of the route may ask
// for.
func (r *route) otherKind() string {
	switch r.path {
	case eventsPath:
		return eventStream
	case bundlePath:
		return zipFile
	}
	return ""
}

// actionsPath exists, but with no method.
const actionsPath = "/v1/clusters/{ident}/actions"

// mux turns the table into a handler.
func (a *API) mux() *http.ServeMux {
	endpoints := map[string]*endpoint{actionsPath: {api: a, path: actionsPath}}
	for _, r := range a.table() {
		e := endpoints[r.path]
		if e == nil {
			e = &endpoint{api: a, path: r.path, methods: map[string]*route{}}
			endpoints[r.path] = e
		}
		e.methods[r.method] = &r
	}
	mux := http.NewServeMux()
	for path, e := range endpoints {
		if strings.HasSuffix(path, "/") { // of the root only
			path += "{$}"
		}
		mux.Handle(path, e)
	}
	mux.HandleFunc("/", a.notRouted)
	return mux
}

// missingIdent answers where the method exists, but only for one resource.
func missingIdent(*call) (response, error) {
	return response{}, badRequest("Missing argument: the path must name one resource.")
}
