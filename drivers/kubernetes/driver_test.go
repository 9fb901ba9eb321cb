// SPDX-License-Identifier: Apache-2.0

package kubernetes_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/kubernetes"
)

func template(change func(*drivers.Template)) *drivers.Template {
	t := &drivers.Template{COE: "kubernetes", ServerType: "vm", Distro: "debian", Labels: map[string]string{}}
	change(t)
	return t
}

func plain(*drivers.Template) {}

// The part of the suite that needs no COE: the driver says that it is a stub.
func TestConformance(t *testing.T) {
	if !kubernetes.New().Info().Stub {
		t.Fatal("not a stub any more: give the suite machines and a COE")
	}
	conformance.Run(t, conformance.Suite{
		New:      func() drivers.Driver { return kubernetes.New() },
		Template: *template(plain),
	})
}

func TestTemplates_4_4_Kubernetes(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*drivers.Template)
		refused string // all of the refusal, empty: accepted
	}{
		"plain":          {plain, ""},
		"calico":         {func(t *drivers.Template) { t.NetworkDriver = "calico" }, ""},
		"flannel on bm":  {func(t *drivers.Template) { t.NetworkDriver, t.ServerType = "flannel", "bm" }, ""},
		"cinder":         {func(t *drivers.Template) { t.VolumeDriver = "cinder" }, ""},
		"without TLS":    {func(t *drivers.Template) { t.TLSDisabled = true }, ""},
		"docker network": {func(t *drivers.Template) { t.NetworkDriver = "docker" }, `network_driver "docker" is not supported for kubernetes: use flannel or calico`},
		"rexray":         {func(t *drivers.Template) { t.VolumeDriver = "rexray" }, `volume_driver "rexray" is not supported for kubernetes: use cinder`},
		"other server":   {func(t *drivers.Template) { t.ServerType = "lxc" }, `server_type "lxc" is not supported for kubernetes: use vm or bm`},
		"no server":      {func(t *drivers.Template) { t.ServerType = "" }, `server_type "" is not supported for kubernetes: use vm or bm`},
		"another's COE":  {func(t *drivers.Template) { t.COE = "swarm" }, `coe "swarm" is not supported for kubernetes: use kubernetes`},
	} {
		text := ""
		if err := kubernetes.New().ValidateTemplate(template(tt.change)); err != nil {
			text = err.Error()
		}
		if text != tt.refused {
			t.Errorf("%s: %q, want %q", name, text, tt.refused)
		}
	}
}

