// SPDX-License-Identifier: Apache-2.0

package keystone

import "testing"

func TestAccessRulePaths(t *testing.T) {
	for _, row := range []struct {
		rule, path string
		want       bool
	}{
		{"/v1/clusters", "/v1/clusters", true},
		{"/v1/clusters", "/v1/clusters/", false},
		{"/v1/clusters", "/v1/clusters/x", false},
		{"/v1/clusters", "/v2/v1/clusters", false},
		{"/v1/clusters/*", "/v1/clusters/x", true},
		{"/v1/clusters/*", "/v1/clusters/", false},
		{"/v1/clusters/*", "/v1/clusters/x/nodegroups", false},
		{"/v1/clusters/{cluster_id}/nodegroups", "/v1/clusters/x/nodegroups", true},
		{"/v1/clusters/{cluster_id}/nodegroups", "/v1/clusters/x/y/nodegroups", false},
		{"/v1/**", "/v1/clusters/x/nodegroups", true},
		{"/v1/**", "/v1/", true},
		{"/v1/**", "/v2/clusters", false},
		{"**", "/anything/at/all", true},
		{"/v1/clusters/a.b", "/v1/clusters/axb", false}, // a dot is a dot
		{"/v1/(clusters|quotas)", "/v1/quotas", false},
		{"/v1/clusters/[", "/v1/clusters/[", true},
		{"/v1/clusters/**", "/v1/clusters/../quotas", false},
		{"/v1/clusters/*", "/v1/clusters/a%2Fb", true},
	} {
		token := &Token{AccessRules: []AccessRule{{Service: "container-infra", Method: "GET", Path: row.rule}}}
		if got := token.Permits("container-infra", "GET", row.path); got != row.want {
			t.Errorf("%s for %s: %v", row.rule, row.path, got)
		}
		for what, got := range map[string]bool{
			"another method":         token.Permits("container-infra", "POST", row.path),
			"another service":        token.Permits("compute", "GET", row.path),
			"a service without type": token.Permits("", "GET", row.path),
		} {
			if got {
				t.Errorf("%s is permitted by %s", what, row.rule)
			}
		}
	}
	if !new(Token).Permits("", "DELETE", "/v1/clusters/x") {
		t.Error("a token without rules is limited")
	}
	if (&Token{AccessRules: []AccessRule{}}).Permits("container-infra", "GET", "/v1") {
		t.Error("an empty list of rules permits something")
	}
}
