// SPDX-License-Identifier: Apache-2.0

package policy

// contextIsAdmin decides who is an administrator, and with it the value of
// is_admin in all other rules.
const contextIsAdmin = "context_is_admin"

// Rule is a rule with its default, as Magnum names and defines it.
type Rule struct {
	Name        string
	Check       string // today's default (Magnum 18 and later)
	Deprecated  string // default up to Magnum 16; "" means that there was none
	ProjectOnly bool   // refuses tokens of another scope than a project
	Description string
}

// Check strings that operation rules share. The first group is Magnum's of
// today, the second the one before reader and member had a meaning.
const (
	admin         = "rule:context_is_admin"
	member        = "rule:admin_or_project_member"
	memberUser    = "rule:admin_or_project_member_user"
	memberUserOrC = "rule:admin_or_project_member_user_or_cluster_user"
	memberDenyC   = "rule:admin_or_project_member_deny_cluster_user"
	reader        = "rule:admin_or_project_reader"
	readerUser    = "rule:admin_or_project_reader_user"
	readerDenyC   = "rule:admin_or_project_reader_deny_cluster_user"
	projectMember = "rule:project_member"

	oldAdmin       = "rule:admin_api"
	oldOwner       = "rule:admin_or_owner"
	oldDenyC       = "rule:deny_cluster_user"
	oldUserOrClust = "rule:admin_or_user or rule:cluster_user"
)

// Rules returns every rule that Keelson asks for or defines, base rules first.
func Rules() []Rule {
	rules := append([]Rule{}, baseRules...)
	return append(rules, operationRules...)
}

var baseRules = []Rule{
	{contextIsAdmin, "role:admin", "", false, "Who is an administrator, in all projects"},
	{"admin_api", "rule:context_is_admin", "", false, "Older name of context_is_admin"},
	{"admin_or_owner", "is_admin:True or project_id:%(project_id)s", "", false, "Anybody in the project"},
	{"admin_or_user", "is_admin:True or user_id:%(user_id)s", "", false, "The user who made it"},
	{"cluster_user", "user_id:%(trustee_user_id)s", "", false, "The cluster's own trustee user"},
	{"deny_cluster_user", "not domain_id:%(trustee_domain_id)s", "", false, "Anybody but trustee users of clusters"},
	{"is_user", "user_id:%(user_id)s", "", false, "The user who made it"},
	{"project_member", "role:member and project_id:%(project_id)s", "", false, "May change things in the project"},
	{"project_reader", "role:reader and project_id:%(project_id)s", "", false, "May look at things in the project"},
	{"project_member_deny_cluster_user", projectMember, "", false, "Same as project_member"},
	{"project_reader_deny_cluster_user", "rule:project_reader", "", false, "Same as project_reader"},
	{"admin_or_project_member", "rule:context_is_admin or rule:project_member", "", false, "Default of most changes"},
	{"admin_or_project_member_deny_cluster_user", "rule:context_is_admin or rule:project_member", "", false, "Default of changes to clusters"},
	{"admin_or_project_reader", "rule:context_is_admin or rule:project_reader", "", false, "Default of most reads"},
	{"admin_or_project_reader_deny_cluster_user", "rule:context_is_admin or rule:project_reader", "", false, "Default of reads of clusters"},
	{"admin_or_project_member_user", "rule:context_is_admin or (rule:project_member and rule:is_user)", "", false, "Changes by the user who made it"},
	{"admin_or_project_member_user_or_cluster_user", "rule:context_is_admin or (rule:project_member and rule:is_user)", "", false, "Signing certificates"},
	{"admin_or_project_reader_user", "rule:context_is_admin or (rule:project_reader and rule:is_user)", "", false, "Reads by the user who made it"},
}

