// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// run calls keelsond with a configuration that names nothing which is there:
// no database, no broker.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return runWith(t, "plugin_dir =", args...)
}

// runWith does so with lines of the section [drivers].
func runWith(t *testing.T, options string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "keelson.conf")
	must(t, os.WriteFile(file, []byte("[DEFAULT]\nstate_path = "+dir+"\n[database]\nconnection = mysql://nobody:secret@127.0.0.1:1/none\n[drivers]\nenabled = swarm,kubernetes\n"+options+"\n"), 0o600))
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"--config-file", file, "--config-dir", t.TempDir()}, args...))
	err := root.ExecuteContext(t.Context())
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("the command left files behind: %v", left)
	}
	return out.String(), err
}

func TestPlanOfAStub(t *testing.T) {
	out, err := run(t, "driver", "plan", "--coe", "kubernetes", "--distro", "debian", "--name", "Blue")
	must(t, err)
	want := `
create by the driver kubernetes 0.2: 2 nodes, 10 steps
The API refuses such a cluster: Cluster type (vm, debian, kubernetes) not supported. The driver kubernetes is a stub: it validates and plans clusters but makes none.

NODE           NODE GROUP      ROLE    STATE
blue-master-0  default-master  master  wanted
blue-worker-0  default-worker  worker  wanted

#   STEP                NODE           AFTER
1   certificates        -              -
2   node.place          blue-master-0  -
3   node.start          blue-master-0  1, 2
4   kubernetes.init     blue-master-0  3
5   kubernetes.network  -              4
6   node.place          blue-worker-0  -
7   node.start          blue-worker-0  1, 6
8   kubernetes.join     blue-worker-0  5, 7
9   kubernetes.ready    -              1, 5, 8
10  cluster.record      -              9
`
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(out)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The API's own objects say what is planned: those that it shows, and those
// that people write.
func TestPlanOfFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	template := file("template.json", `{"uuid": "5d5a3c3a-0000-4000-8000-000000000001", "name": "small", "coe": "swarm-mode", "image_id": "debian-12",
		"flavor_id": null, "network_driver": "docker", "labels": {"swarm_strategy": "spread"}, "server_type": "vm", "tls_disabled": false,
		"links": [{"href": "http://192.0.2.1/v1/clustertemplates/small", "rel": "self"}], "created_at": "2026-11-23T03:44:46+00:00", "updated_at": null}`)
	cluster := file("cluster.yaml", "name: harbour\nmaster_count: 1\nnode_count: 2\nlabels:\n  team: 7\n  spare: true\n")
	group := file("gpu.yaml", "name: gpu\nrole: gpu\nnode_count: 1\n")

	var got planned
	out, err := run(t, "driver", "plan", "--template", template, "--cluster", cluster, "--nodegroup", group, "--operation", "update", "--from-node-count", "3", "-f", "json")
	must(t, err)
	must(t, json.Unmarshal([]byte(out), &got))
	if diff := cmp.Diff([]plannedNode{
		{"harbour-master-0", "default-master", "master", "ready"},
		{"harbour-worker-0", "default-worker", "worker", "ready"},
		{"harbour-worker-1", "default-worker", "worker", "ready"},
		{"harbour-worker-2", "default-worker", "worker", "leaving"},
		{"harbour-gpu-0", "gpu", "gpu", "ready"},
	}, got.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	var steps []string
	for _, s := range got.Steps {
		steps = append(steps, strings.TrimSpace(s.Name+" "+s.Node))
	}
	want := []string{"certificates", "swarm.ready", "swarm.drain harbour-worker-2", "swarm.remove harbour-worker-2", "node.delete harbour-worker-2", "cluster.record"}
	if diff := cmp.Diff(want, steps); diff != "" || got.Driver != "swarm" || got.Stub || got.Refused != "" {
		t.Errorf("%s %+v (-want +got):\n%s", got.Driver, got.Steps, diff)
	}

	for text, says := range map[string]string{
		"coe: swarm-mode\nnode_cuont: 3\n": `unknown field "node_cuont"`,
		"coe: [swarm]\n":                   "cannot unmarshal array",
		"- coe\n":                          "cannot unmarshal",
		"coe: mesos\n":                     "Cluster type (vm, None, mesos) not supported.",
		"labels: {}\n":                     "say which COE",
		"coe: kubernetes\nlabels: {kube_dashboard_enabled: perhaps}\n":   "label kube_dashboard_enabled: \"perhaps\" is neither true nor false",
		"coe: swarm-mode\ntls_disabled: true\n":                          "tls_disabled is not supported",
		"coe: swarm-mode\nserver_type: lxc\n":                            "not supported",
		"coe: kubernetes\ndriver: swarm\n":                               "not supported",
		"coe: kubernetes\ndriver: nomad\n":                               `driver "nomad" is not loaded`,
		"coe: kubernetes\nlabels: {min_node_count: 4, kube_tag: main}\n": "label kube_tag",
	} {
		out, err := run(t, "driver", "plan", "--template", file("wrong.yaml", text))
		if err == nil || !strings.Contains(err.Error(), says) || out != "" {
			t.Errorf("%q: %v, %s", text, err, out)
		}
	}
}

func TestPlanOfEachOperation(t *testing.T) {
	for args, says := range map[string]string{
		"--coe swarm-mode --operation upgrade":                                          "node.rebuild",
		"--coe swarm-mode --operation rotate-ca":                                        "swarm.rotate",
		"--coe swarm-mode --operation rebuild":                                          "node.rebuild",
		"--coe swarm-mode --operation delete":                                           "node.delete",
		"--coe swarm-mode --operation create --undo":                                    "node.delete",
		"--coe kubernetes --operation update --from-master-count 3 --from-node-count 1": "kubernetes.remove",
	} {
		out, err := run(t, append([]string{"driver", "plan"}, strings.Fields(args)...)...)
		if err != nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	for args, says := range map[string]string{
		"--coe kubernetes --operation upgrade":    `the driver kubernetes plans no operation "upgrade", only create, update, delete`,
		"--coe swarm-mode --operation evaporate":  "plans no operation",
		"--coe swarm-mode --master-count 2":       "the driver swarm refuses the cluster: master_count 2 is not supported",
		"--coe swarm-mode --label blue":           `--label "blue": it must be key=value`,
		"--coe swarm-mode --format yaml":          `--format "yaml": it must be`,
		"--coe swarm-mode --cluster /nonexistent": "no such file",
	} {
		if out, err := run(t, append([]string{"driver", "plan"}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
