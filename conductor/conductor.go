// SPDX-License-Identifier: Apache-2.0

// Package conductor works on the operations that the API accepted: it claims
// them, plans them with the cluster's driver, takes and journals their steps,
// and writes what became of them.
//
// Any number of conductors may run. The database row of an operation is the
// truth; the message that announces it is only a hint, so a lost one costs a
// poll interval and a doubled one nothing.
package conductor

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/ipam"
	"github.com/keelson/keelson/internal/logging"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/store"
)

// Binary is the name under which conductors keep their service records, the
// one that Container Infrastructure clients look for.
const Binary = "magnum-conductor"

// Catalog knows the flavors and images that node groups name. An unknown name
// is catalog.ErrNotFound.
type Catalog interface {
	Flavor(ctx context.Context, ident string) (catalog.Flavor, error)
	Image(ctx context.Context, ident string) (catalog.Image, error)
}

// Parts is what a conductor works with.
type Parts struct {
	Store        *store.Store
	Messages     queue.Consumer
	Drivers      *drivers.Registry
	Hosts        *HostPool
	Nodes        NodeHosts
	Certificates *ca.CA
	Sealer       *ca.Sealer
	Sweeper      *Sweeper // nil: nobody looks for orphans
	Catalog      Catalog
	Networks     ipam.Networks
	Ports        Ports // nil: all addresses are Keelson's own
	Nameservers  []netip.Addr
	Limits       lxc.Limits // of each node
	Zone         string     // of the hosts; empty: they have none
	Logger       *slog.Logger
	Observer     Observer // nil: nobody is told
}

// Options are a conductor's settings; New fills in what is zero.
type Options struct {
	Owner           string // unique name of this process
	Host            string // name in the service records
	Workers         int    // operations at once
	StepsAtOnce     int    // steps of one operation at once
	Lease           time.Duration
	CancelCheck     time.Duration // how often a running operation looks whether it was cancelled
	Poll            time.Duration // how often the database is asked for work that no message told of
	Heartbeat       time.Duration
	StepTimeout     time.Duration // all tries of one step together
	CallTimeout     time.Duration // one try
	RetryFirst      time.Duration // pause after the first temporary error
	RetryMost       time.Duration // longest pause
	Drain           time.Duration // how long step calls under way may go on once the process must end; negative: not at all
	ShutdownTimeout time.Duration // to write outcomes after that
	PerProject      int           // operations of one project that all conductors have in hand at once; 0: any number
	StartsPerHost   int           // nodes that this conductor starts or rebuilds on one host at once; 0: any number
	HealthEvery     time.Duration // how often each cluster's health is looked at; negative: never
	HealthAtOnce    int           // clusters that are looked at side by side
	HealthTimeout   time.Duration // one look
	MachinesEvery   time.Duration // how often each host is asked what runs there; negative: never
	RepairRest      time.Duration // after a failed repair of a cluster, before the next one
	LostAfter       time.Duration // how long a host must be silent until nodes are removed without it, or made elsewhere
	EvacuateAfter   time.Duration // how long it must be silent until its nodes are replaced; 0: they never are
	SweepEvery      time.Duration // how often orphans are looked for, by one of all conductors; negative: never
	SweepRemoves    bool          // orphans are removed, not only told of
	HistoryKept     time.Duration // how long ended operations are kept; negative: for ever
	HistoryLeast    int           // of each cluster so many are kept, however old
	PruneEvery      time.Duration
	Now             func() time.Time
}

func (o Options) withDefaults() Options {
	o.Workers = orElse(o.Workers, 16)
	o.StepsAtOnce = orElse(o.StepsAtOnce, 8)
	o.Lease = orElse(o.Lease, 30*time.Second)
	o.CancelCheck = orElse(o.CancelCheck, 2*time.Second)
	o.Poll = orElse(o.Poll, 2*time.Second)
	o.Heartbeat = orElse(o.Heartbeat, 60*time.Second)
	o.StepTimeout = orElse(o.StepTimeout, 5*time.Minute)
	o.CallTimeout = orElse(o.CallTimeout, 30*time.Second)
	o.RetryFirst = orElse(o.RetryFirst, 200*time.Millisecond)
	o.RetryMost = orElse(o.RetryMost, 5*time.Second)
	o.Drain = orElse(o.Drain, 20*time.Second)
	o.ShutdownTimeout = orElse(o.ShutdownTimeout, 5*time.Second)
	o.HealthEvery = orElse(o.HealthEvery, time.Minute)
	o.HealthAtOnce = orElse(o.HealthAtOnce, 256)
	o.HealthTimeout = orElse(o.HealthTimeout, 30*time.Second)
	o.MachinesEvery = orElse(o.MachinesEvery, time.Minute)
	o.RepairRest = orElse(o.RepairRest, 15*time.Minute)
	o.LostAfter = orElse(o.LostAfter, 30*time.Second)
	o.SweepEvery = orElse(o.SweepEvery, time.Hour)
	o.HistoryKept = orElse(o.HistoryKept, 30*24*time.Hour)
	o.HistoryLeast = orElse(o.HistoryLeast, 10)
	o.PruneEvery = orElse(o.PruneEvery, time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Conductor claims operations and works on them. Use New, then Run once.
type Conductor struct {
	Parts
	opts   Options
	slots  chan struct{} // one token per operation under way
	wake   chan struct{} // asks for a look at the database now
	behind atomic.Bool   // operations wait that could be worked on
	starts *hostSlots
}

// New returns a conductor that does nothing until Run.
func New(p Parts, o Options) *Conductor {
	o = o.withDefaults()
	p.Logger = logging.Contextual(p.Logger)
	if p.Observer == nil {
		p.Observer = nobody{}
	}
	return &Conductor{
		Parts: p, opts: o, slots: make(chan struct{}, o.Workers), wake: make(chan struct{}, 1),
		starts: &hostSlots{most: o.StartsPerHost, taken: make(map[string]int)},
	}
}

// Run works until ctx ends. Then it lets the step calls under way come to their
// end, as far as Drain allows, hands its operations over and returns nil.
func (c *Conductor) Run(ctx context.Context) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errShutdown) })()

	var operations sync.WaitGroup
	g, loops := errgroup.WithContext(ctx)
	g.Go(func() error { return c.consume(loops, work, &operations) })
	g.Go(func() error { return c.poll(loops, work, &operations) })
	g.Go(func() error { return c.beat(loops) })
	g.Go(func() error { return c.Hosts.keep(loops) })
	g.Go(func() error { return c.watchHealth(loops) })
	g.Go(func() error { return c.watchMachines(loops) })
	if c.Sweeper != nil {
		g.Go(func() error { return c.share(loops, "sweep", c.opts.SweepEvery, c.sweep) })
	}
	if c.opts.HistoryKept > 0 {
		g.Go(func() error { return c.share(loops, "prune", c.opts.PruneEvery, c.prune) })
	}
	err := g.Wait()
	stop(errShutdown)
	operations.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// consume starts operations that messages tell of. While there is more to do
