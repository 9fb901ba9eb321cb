// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// OpenStack's own acceptance tests of Magnum, as distributions ship them, pass:
// bays, baymodels, clusters, certificates, templates, services.
func TestTempestPlugin(t *testing.T) {
	if exec.Command(python, "-c", "import magnum_tempest_plugin").Run() != nil {
		const missing = "the tempest plugin is not there: apt-get install magnum-tempest-plugin"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	c := newCloud(t, "sqlite:///"+filepath.Join(t.TempDir(), "keelson.db"))
	dir := t.TempDir()
	accounts := ""
	for _, user := range []string{"admin", "demo"} {
		accounts += fmt.Sprintf("- {username: %[1]s, password: %[1]s, project_name: %[1]s, domain_name: Default, types: [%[1]s], roles: [%[1]s]}\n", user)
	}
	for name, text := range map[string]string{
		"accounts.yaml": accounts,
		"tempest.conf": `[oslo_concurrency]
lock_path = ` + dir + `/lock
[auth]
test_accounts_file = ` + dir + `/accounts.yaml
use_dynamic_credentials = false
admin_username = admin
admin_password = admin
admin_project_name = admin
admin_domain_name = Default
[identity]
auth_version = v3
uri_v3 = ` + c.keystone + `
[service_available]
nova = false
neutron = false
cinder = false
glance = false
swift = false
[magnum]
image_id = node
flavor_id = keelson.standard
master_flavor_id = keelson.standard
coe = swarm
copy_logs = false
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.CommandContext(t.Context(), python, "plugin.py", dir)
	run.Env = append(os.Environ(), "no_proxy=*", "PYTHONDONTWRITEBYTECODE=1")
	out, _ := run.CombinedOutput() // ends with 1 for the failures below, too
	passed := regexp.MustCompile(`(?m)^\S*\.(test_\w+)(?:\[.*\])? \.\.\. ok$`).FindAllStringSubmatch(string(out), -1)
	var failed []string
	for _, m := range regexp.MustCompile(`(?m)^(?:FAIL|ERROR): (\S+)`).FindAllStringSubmatch(string(out), -1) {
		failed = append(failed, m[1])
	}
	// Without a microversion it asks for a cluster of no nodes, which Magnum,
	// too, refuses before 1.10.
	if want := []string{"test_create_cluster_with_zero_nodes"}; !slices.Equal(failed, want) || len(passed) < 50 {
		t.Errorf("%d tests passed; failed are %s, want %s\n%s", len(passed), strings.Join(failed, " "), want, out)
	}
	t.Logf("%d tests passed", len(passed))
}
