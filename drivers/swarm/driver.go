// SPDX-License-Identifier: Apache-2.0

// Package swarm makes Docker Swarms: each node runs a Docker Engine that is
// reached over mutual TLS under the cluster's own authority, and the engines
// form one swarm (swarm mode).
//
// What the driver must know between two steps it asks the engines; only the
// swarm's id is kept as the cluster's state.
package swarm

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// Version of the driver.
const Version = "1.0"

// Ports of a node: the Docker API and swarm management.
const (
	apiPort   = "2376"
	swarmPort = "2377"
)

// Options of the driver; zero values mean the defaults.
type Options struct {
	// Dial connects to a node's Docker API.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DrainTimeout is how long a leaving node may take to hand its tasks
	// over; then it is removed with those it still has. Default 30 s.
	DrainTimeout time.Duration
	// Refusals is whether nodes refuse, with a reason, what they can not do,
	// in clusters whose labels do not say.
	Refusals bool
}

// Driver makes Docker Swarms.
type Driver struct {
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	drainTimeout time.Duration
	refusals     bool
}

var _ drivers.Driver = (*Driver)(nil)

// New returns the driver.
func New(o Options) *Driver {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	return &Driver{dial: o.Dial, drainTimeout: o.DrainTimeout, refusals: o.Refusals}
}

// Info implements drivers.Driver. Magnum's swarm also takes the network driver
// flannel; here containers are joined by Docker's own overlay networks only,
// so flannel is refused rather than ignored.
func (d *Driver) Info() drivers.Info {
	return drivers.Info{
		Name:           "swarm",
		Version:        Version,
		COEs:           []string{"swarm", "swarm-mode"},
		ServerTypes:    []string{"vm", "bm"},
		NetworkDrivers: []string{"docker"},
		VolumeDrivers:  []string{"rexray"},
		Operations:     []string{drivers.Upgrade, drivers.RotateCA, drivers.Rebuild},
	}
}

// strategies are the words of the label swarm_strategy. Swarm mode always
// spreads; the label is checked as Magnum does and has no effect.
var strategies = []string{"spread", "binpack", "random"}

// ValidateTemplate implements drivers.Driver.
func (d *Driver) ValidateTemplate(t *drivers.Template) error {
	info := d.Info()
	switch {
	case !slices.Contains(info.COEs, t.COE):
		return fmt.Errorf("coe %q is not one of %s", t.COE, strings.Join(info.COEs, ", "))
	case !slices.Contains(info.ServerTypes, t.ServerType):
		return fmt.Errorf("server_type %q is not one of %s", t.ServerType, strings.Join(info.ServerTypes, ", "))
	case t.NetworkDriver != "" && !slices.Contains(info.NetworkDrivers, t.NetworkDriver):
		return fmt.Errorf("network_driver %q is not supported for %s: containers are joined by Docker's own overlay networks, network_driver docker", t.NetworkDriver, t.COE)
	case t.VolumeDriver != "" && !slices.Contains(info.VolumeDrivers, t.VolumeDriver):
		return fmt.Errorf("volume_driver %q is not supported for %s: leave it empty or use %s", t.VolumeDriver, t.COE, strings.Join(info.VolumeDrivers, ", "))
	case t.DockerStorageDriver != "" && t.DockerStorageDriver != storageDriver:
		return fmt.Errorf("docker_storage_driver %q is not supported: nodes keep images and containers with %s", t.DockerStorageDriver, storageDriver)
	case t.TLSDisabled:
		return fmt.Errorf("tls_disabled is not supported: the Docker API of a cluster is always protected by TLS")
	case t.RegistryEnabled:
		return fmt.Errorf("registry_enabled is not supported: clusters come without a registry of their own")
	}
	if _, err := nameservers(t.DNSNameserver); err != nil {
		return err
	}
	return validateLabels(t.Labels)
}

func validateLabels(labels map[string]string) error {
	for word := range strings.FieldsSeq(labels["swarm_strategy"]) {
		if !slices.Contains(strategies, word) {
			return fmt.Errorf("label swarm_strategy: %q is not one of %s", word, strings.Join(strategies, ", "))
		}
	}
	if value, given := labels[labelRefusals]; given {
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("label %s: %q is not true or false", labelRefusals, value)
		}
	}
	return nil
}

// maxManagers is where more managers only make a swarm slower.
const maxManagers = 7

// ValidateCluster implements drivers.Driver.
func (d *Driver) ValidateCluster(t *drivers.Template, c *drivers.Cluster, groups []drivers.NodeGroup) error {
	if err := d.ValidateTemplate(t); err != nil {
		return err
	}
	if err := validateLabels(c.Labels); err != nil {
		return err
	}
	managers := 0
	for _, g := range groups {
		if g.NodeCount < 0 {
			return fmt.Errorf("node_count of group %s is negative", g.Name)
		}
		if g.Role == "master" {
			managers += g.NodeCount
		}
	}
	if managers < 1 || managers > maxManagers || managers%2 == 0 {
		return fmt.Errorf("master_count %d is not supported: a swarm has 1, 3, 5 or 7 managers, so that a majority survives the loss of the others", managers)
	}
	return nil
}

// Run implements drivers.Driver.
func (d *Driver) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error) {
	services := job.Services
	switch step.Name {
	case stepCertificates:
		return certificates(ctx, job)
	case stepReady:
		return d.ready(ctx, job)
	case stepRecord:
		return d.record(ctx, job)
	case stepRotate:
		return d.rotate(ctx, job)
	case stepPlace:
		return services.Nodes.Place(ctx, step.NodeID)
	case stepDelete:
		return services.Nodes.Delete(ctx, step.NodeID)
	}
	byNode := map[string]func(context.Context, *drivers.Job, *drivers.Node) (drivers.Outcome, error){
		stepStart:   d.start,
		stepInit:    d.init,
		stepJoin:    d.join,
		stepDrain:   d.drain,
		stepRemove:  d.remove,
		stepRestore: d.restore,
		stepEmpty:   d.empty,
		stepRebuild: d.rebuild,
		stepReturn:  d.comeBack,
		stepFill:    d.fill,
	}
	take, ok := byNode[step.Name]
	if !ok {
		return drivers.Outcome{}, fault.Permanent(nil, "the swarm driver knows no step %q", step.Name)
	}
	node := job.Node(step.NodeID)
	if node == nil {
		return drivers.Done("the node is gone"), nil
	}
	return take(ctx, job, node)
}
