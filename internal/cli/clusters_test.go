// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestClusterLife goes from the first template to a deleted cluster.
func TestClusterLife(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("life")

	made := p.run("create", "life", "--template", "swarm", "--nodes", "2", "--label", "a=b", "--wait", "-f", "json")
	if made.code != 0 {
		t.Fatalf("create: %+v", made)
	}
	var cluster struct {
		UUID, Status string
		NodeCount    int `json:"node_count"`
		Labels       map[string]string
	}
	if err := json.Unmarshal([]byte(made.out), &cluster); err != nil {
		t.Fatalf("create printed no JSON: %v\n%s", err, made.out)
	}
	if cluster.Status != "CREATE_COMPLETE" || cluster.NodeCount != 2 || cluster.Labels["a"] != "b" {
		t.Errorf("create made %+v", cluster)
	}

	if got := p.must("list", "-f", "value", "-c", "name", "-c", "status"); !strings.Contains(got, "life CREATE_COMPLETE\n") {
		t.Errorf("list printed %q", got)
	}
	if byName, byUUID := p.must("get", "life"), p.must("get", cluster.UUID); byName != byUUID || !strings.Contains(byName, cluster.UUID) {
		t.Errorf("by name and by uuid:\n%s%s", byName, byUUID)
	}
	var asYAML map[string]any
	if err := yaml.Unmarshal([]byte(p.must("get", "life", "-f", "yaml")), &asYAML); err != nil || asYAML["status"] != "CREATE_COMPLETE" || asYAML["node_count"] != 2 {
		t.Errorf("as YAML: %v %v", asYAML, err)
	}

	p.must("grow", "life", "--by", "2", "--wait")
	if got := p.field("life", "node_count"); got != "4" {
		t.Errorf("grown to %s nodes, want 4", got)
	}
	// Nodes leave only if somebody says so.
	p.fails(2, "from 4 to 1 nodes", "resize", "life", "--nodes", "1")
	if got := p.field("life", "node_count"); got != "4" {
		t.Errorf("resized without consent to %s", got)
	}
	p.must("resize", "life", "--nodes", "1", "--yes", "--wait")
	p.must("resize", "life", "--nodes", "1", "--yes", "--wait") // again
	if got := p.field("life", "node_count"); got != "1" {
		t.Errorf("resized to %s nodes, want 1", got)
	}
	p.must("upgrade", "life", "--template", "swarm", "--wait")

	p.fails(2, "add --yes", "delete", "life")
	p.fails(3, "could not be found", "delete", "life", "nobody", "--yes")
	if got := p.field("life", "status"); got != "UPDATE_COMPLETE" {
		t.Errorf("a delete that named an unknown cluster too made it %s", got)
	}
	p.must("delete", "life", "--yes", "--wait")
	p.fails(3, "keelson list", "get", "life")
	p.fails(3, "could not be found", "delete", "life", "--yes", "--wait")
}

// TestExitCodes says what scripts can rely on, and that the words help.
func TestExitCodes(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	for _, c := range []struct {
		code  int
		words string
		args  string
		env   []string
	}{
		{0, "", "version", nil},
		{0, "", "list", nil},
		{2, "keelson --help", "frobnicate", nil},
		{2, "unknown flag", "list --frobnicate", nil},
		{2, "keelson get wants CLUSTER", "get", nil},
		{2, "takes no argument", "list x", nil},
		{2, "table, json, yaml, value", "list -f xml", nil},
		{2, "no such field", "get nobody -c", nil}, // no value
		{2, "grows by 1 node or more", "grow x --by 0", nil},
		{2, "grows by 1 node or more", "grow x --by -1", nil},
		{2, "wants --nodes", "resize x", nil},
		{2, "KEY=VALUE", "create x --label nonsense", nil},
		{2, "shell is one of", "env x --shell nonsense", nil},
		{3, "keelson list", "get nobody", nil},
		{3, "keelson list", "grow nobody", nil},
		{3, "keelson list", "env nobody", nil},
		{3, "keelson templates", "create x --template nobody", nil},
		{3, "keelson templates", "templates nobody", nil},
		{6, "check user name", "list", []string{"OS_PASSWORD=wrong", "KEELSON_TOKEN_CACHE=off"}},
		{6, "check user name", "list", []string{"OS_PROJECT_NAME=wrong"}},
		{7, "can be reached", "list", []string{"OS_AUTH_URL=http://127.0.0.1:1/v3"}},
		{2, "openrc", "list", []string{"OS_AUTH_URL"}},
		{2, "OS_USERNAME", "list", []string{"OS_USERNAME"}},
		{2, "OS_PASSWORD", "list", []string{"OS_PASSWORD"}},
		{2, "not a URL", "list", []string{"OS_AUTH_URL=keystone"}},
		{2, "always verifies", "list", []string{"OS_INSECURE=true"}},
		{2, "clouds.yaml", "list --os-cloud nowhere", nil},
		{1, "catalog list", "list", []string{"OS_REGION_NAME=nowhere"}},
	} {
		if c.args == "get nobody -c" {
			c.words = "needs an argument"
		}
		p.with(c.env...).fails(c.code, c.words, strings.Fields(c.args)...)
	}
}