// than this conductor can, messages only say that there is more: whose turn it
// is the database knows.
func (c *Conductor) consume(ctx, work context.Context, operations *sync.WaitGroup) error {
	return c.Messages.Consume(ctx, func(ctx context.Context, d *queue.Delivery) {
		if c.behind.Load() || !c.tryStart(ctx, work, operations, d.Message.Operation) {
			c.behind.Store(true)
			c.lookNow()
		}
		d.Ack()
	})
}

// poll starts operations that no message told of, whose conductor died, or that
// had to wait for their turn.
func (c *Conductor) poll(ctx, work context.Context, operations *sync.WaitGroup) error {
	tick := time.NewTicker(c.opts.Poll)
	defer tick.Stop()
	var ids []string // claimable when last asked, in turn
	var asked time.Time
	for {
		if free := cap(c.slots) - len(c.slots); free > 0 {
			// With much to do, one question serves for several free slots.
			if len(ids) == 0 || time.Since(asked) > c.opts.Poll/4 {
				var err error
				if ids, err = c.Store.Claimable(ctx, free+cap(c.slots), c.opts.PerProject); err != nil && ctx.Err() == nil {
					c.Logger.Warn("could not look for work", "error", err)
				}
				asked = time.Now()
				c.behind.Store(len(ids) > free)
			}
			before := len(c.slots)
			for len(ids) > 0 && c.tryStart(ctx, work, operations, ids[0]) {
				ids = ids[1:]
			}
			// Other conductors had the same list and took a part of it.
			if len(ids) == 0 && c.behind.Load() && len(c.slots) > before {
				c.lookNow()
			}
		}
		select {
		case <-tick.C:
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// tryStart starts the operation unless all slots are taken.
func (c *Conductor) tryStart(ctx, work context.Context, operations *sync.WaitGroup, id string) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case c.slots <- struct{}{}:
		c.start(ctx, work, operations, id)
		return true
	default:
		return false
	}
}

// start claims the operation and works on it; the caller holds a slot, which
// start gives back. An operation that can not be claimed is someone else's, or
// not due, or ended: the poll finds it when that changes.
func (c *Conductor) start(ctx, work context.Context, operations *sync.WaitGroup, id string) {
	op, err := c.Store.Claim(ctx, id, c.opts.Owner, c.opts.Lease, c.opts.PerProject)
	if err != nil {
		<-c.slots
		if !errors.Is(err, store.ErrNotClaimable) && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			c.Logger.Warn("could not claim an operation", "operation", id, "error", err)
		}
		return
	}
	operations.Add(1)
	go func() {
		defer operations.Done()
		c.operate(work, op)
		<-c.slots
		c.lookNow()
	}()
}

func (c *Conductor) operate(ctx context.Context, op *model.Operation) {
	ctx, let := c.Observer.Operation(ctx, op)
	ctx = logging.With(ctx, slog.String(logging.RequestID, op.RequestID), slog.String(logging.GlobalRequestID, op.GlobalRequestID),
		slog.String(logging.Operation, op.UUID), slog.String(logging.Cluster, op.ClusterID))
	log := logging.Bound(ctx, c.Logger).With("kind", op.Kind, "generation", op.Generation)
	log.Info("operation claimed", "undo", op.Undo, "taken_from", op.TakenFrom)
	r := &runner{
		Conductor: c, log: log, op: op,
		fence: store.FenceOf(op),
	}
	let(r.run(ctx))
}

// lookNow asks the poll loop to look at once: an ended operation may have held
// back the next one of its cluster.
func (c *Conductor) lookNow() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// beat tells in the service records that this conductor lives.
func (c *Conductor) beat(ctx context.Context) error {
	for {
		if err := c.Store.Heartbeat(ctx, c.opts.Host, Binary); err != nil && ctx.Err() == nil {
			c.Logger.Warn("could not write the service record", "error", err)
		}
		if sleep(ctx, c.opts.Heartbeat) != nil {
			return nil
		}
	}
}
