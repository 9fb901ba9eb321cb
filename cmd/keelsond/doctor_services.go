// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/store"
)

const (
	// clockDrift is how far clocks may differ before it is said, and before it
	// is bad: certificates and tokens are then taken for too young or too old.
	clockDrift, clockBroken = 2 * time.Second, time.Minute
	// longWait is how long an operation may wait for a conductor.
	longWait = time.Minute
)

func (d *doctor) lookAtDrivers(ctx context.Context) {
	registry, closeDrivers, err := openDrivers(ctx, d.cfg, d.log)
	if err != nil {
		d.bad("drivers", "correct [drivers]", "%v", err)
		return
	}
	d.onClose(closeDrivers)
	for _, l := range registry.Listings() {
		if why := l.Skipped + l.Problem; why != "" {
			d.bad("drivers", orDefault(l.Mend, "keelsond driver check"), "%s: %s", l.Info.Name, why)
			continue
		}
		d.good("drivers", "%s: %s", l.Info.Name, driverState(l))
	}
}

func (d *doctor) lookAtDatabase(ctx context.Context) {
	if !d.reachDatabase(ctx) {
		return
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	began := time.Now()
	now, err := d.store.Now(asking)
	took := time.Since(began)
	if err != nil {
		d.bad("database", "see the log of the database", "%v", err)
		return
	}
	d.good("database", "answers within %s", took.Round(time.Millisecond/10))
	d.compareClocks("database", now, began.Add(took/2), took/2)

	newer, err := d.store.CheckSchema(asking)
	switch {
	case errors.Is(err, store.ErrSchema):
		d.noDatabase = true
		d.bad("database", "keelsond db sync, with this release", "%v", err)
		return
	case err != nil:
		d.bad("database", "see the log of the database", "%v", err)
		return
	case newer:
		d.warn("database", "upgrade this machine, too", "its schema is of a newer release, with which this one can work")
	default:
		d.good("database", "its schema is this release's")
	}
	d.lookAtSeals(asking)
	d.lookAtWork(asking)
}

// reachDatabase opens the database for all checks that need it.
func (d *doctor) reachDatabase(ctx context.Context) bool {
	if d.store != nil || d.noDatabase {
		return !d.noDatabase
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	s, err := openStore(asking, d.cfg, d.log)
	if err != nil {
		d.noDatabase = true
		d.bad("database", "see that it runs and that [database] connection is right: host, user, password, name; etc/mariadb/keelson.sql grants what is needed", "%v", err)
		return false
	}
	d.store = s
	d.onClose(s.Close)
	return true
}

// compareClocks compares another's clock with this machine's, as far as can be
// told within the slack.
func (d *doctor) compareClocks(whose string, theirs, ours time.Time, slack time.Duration) {
	drift := theirs.Sub(ours).Abs() - slack
	const mend = "let both machines follow the same NTP servers (chronyc tracking)"
	switch {
	case drift > clockBroken:
		d.bad("clock", mend, "this machine's and that of the %s are %s apart", whose, drift.Round(time.Second))
	case drift > clockDrift:
		d.warn("clock", mend, "this machine's and that of the %s are %s apart", whose, drift.Round(time.Second/10))
	default:
		d.good("clock", "agrees with that of the %s", whose)
	}
}

// lookAtSeals sees to it that the key file opens what the database has.
func (d *doctor) lookAtSeals(ctx context.Context) {
	if d.loadKeys() != nil {
		return // the check of files says so
	}
	sealed, err := ca.SealedWith(ctx, d.store)
	if err != nil {
		d.bad("master keys", "see the log of the database", "%v", err)
		return
	}
	lost := 0
	for id, n := range sealed {
		if !slices.Contains(d.sealer.KeyIDs(), id) {
			lost += n
			d.bad("master keys", "bring the key back into the file, from another machine or a backup: without it these can not be opened", "%d secrets in the database are sealed with key %s, which %s does not have", n, id, d.cfg.X509.MasterKeyFile)
		}
	}
	if lost == 0 {
		d.good("master keys", "open all secrets of the database")
	}
}

// lookAtWork tells of operations that wait for too long.
func (d *doctor) lookAtWork(ctx context.Context) {
	census, err := d.store.Census(ctx)
	switch {
	case err != nil:
		d.bad("operations", "see the log of the database", "%v", err)
	case census.OldestPending > longWait:
		d.warn("operations", "see whether conductors run (keelsond doctor --only conductors) and what they log; keelsond operation list shows what waits",
			"%d wait for a conductor, one since %s", census.Claimable, census.OldestPending.Round(time.Second))
	case census.Expired > 0:
		d.warn("operations", "nothing, if they are taken over within a minute; else see what conductors log", "%d were left by a conductor that is gone", census.Expired)
	default:
		d.good("operations", "none waits for long")
	}
}

func (d *doctor) lookAtBroker(ctx context.Context) {
	asking, cancel := d.ask(ctx)
	defer cancel()
	states, err := queue.Probe(asking, d.cfg.TransportURL.Reveal(), queue.Options{Name: d.connectionName()})
	if err != nil {
		d.bad("broker", "correct [DEFAULT] transport_url", "%v", err)
		return
	}
	if len(states) == 0 {
		d.warn("broker", "set [DEFAULT] transport_url to rabbit://…, unless keelsond all-in-one is all that runs", "transport_url is memory://: no message reaches other processes")
	}
	down := 0
	for _, s := range states {
		if s.Err != nil {
			down++
		}
	}
	for _, s := range states {
		const mend = "see that RabbitMQ runs there, and that it knows the user, password and virtual host of transport_url (rabbitmqctl authenticate_user, list_permissions)"
		switch {
		case s.Err == nil:
			d.good("broker", "%s takes us in", s.Address)
		case down < len(states):
			d.warn("broker", mend, "%s: %v; others are there", s.Address, s.Err)
		default:
			d.bad("broker", mend, "%s: %v", s.Address, s.Err)
		}
	}
}

func (d *doctor) lookAtKeystone(ctx context.Context) {
	c := &d.cfg.KeystoneAuthToken
	if c.AuthURL == "" {
		if !d.cfg.Identity.Enabled {
			d.bad("keystone", "set [keystone_authtoken] auth_url and password, then run keelsond keystone-setup", "none is configured")
			return
		}
		d.warn("keystone", "set [keystone_authtoken] and [identity] enabled = false, for more than a try", "the built-in identity service is used")
		return
	}
	if !d.openKeystone() {
		return
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	began := time.Now()
	now, err := d.keystone.Clock(asking)
	if err != nil {
		d.bad("keystone", "see that it runs, that [keystone_authtoken] auth_url is right, and cafile if it has a certificate of your own authority", "%v", err)
		return
	}
	if !now.IsZero() {
		took := time.Since(began)
		d.compareClocks("Keystone", now, began.Add(took/2), took/2+time.Second)
	}
	self, err := d.keystone.Self(asking)
	if err != nil {
		d.bad("keystone", "see that user, password, project and domains in [keystone_authtoken] are right; keelsond keystone-setup makes or corrects them", "%v", err)
		return
	}
	// These are who Keystone's default policy lets look at others' tokens.
	if !slices.Contains(self.Roles, "service") && !slices.Contains(self.Roles, "admin") {
		d.bad("keystone", "keelsond keystone-setup, or: openstack role add --user "+c.Username+" --project "+c.ProjectName+" service",
			"user %s has neither the role service nor admin in project %s, so it may not check tokens", c.Username, c.ProjectName)
	} else {
		d.good("keystone", "takes user %s, with the roles %s", c.Username, strings.Join(self.Roles, ", "))
	}
	d.lookAtEndpoints(asking)
}

// openKeystone makes the client of Keystone and of the services that it knows.
func (d *doctor) openKeystone() bool {
	if d.keystone != nil {
		return true
	}
	if err := d.openCloud(); err != nil {
		d.bad("keystone", "correct [keystone_authtoken]", "%v", err)
		return false
	}
	return d.keystone != nil
}

// lookAtEndpoints looks for Keelson itself in the service catalogue.
func (d *doctor) lookAtEndpoints(ctx context.Context) {
	entries, err := d.keystone.Catalog(ctx)
	if err != nil {
		d.bad("catalogue", "see the log of Keystone", "%v", err)
		return
	}
	region := d.cfg.KeystoneAuthToken.RegionName
	for _, entry := range entries {
		if entry.Type != "container-infra" {
			continue
		}
		for _, e := range entry.Endpoints {
			if e.Interface == "public" && (region == "" || e.RegionID == region || e.Region == region) {
				d.good("catalogue", "users find container-infra at %s", e.URL)
				return
			}
		}
	}
	d.warn("catalogue", "keelsond keystone-setup", "Keystone has no public endpoint of container-infra%s: clients do not find Keelson", inRegion(region))
}

func inRegion(region string) string {
	if region == "" {
		return ""
	}
	return " in region " + region
}

func (d *doctor) lookAtCloud(ctx context.Context) {
	if d.cfg.KeystoneAuthToken.AuthURL == "" || !d.openKeystone() {
		return // the check of Keystone says so
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	for _, r := range d.catalog.(*catalog.Cloud).Reach(asking) {
		switch {
		case r.Err != nil:
			d.bad("cloud", "see that it runs at "+orDefault(r.Endpoint, "an endpoint in the service catalogue")+" and lets user "+d.cfg.KeystoneAuthToken.Username+" look; or say in [catalog] not to ask it", "%v", r.Err)
		case r.Endpoint == "":
			d.good("cloud", "%s is not in the service catalogue: the configuration's own is used", r.Service)
		default:
			d.good("cloud", "%s answers at %s", r.Service, r.Endpoint)
		}
	}
}

func (d *doctor) lookAtIronic(ctx context.Context) {
	if d.cfg.Ironic.Builtin {
		d.warn("ironic", "set [ironic] builtin = false, for more than a try", "the built-in one is used")
		return
	}
	client, err := d.openIronic()
	if err != nil {
		d.bad("ironic", "correct [ironic]", "%v", err)
		return
	}
	if client == nil {
		d.good("ironic", "none is configured: hosts are those that were added with keelsond host add")
		return
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	const mend = "see that it runs, that [ironic] endpoint_override or the service catalogue is right, and that user and password are"
	features, err := client.Features(asking)
	if err != nil {
		d.bad("ironic", mend, "%v", err)
		return
	}
	free, all, err := client.Machines(asking, d.cfg.Ironic.ResourceClass, d.cfg.Ironic.Traits...)
	if err != nil {
		d.bad("ironic", "give that user the right to list bare-metal nodes: "+mend, "%v", err)
		return
	}
	says := fmt.Sprintf("answers, with API %s; %d of %d machines of resource class %s are free", features.Microversion(), free, all, d.cfg.Ironic.ResourceClass)
	if all == 0 {
		d.warn("ironic", "openstack baremetal node set --resource-class "+d.cfg.Ironic.ResourceClass+" NODE, or set [ironic] resource_class", "%s", says)
		return
	}
	d.good("ironic", "%s", says)
}

func (d *doctor) lookAtConductors(ctx context.Context) {
	if !d.reachDatabase(ctx) {
		return
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	services, err := d.store.ListServices(asking)
	if err != nil {
		d.bad("conductors", "see the check of the database", "%v", err)
		return
	}
	alive := 0
	for _, s := range services {
		if s.LastSeenUp != nil && time.Since(*s.LastSeenUp) < d.cfg.ServiceDownTime {
			alive++
			d.good("conductors", "%s is alive", s.Host)
		}
	}
	if alive == 0 {
		d.warn("conductors", "systemctl enable --now keelson-conductor, and see its log", "none was alive within %s: nothing that users ask for is done", d.cfg.ServiceDownTime)
	}
}
