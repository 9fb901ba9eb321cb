// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keelson/keelson/internal/store"
)

const (
	// censusAge is how old the numbers of the database may be that are shown.
	censusAge = 10 * time.Second
	// censusTime bounds the counting.
	censusTime = 3 * time.Second
)

// Census shows what there is in the database. It counts when it is asked, but
// no more often than every few seconds. All processes of one database show the
// same numbers: queries take their maximum.
type Census struct {
	count func(context.Context) (*store.Census, error)

	mu   sync.Mutex
	last *store.Census // nil: the database could not be asked
	at   time.Time
}

// NewCensus shows what count, a store's Census, tells.
func NewCensus(count func(context.Context) (*store.Census, error)) *Census {
	return &Census{count: count}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	databaseUp    = desc("database_up", "Whether the database could be asked for the numbers below.")
	operations    = desc("operations", "Operations that have not ended.", "kind", "state")
	unpublished   = desc("operations_unpublished", "Operations whose message the broker has not confirmed yet.")
	claimable     = desc("operations_claimable", "Operations that wait for a conductor.")
	expired       = desc("operations_expired", "Running operations whose conductor has let its lease run out.")
	oldestPending = desc("operation_oldest_pending_seconds", "Age of the oldest operation that no conductor has begun.")
	notifications = desc("notifications_waiting", "Notifications that wait to be sent.")
	clusters      = desc("clusters", "Clusters.", "status")
	nodes         = desc("nodes", "Nodes of clusters.", "state")
	hosts         = desc("hosts", "Bare-metal hosts.", "state")
	vcpus         = desc("hosts_vcpus", "vCPUs that hosts have to give away, overcommitment included.", "state")
	vcpusUsed     = desc("hosts_vcpus_used", "vCPUs that nodes hold.", "state")
	memory        = desc("hosts_memory_bytes", "Memory that hosts have to give away.", "state")
	memoryUsed    = desc("hosts_memory_used_bytes", "Memory that nodes hold.", "state")
	disk          = desc("hosts_disk_bytes", "Disk that hosts have to give away.", "state")
	diskUsed      = desc("hosts_disk_used_bytes", "Disk that nodes hold.", "state")
)

// Describe implements prometheus.Collector.
func (c *Census) Describe(all chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		databaseUp, operations, unpublished, claimable, expired, oldestPending, notifications,
		clusters, nodes, hosts, vcpus, vcpusUsed, memory, memoryUsed, disk, diskUsed,
	} {
		all <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Census) Collect(all chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	n := c.recent()
	if n == nil {
		show(databaseUp, 0)
		return // old numbers would look like new ones
	}
	show(databaseUp, 1)
	for _, o := range n.Operations {
		show(operations, float64(o.Count), string(o.Kind), string(o.State))
	}
	show(unpublished, float64(n.Unpublished))
	show(claimable, float64(n.Claimable))
	show(expired, float64(n.Expired))
	show(oldestPending, n.OldestPending.Seconds())
	show(notifications, float64(n.Notifications))
	for status, count := range n.Clusters {
		show(clusters, float64(count), string(status))
	}
	for state, count := range n.Nodes {
		show(nodes, float64(count), string(state))
	}
	const mib, gib = 1 << 20, 1 << 30
	for _, h := range n.Hosts {
		state := string(h.State)
		show(hosts, float64(h.Count), state)
		show(vcpus, float64(h.TotalVCPUs), state)
		show(vcpusUsed, float64(h.UsedVCPUs), state)
		show(memory, float64(h.TotalMemoryMiB)*mib, state)
		show(memoryUsed, float64(h.UsedMemoryMiB)*mib, state)
		show(disk, float64(h.TotalDiskGiB)*gib, state)
		show(diskUsed, float64(h.UsedDiskGiB)*gib, state)
	}
}

// recent counts, or returns what was counted a moment ago. A failure is kept
// as long, so that a database in trouble is left in peace.
func (c *Census) recent() *store.Census {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < censusAge {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), censusTime)
	defer cancel()
	n, err := c.count(ctx)
	if err != nil {
		n = nil
	}
	c.last, c.at = n, time.Now()
	return n
}
