// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// standing are the statuses of clusters that are there: their health is looked
// at, and their machines are to run. Of those that Magnum looks at, the ones are
// left out in which Keelson has not made the cluster yet, or removes it.
var standing = []model.Status{
	model.CreateComplete, model.UpdateComplete, model.UpdateInProgress, model.UpdateFailed,
}

// watchHealth looks at the health of clusters until ctx ends, at each about
// once in HealthEvery, whichever conductor it is.
func (c *Conductor) watchHealth(ctx context.Context) error {
	if c.opts.HealthEvery < 0 {
		return nil
	}
	idle := min(max(c.opts.HealthEvery/30, 10*time.Millisecond), 2*time.Second)
	free := make(chan struct{}, c.opts.HealthAtOnce)
	for range cap(free) {
		free <- struct{}{}
	}
	var looks sync.WaitGroup
	defer looks.Wait()
	for {
		select {
		case <-free:
		case <-ctx.Done():
			return nil
		}
		taken := 1
		for len(free) > 0 { // nobody else takes any
			<-free
			taken++
		}
		due, err := c.dueForHealth(ctx, taken)
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("could not look for clusters whose health is due", "error", err)
		}
		for _, l := range due {
			looks.Go(func() {
				c.checkHealth(ctx, l)
				c.autoscale(ctx, l)
				free <- struct{}{}
			})
		}
		for range taken - len(due) {
			free <- struct{}{}
		}
		if len(due) < taken && sleep(ctx, jitter(idle)) != nil {
			return nil
		}
	}
}

// look is a cluster to look at, as the records have it.
type look struct {
	cluster  model.Cluster
	template *model.ClusterTemplate
	groups   []model.NodeGroup
	nodes    []model.Node
	silent   map[string]model.Host // by uuid: hosts of theirs that do not answer
}

// dueForHealth claims up to limit clusters and reads what their drivers are
// told, with the same few queries for one cluster as for many.
func (c *Conductor) dueForHealth(ctx context.Context, limit int) ([]look, error) {
	clusters, err := c.Store.DueClusters(ctx, standing, c.opts.HealthEvery, limit)
	if err != nil || len(clusters) == 0 {
		return nil, err
	}
	ids := make([]string, len(clusters))
	var templateIDs []string
	seen := make(map[string]bool)
	for i := range clusters {
		ids[i] = clusters[i].UUID
		if t := clusters[i].TemplateID; !seen[t] {
			seen[t] = true
			templateIDs = append(templateIDs, t)
		}
	}
	templates, err := c.Store.TemplatesByID(ctx, templateIDs)
	if err != nil {
		return nil, err
	}
	groups, nodes, err := c.Store.ForDrivers(ctx, ids)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, some := range nodes {
		for i := range some {
			if host := deref(some[i].HostID); host != "" && !seen[host] {
				seen[host] = true
				hosts = append(hosts, host)
			}
		}
	}
	silent, err := c.Store.SilentHosts(ctx, hosts)
	if err != nil {
		return nil, err
	}
	var due []look
	for i := range clusters {
		cluster := &clusters[i]
		if template := templates[cluster.TemplateID]; template != nil && !healedFromOutside(cluster.Labels) {
			due = append(due, look{*cluster, template, groups[cluster.UUID], nodes[cluster.UUID], silent})
		}
	}
	return due, nil
}

// healedFromOutside tells whether a controller of the tenant's looks after the
// cluster's health and writes it through the API. The labels are Magnum's.
func healedFromOutside(labels model.Labels) bool {
	switch strings.ToLower(strings.TrimSpace(labels["auto_healing_enabled"])) {
	case "1", "t", "true", "on", "y", "yes":
		return labels["auto_healing_controller"] == "magnum-auto-healer"
	}
	return false
}

// checkHealth looks at one cluster and writes what is new.
func (c *Conductor) checkHealth(ctx context.Context, l look) {
	health, err := c.health(ctx, l)
	if ctx.Err() != nil {
		return
	}
	log := c.Logger.With("cluster", l.cluster.UUID)
	if err != nil {
		log.Warn("nothing could be found out about the cluster's health", "error", err)
	}
	if deref(l.cluster.HealthStatus) == health.Status && maps.Equal(l.cluster.HealthStatusReason, health.Reasons) {
		return
	}
	err = c.Store.SetHealth(ctx, l.cluster.UUID, &health.Status, health.Reasons)
	switch {
	case errors.Is(err, store.ErrNotFound), ctx.Err() != nil:
	case err != nil:
		log.Warn("could not write the cluster's health", "error", err)
	case deref(l.cluster.HealthStatus) != health.Status:
		log.Info("cluster changed health", "from", deref(l.cluster.HealthStatus), "to", health.Status)
	}
}

// health asks the cluster's driver, and adds what the hosts say of the machines
// of its nodes. When the driver can not tell, the status is UNKNOWN.
func (c *Conductor) health(ctx context.Context, l look) (drivers.Health, error) {
	health, err := c.driversView(ctx, l)
	if err != nil {
		health = drivers.Health{Status: drivers.Unknown, Reasons: map[string]string{
			"api": fault.Reason(err, "nothing could be found out; the operator finds the cause in the conductor's log"),
		}}
	}
	for i := range l.nodes {
		n := &l.nodes[i]
		if n.State != model.NodeReady || n.Machine == model.MachineFine {
			continue
		}
		why := "False: its machine is not on its host any more"
		if n.Machine == model.MachineStopped {
			why = "False: its machine stands still"
		}
		if health.Reasons == nil {
			health.Reasons = make(map[string]string)
		}
		health.Status, health.Reasons[n.Name+".Ready"] = drivers.Unhealthy, why
	}
	c.tellOfSilentHosts(&health, l)
	return health, err
}

// lookJob is what a driver is told to look at the cluster: the nodes that have
// joined, and services that change nothing.
func (c *Conductor) lookJob(l look) (*drivers.Job, drivers.Driver, error) {
	var joined []model.Node
	for _, n := range l.nodes {
		if n.State == model.NodeReady {
			joined = append(joined, n)
		}
	}
	job, err := c.describe(&l.cluster, l.template, l.groups, joined)
	if err != nil {
		return nil, nil, err
	}
	job.Services = drivers.Services{Nodes: drivers.ReadOnly{}, Records: drivers.ReadOnly{}, Certificates: c.Certificates.Of(&l.cluster)}
	driver, err := c.driverFor(job)
	return job, driver, err
}

func (c *Conductor) driversView(ctx context.Context, l look) (health drivers.Health, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.HealthTimeout)
	defer cancel()
	job, driver, err := c.lookJob(l)
	if err != nil {
		return drivers.Health{}, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("driver panicked: %v", p)
		}
	}()
	return driver.Health(ctx, job)
}
