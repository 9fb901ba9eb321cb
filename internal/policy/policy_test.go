// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goslo "github.com/databus23/goslo.policy"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write etc/keelson/policy.yaml.sample anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t testing.TB, options Options) *Enforcer {
	t.Helper()
	e, err := Load(options)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func caller(user, project string, roles ...string) *Caller {
	return NewCaller(Credentials{UserID: user, ProjectID: project, Roles: roles})
}

// TestPolicy_16_3_KindsOfCaller is the table of the contract's §16.3, on both rule sets.
func TestPolicy_16_3_KindsOfCaller(t *testing.T) {
	callers := []*Caller{
		caller("ann", "p1", "reader"),
		caller("ann", "p1", "member", "reader"),
		caller("bob", "p1", "member", "reader"), // did not make the cluster
		caller("eve", "p9", "admin"),            // without the member role
	}
	const all, none = "reader member other admin", ""
	rows := []struct {
		call, rules string
		passes      string // today's defaults
		before      string // with the deprecated defaults; "" means the same
	}{
		{
			"any list, show, stats, own quota",
			"cluster:get cluster:get_all cluster:detail clustertemplate:get clustertemplate:get_all clustertemplate:detail " +
				"nodegroup:get nodegroup:get_all stats:get_all quota:get federation:get federation:get_all federation:detail " +
				"bay:get bay:get_all bay:detail baymodel:get baymodel:get_all baymodel:detail",
			all, "",
		},
		{
			"cluster, template and node group writes, actions",
			"cluster:create cluster:update cluster:delete cluster:resize cluster:upgrade " +
				"clustertemplate:create clustertemplate:update clustertemplate:delete " +
				"nodegroup:create nodegroup:update nodegroup:delete " +
				"federation:create federation:update federation:delete bay:create bay:update bay:delete " +
				"baymodel:create baymodel:update baymodel:delete",
			"member other admin", all,
		},
		{"certificate show", "certificate:get", "reader member admin", ""},
		{"certificate sign", "certificate:create", "member admin", "reader member admin"},
		{"cluster health", "cluster:update_health_status", "member admin", "reader member admin"},
		{"CA rotate", "certificate:rotate_ca", "member other admin", all},
		{"credential rotate", "credential:rotate", "member other", ""},
		{
			"services, quota list and writes, publishing",
			"driver:get_all host:get_all magnum-service:get_all quota:get_all quota:create quota:update quota:delete clustertemplate:publish baymodel:publish",
			"admin", "",
		},
		{
			"all projects",
			"cluster:delete_all_projects cluster:detail_all_projects cluster:get_one_all_projects cluster:get_all_all_projects " +
				"cluster:update_all_projects cluster:upgrade_all_projects clustertemplate:delete_all_projects " +
				"clustertemplate:detail_all_projects clustertemplate:get_one_all_projects clustertemplate:get_all_all_projects " +
				"clustertemplate:update_all_projects nodegroup:get_all_all_projects nodegroup:get_one_all_projects",
			"admin", "",
		},
		{"nothing that exists", "cluster:explode", none, ""},
	}
	target := map[string]string{"project_id": "p1", "user_id": "ann"}
	asked := map[string]bool{}
	for _, newDefaultsOnly := range []bool{true, false} {
		e := load(t, Options{EnforceNewDefaults: newDefaultsOnly, EnforceScope: true})
		for _, row := range rows {
			want := row.passes
			if !newDefaultsOnly && row.before != "" {
				want = row.before
			}
			for _, rule := range strings.Fields(row.rules) {
				asked[rule] = true
				for i, name := range strings.Fields(all) {
					got := e.Allow(rule, callers[i], target)
					if got != strings.Contains(want, name) {
						t.Errorf("new defaults only %v: %s (%s) by %s: allowed %v", newDefaultsOnly, row.call, rule, name, got)
					}
				}
			}
		}
	}
	for _, rule := range operationRules {
		if !asked[rule.Name] {
			t.Errorf("%s is missing in this table", rule.Name)
		}
	}
}