// A label whose value has no meaning is refused with its name and its rule, on
// templates, clusters and node groups alike.
func TestLabels(t *testing.T) {
	for label, values := range map[string]struct{ good, bad, says string }{
		"kube_tag":                  {"v1.27.8|1.18.2|v1.27.8-rancher2|", "latest|v1.27|v1.2.3 4", "release of Kubernetes like v1.27.8"},
		"etcd_tag":                  {"v3.4.6|3.2.26", "v3 4|:latest", "the tag of a container image"},
		"flannel_backend":           {"udp|vxlan|host-gw|", "ipip|VXLAN", "not one of udp, vxlan, host-gw"},
		"flannel_network_cidr":      {"10.100.0.0/16|172.20.0.0/14", "10.100.0.0|10.100.0.1/16|fd00::/64|all", "IPv4 network"},
		"flannel_network_subnetlen": {"24|26", "16|31|-1|many", "flannel_network_subnetlen"},
		"service_cluster_ip_range":  {"10.255.0.0/16|172.30.0.0/16", "10.254.0.0/33|10.100.4.0/24", "service_cluster_ip_range"},
		"calico_ipv4pool_ipip":      {"Always|CrossSubnet|Never|Off", "always", "Always, CrossSubnet, Never, Off"},
		"kube_dashboard_enabled":    {"true|True|1|no|OFF", "2|maybe", "neither true nor false"},
		"etcd_volume_size":          {"0|10", "-1|1.5|big", "whole number"},
		"min_node_count":            {"0|3", "-1|some", "whole number"},
		"ingress_controller":        {"traefik|octavia|nginx", "haproxy", "traefik, octavia, nginx"},
		"auto_healing_controller":   {"draino|magnum-auto-healer", "keelson", "draino, magnum-auto-healer"},
		"container_runtime":         {"containerd|", "rkt", "containerd"},
		"cgroup_driver":             {"systemd|cgroupfs", "cgroupv2", "systemd, cgroupfs"},
		"selinux_mode":              {"enforcing|permissive|disabled", "off", "enforcing, permissive, disabled"},
		"master_lb_allowed_cidrs":   {"192.168.0.0/16,10.0.0.0/24|192.168.0.0/16, 10.0.0.0/24", "10.0.0.0/24,|everybody", "IPv4 network"},
		"admission_control_list":    {"NodeRestriction,PodSecurity", "NodeRestriction;PodSecurity", "list of names"},
		"containerd_tarball_url":    {"https://mirror.example/containerd.tar.gz", "mirror.example|file:///etc/shadow", "URL"},
		"helm_client_sha256":        {strings.Repeat("0a", 32), "018f", "64 hexadecimal digits"},
		"octavia_provider":          {"amphora|ovn", "haproxy", "amphora, ovn"},
		"team":                      {"blue|Green| |", "", ""}, // anybody's own
	} {
		for good := range strings.SplitSeq(values.good, "|") {
			tmpl := template(func(t *drivers.Template) { t.Labels[label] = good })
			if err := kubernetes.New().ValidateTemplate(tmpl); err != nil {
				t.Errorf("%s=%s: %v", label, good, err)
			}
		}
		for bad := range strings.FieldsFuncSeq(values.bad, func(r rune) bool { return r == '|' }) {
			labels := map[string]string{label: bad}
			of := func(err error) string {
				if err == nil {
					return ""
				}
				return err.Error()
			}
			masters := drivers.NodeGroup{Name: "default-master", Role: "master", NodeCount: 1}
			workers := drivers.NodeGroup{Name: "gpu", Role: "worker", NodeCount: 1, Labels: labels}
			for where, says := range map[string]string{
				"template":   of(kubernetes.New().ValidateTemplate(template(func(t *drivers.Template) { t.Labels = labels }))),
				"cluster":    of(kubernetes.New().ValidateCluster(template(plain), &drivers.Cluster{Labels: labels}, []drivers.NodeGroup{masters})),
				"node group": of(kubernetes.New().ValidateCluster(template(plain), &drivers.Cluster{}, []drivers.NodeGroup{masters, workers})),
			} {
				if !strings.Contains(says, "label "+label+": ") || !strings.Contains(says, values.says) {
					t.Errorf("%s=%s on a %s: %q, want the label's name and %q", label, bad, where, says, values.says)
				}
			}
		}
	}
}

func TestLabelsThatExcludeEachOther(t *testing.T) {
	for _, tt := range []struct {
		network, labels, refused string
	}{
		{"", "min_node_count=2,max_node_count=2", ""},
		{"", "min_node_count=3,max_node_count=2", "label min_node_count: 3 is more than max_node_count, which is 2"},
		{"flannel", "flannel_network_cidr=10.0.0.0/8", "label service_cluster_ip_range: the services' 10.254.0.0/16 overlaps 10.0.0.0/8, the network of pods (label flannel_network_cidr)"},
		{"calico", "flannel_network_cidr=10.0.0.0/8", ""},
		{"calico", "calico_ipv4pool=10.254.8.0/24", "label service_cluster_ip_range: the services' 10.254.0.0/16 overlaps 10.254.8.0/24, the network of pods (label calico_ipv4pool)"},
		{"", "flannel_network_cidr=172.16.0.0/20,flannel_network_subnetlen=20", "label flannel_network_subnetlen: /20 is no part of 172.16.0.0/20: it must be more than 20"},
		{"", "flannel_network_cidr=172.16.0.0/20,flannel_network_subnetlen=21", ""},
	} {
		tmpl := template(func(t *drivers.Template) { t.NetworkDriver = tt.network })
		for pair := range strings.SplitSeq(tt.labels, ",") {
			name, value, _ := strings.Cut(pair, "=")
			tmpl.Labels[name] = value
		}
		text := ""
		if err := kubernetes.New().ValidateTemplate(tmpl); err != nil {
			text = err.Error()
		}
		if text != tt.refused {
			t.Errorf("%s %s: %q, want %q", tt.network, tt.labels, text, tt.refused)
		}
	}
}

// What is wrong with a cluster is said first; a cluster that is right is
// refused with Magnum's words and the reason.
func TestClustersAreRefused(t *testing.T) {
	for masters, says := range map[int]string{
		0: "master_count 0 is not supported", 2: "master_count 2 is not supported", 9: "master_count 9 is not supported",
		3: "Cluster type (vm, debian, kubernetes) not supported. The driver kubernetes is a stub: it validates and plans clusters but makes none.",
	} {
		groups := []drivers.NodeGroup{{Name: "default-master", Role: "master", NodeCount: masters}, {Name: "default-worker", Role: "worker", NodeCount: 2}}
		err := kubernetes.New().ValidateCluster(template(plain), &drivers.Cluster{}, groups)
		if err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%d masters: %v", masters, err)
		}
	}
}

