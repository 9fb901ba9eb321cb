// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule refuses a value of a label; its text ends the sentence "label x: ".
type rule func(value string) error

// labelRules are Magnum's labels for Kubernetes whose values can be wrong, as
// its user guide lists them ("ClusterTemplate", "Kubernetes"). All other
// labels are free: tenants and operators put their own on clusters. An empty
// value means the default, as in Magnum.
var labelRules = map[string]rule{
	"admission_control_list":           list(word),
	"auto_healing_controller":          oneOf("draino", "magnum-auto-healer"),
	"auto_healing_enabled":             boolean,
	"auto_scaling_enabled":             boolean,
	"autoscaler_tag":                   tag,
	"boot_volume_size":                 whole,
	"calico_ipv4pool":                  network,
	"calico_ipv4pool_ipip":             oneOf("Always", "CrossSubnet", "Never", "Off"),
	"calico_tag":                       tag,
	"cert_manager_api":                 boolean,
	"cgroup_driver":                    oneOf("systemd", "cgroupfs"),
	"cinder_csi_enabled":               boolean,
	"cinder_csi_plugin_tag":            tag,
	"cloud_provider_enabled":           boolean,
	"cloud_provider_tag":               tag,
	"container_runtime":                oneOf("containerd", "host-docker"),
	"containerd_tarball_sha256":        sha256,
	"containerd_tarball_url":           download,
	"containerd_version":               tag,
	"coredns_tag":                      tag,
	"etcd_tag":                         tag,
	"etcd_volume_size":                 whole,
	"fixed_subnet_cidr":                network,
	"flannel_backend":                  oneOf("udp", "vxlan", "host-gw"),
	"flannel_cni_tag":                  tag,
	"flannel_network_cidr":             network,
	"flannel_network_subnetlen":        between(8, 30),
	"flannel_tag":                      tag,
	"heapster_enabled":                 boolean,
	"helm_client_sha256":               sha256,
	"helm_client_tag":                  tag,
	"helm_client_url":                  download,
	"influx_grafana_dashboard_enabled": boolean,
	"ingress_controller":               oneOf("traefik", "octavia", "nginx"),
	"keystone_auth_enabled":            boolean,
	"kube_dashboard_enabled":           boolean,
	"kube_dashboard_version":           tag,
	"kube_tag":                         release,
	"master_lb_allowed_cidrs":          list(network),
	"master_lb_floating_ip_enabled":    boolean,
	"max_node_count":                   whole,
	"metrics_server_enabled":           boolean,
	"min_node_count":                   whole,
	"monitoring_enabled":               boolean,
	"npd_enabled":                      boolean,
	"octavia_lb_algorithm":             oneOf("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"),
	"octavia_lb_healthcheck":           boolean,
	"octavia_provider":                 oneOf("amphora", "ovn"),
	"prometheus_adapter_enabled":       boolean,
	"prometheus_monitoring":            boolean,
	"selinux_mode":                     oneOf("enforcing", "permissive", "disabled"),
	"service_cluster_ip_range":         network,
	"tiller_enabled":                   boolean,
	"use_podman":                       boolean,
}

// validateLabels holds each label against its rule, and those that belong
// together against each other.
func validateLabels(networkDriver string, labels map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		check, known := labelRules[name]
		if !known || labels[name] == "" {
			continue
		}
		if err := check(labels[name]); err != nil {
			return fmt.Errorf("label %s: %w", name, err)
		}
	}
	if err := checkCounts(labels); err != nil {
		return err
	}
	return checkNetworks(networkDriver, labels)
}

// checkCounts refuses bounds that exclude each other.
func checkCounts(labels map[string]string) error {
	least, _ := strconv.Atoi(labels["min_node_count"])
	most, err := strconv.Atoi(labels["max_node_count"])
	if err == nil && least > most {
		return fmt.Errorf("label min_node_count: %d is more than max_node_count, which is %d", least, most)
	}
	return nil
}

// checkNetworks refuses pods and services that would share addresses, and a pod
// network that can not be split into those of the nodes.
func checkNetworks(networkDriver string, labels map[string]string) error {
	pods := "flannel_network_cidr"
	if networkDriver == "calico" {
		pods = "calico_ipv4pool"
	}
	ofPods := prefix(labels[pods], defaultPods)
	if ofServices := prefix(labels["service_cluster_ip_range"], defaultServices); ofPods.Overlaps(ofServices) {
		return fmt.Errorf("label service_cluster_ip_range: the services' %s overlaps %s, the network of pods (label %s)", ofServices, ofPods, pods)
	}
	if length, err := strconv.Atoi(labels["flannel_network_subnetlen"]); err == nil && pods == "flannel_network_cidr" && length <= ofPods.Bits() {
		return fmt.Errorf("label flannel_network_subnetlen: /%d is no part of %s: it must be more than %d", length, ofPods, ofPods.Bits())
	}
	return nil
}

// Magnum's defaults.
var (
	defaultPods     = netip.MustParsePrefix("10.100.0.0/16")
	defaultServices = netip.MustParsePrefix("10.254.0.0/16")
)

// prefix reads a network that its rule has let pass.
func prefix(value string, otherwise netip.Prefix) netip.Prefix {
	if p, err := netip.ParsePrefix(value); err == nil {
		return p
	}
	return otherwise
}

// words are those that Magnum takes for true and false, in any case.
var words = []string{"1", "t", "true", "on", "y", "yes", "0", "f", "false", "off", "n", "no"}

func boolean(value string) error {
	if !slices.Contains(words, strings.ToLower(value)) {
		return fmt.Errorf("%q is neither true nor false", value)
	}
	return nil
}

func oneOf(allowed ...string) rule {
	return func(value string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%q is not one of %s", value, strings.Join(allowed, ", "))
		}
		return nil
	}
}

func whole(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 0 {
		return fmt.Errorf("%q is not a whole number, 0 or more", value)
	}
	return nil
}

func between(least, most int) rule {
	return func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number from %d to %d", value, least, most)
		}
		return nil
	}
}

func network(value string) error {
	if p, err := netip.ParsePrefix(value); err != nil || !p.Addr().Is4() || p != p.Masked() {
		return fmt.Errorf("%q is not an IPv4 network like 10.100.0.0/16", value)
	}
	return nil
}

// list takes values with commas between them.
func list(of rule) rule {
	return func(value string) error {
		for part := range strings.SplitSeq(value, ",") {
			if err := of(strings.TrimSpace(part)); err != nil {
				return err
			}
		}
		return nil
	}
}

func pattern(form, says string) rule {
	expression := regexp.MustCompile(form)
	return func(value string) error {
		if !expression.MatchString(value) {
			return fmt.Errorf("%q is not %s", value, says)
		}
		return nil
	}
}

var (
	word    = pattern(`^[A-Za-z0-9]+$`, "a list of names with commas between them")
	tag     = pattern(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`, "the tag of a container image: letters, digits, _, . and -, 128 at most")
	release = pattern(`^v?[0-9]+\.[0-9]+\.[0-9]+([._-][A-Za-z0-9_.-]{1,100})?$`, "a release of Kubernetes like v1.27.8")
	sha256  = pattern(`^[0-9a-fA-F]{64}$`, "a SHA-256 sum of 64 hexadecimal digits")
)

func download(value string) error {
	if u, err := url.Parse(value); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("%q is not a URL with http or https", value)
	}
	return nil
}