var operationRules = []Rule{
	{"certificate:create", memberUserOrC, oldUserOrClust, true, "Sign a certificate: POST /v1/certificates"},
	{"certificate:get", readerUser, oldUserOrClust, true, "Show the CA certificate: GET /v1/certificates/{cluster}"},
	{"certificate:rotate_ca", member, oldOwner, true, "Rotate the CA: PATCH /v1/certificates/{cluster}"},

	{"cluster:create", memberDenyC, oldDenyC, true, "POST /v1/clusters"},
	{"cluster:delete", memberDenyC, oldDenyC, true, "DELETE /v1/clusters/{cluster}"},
	{"cluster:delete_all_projects", admin, oldAdmin, false, "DELETE /v1/clusters/{cluster} of any project"},
	{"cluster:detail", readerDenyC, oldDenyC, true, "GET /v1/clusters/detail"},
	{"cluster:detail_all_projects", admin, oldAdmin, false, "GET /v1/clusters/detail of all projects"},
	{"cluster:get", readerDenyC, oldDenyC, true, "GET /v1/clusters/{cluster}"},
	{"cluster:get_one_all_projects", admin, oldAdmin, false, "GET /v1/clusters/{cluster} of any project"},
	{"cluster:get_all", readerDenyC, oldDenyC, true, "GET /v1/clusters"},
	{"cluster:get_all_all_projects", admin, oldAdmin, false, "GET /v1/clusters of all projects"},
	{"cluster:update", memberDenyC, oldDenyC, true, "PATCH /v1/clusters/{cluster}"},
	{"cluster:update_health_status", memberUser, oldUserOrClust, true, "PATCH /v1/clusters/{cluster}: health_status"},
	{"cluster:update_all_projects", admin, oldAdmin, false, "PATCH /v1/clusters/{cluster} of any project"},
	{"cluster:resize", memberDenyC, oldDenyC, true, "POST /v1/clusters/{cluster}/actions/resize"},
	{"cluster:upgrade", memberDenyC, oldDenyC, true, "POST /v1/clusters/{cluster}/actions/upgrade"},
	{"cluster:upgrade_all_projects", admin, oldAdmin, false, "POST /v1/clusters/{cluster}/actions/upgrade of any project"},

	{"clustertemplate:create", memberDenyC, oldDenyC, true, "POST /v1/clustertemplates"},
	{"clustertemplate:delete", member, oldOwner, true, "DELETE /v1/clustertemplates/{template}"},
	{"clustertemplate:delete_all_projects", admin, oldAdmin, false, "DELETE /v1/clustertemplates/{template} of any project"},
	{"clustertemplate:detail", readerDenyC, oldDenyC, true, "GET /v1/clustertemplates/detail"},
	{"clustertemplate:detail_all_projects", admin, oldAdmin, false, "GET /v1/clustertemplates/detail of all projects"},
	{"clustertemplate:get", readerDenyC, oldDenyC, true, "GET /v1/clustertemplates/{template}"},
	{"clustertemplate:get_one_all_projects", admin, oldAdmin, false, "GET /v1/clustertemplates/{template} of any project"},
	{"clustertemplate:get_all", readerDenyC, oldDenyC, true, "GET /v1/clustertemplates"},
	{"clustertemplate:get_all_all_projects", admin, oldAdmin, false, "GET /v1/clustertemplates of all projects"},
	{"clustertemplate:update", member, oldOwner, true, "PATCH /v1/clustertemplates/{template}"},
	{"clustertemplate:update_all_projects", admin, oldAdmin, false, "PATCH /v1/clustertemplates/{template} of any project"},
	{"clustertemplate:publish", admin, oldAdmin, false, "Make a template public or hidden"},

	{"credential:rotate", projectMember, "", true, "PATCH /v1/credentials/{cluster}; an administrator needs the member role too"},

	{"driver:get_all", admin, oldAdmin, false, "GET /v1/drivers"},

	{"federation:create", memberDenyC, oldDenyC, true, "POST /v1/federations"},
	{"federation:delete", memberDenyC, oldDenyC, true, "DELETE /v1/federations/{federation}"},
	{"federation:detail", readerDenyC, oldDenyC, true, "GET /v1/federations/detail"},
	{"federation:get", readerDenyC, oldDenyC, true, "GET /v1/federations/{federation}"},
	{"federation:get_all", readerDenyC, oldDenyC, true, "GET /v1/federations"},
	{"federation:update", memberDenyC, oldDenyC, true, "PATCH /v1/federations/{federation}"},

	{"host:get_all", admin, oldAdmin, false, "GET /v1/hosts"},

	{"magnum-service:get_all", admin, oldAdmin, false, "GET /v1/mservices"},

	{"nodegroup:create", member, oldOwner, true, "POST /v1/clusters/{cluster}/nodegroups"},
	{"nodegroup:delete", member, oldOwner, true, "DELETE /v1/clusters/{cluster}/nodegroups/{nodegroup}"},
	{"nodegroup:get", reader, oldOwner, true, "GET /v1/clusters/{cluster}/nodegroups/{nodegroup}"},
	{"nodegroup:get_one_all_projects", admin, oldAdmin, false, "GET /v1/clusters/{cluster}/nodegroups/{nodegroup} of any project"},
	{"nodegroup:get_all", reader, oldOwner, true, "GET /v1/clusters/{cluster}/nodegroups"},
	{"nodegroup:get_all_all_projects", admin, oldAdmin, false, "GET /v1/clusters/{cluster}/nodegroups of any project"},
	{"nodegroup:update", member, oldOwner, true, "PATCH /v1/clusters/{cluster}/nodegroups/{nodegroup}"},

	{"quota:create", admin, oldAdmin, false, "POST /v1/quotas"},
	{"quota:delete", admin, oldAdmin, false, "DELETE /v1/quotas/{project}/{resource}"},
	{"quota:get", reader, oldOwner, true, "GET /v1/quotas/{project}/{resource}"},
	{"quota:get_all", admin, oldAdmin, false, "GET /v1/quotas"},
	{"quota:update", admin, oldAdmin, false, "PATCH /v1/quotas/{project}/{resource}"},

	{"stats:get_all", reader, oldOwner, true, "GET /v1/stats"},

	{"bay:create", memberDenyC, oldDenyC, true, "POST /v1/bays"},
	{"bay:delete", memberDenyC, oldDenyC, true, "DELETE /v1/bays/{bay}"},
	{"bay:detail", readerDenyC, oldDenyC, true, "GET /v1/bays/detail"},
	{"bay:get", readerDenyC, oldDenyC, true, "GET /v1/bays/{bay}"},
	{"bay:get_all", readerDenyC, oldDenyC, true, "GET /v1/bays"},
	{"bay:update", memberDenyC, oldDenyC, true, "PATCH /v1/bays/{bay}"},

	{"baymodel:create", memberDenyC, oldDenyC, true, "POST /v1/baymodels"},
	{"baymodel:delete", memberDenyC, oldDenyC, true, "DELETE /v1/baymodels/{baymodel}"},
	{"baymodel:detail", readerDenyC, oldDenyC, true, "GET /v1/baymodels/detail"},
	{"baymodel:get", readerDenyC, oldDenyC, true, "GET /v1/baymodels/{baymodel}"},
	{"baymodel:get_all", readerDenyC, oldDenyC, true, "GET /v1/baymodels"},
	{"baymodel:publish", admin, oldAdmin, false, "Make a baymodel public"},
	{"baymodel:update", memberDenyC, oldDenyC, true, "PATCH /v1/baymodels/{baymodel}"},
}
