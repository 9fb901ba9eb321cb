// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// osloScript evaluates check strings with the real oslo.policy.
const osloScript = `
import json, sys
from oslo_config import cfg
from oslo_policy import policy
question = json.load(sys.stdin)
conf = cfg.ConfigOpts()
conf([])
enforcer = policy.Enforcer(conf, use_conf=False)
enforcer.load_rules = lambda *a, **k: None
answers = []
for checks in question['rules']:
    enforcer.set_rules(policy.Rules.from_dict(checks), use_conf=False)
    answers.append([[bool(enforcer.enforce('it', t, dict(c))) for t in question['targets']] for c in question['callers']])
json.dump(answers, sys.stdout)
`

// TestSameAsOslo asks the real oslo.policy the same questions.
func TestSameAsOslo(t *testing.T) {
	if err := exec.Command("python3", "-c", "import oslo_policy").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3-oslo.policy is missing")
		}
		t.Skip("python3-oslo.policy is missing: apt-get install python3-oslo.policy")
	}
	checks := []string{
		"", "@", "!", "not @", "role:member", "role:MEMBER", "rule:helper", "rule:with:colons",
		"user_id:%(user_id)s", "project_id:%(project_id)s", "project_id:p1", "nothing:x", "not nothing:x",
		"user_id:%(missing)s", "not user_id:%(missing)s", "role:%(wanted)s", "True:%(public)s", "'gold':%(class)s", "\"gold\":%(class)s",
		"None:%(class)s", "44:%(size)s", "44:44", "'a':b", "system_scope:all",
		"role:member AND user_id:%(user_id)s", "role:admin OR Not role:reader",
		"role:a or role:member and role:b", "role:member and role:b or role:reader",
		"not role:a and role:member", "not (role:a or role:member)", "((role:member))", "( role:member )",
		"role:a or (role:member and (not role:b))", "not not role:member",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		checks = append(checks, randomCheck(random, 4))
	}
	type attributes = map[string]any
	question := struct {
		Rules   []map[string]string `json:"rules"`
		Callers []attributes        `json:"callers"`
		Targets []map[string]string `json:"targets"`
	}{
		Callers: []attributes{
			{"user_id": "ann", "project_id": "p1", "roles": []string{"Member", "reader"}},
			{"user_id": "bob", "project_id": "p1", "roles": []string{"reader"}},
			{"user_id": "eve", "system_scope": "all", "roles": []string{"admin", "b"}},
		},
		Targets: []map[string]string{
			{"user_id": "ann", "project_id": "p1", "public": "True", "class": "gold", "size": "44", "wanted": "READER"},
			{"user_id": "bob", "project_id": "p2", "public": "False", "class": "None", "wanted": "admin"},
			{},
		},
	}
	for _, check := range checks {
		question.Rules = append(question.Rules, map[string]string{
			"it": check, "helper": "role:member or user_id:bob", "with:colons": "project_id:p1",
		})
	}
	in, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), "python3", "-c", osloScript)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(in), &out, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var answers [][][]bool
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil {
		t.Fatal(err)
	}

	for i, overlay := range question.Rules {
		rules, _, err := compile(overlay, true)
		if err != nil {
			t.Errorf("%q: %v", overlay["it"], err)
			continue
		}
		e := &Enforcer{}
		e.rules.Store(rules)
		for j, c := range question.Callers {
			credentials := Credentials{Roles: c["roles"].([]string), IsAdminProject: true}
			credentials.UserID, _ = c["user_id"].(string)
			credentials.ProjectID, _ = c["project_id"].(string)
			credentials.SystemScope, _ = c["system_scope"].(string)
			for k, target := range question.Targets {
				if got := e.Allow("it", NewCaller(credentials), target); got != answers[i][j][k] {
					t.Errorf("%q by %v for %v: %v here, %v by oslo.policy", overlay["it"], c, target, got, answers[i][j][k])
				}
			}
		}
	}
}

func randomCheck(random *rand.Rand, depth int) string {
	leaves := []string{
		"role:member", "role:Reader", "role:admin", "user_id:%(user_id)s", "project_id:%(project_id)s", "rule:helper",
		"rule:with:colons", "@", "!", "system_scope:all", "'gold':%(class)s", "user_id:%(missing)s",
	}
	if depth == 0 || random.IntN(4) == 0 {
		return leaves[random.IntN(len(leaves))]
	}
	switch random.IntN(4) {
	case 0:
		return "not (" + randomCheck(random, depth-1) + ")"
	case 1:
		return "(" + randomCheck(random, depth-1) + ")"
	}
	parts := []string{randomCheck(random, depth-1)}
	for range 1 + random.IntN(2) {
		parts = append(parts, []string{"and", "or", "AND", "Or"}[random.IntN(4)], randomCheck(random, depth-1))
	}
	return strings.Join(parts, " ")
}