// The plan is kubeadm's way: one control plane, etcd's members one by one,
// workers when there is a network for pods, and leaving nodes at last.
func TestThePlan(t *testing.T) {
	cloud := conformance.NewCloud(t, conformance.NewMemory(), *template(plain))
	cloud.Resize(3, 2)
	want := `
certificates <
node.place blue-master-0 <
node.start blue-master-0 < certificates, node.place blue-master-0
kubernetes.init blue-master-0 < node.start blue-master-0
kubernetes.network < kubernetes.init blue-master-0
node.place blue-master-1 <
node.start blue-master-1 < certificates, node.place blue-master-1
kubernetes.join blue-master-1 < node.start blue-master-1, kubernetes.network
node.place blue-master-2 <
node.start blue-master-2 < certificates, node.place blue-master-2
kubernetes.join blue-master-2 < node.start blue-master-2, kubernetes.join blue-master-1
node.place blue-worker-0 <
node.start blue-worker-0 < certificates, node.place blue-worker-0
kubernetes.join blue-worker-0 < node.start blue-worker-0, kubernetes.network
node.place blue-worker-1 <
node.start blue-worker-1 < certificates, node.place blue-worker-1
kubernetes.join blue-worker-1 < node.start blue-worker-1, kubernetes.network
kubernetes.ready < certificates, kubernetes.network, kubernetes.join blue-master-1, kubernetes.join blue-master-2, kubernetes.join blue-worker-0, kubernetes.join blue-worker-1
cluster.record < kubernetes.ready
`
	if diff := cmp.Diff(strings.TrimSpace(want), planned(t, cloud, drivers.Create)); diff != "" {
		t.Errorf("create (-want +got):\n%s", diff)
	}
	for _, n := range cloud.Nodes() {
		if err := cloud.Job(drivers.Operation{}).Services.Records.Joined(t.Context(), n.ID, "kube-"+n.ID); err != nil {
			t.Fatal(err)
		}
	}
	cloud.Resize(1, 3)
	want = `
certificates <
node.place blue-worker-2 <
node.start blue-worker-2 < certificates, node.place blue-worker-2
kubernetes.join blue-worker-2 < node.start blue-worker-2
kubernetes.ready < certificates, kubernetes.join blue-worker-2
kubernetes.drain blue-master-1 < kubernetes.ready
kubernetes.remove blue-master-1 < kubernetes.drain blue-master-1, kubernetes.ready
node.delete blue-master-1 < kubernetes.remove blue-master-1
kubernetes.drain blue-master-2 < kubernetes.ready
kubernetes.remove blue-master-2 < kubernetes.drain blue-master-2, kubernetes.remove blue-master-1
node.delete blue-master-2 < kubernetes.remove blue-master-2
cluster.record < kubernetes.ready, node.delete blue-master-1, node.delete blue-master-2
`
	if diff := cmp.Diff(strings.TrimSpace(want), planned(t, cloud, drivers.Update)); diff != "" {
		t.Errorf("update (-want +got):\n%s", diff)
	}
}

// planned writes a plan down, a line for each step and what it needs.
func planned(t *testing.T, cloud *conformance.Cloud, kind string) string {
	t.Helper()
	job := cloud.Job(cloud.Operation(kind))
	plan, err := kubernetes.New().Plan(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	name := func(key drivers.StepKey) string {
		if n := job.Node(key.NodeID); n != nil {
			return key.Name + " " + n.Name
		}
		return key.Name
	}
	var lines []string
	for _, step := range plan {
		var needs []string
		for _, need := range step.Needs {
			needs = append(needs, name(need))
		}
		lines = append(lines, strings.TrimSpace(name(step.Key())+" < "+strings.Join(needs, ", ")))
	}
	return strings.Join(lines, "\n")
}

func TestARealDriverGoesFirst(t *testing.T) {
	other := fake.New(fake.NewCOE(), "kubernetes")
	registry := drivers.NewRegistry(kubernetes.New(), other)
	d, err := registry.For(template(plain))
	if err != nil || d.Info().Name != "fake" {
		t.Errorf("got %v, %v", d, err)
	}
	d, err = drivers.NewRegistry(kubernetes.New()).For(template(plain))
	if err != nil || !d.Info().Stub {
		t.Errorf("got %v, %v", d, err)
	}
}
