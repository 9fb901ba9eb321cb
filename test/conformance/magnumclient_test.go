// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/store/storetest"
)

// TestMagnumclient_19_2 goes through every `openstack coe` command of
// python-magnumclient 4.0.0, once as it should be used and once as it should
// not.
func TestMagnumclient_19_2(t *testing.T) {
	needsClients(t)
	storetest.EachEmpty(t, func(t *testing.T, database string) {
		c := newCloud(t, database)
		demo, admin := c.login("demo"), c.login("admin")
		everyCommandIsCovered(t)

		templates(demo, admin)
		clusters(demo)
		project := demo.show("cluster show c1")["project_id"].(string)
		nodeGroups(demo)
		certificates(demo)
		config(demo)
		statsAndServices(demo, admin, project)
		quotas(demo, admin, project)
		ends(demo)
	})
}

// commands are those of the client that the functions below use.
var commands = []string{
	"ca rotate", "ca show", "ca sign",
	"cluster config", "cluster create", "cluster delete", "cluster list", "cluster resize", "cluster show", "cluster update", "cluster upgrade",
	"cluster template create", "cluster template delete", "cluster template list", "cluster template show", "cluster template update",
	"nodegroup create", "nodegroup delete", "nodegroup list", "nodegroup show", "nodegroup update",
	"quotas create", "quotas delete", "quotas list", "quotas show", "quotas update",
	"service list", "stats list",
}

// everyCommandIsCovered compares our list with what the installed client has.
// Newer clients also rotate credentials, which this API does not have.
func everyCommandIsCovered(t *testing.T) {
	t.Helper()
	out, err := exec.Command(python, "-c", `
from importlib.metadata import distribution
for e in distribution("python-magnumclient").entry_points:
    if e.group == "openstack.container_infra.v1":
        print(e.name.replace("_", " ").removeprefix("coe "))`).Output()
	if err != nil {
		t.Fatal(err)
	}
	for command := range strings.Lines(string(out)) {
		if command = strings.TrimSpace(command); !slices.Contains(commands, command) && command != "credential rotate" {
			t.Errorf("openstack coe %s is not covered", command)
		}
	}
}

func templates(demo, admin *shell) {
	demo.Helper()
	made := demo.show("cluster template create swarm --coe swarm-mode --image node --external-network public --keypair key --flavor m1.medium" +
		" --docker-volume-size 5 --labels a=1,b=2 --tags one --master-lb-enabled")
	for name, want := range map[string]any{"name": "swarm", "coe": "swarm-mode", "network_driver": "docker", "tags": "one", "master_lb_enabled": true} {
		if made[name] != want {
			demo.Errorf("template: %s is %v, want %v", name, made[name], want)
		}
	}
	demo.ok("cluster template create k8s --coe kubernetes --image node --external-network public")
	demo.ok("cluster template create plain --coe swarm-mode --image node --external-network public --tls-disabled")
	if got := demo.show("cluster template show swarm"); got["uuid"] != made["uuid"] {
		demo.Errorf("template shown: %v", got)
	}
	if all := demo.list("cluster template list --sort-key name --sort-dir desc"); len(all) != 3 || all[0]["name"] != "swarm" {
		demo.Errorf("templates: %v", all)
	}
	if all := demo.list("cluster template list --limit 2"); len(all) != 2 {
		demo.Errorf("templates, two wanted: %v", all)
	}
	demo.ok("cluster template update swarm replace name=other labels=c=3 master_lb_enabled=False")
	got := demo.show("cluster template show other")
	if labels := got["labels"].(map[string]any); labels["c"] != "3" || len(labels) != 1 {
		demo.Errorf("labels: %v", labels)
	}
	demo.ok("cluster template update other add labels/d=4")
	demo.ok("cluster template update other remove tags")
	demo.ok("cluster template update other replace name=swarm")

	demo.fails("could not be found", "cluster template create bad --coe swarm-mode --image nowhere --external-network public")
	demo.fails("could not be found", "cluster template create bad --coe swarm-mode --image node --external-network nowhere")
	demo.fails("could not be found", "cluster template create bad --coe swarm-mode --image node --external-network public --flavor nowhere")
	demo.fails("not supported", "cluster template create bad --coe mesos --image node --external-network public")
	demo.fails("not supported", "cluster template create bad --coe swarm-mode --image node --external-network public --network-driver calico")
	demo.fails("HTTP 403", "cluster template create bad --coe swarm-mode --image node --external-network public --public")
	demo.fails("required", "cluster template create bad --coe swarm-mode")
	demo.fails("HTTP 404", "cluster template show nowhere")
	demo.fails("HTTP 404", "cluster template update nowhere replace name=x")
	demo.fails("mandatory", "cluster template update swarm remove coe")
	demo.fails("HTTP 403", "cluster template update swarm replace public=True")
	demo.fails("HTTP 400", "cluster template list --sort-key nonsense")
	demo.fails("could not be found", "cluster template delete nowhere")
	admin.ok("cluster template update swarm replace public=True")
	admin.ok("cluster template update swarm replace public=False")
	demo.ok("cluster template delete k8s")
}