func TestOtherProjectsStayClosed(t *testing.T) {
	target := map[string]string{"project_id": "p1", "user_id": "ann"}
	stranger := caller("ann", "p2", "member", "reader")
	noProject := caller("ann", "", "member", "reader")
	e := load(t, Options{EnforceNewDefaults: true, EnforceScope: true})
	for _, rule := range operationRules {
		for _, c := range []*Caller{stranger, noProject} {
			if e.Allow(rule.Name, c, target) {
				t.Errorf("%s lets %v pass for another project", rule.Name, c.attributes)
			}
			if e.Allow(rule.Name, c, map[string]string{"project_id": "", "user_id": ""}) {
				t.Errorf("%s lets %v pass for nobody's project", rule.Name, c.attributes)
			}
		}
	}
}

func TestScope(t *testing.T) {
	target := map[string]string{"project_id": "p1"}
	system := NewCaller(Credentials{UserID: "eve", SystemScope: "all", Roles: []string{"admin"}})
	domain := NewCaller(Credentials{UserID: "eve", DomainID: "default", Roles: []string{"admin"}})
	strict := load(t, Options{EnforceNewDefaults: true, EnforceScope: true})
	lax := load(t, Options{EnforceNewDefaults: true})
	for _, c := range []*Caller{system, domain} {
		if strict.Allow("cluster:create", c, target) {
			t.Errorf("cluster:create lets %v pass", c.attributes)
		}
		if !lax.Allow("cluster:create", c, target) {
			t.Errorf("cluster:create refuses %v though scopes are not enforced", c.attributes)
		}
		if !strict.Allow("quota:create", c, target) {
			t.Errorf("quota:create, which is about no project, refuses %v", c.attributes)
		}
	}
}

func TestTrusteeUsers(t *testing.T) {
	e := load(t, Options{})
	trustee := NewCaller(Credentials{UserID: "t1", DomainID: "trustees"})
	target := map[string]string{"project_id": "p1", "user_id": "ann", "trustee_user_id": "t1", "trustee_domain_id": "trustees"}
	for rule, want := range map[string]bool{
		"certificate:get": true, "certificate:create": true, "cluster:update_health_status": true,
		"cluster:get": false, "cluster:create": false, "nodegroup:get": false,
	} {
		if got := e.Allow(rule, trustee, target); got != want {
			t.Errorf("%s by the cluster's trustee: %v", rule, got)
		}
	}
}

func TestAllProjects(t *testing.T) {
	closed := writeFile(t, "policy.yaml", `"cluster:delete_all_projects": "!"`)
	e := load(t, Options{File: closed, EnforceNewDefaults: true})
	admin, member := caller("eve", "p9", "admin"), caller("ann", "p1", "member")
	for _, row := range []struct {
		rule            string
		caller          *Caller
		across, allowed bool
	}{
		{"cluster:get", admin, true, true},
		{"cluster:get_all", admin, true, true},
		{"cluster:detail", admin, true, true},
		{"cluster:upgrade", admin, true, true},
		{"nodegroup:get", admin, true, true},
		{"clustertemplate:update", admin, true, true},
		{"cluster:resize", admin, false, true}, // has no such rule: own project only
		{"certificate:get", admin, false, true},
		{"nodegroup:update", admin, false, true},
		{"cluster:delete", admin, false, false}, // refused by the file
		{"cluster:get", member, false, true},
		{"cluster:delete", member, false, true},
	} {
		across, allowed := e.AllProjects(row.rule, row.caller, nil)
		if across != row.across || allowed != row.allowed {
			t.Errorf("%s: across %v, allowed %v; want %v, %v", row.rule, across, allowed, row.across, row.allowed)
		}
	}
}

func TestRoleNamesInAnyCase(t *testing.T) {
	e := load(t, Options{File: writeFile(t, "policy.yaml", `"cluster:create": "role:CloudOps"`)})
	for role, want := range map[string]bool{"cloudops": true, "CLOUDOPS": true, "CloudOps": true, "ops": false} {
		if got := e.Allow("cluster:create", caller("u", "p", role), nil); got != want {
			t.Errorf("role %s: %v", role, got)
		}
	}
	if !e.IsAdmin(caller("u", "p", "Admin")) {
		t.Error("role Admin is no administrator")
	}
}

