// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is a stub: it validates Kubernetes cluster templates and
// their labels by Magnum's rules, plans the steps that a cluster would take
// (`keelsond driver plan` shows them), and refuses to make one as Magnum
// refuses kinds of clusters it has no driver for.
//
// What is there is what the finished driver needs at its border. Filling it in
// means to write the steps of plan.go, Health, and to take Stub away; nothing
// outside this folder changes.
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
const Version = "0.2"

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
	for _, field := range []struct {
		name, value string
		allowed     []string
		optional    bool
	}{
		{"coe", t.COE, info.COEs, false},
		{"server_type", t.ServerType, info.ServerTypes, false},
		{"network_driver", t.NetworkDriver, info.NetworkDrivers, true},
		{"volume_driver", t.VolumeDriver, info.VolumeDrivers, true},
	} {
		if !slices.Contains(field.allowed, field.value) && (field.value != "" || !field.optional) {
			return fmt.Errorf("%s %q is not supported for kubernetes: use %s", field.name, field.value, strings.Join(field.allowed, " or "))
		}
	}
	return validateLabels(t.NetworkDriver, t.Labels)
}

// maxMasters is where more members of etcd only make it slower.
const maxMasters = 7

// ValidateCluster implements drivers.Driver. What is wrong with the cluster
// comes first: with all of it right, it is refused as no cluster can be made.
func (d Driver) ValidateCluster(t *drivers.Template, c *drivers.Cluster, groups []drivers.NodeGroup) error {
	if err := d.ValidateTemplate(t); err != nil {
		return err
	}
	if err := validateLabels(t.NetworkDriver, c.Labels); err != nil {
		return err
	}
	masters := 0
	for _, g := range groups {
		if g.NodeCount < 0 {
			return fmt.Errorf("node_count of node group %s is %d: it must be 0 or more", g.Name, g.NodeCount)
		}
		if g.Role == "master" {
			masters += g.NodeCount
		}
		if err := validateLabels(t.NetworkDriver, g.Labels); err != nil {
			return fmt.Errorf("node group %s: %w", g.Name, err)
		}
	}
	if masters < 1 || masters > maxMasters || masters%2 == 0 {
		return fmt.Errorf("master_count %d is not supported: a control plane has 1, 3, 5 or 7 masters, so that a majority of etcd survives the loss of the others", masters)
	}
	return refused(t)
}

// refused is why no cluster is made: Magnum's sentence, and what it means here.
func refused(t *drivers.Template) error {
	//lint:ignore ST1005 the first sentence is Magnum's, with its full stop
	return fmt.Errorf("%w The driver kubernetes is a stub: it validates and plans clusters but makes none.",
		&drivers.UnsupportedError{ServerType: t.ServerType, Distro: t.Distro, COE: t.COE})
}

// Run implements drivers.Driver: it refuses for good.
func (Driver) Run(_ context.Context, job *drivers.Job, _ drivers.Step) (drivers.Outcome, error) {
	err := refused(&job.Template)
	return drivers.Outcome{}, fault.Permanent(err, "%s", strings.TrimSuffix(err.Error(), "."))
}

// Health implements drivers.Driver: there is no cluster to look at.
func (Driver) Health(_ context.Context, job *drivers.Job) (drivers.Health, error) {
	return drivers.Health{Status: drivers.Unknown}, refused(&job.Template)
}
