// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

const storageDriver = "overlay2"

// Where a node has its part of the cluster's certificates.
const (
	caFile   = "/etc/docker/ca.pem"
	certFile = "/etc/docker/server-cert.pem"
	keyFile  = "/etc/docker/server-key.pem"
)

// refusalsFile has the node image start dockerd with the authorization plugin
// keelson-authz, if it is an image that has it.
const refusalsFile = "/etc/keelson/refusals"

// labelRefusals is the label of a cluster that switches them on or off.
const labelRefusals = "docker_refusals"

// Engine labels that every node carries. Tenants may place by them:
// "docker service create --placement-pref spread=engine.labels.keelson.host".
const (
	labelNode = "keelson.node" // uuid of the node, by which the driver finds it in the swarm
	labelHost = "keelson.host" // opaque name of the host
	labelZone = "keelson.zone" // availability zone of the host, where the operator names zones
)

// certificates makes the cluster's authority and Keelson's own certificate.
func certificates(ctx context.Context, job *drivers.Job) (drivers.Outcome, error) {
	if _, err := job.Services.Certificates.Authority(ctx); err != nil {
		return drivers.Outcome{}, fmt.Errorf("make the cluster's authority: %w", err)
	}
	if _, _, err := job.Services.Certificates.Client(ctx); err != nil {
		return drivers.Outcome{}, fmt.Errorf("make the client certificate: %w", err)
	}
	return drivers.Done("the cluster has its authority"), nil
}

// start makes the node.
func (d *Driver) start(ctx context.Context, job *drivers.Job, node *drivers.Node) (drivers.Outcome, error) {
	files, err := d.nodeFiles(ctx, job, node)
	if err != nil {
		return drivers.Outcome{}, err
	}
	return job.Services.Nodes.Start(ctx, node.ID, files)
}

// nodeFiles are all that the node's Docker Engine needs to come up by itself.
func (d *Driver) nodeFiles(ctx context.Context, job *drivers.Job, node *drivers.Node) ([]drivers.File, error) {
	address, err := netip.ParseAddr(node.Address)
	if err != nil {
		return nil, fault.Permanent(err, "node %s has no address", node.Name)
	}
	authority, err := job.Services.Certificates.Authority(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the cluster's authority: %w", err)
	}
	cert, key, err := job.Services.Certificates.Node(ctx, node.ID, node.Name, address)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of %s: %w", node.Name, err)
	}
	config, err := daemonConfig(&job.Template, node)
	if err != nil {
		return nil, fault.Permanent(err, "node %s can not be set up", node.Name)
	}
	files := []drivers.File{
		{Path: caFile, Mode: 0o644, Content: authority},
		{Path: certFile, Mode: 0o644, Content: cert},
		{Path: keyFile, Mode: 0o600, Content: key},
		{Path: "/etc/docker/daemon.json", Mode: 0o644, Content: config},
	}
	if env := proxyEnvironment(&job.Template); env != nil {
		files = append(files, drivers.File{Path: "/etc/default/docker", Mode: 0o600, Content: env})
	}
	if d.refuses(job.Cluster.Labels) {
		files = append(files, drivers.File{Path: refusalsFile, Mode: 0o644, Content: []byte("# dockerd asks keelson-authz.\n")})
	}
	return files, nil
}

// refuses tells whether the nodes of a cluster with these labels refuse, with a
// reason, what they can not do.
func (d *Driver) refuses(labels map[string]string) bool {
	if on, err := strconv.ParseBool(labels[labelRefusals]); err == nil {
		return on
	}
	return d.refusals
}

// daemon is dockerd's configuration file.
type daemon struct {
	Hosts              []string          `json:"hosts"`
	TLSVerify          bool              `json:"tlsverify"`
	TLSCACert          string            `json:"tlscacert"`
	TLSCert            string            `json:"tlscert"`
	TLSKey             string            `json:"tlskey"`
	StorageDriver      string            `json:"storage-driver"`
	LogDriver          string            `json:"log-driver"`
	LogOpts            map[string]string `json:"log-opts"`
	Pools              []pool            `json:"default-address-pools"`
	Labels             []string          `json:"labels"`
	DNS                []string          `json:"dns,omitempty"`
	InsecureRegistries []string          `json:"insecure-registries,omitempty"`
	ShutdownTimeout    int               `json:"shutdown-timeout"` // s
}

// pool is where networks that are local to the node get their addresses.
type pool struct {
	Base string `json:"base"`
	Size int    `json:"size"`
}

// daemonConfig returns the node's daemon.json.
func daemonConfig(t *drivers.Template, node *drivers.Node) ([]byte, error) {
	dns, err := nameservers(t.DNSNameserver)
	if err != nil {
		return nil, err
	}
	d := daemon{
		Hosts:         []string{"unix:///var/run/docker.sock", "tcp://0.0.0.0:" + apiPort},
		TLSVerify:     true,
		TLSCACert:     caFile,
		TLSCert:       certFile,
		TLSKey:        keyFile,
		StorageDriver: storageDriver,
		LogDriver:     "json-file",
		LogOpts:       map[string]string{"max-size": "10m", "max-file": "3"},
		// Docker leaves out what overlaps with the node's own network.
		Pools:           []pool{{"172.17.0.0/16", 24}, {"172.18.0.0/16", 24}},
		Labels:          []string{labelNode + "=" + node.ID},
		DNS:             dns,
		ShutdownTimeout: 10,
	}
	if node.Host != "" {
		d.Labels = append(d.Labels, labelHost+"="+node.Host)
	}
	if node.Zone != "" {
		d.Labels = append(d.Labels, labelZone+"="+node.Zone)
	}
	for registry := range strings.SplitSeq(t.InsecureRegistry, ",") {
		if registry = strings.TrimSpace(registry); registry != "" {
			d.InsecureRegistries = append(d.InsecureRegistries, registry)
		}
	}
	return json.MarshalIndent(d, "", "  ")
}

// nameservers reads the template's list: addresses separated by commas.
func nameservers(list string) ([]string, error) {
	var servers []string
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if s == "" && list == "" {
			continue
		}
		address, err := netip.ParseAddr(s)
		if err != nil || !address.Is4() {
			return nil, fmt.Errorf("dns_nameserver %q is not a list of IPv4 addresses", list)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// proxyEnvironment returns shell assignments for dockerd, nil without a proxy.
func proxyEnvironment(t *drivers.Template) []byte {
	var env []byte
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", t.HTTPProxy},
		{"HTTPS_PROXY", t.HTTPSProxy},
		{"NO_PROXY", t.NoProxy},
	} {
		if v.value != "" {
			quoted := "'" + strings.ReplaceAll(v.value, "'", `'\''`) + "'"
			env = fmt.Appendf(env, "export %s=%s\n", v.name, quoted)
		}
	}
	return env
}
