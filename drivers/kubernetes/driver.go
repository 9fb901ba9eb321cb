// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is a stub: it accepts Kubernetes cluster templates by
// Magnum's rules and shows the steps that a cluster would take, and refuses to
// make one as Magnum refuses kinds of clusters it has no driver for.
package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Version of the driver.
const Version = "0.1"

// Driver is the stub.
type Driver struct{}

var _ drivers.Driver = Driver{}

// New returns the stub.
func New() Driver { return Driver{} }

// Info implements drivers.Driver.
func (Driver) Info() drivers.Info {
	return drivers.Info{
		Name:           "kubernetes",
		Version:        Version,
		COEs:           []string{"kubernetes"},
		ServerTypes:    []string{"vm", "bm"},
		NetworkDrivers: []string{"flannel", "calico"},
		VolumeDrivers:  []string{"cinder"},
		Stub:           true,
	}
}

// ValidateTemplate implements drivers.Driver.
func (d Driver) ValidateTemplate(t *drivers.Template) error {
	info := d.Info()
	for _, rule := range []struct {
		field, value string
		allowed      []string
	}{
		{"coe", t.COE, info.COEs},
		{"server_type", t.ServerType, info.ServerTypes},
		{"network_driver", t.NetworkDriver, append(info.NetworkDrivers, "")},
		{"volume_driver", t.VolumeDriver, append(info.VolumeDrivers, "")},
	} {
		if !slices.Contains(rule.allowed, rule.value) {
			return fmt.Errorf("%s %q is not supported for kubernetes: use %s", rule.field, rule.value,
				strings.TrimSuffix(strings.Join(rule.allowed, ", "), ", "))
		}
	}
	return nil
}

// ValidateCluster implements drivers.Driver: no cluster can be made.
func (d Driver) ValidateCluster(t *drivers.Template, _ *drivers.Cluster, _ []drivers.NodeGroup) error {
	if err := d.ValidateTemplate(t); err != nil {
		return err
	}
	return unsupported(t)
}

func unsupported(t *drivers.Template) error {
	return &drivers.UnsupportedError{ServerType: t.ServerType, Distro: t.Distro, COE: t.COE}
}

// Plan implements drivers.Driver. It lists the steps that a cluster made with
// kubeadm takes: the first control plane node sets it up, the others join.
func (Driver) Plan(_ context.Context, job *drivers.Job) ([]drivers.Step, error) {
	var steps []drivers.Step
	add := func(name, nodeID string, needs ...drivers.StepKey) drivers.StepKey {
		step := drivers.Step{Name: name, NodeID: nodeID, Needs: needs}
		steps = append(steps, step)
		return step.Key()
	}
	if job.Operation.Kind == drivers.Delete || job.Operation.Undo {
		for i := range job.Nodes {
			add("node.delete", job.Nodes[i].ID)
		}
		return steps, nil
	}
	certificates := add("certificates", "")
	var initialised []drivers.StepKey
	members := []drivers.StepKey{certificates}
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if n.State == drivers.NodeLeaving {
			drained := add("kubernetes.drain", n.ID)
			members = append(members, add("node.delete", n.ID, drained))
			continue
		}
		started := add("node.start", n.ID, certificates, add("node.place", n.ID))
		if n.Master() && initialised == nil {
			initialised = []drivers.StepKey{add("kubernetes.init", n.ID, started)}
			members = append(members, initialised...)
			continue
		}
		members = append(members, add("kubernetes.join", n.ID, append([]drivers.StepKey{started}, initialised...)...))
	}
	network := add("kubernetes.network", "", members...)
	add("cluster.record", "", network)
	return steps, nil
}

// Run implements drivers.Driver: it refuses for good.
func (Driver) Run(_ context.Context, job *drivers.Job, _ drivers.Step) (drivers.Outcome, error) {
	err := unsupported(&job.Template)
	return drivers.Outcome{}, fault.Permanent(err, "%s", strings.TrimSuffix(err.Error(), "."))
}

// Health implements drivers.Driver: there is no cluster to look at.
func (Driver) Health(_ context.Context, job *drivers.Job) (drivers.Health, error) {
	return drivers.Health{Status: drivers.Unknown}, unsupported(&job.Template)
}
