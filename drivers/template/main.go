// SPDX-License-Identifier: Apache-2.0

// Command keelson-driver-hive is a driver to copy, see docs/writing-a-driver.md.
// Hive is a small COE: an agent on each node, those of masters know the members.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/plugin"
)

func main() { plugin.Serve(&Driver{}) }

// Driver makes clusters of Hive; it is a drivers.Driver. It keeps nothing in memory.
type Driver struct {
	// Dial connects to an agent; nil: over the network. Tests set it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (d *Driver) Info() drivers.Info {
	return drivers.Info{Name: "hive", Version: "0.1.0", COEs: []string{"hive"}, ServerTypes: []string{"vm", "bm"}, NetworkDrivers: []string{"host"}}
}

func (d *Driver) ValidateTemplate(t *drivers.Template) error {
	if t.TLSDisabled {
		return errors.New("tls_disabled is not supported: agents speak TLS only")
	}
	return nil
}

func (d *Driver) ValidateCluster(t *drivers.Template, _ *drivers.Cluster, groups []drivers.NodeGroup) error {
	if !slices.ContainsFunc(groups, func(g drivers.NodeGroup) bool { return g.Role == "master" && g.NodeCount > 0 }) {
		return errors.New("master_count must be 1 or more: masters keep the list of members")
	}
	return d.ValidateTemplate(t)
}

func (d *Driver) Plan(_ context.Context, job *drivers.Job) (steps []drivers.Step, err error) {
	add := func(name, nodeID string, needs ...drivers.StepKey) drivers.StepKey {
		steps = append(steps, drivers.Step{Name: name, NodeID: nodeID, Needs: needs})
		return drivers.StepKey{Name: name, NodeID: nodeID}
	}
	fresh, leaving, seed := sort(job)
	switch op := job.Operation; {
	case op.Kind == drivers.Delete, op.Kind == drivers.Create && op.Undo:
		for _, n := range job.Nodes {
			add("node.delete", n.ID)
		}
	case op.Kind == drivers.Update && op.Undo:
		for _, n := range fresh {
			add("node.delete", n.ID, add("hive.leave", n.ID))
		}
		for _, n := range leaving {
			add("hive.join", n.ID)
		}
	case op.Kind == drivers.Create, op.Kind == drivers.Update:
		last := []drivers.StepKey{add("certificates", "")}
		formed := last
		for _, n := range fresh {
			started := add("node.start", n.ID, last[0], add("node.place", n.ID))
			joined := add("hive.join", n.ID, append([]drivers.StepKey{started}, formed...)...)
			if n == seed { // it begins the hive, the others wait for it
				formed = []drivers.StepKey{joined}
			}
			last = append(last, joined)
		}
		for _, n := range leaving {
			last = append(last, add("node.delete", n.ID, add("hive.leave", n.ID, formed...)))
		}
		add("cluster.record", "", last...)
	default:
		err = drivers.Permanent(nil, "the hive driver knows no operation %q", op.Kind)
	}
	return steps, err
}

// sort tells the nodes to make from those to remove, and which master to ask: one
// in the hive, or the first of a new one. The last step records nodes as ready.
func sort(job *drivers.Job) (fresh, leaving []*drivers.Node, seed *drivers.Node) {
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if n.State == drivers.NodeLeaving {
			leaving = append(leaving, n)
			continue
		}
		if n.State != drivers.NodeReady || job.Operation.Kind == drivers.Create {
			fresh = append(fresh, n)
		}
		if n.Master() && (seed == nil || seed.State != drivers.NodeReady && n.State == drivers.NodeReady) {
			seed = n
		}
	}
	return fresh, leaving, seed
}

func (d *Driver) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (out drivers.Outcome, err error) {
	node, services := job.Node(step.NodeID), job.Services
	switch {
	case step.Name == "certificates":
		_, err = services.Certificates.Authority(ctx)
	case step.Name == "cluster.record":
		err = record(ctx, job)
	case step.Name == "node.delete":
		out, err = services.Nodes.Delete(ctx, step.NodeID)
	case step.Name == "node.place":
		out, err = services.Nodes.Place(ctx, step.NodeID)
	case node == nil:
		err = drivers.Permanent(nil, "the hive driver knows no step %q", step.Name)
	case step.Name == "node.start":
		out, err = start(ctx, services, node)
	case step.Name == "hive.leave":
		_, err = d.ask(ctx, job, http.MethodDelete, "/members/"+node.Name)
	case step.Name == "hive.join":
		if _, err = d.ask(ctx, job, http.MethodPut, "/members/"+node.Name); err == nil && node.State == drivers.NodeLeaving {
			err = services.Records.Joined(ctx, node.ID, node.COEID) // it stays after all
		}
	}
	return out, err
}

func start(ctx context.Context, services drivers.Services, n *drivers.Node) (out drivers.Outcome, err error) {
	address, err := netip.ParseAddr(n.Address)
	authority, failed := services.Certificates.Authority(ctx)
	cert, key, refused := services.Certificates.Node(ctx, n.ID, n.Name, address)
	if err := errors.Join(err, failed, refused); err != nil {
		return out, fmt.Errorf("certificates of %s: %w", n.Name, err)
	}
	return services.Nodes.Start(ctx, n.ID, []drivers.File{
		{Path: "/etc/hive/ca.pem", Mode: 0o644, Content: authority},
		{Path: "/etc/hive/cert.pem", Mode: 0o644, Content: cert},
		{Path: "/etc/hive/key.pem", Mode: 0o600, Content: key},
	})
}

func record(ctx context.Context, job *drivers.Job) error {
	fresh, _, seed := sort(job)
	for _, n := range fresh {
		if err := job.Services.Records.Joined(ctx, n.ID, "hive-"+n.Name); err != nil {
			return err
		}
	}
	seen := drivers.Observed{StackID: "hive-" + job.Cluster.ID, APIAddress: url(seed), COEVersion: "1", ContainerVersion: "1"}
	return job.Services.Records.Observed(ctx, seen)
}

func (d *Driver) Health(ctx context.Context, job *drivers.Job) (drivers.Health, error) {
	health := drivers.Health{Status: drivers.Healthy, Reasons: map[string]string{"api": "ok"}}
	ready, err := d.ask(ctx, job, http.MethodGet, "/members")
	for _, n := range job.Nodes {
		health.Reasons[n.Name+".Ready"] = "True"
		if !ready[n.Name] {
			health.Status, health.Reasons[n.Name+".Ready"] = drivers.Unhealthy, "False: its agent does not answer"
		}
	}
	return health, err
}

func url(n *drivers.Node) string { return "https://" + net.JoinHostPort(n.Address, "7070") }

// ask calls the hive in Keelson's name. It answers with its members' names and
// whether they are there.
func (d *Driver) ask(ctx context.Context, job *drivers.Job, method, path string) (ready map[string]bool, err error) {
	config, err := drivers.ClientTLS(ctx, job.Services.Certificates)
	if err != nil {
		return nil, err
	}
	_, _, master := sort(job)
	if master == nil {
		return nil, drivers.Temporary(nil, "the cluster has no master to ask")
	}
	request, err := http.NewRequestWithContext(ctx, method, url(master)+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DialContext: d.Dial, TLSClientConfig: config, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, drivers.Temporary(err, "the agent on %s does not answer", master.Name)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, drivers.Temporary(fmt.Errorf("%s: %s", path, response.Status), "the agent on %s refuses a change", master.Name)
	}
	err = json.NewDecoder(response.Body).Decode(&ready)
	return ready, err
}