func clusters(demo *shell) {
	demo.Helper()
	demo.ok("cluster create c1 --cluster-template swarm --node-count 1 --labels x=1 --merge-labels --timeout 30")
	demo.ok("cluster create c2 --cluster-template plain --keypair key --node-count 0 --flavor m1.medium --master-flavor m1.medium")
	demo.becomes("CREATE_COMPLETE", "cluster show c1")
	demo.becomes("CREATE_COMPLETE", "cluster show c2")
	got := demo.show("cluster show c1")
	if got["node_count"] != 1.0 || got["create_timeout"] != 30.0 || got["keypair"] != "key" || !strings.HasPrefix(got["api_address"].(string), "tcp://10.77.0.") {
		demo.Errorf("cluster: %v", got)
	}
	if labels := got["labels"].(map[string]any); labels["x"] != "1" || labels["c"] != "3" {
		demo.Errorf("labels: %v", labels)
	}
	if all := demo.list("cluster list --sort-key name --sort-dir desc --limit 1"); len(all) != 1 || all[0]["name"] != "c2" {
		demo.Errorf("clusters: %v", all)
	}

	demo.ok("cluster update c1 replace node_count=2")
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
	demo.ok("cluster update c1 replace health_status=HEALTHY", "health_status_reason=api=it's ok")
	got = demo.show("cluster show c1")
	if got["node_count"] != 2.0 || got["health_status"] != "HEALTHY" || got["health_status_reason"].(map[string]any)["api"] != "it's ok" {
		demo.Errorf("cluster after updates: %v", got)
	}
	leaves := got["node_addresses"].([]any)[0].(string)
	demo.ok("cluster resize c1 1 --nodes-to-remove " + leaves)
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
	if left := demo.show("cluster show c1")["node_addresses"].([]any); len(left) != 1 || left[0] == leaves {
		demo.Errorf("left after %s was to go: %v", leaves, left)
	}

	demo.fails("could not be found", "cluster create bad --cluster-template nowhere")
	demo.fails("must match", "cluster create 1bad --cluster-template swarm")
	demo.fails("could not be found", "cluster create bad --cluster-template swarm --flavor nowhere")
	demo.fails("HTTP 400", "cluster create bad --cluster-template swarm --master-count 0")
	demo.fails("HTTP 400", "cluster create bad --cluster-template plain --master-count 3") // without a load balancer
	demo.fails("HTTP 404", "cluster show nowhere")
	demo.fails("not possible to change", "cluster update c1 replace name=other")
	demo.fails("HTTP 404", "cluster update nowhere replace node_count=1")
	demo.fails("HTTP 404", "cluster resize nowhere 1")
	demo.fails("HTTP 404", "cluster resize c1 1 --nodegroup nowhere")
	demo.fails("role is master", "cluster resize c1 1 --nodegroup default-master")
	demo.fails("HTTP 400", "cluster list --sort-key nonsense")
	demo.fails("HTTP 404", "cluster upgrade c1 nowhere")
	demo.fails("HTTP 404", "cluster upgrade nowhere swarm")
	demo.fails("HTTP 404", "cluster upgrade c1 swarm --nodegroup nowhere")
	demo.ok("cluster upgrade c1 plain --max-batch-size 2")
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
	if now := demo.show("cluster show c1")["cluster_template_id"]; now == got["cluster_template_id"] {
		demo.Errorf("template after the upgrade: %v", now)
	}
	demo.ok("cluster upgrade c1 swarm")
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
	demo.fails("used by", "cluster template delete swarm")
	demo.fails("could not be found", "cluster delete nowhere")
}