func TestAmbiguousName(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	one := strings.TrimSpace(p.must("create", "twin", "--template", "swarm", "-f", "value", "-c", "uuid", "--wait"))
	p.removed(one)
	two := strings.TrimSpace(p.must("create", "twin", "--template", "swarm", "-f", "value", "-c", "uuid", "--wait"))
	p.removed(two)
	for _, args := range [][]string{{"get", "twin"}, {"grow", "twin"}, {"delete", "twin", "--yes"}, {"env", "twin"}} {
		p.fails(2, one, args...)
		p.fails(2, two, args...)
	}
	p.must("get", two)
}

// TestWaiting ends as the operation ends, and can be left at any time.
func TestWaiting(t *testing.T) {
	p := somebodyElsewhere(t)
	p.template("swarm", "node")
	p.template("broken", "missing")
	p.removed("slow")
	p.cloud.hostAnswers(t, false)
	p.fails(5, "goes on", "create", "slow", "--template", "swarm", "--wait", "--timeout", "300ms")
	p.fails(1, "keelson get slow --wait", "credentials", "slow")

	waits := p.command("get", "slow", "--wait")
	var said strings.Builder
	waits.Stderr = &said
	p.cloud.seen()
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it waits", func() bool {
		p.cloud.mu.Lock()
		defer p.cloud.mu.Unlock()
		return len(p.cloud.requests) > 2
	})
	if err := waits.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = waits.Wait()
	if code := waits.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), "goes on") {
		t.Errorf("interrupted: code %d, %s", code, &said)
	}

	p.cloud.hostAnswers(t, true)
	p.must("get", "slow", "--wait")
	if got := p.field("slow", "status"); got != "CREATE_COMPLETE" {
		t.Errorf("in the end it is %s", got)
	}

	p.removed("bad")
	failed := p.run("create", "bad", "--template", "broken", "--wait")
	if failed.code != 4 || !strings.Contains(failed.err, "CREATE_FAILED") || !strings.Contains(failed.err, "missing") {
		t.Errorf("a create that failed: %+v", failed)
	}
	p.fails(4, "CREATE_FAILED", "get", "bad", "--wait")
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !check(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestPictureOnTerminal has the steps drawn where people see them, and results
// unspoilt where programs read them.
func TestPictureOnTerminal(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("seen")
	create := p.command("create", "seen", "--template", "swarm", "--nodes", "3", "--wait", "-f", "json", "-c", "name")
	terminal := newTerminal(t, 80, 24)
	var out strings.Builder
	create.Stdin, create.Stdout, create.Stderr = terminal.user, &out, terminal.user
	if err := create.Start(); err != nil {
		t.Fatal(err)
	}
	if err := create.Wait(); err != nil {
		t.Errorf("create: %v", err)
	}
	raw := terminal.text()
	if !strings.Contains(raw, "\x1b[") || !strings.Contains(raw, "create \x1b[1mseen") && !strings.Contains(raw, "create seen") {
		t.Errorf("no picture was drawn: %q", raw)
	}
	if got := out.String(); got != "{\n  \"name\": \"seen\"\n}\n" {
		t.Errorf("standard output is %q", got)
	}

	// NO_COLOR takes the colours, and a dumb terminal gets lines.
	show := p.with("NO_COLOR=1").command("list")
	show.Stdin, show.Stdout, show.Stderr = terminal.user, terminal.user, terminal.user
	if err := show.Run(); err != nil {
		t.Fatal(err)
	}
	if raw := terminal.text(); strings.Contains(raw, "\x1b") || !strings.Contains(raw, "CREATE_COMPLETE") {
		t.Errorf("with NO_COLOR: %q", raw)
	}
	show = p.command("list")
	show.Stdin, show.Stdout, show.Stderr = terminal.user, terminal.user, terminal.user
	if err := show.Run(); err != nil {
		t.Fatal(err)
	}
	if raw := terminal.text(); !strings.Contains(raw, "\x1b[32mCREATE_COMPLETE") {
		t.Errorf("without colours: %q", raw)
	}

	// Who is asked can say no.
	del := p.command("delete", "seen")
	del.Stdin, del.Stdout, del.Stderr = terminal.user, terminal.user, terminal.user
	if err := del.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.answer("Type yes to go on: ", "no")
	_ = del.Wait()
	if code := del.ProcessState.ExitCode(); code != 1 {
		t.Errorf("a delete that was not wanted: code %d", code)
	}
	if got := p.field("seen", "status"); got != "CREATE_COMPLETE" {
		t.Errorf("a delete that was not wanted made it %s", got)
	}
}

// TestQuotas come from the service.
func TestQuotas(t *testing.T) {
	p := somebody(t)
	if got := p.must("quotas", "-f", "value", "-c", "max_clusters", "-c", "clusters"); !regexp.MustCompile(`^20\n\d+\n$`).MatchString(got) {
		t.Errorf("quotas printed %q", got)
	}
}