func TestAdminFollowsContextIsAdmin(t *testing.T) {
	e := load(t, Options{File: writeFile(t, "policy.yaml", `
context_is_admin: role:operator
owners: "is_admin:True or project_id:%(project_id)s"
"cluster:create": rule:owners
"cluster:delete": "is_admin:False"
`)})
	target := map[string]string{"project_id": "p1"}
	operator, admin := caller("u", "p9", "operator"), caller("u", "p9", "admin")
	if !e.Allow("cluster:create", operator, target) || e.Allow("cluster:create", admin, target) {
		t.Error("is_admin:True does not follow context_is_admin")
	}
	if e.Allow("cluster:delete", operator, target) || !e.Allow("cluster:delete", admin, target) {
		t.Error("is_admin:False does not follow context_is_admin")
	}
	if !e.Allow("quota:create", operator, target) || e.Allow("quota:create", admin, target) {
		t.Error("the defaults do not follow context_is_admin")
	}
}

func TestDefaultRule(t *testing.T) {
	e := load(t, Options{File: writeFile(t, "policy.json", `{"default": "role:admin"}`)})
	if !e.Allow("cluster:explode", caller("u", "p", "admin"), nil) || e.Allow("cluster:explode", caller("u", "p", "member"), nil) {
		t.Error("an unknown rule is not answered by default")
	}
	if load(t, Options{}).Allow("cluster:explode", caller("u", "p", "admin"), nil) {
		t.Error("an unknown rule passes without a default")
	}
}

func TestMissingFileMeansDefaults(t *testing.T) {
	e := load(t, Options{File: filepath.Join(t.TempDir(), "policy.yaml"), EnforceNewDefaults: true})
	if !e.Allow("cluster:create", caller("u", "p", "member"), map[string]string{"project_id": "p"}) {
		t.Error("the defaults are not in force")
	}
}