func nodeGroups(demo *shell) {
	demo.Helper()
	demo.ok("nodegroup create c1 gpu --node-count 2 --min-nodes 1 --max-nodes 3 --role gpu --labels g=1 --merge-labels --docker-volume-size 6 --flavor m1.medium --image node")
	demo.becomes("CREATE_COMPLETE", "nodegroup show c1 gpu")
	got := demo.show("nodegroup show c1 gpu")
	if labels := got["labels"].(map[string]any); got["role"] != "gpu" || got["max_node_count"] != 3.0 || labels["g"] != "1" || labels["x"] != "1" || len(got["node_addresses"].([]any)) != 2 {
		demo.Errorf("node group: %v", got)
	}
	if all := demo.list("nodegroup list c1 --sort-key name"); len(all) != 3 || all[2]["name"] != "gpu" || all[2]["node_count"] != 2.0 {
		demo.Errorf("node groups: %v", all)
	}
	if all := demo.list("nodegroup list c1 --role gpu --limit 5"); len(all) != 1 {
		demo.Errorf("node groups of the role gpu: %v", all)
	}
	if n := demo.show("cluster show c1")["node_count"]; n != 3.0 {
		demo.Errorf("the cluster has %v nodes, want 3", n)
	}
	demo.ok("nodegroup update c1 gpu replace max_node_count=5 min_node_count=0")
	demo.becomes("UPDATE_COMPLETE", "nodegroup show c1 gpu")
	demo.ok("nodegroup update c1 gpu remove max_node_count")
	demo.becomes("UPDATE_COMPLETE", "nodegroup show c1 gpu")
	demo.ok("cluster resize c1 1 --nodegroup gpu")
	demo.becomes("UPDATE_COMPLETE", "nodegroup show c1 gpu")
	got = demo.show("nodegroup show c1 gpu")
	if got["max_node_count"] != nil || got["min_node_count"] != 0.0 || got["node_count"] != 1.0 {
		demo.Errorf("node group after its updates: %v", got)
	}

	demo.fails("already exists", "nodegroup create c1 gpu")
	demo.fails("HTTP 404", "nodegroup create nowhere gpu")
	demo.fails("role master", "nodegroup create c1 more --role master")
	demo.fails("HTTP 409", "nodegroup create c1 more --node-count 4 --max-nodes 3")
	demo.fails("HTTP 404", "nodegroup show c1 nowhere")
	demo.fails("HTTP 404", "nodegroup list nowhere")
	demo.fails("internal attribute", "nodegroup update c1 gpu replace node_count=2")
	demo.fails("HTTP 409", "nodegroup update c1 gpu replace min_node_count=9")
	demo.fails("default", "nodegroup delete c1 default-worker")
	demo.fails("could not be found", "nodegroup delete c1 nowhere")

	demo.ok("nodegroup delete c1 gpu")
	demo.becomes("gone", "nodegroup show c1 gpu")
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
}

func certificates(demo *shell) {
	demo.Helper()
	ca := demo.ok("ca show c1")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		demo.Errorf("ca show prints %s", ca)
	}
	dir := demo.TempDir()
	csr := filepath.Join(dir, "client.csr")
	// Old, short and without extensions: what clients send is signed.
	request := exec.Command("openssl", "req", "-new", "-newkey", "rsa:1024", "-sha1", "-nodes", "-subj", "/CN=me", "-keyout", filepath.Join(dir, "key.pem"), "-out", csr)
	if out, err := request.CombinedOutput(); err != nil {
		demo.Fatalf("openssl: %v\n%s", err, out)
	}
	if signed := demo.ok("ca sign c1 " + csr); !strings.HasPrefix(signed, "-----BEGIN CERTIFICATE-----") {
		demo.Errorf("ca sign prints %s", signed)
	}
	junk := filepath.Join(dir, "junk.csr")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		demo.Fatal(err)
	}
	demo.fails("HTTP 400", "ca sign c1 "+junk)
	demo.fails("HTTP 404", "ca show nowhere")
	demo.fails("HTTP 404", "ca sign nowhere "+csr)
	demo.fails("HTTP 404", "ca rotate nowhere")
	before := demo.ok("ca show c1")
	demo.ok("ca rotate c1")
	demo.becomes("UPDATE_COMPLETE", "cluster show c1")
	if demo.ok("ca show c1") == before {
		demo.Errorf("the CA after the rotation is the old one")
	}
	demo.fails("TLS disabled", "ca rotate c2")
}

