// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"
)

// The tables of §16 of the contract. "Today" are the defaults of Magnum
// master, "before" those of Magnum 15.

func TestPolicy_16_1_BaseRules(t *testing.T) {
	defaults := map[string]Rule{}
	for _, r := range Rules() {
		defaults[r.Name] = r
	}
	for _, row := range []struct{ name, check string }{
		{"context_is_admin", "role:admin"},
		{"admin_api", "rule:context_is_admin"},
		{"admin_or_owner", "is_admin:True or project_id:%(project_id)s"},
		{"admin_or_user", "is_admin:True or user_id:%(user_id)s"},
		{"cluster_user", "user_id:%(trustee_user_id)s"},
		{"deny_cluster_user", "not domain_id:%(trustee_domain_id)s"},
		{"is_user", "user_id:%(user_id)s"},
		{"project_member", "role:member and project_id:%(project_id)s"},
		{"project_reader", "role:reader and project_id:%(project_id)s"},
		{"project_member_deny_cluster_user", "rule:project_member"},
		{"project_reader_deny_cluster_user", "rule:project_reader"},
		{"admin_or_project_member", "rule:context_is_admin or rule:project_member"},
		{"admin_or_project_member_deny_cluster_user", "rule:context_is_admin or rule:project_member"},
		{"admin_or_project_reader", "rule:context_is_admin or rule:project_reader"},
		{"admin_or_project_reader_deny_cluster_user", "rule:context_is_admin or rule:project_reader"},
		{"admin_or_project_member_user", "rule:context_is_admin or (rule:project_member and rule:is_user)"},
		{"admin_or_project_member_user_or_cluster_user", "rule:context_is_admin or (rule:project_member and rule:is_user)"},
		{"admin_or_project_reader_user", "rule:context_is_admin or (rule:project_reader and rule:is_user)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := defaults[row.name].Check; got != row.check {
				t.Errorf("%q, want %q", got, row.check)
			}
		})
	}
}

func TestPolicy_16_2_OperationRules(t *testing.T) {
	// What the abbreviations of the table may stand for.
	today := map[string][]string{
		"A":  {"rule:context_is_admin"},
		"M":  {"rule:admin_or_project_member", "rule:admin_or_project_member_deny_cluster_user"},
		"R":  {"rule:admin_or_project_reader", "rule:admin_or_project_reader_deny_cluster_user"},
		"MU": {"rule:admin_or_project_member_user", "rule:admin_or_project_member_user_or_cluster_user"},
		"RU": {"rule:admin_or_project_reader_user"},
		// No exception for administrators.
		"project member": {"rule:project_member"},
	}
	before := map[string]string{
		"A": "rule:admin_api", "O": "rule:admin_or_owner", "D": "rule:deny_cluster_user", "UC": "rule:admin_or_user or rule:cluster_user", "–": "",
	}
	rows := map[string]struct{ today, scope, before string }{
		"certificate:create":                   {"MU", "S", "UC"},
		"certificate:get":                      {"RU", "S", "UC"},
		"certificate:rotate_ca":                {"M", "S", "O"},
		"cluster:create":                       {"M", "S", "D"},
		"cluster:delete":                       {"M", "S", "D"},
		"cluster:delete_all_projects":          {"A", "", "A"},
		"cluster:detail":                       {"R", "S", "D"},
		"cluster:detail_all_projects":          {"A", "", "A"},
		"cluster:get":                          {"R", "S", "D"},
		"cluster:get_one_all_projects":         {"A", "", "A"},
		"cluster:get_all":                      {"R", "S", "D"},
		"cluster:get_all_all_projects":         {"A", "", "A"},
		"cluster:update":                       {"M", "S", "D"},
		"cluster:update_health_status":         {"MU", "S", "UC"},
		"cluster:update_all_projects":          {"A", "", "A"},
		"cluster:resize":                       {"M", "S", "D"},
		"cluster:upgrade":                      {"M", "S", "D"},
		"cluster:upgrade_all_projects":         {"A", "", "A"},
		"clustertemplate:create":               {"M", "S", "D"},
		"clustertemplate:delete":               {"M", "S", "O"},
		"clustertemplate:delete_all_projects":  {"A", "", "A"},
		"clustertemplate:detail":               {"R", "S", "D"},
		"clustertemplate:detail_all_projects":  {"A", "", "A"},
		"clustertemplate:get":                  {"R", "S", "D"},
		"clustertemplate:get_one_all_projects": {"A", "", "A"},
		"clustertemplate:get_all":              {"R", "S", "D"},
		"clustertemplate:get_all_all_projects": {"A", "", "A"},
		"clustertemplate:update":               {"M", "S", "O"},
		"clustertemplate:update_all_projects":  {"A", "", "A"},
		"clustertemplate:publish":              {"A", "", "A"},
		"credential:rotate":                    {"project member", "S", "–"},
		"federation:create":                    {"M", "S", "D"},
		"federation:delete":                    {"M", "S", "D"},
		"federation:update":                    {"M", "S", "D"},
		"federation:detail":                    {"R", "S", "D"},
		"federation:get":                       {"R", "S", "D"},
		"federation:get_all":                   {"R", "S", "D"},
		"magnum-service:get_all":               {"A", "", "A"},
		"quota:create":                         {"A", "", "A"},
		"quota:delete":                         {"A", "", "A"},
		"quota:update":                         {"A", "", "A"},
		"quota:get_all":                        {"A", "", "A"},
		"quota:get":                            {"R", "S", "O"},
		"stats:get_all":                        {"R", "S", "O"},
		"nodegroup:get":                        {"R", "S", "O"},
		"nodegroup:get_all":                    {"R", "S", "O"},
		"nodegroup:get_all_all_projects":       {"A", "", "A"},
		"nodegroup:get_one_all_projects":       {"A", "", "A"},
		"nodegroup:create":                     {"M", "S", "O"},
		"nodegroup:update":                     {"M", "S", "O"},
		"nodegroup:delete":                     {"M", "S", "O"},
		"bay:create":                           {"–", "", "D"},
		"bay:delete":                           {"–", "", "D"},
		"bay:detail":                           {"–", "", "D"},
		"bay:get":                              {"–", "", "D"},
		"bay:get_all":                          {"–", "", "D"},
		"bay:update":                           {"–", "", "D"},
		"baymodel:create":                      {"–", "", "D"},
		"baymodel:delete":                      {"–", "", "D"},
		"baymodel:detail":                      {"–", "", "D"},
		"baymodel:get":                         {"–", "", "D"},
		"baymodel:get_all":                     {"–", "", "D"},
		"baymodel:update":                      {"–", "", "D"},
		"baymodel:publish":                     {"–", "", "A"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(operationRules, func(r Rule) bool { return r.Name == name })
			if i < 0 {
				t.Fatal("there is no such rule")
			}
			r := operationRules[i]
			// Bays are gone from Magnum master; their rules go with those of clusters.
			if row.today != "–" && !slices.Contains(today[row.today], r.Check) {
				t.Errorf("today %q, want one of %q", r.Check, today[row.today])
			}
			if row.today != "–" && r.ProjectOnly != (row.scope == "S") {
				t.Errorf("for projects only: %v", r.ProjectOnly)
			}
			if r.Deprecated != before[row.before] {
				t.Errorf("before %q, want %q", r.Deprecated, before[row.before])
			}
		})
	}
	const extra = 2 // driver:get_all and host:get_all are Keelson's own
	if len(operationRules) != len(rows)+extra {
		t.Errorf("%d rules and %d extra, the contract has %d", len(operationRules)-extra, extra, len(rows))
	}
}