func TestBadFiles(t *testing.T) {
	rows := []struct{ name, content, says string }{
		{"a cycle", `{a: "rule:b", b: "role:x or rule:a"}`, "a → b → a"},
		{"a rule that is itself", `{a: "not rule:a"}`, "a → a"},
		{"a cycle through is_admin", `{context_is_admin: "is_admin:True or role:root"}`, "context_is_admin → context_is_admin"},
		{"a cycle with a default", `{project_member: "rule:cluster:get", "cluster:get": "rule:admin_or_project_member"}`, "leads to itself"},
		{"an unknown reference", `{"cluster:get": "rule:nobody"}`, `there is no rule "nobody"`},
		{"an unknown reference despite a default rule", `{default: "@", "cluster:get": "rule:nobody"}`, `there is no rule "nobody"`},
		{"a remote check", `{"cluster:get": "http://policy.example/%(name)s"}`, "remote server"},
		{"a remote check over TLS", `{"cluster:get": "role:a or https:x"}`, "remote server"},
		{"the list syntax", `{"cluster:get": [["role:admin"]]}`, "list syntax"},
		{"the list syntax as text", `{"cluster:get": "[['role:admin']]"}`, "list syntax"},
		{"an empty value", `"cluster:get":`, "check string is missing"},
		{"an unquoted exclamation mark", `"cluster:get": !`, `write "@" for everybody, "!" for nobody`},
		{"a number", `"cluster:get": 1`, "is not a check string"},
		{"a boolean", `"cluster:get": true`, "is not a check string"},
		{"a mapping", `"cluster:get": {role: admin}`, "check string is missing"},
		{"a rule twice", "a: '@'\na: '!'", "already defined"},
		{"a list of rules", `["role:admin"]`, "cannot unmarshal"},
		{"half a file", `"cluster:get": "role:`, "found unexpected end"},
		{"a word alone", `{a: "admin"}`, `"admin" is not a check`},
		{"no operator", `{a: "role:x role:y"}`, `missing before "role:y"`},
		{"an operator too many", `{a: "role:x or or role:y"}`, `"or" is out of place`},
		{"nothing after not", `{a: "not"}`, "ends where a check was expected"},
		{"an open bracket", `{a: "(role:x"}`, "closing bracket"},
		{"a bracket too many", `{a: "role:x)"}`, `")" is out of place`},
		{"empty brackets", `{a: "()"}`, `")" is out of place`},
		{"half a variable", `{a: "user_id:%(user_id"}`, "unsupported value"},
		{"text around a variable", `{a: "user_id:x%(user_id)s"}`, "unsupported value"},
		{"a rule by variable", `{a: "rule:%(x)s"}`, "can not be named by a variable"},
		{"a quote inside", `{a: "role:a'b"}`, "unsupported value"},
		{"an operator as attribute", `{a: "not:b"}`, "no attribute name"},
		{"two faults at once", `{a: "x", b: "y"}`, `rule "b"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := Load(Options{File: writeFile(t, "policy.yaml", row.content)})
			if err == nil {
				t.Fatal("the file is taken")
			}
			if !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "policy.yaml") {
				t.Errorf("unclear message: %v", err)
			}
		})
	}
	if _, err := Load(Options{File: writeFile(t, "policy.json", `{"a": [["role:x"]]}`)}); err == nil {
		t.Error("JSON: the list syntax is taken")
	}
	if _, err := parseFile(bytes.Repeat([]byte("#"), maxFileSize+1), false); err == nil {
		t.Error("a huge file is taken")
	}
}

func TestWarnings(t *testing.T) {
	var log bytes.Buffer
	load(t, Options{
		File: writeFile(t, "policy.yaml", `
"cluster:craete": "role:admin"
helper: "role:helper"
"cluster:delete": "rule:helper or shoe_size:44"
admin_api: "role:root"
`),
		EnforceNewDefaults: true,
		Logger:             slog.New(slog.NewTextHandler(&log, nil)),
	})
	for _, want := range []string{"cluster:craete", "shoe_size", "admin_api"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no warning about %s", want)
		}
	}
	if strings.Contains(log.String(), `\"helper\"`) {
		t.Error("a warning about a rule that is used")
	}
}

func TestReload(t *testing.T) {
	file := writeFile(t, "policy.yaml", `"cluster:create": "role:one"`)
	one, two := caller("u", "p", "one"), caller("u", "p", "two")
	e := load(t, Options{File: file, EnforceNewDefaults: true})

	rewrite := func(content string) error {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return e.Reload()
	}
	if err := rewrite(`"cluster:create": "role:two"`); err != nil {
		t.Fatal(err)
	}
	if e.Allow("cluster:create", one, nil) || !e.Allow("cluster:create", two, nil) {
		t.Error("the new file is not in force")
	}
	for range 2 {
		if err := rewrite(`"cluster:create": "role:one or"`); err == nil {
			t.Error("a bad file is taken")
		}
		if e.Allow("cluster:create", one, nil) || !e.Allow("cluster:create", two, nil) {
			t.Error("a bad file changed the rules")
		}
	}
}

func TestRunFollowsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	e := load(t, Options{File: file, EnforceNewDefaults: true, PollInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	waitFor := func(role string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !e.Allow("cluster:create", caller("u", "p", role), nil) {
			if time.Now().After(deadline) {
				t.Fatalf("the rule for %s is not in force", role)
			}
			time.Sleep(time.Millisecond)
		}
	}
	put := func(content string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put(`"cluster:create": "role:one"`)
	waitFor("one")
	put(`"cluster:create": "role:one or role:three or"`) // bad
	put(`"cluster:create": "role:fourth"`)
	waitFor("fourth")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	put(`"cluster:create": "role:fifth or role:sixth"`)
	waitFor("sixth")
}

func TestSample(t *testing.T) {
	var got bytes.Buffer
	if err := WriteSample(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "etc", "keelson", "policy.yaml.sample")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s is out of date, run this test with -update (-file +code):\n%s", path, diff)
	}

	// With every comment sign taken away it is the defaults.
	var plain []string
	for line := range strings.Lines(got.String()) {
		if strings.HasPrefix(line, `#"`) {
			plain = append(plain, line[1:])
		}
	}
	rules, err := parseFile([]byte(strings.Join(plain, "")), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range Rules() {
		if rules[rule.Name] != rule.Check {
			t.Errorf("sample of %s: %q", rule.Name, rules[rule.Name])
		}
	}
	if len(rules) != len(Rules()) {
		t.Errorf("%d rules in the sample, %d in code", len(rules), len(Rules()))
	}
}

func TestShow(t *testing.T) {
	file := writeFile(t, "policy.yaml", `{"cluster:get": "role:a and role:b", mine: "role:a"}`)
	var shown bytes.Buffer
	if err := load(t, Options{File: file}).WriteShow(&shown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\"cluster:get\": \"role:a and role:b\"  # set by the policy file\n",
		"\"mine\": \"role:a\"  # set by the policy file\n",
		"\"cluster:create\": \"rule:admin_or_project_member_deny_cluster_user or rule:deny_cluster_user\"\n",
	} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("not shown: %s", want)
		}
	}
	// What is shown can be loaded again and means the same.
	again := load(t, Options{File: writeFile(t, "shown.yaml", shown.String()), EnforceNewDefaults: true})
	if !again.Allow("cluster:create", caller("u", "p"), nil) {
		t.Error("the rules shown do not mean the same")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(`{"cluster:get": "role:a and not (user_id:%(user_id)s or 'x':%(y)s)"}`)
	f.Add(`{a: "rule:b", b: "rule:a"}`)
	f.Add(`a: "@"` + "\n" + `b: '!'`)
	f.Add(`{a: "is_admin:True AND True:%(public)s OR rule:cluster:get"}`)
	f.Add(`{a: ((((role:x))))}`)
	f.Add("a: &x role:y\nb: *x")
	who := caller("u", "p", "member")
	target := map[string]string{"project_id": "p", "user_id": "u"}
	f.Fuzz(func(t *testing.T, content string) {
		for _, isJSON := range []bool{false, true} {
			overlay, err := parseFile([]byte(content), isJSON)
			if err != nil {
				continue
			}
			rules, _, err := compile(overlay, true)
			if err != nil {
				continue
			}
			e := &Enforcer{}
			e.rules.Store(rules)
			for name := range rules.checks {
				e.Allow(name, who, target)
			}
		}
	})
}

// FuzzExpression checks that whatever parseExpression takes, goslo.policy
// reads too: its lexer leaks a goroutine when its parser gives up.
func FuzzExpression(f *testing.F) {
	f.Add("role:a and not (user_id:%(user_id)s or 'x':%(y)s)")
	f.Add("True:%(public)s OR rule:with:colons")
	f.Add("((@ and !))")
	f.Fuzz(func(t *testing.T, check string) {
		e, err := parseExpression(check)
		if err != nil {
			return
		}
		engine, err := goslo.NewEnforcer(map[string]string{"it": e.text})
		if err != nil {
			t.Fatalf("%q became %q: %v", check, e.text, err)
		}
		engine.Enforce("it", goslo.Context{Request: map[string]string{"y": "x"}})
	})
}

func BenchmarkAllow(b *testing.B) {
	e := load(b, Options{EnforceNewDefaults: true, EnforceScope: true})
	c := caller("ann", "p1", "member", "reader")
	target := map[string]string{"project_id": "p1", "user_id": "ann"}
	for _, rule := range []string{"cluster:create", "certificate:get", "quota:create"} {
		b.Run(rule, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Allow(rule, c, target)
			}
		})
	}
}

func BenchmarkNewCaller(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		caller("ann", "p1", "member", "reader")
	}
}

func ExampleEnforcer_Allow() {
	rules, err := Load(Options{EnforceNewDefaults: true, EnforceScope: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	ann := NewCaller(Credentials{UserID: "ann", ProjectID: "p1", Roles: []string{"reader"}})
	target := map[string]string{"project_id": "p1"}
	fmt.Println(rules.Allow("cluster:get", ann, target), rules.Allow("cluster:delete", ann, target))
	// Output: true false
}