var environment = regexp.MustCompile(`^export DOCKER_HOST=tcp://10\.77\.0\.\d+:2376
export DOCKER_CERT_PATH=(.*)
export DOCKER_TLS_VERIFY=(.*)

$`)

func config(demo *shell) {
	demo.Helper()
	dir := demo.TempDir()
	printed := environment.FindStringSubmatch(demo.ok("cluster config c1 --output-certs --dir " + dir))
	if printed == nil || printed[1] != dir || printed[2] != "True" {
		demo.Errorf("cluster config prints %q", printed)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		demo.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		demo.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		demo.Errorf("the certificate is not the CA's: %v", err)
	}
	demo.fails("exists, aborting", "cluster config c1 --output-certs --dir "+dir)
	demo.ok("cluster config c1 --output-certs --force --dir " + dir)
	demo.fails("HTTP 404", "cluster config nowhere --dir "+dir)
	if printed := environment.FindStringSubmatch(demo.ok("cluster config c2 --dir " + dir)); printed == nil || printed[2] != "" {
		demo.Errorf("cluster config without TLS prints %q", printed)
	}
}

func statsAndServices(demo, admin *shell, project string) {
	demo.Helper()
	stats := demo.ok("stats list " + project)
	for _, want := range []string{`clusters *\| 2 `, `nodes *\| 3 `} { // c1: 1 + 1, c2: 1 + 0
		if !regexp.MustCompile(want).MatchString(stats) {
			demo.Errorf("stats without %q:\n%s", want, stats)
		}
	}
	demo.fails("HTTP 403", "stats list another")
	admin.ok("stats list " + project)
	if all := admin.list("service list"); len(all) != 1 || all[0]["binary"] != "magnum-conductor" || all[0]["state"] != "up" {
		demo.Errorf("services: %v", all)
	}
	demo.fails("HTTP 403", "service list")
}

func quotas(demo, admin *shell, project string) {
	demo.Helper()
	mine := " --project-id " + project + " --resource Cluster"
	limitIs := func(want string) {
		demo.Helper()
		if got := demo.ok("quotas show" + mine); !regexp.MustCompile(`hard_limit *\| ` + want + ` `).MatchString(got) {
			demo.Errorf("quota, %s wanted:\n%s", want, got)
		}
	}
	limitIs("20") // the configured one
	admin.ok("quotas create --hard-limit 2" + mine)
	limitIs("2")
	demo.fails("quota", "cluster create bad --cluster-template swarm")
	if all := admin.ok("quotas list --all-tenants"); !strings.Contains(all, project) {
		demo.Errorf("quotas:\n%s", all)
	}
	if own := admin.ok("quotas list"); strings.Contains(own, project) {
		demo.Errorf("quotas of the admin's own project:\n%s", own)
	}
	admin.ok("quotas update --hard-limit 9" + mine)
	limitIs("9")
	admin.fails("HTTP 409", "quotas create"+mine)
	admin.fails("HTTP 404", "quotas create --project-id nowhere --resource Cluster")
	admin.fails("HTTP 400", "quotas create --hard-limit -1"+mine)
	admin.fails("HTTP 404", "quotas update --project-id nowhere --resource Cluster --hard-limit 1")
	admin.fails("", "quotas delete --project-id nowhere --resource Cluster")
	admin.ok("quotas delete" + mine)
	for _, command := range []string{"quotas create", "quotas update --hard-limit 3", "quotas delete"} {
		demo.fails("HTTP 403", command+mine)
	}
	demo.fails("HTTP 403", "quotas list")
	demo.fails("HTTP 403", "quotas show --project-id another --resource Cluster")
}

func ends(demo *shell) {
	demo.Helper()
	demo.ok("cluster delete c1 c2")
	demo.becomes("gone", "cluster show c1")
	demo.becomes("gone", "cluster show c2")
	demo.ok("cluster template delete swarm plain")
	if all := demo.list("cluster template list"); len(all) != 0 {
		demo.Errorf("templates left: %v", all)
	}
}
