// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/keelson/keelson/internal/badnet"
	"github.com/keelson/keelson/ironic/ironictest"
	"github.com/keelson/keelson/test/chaos/ledger"
	"github.com/keelson/keelson/test/rig"
)

var quietLog = slog.New(slog.DiscardHandler)

// trouble makes faults until its end.
type trouble struct {
	*testing.T
	rig    *rig.Rig
	ledger *ledger.Writer
	lease  time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	paused *rig.Process // is not to be killed
}

func begin(t *testing.T, r *rig.Rig, w *ledger.Writer, s size, chance *rand.Rand) *trouble {
	t.Helper()
	tr := &trouble{T: t, rig: r, ledger: w, lease: s.lease}
	tr.ctx, tr.cancel = context.WithCancel(t.Context())
	mishaps(r, true)
	for _, source := range []func(*rand.Rand){
		tr.killConductors, tr.pauseConductors, tr.killAPIs,
		tr.network(r.Database, ledger.Database, 2), tr.network(r.Broker, ledger.Broker, 2), tr.network(r.Keystone, ledger.Keystone, 5),
		tr.stealMessages, tr.badIronic, tr.deadHosts, tr.wipe,
	} {
		own := rand.New(rand.NewPCG(chance.Uint64(), 0)) // so that sources do not change each other's chances
		tr.all.Go(func() { source(own) })
	}
	if s.restarts {
		tr.all.Go(func() { tr.restarts(rand.New(rand.NewPCG(chance.Uint64(), 0))) })
	}
	return tr
}

// end makes all well again.
func (tr *trouble) end() {
	tr.cancel()
	tr.all.Wait()
	mishaps(tr.rig, false)
	for _, p := range []*badnet.Proxy{tr.rig.Database, tr.rig.Broker, tr.rig.Keystone} {
		p.Up()
	}
}

// wait sleeps between least and twice that; false means that the trouble is over.
func (tr *trouble) wait(chance *rand.Rand, least time.Duration) bool {
	select {
	case <-time.After(least + time.Duration(chance.Int64N(int64(least)))):
		return true
	case <-tr.ctx.Done():
		return false
	}
}

// lasts notes a fault from now until the function is called.
func (tr *trouble) lasts(what string) func() {
	from := time.Now()
	return func() { tr.ledger.Write(ledger.Entry{Kind: ledger.Fault, What: what, From: from, To: time.Now()}) }
}

func (tr *trouble) killConductors(chance *rand.Rand) {
	for tr.wait(chance, tr.lease/2) {
		all := tr.rig.Of("conductor")
		p := all[chance.IntN(len(all))]
		tr.mu.Lock()
		if p != tr.paused {
			owner := p.Owner()
			tr.ledger.Write(ledger.Entry{Kind: ledger.Fault, What: ledger.KillConductor, From: time.Now(), To: time.Now(), Owner: owner})
			p.Signal(syscall.SIGKILL)
		}
		tr.mu.Unlock()
	}
}

// pauseConductors lets conductors sleep for up to two and a half leases: some
// wake up in time, others find that their operations are in other hands.
func (tr *trouble) pauseConductors(chance *rand.Rand) {
	for tr.wait(chance, tr.lease/2) {
		all := tr.rig.Of("conductor")
		p := all[chance.IntN(len(all))]
		tr.mu.Lock()
		tr.paused = p
		tr.mu.Unlock()
		over := tr.lasts(ledger.Pause)
		p.Signal(syscall.SIGSTOP)
		tr.wait(chance, tr.lease*5/4)
		p.Signal(syscall.SIGCONT)
		over()
		tr.mu.Lock()
		tr.paused = nil
		tr.mu.Unlock()
	}
}

func (tr *trouble) killAPIs(chance *rand.Rand) {
	for tr.wait(chance, tr.lease/2) {
		all := tr.rig.Of("api")
		over := tr.lasts(ledger.KillAPI)
		all[chance.IntN(len(all))].Signal(syscall.SIGKILL)
		over()
	}
}

// network cuts, freezes and refuses connections, every so many leases.
func (tr *trouble) network(p *badnet.Proxy, what string, leases int) func(*rand.Rand) {
	return func(chance *rand.Rand) {
		for tr.wait(chance, time.Duration(leases)*tr.lease/2) {
			over := tr.lasts(what)
			switch chance.IntN(4) {
			case 0:
				p.Cut()
			case 1:
				p.CutAfter(chance.Int64N(20_000))
				tr.wait(chance, 200*time.Millisecond)
			case 2:
				p.Down()
				tr.wait(chance, 300*time.Millisecond)
			case 3:
				p.Freeze()
				tr.wait(chance, 500*time.Millisecond)
			}
			p.Up()
			over()
		}
	}
}

// stealMessages takes messages from the conductors' queue, and drops them or
// sends them twice.
func (tr *trouble) stealMessages(chance *rand.Rand) {
	for tr.wait(chance, 200*time.Millisecond) {
		conn, err := amqp.Dial(strings.Replace(tr.rig.RabbitMQ, "rabbit://", "amqp://", 1))
		if err != nil {
			continue
		}
		if ch, err := conn.Channel(); err == nil {
			for tr.wait(chance, 20*time.Millisecond) {
				d, ok, err := ch.Get("keelson.operations", false)
				if err != nil {
					break
				}
				if !ok {
					continue
				}
				what := ledger.Dropped
				if chance.IntN(2) == 0 {
					what = ledger.Doubled
					for range 2 {
						_ = ch.Publish("", "keelson.operations", false, false, amqp.Publishing{
							Body: d.Body, ContentType: d.ContentType, MessageId: d.MessageId, DeliveryMode: amqp.Persistent, Headers: d.Headers,
						})
					}
				}
				_ = d.Ack(false)
				tr.lasts(what)()
			}
		}
		_ = conn.Close()
	}
}

// badIronic makes requests and deployments go wrong.
func (tr *trouble) badIronic(chance *rand.Rand) {
	for tr.wait(chance, 500*time.Millisecond) {
		faults := []ironictest.Fault{
			{Status: http.StatusInternalServerError, Message: "Internal Server Error"},
			{Status: http.StatusServiceUnavailable, Message: "No conductor"},
			{Status: http.StatusConflict, Message: "Node is locked by host other", Method: http.MethodPut},
			{Cut: true},
			{Hang: true},
		}
		remove := tr.rig.Ironic.Inject(faults[chance.IntN(len(faults))])
		tr.wait(chance, 200*time.Millisecond)
		remove()
		if chance.IntN(4) == 0 {
			tr.rig.Ironic.FailNext(fmt.Sprintf("machine-%d", 1+chance.IntN(tr.rig.Machines)), "deploy", "the machine did not boot")
		}
	}
}

// deadHosts lets hosts not answer for a while.
func (tr *trouble) deadHosts(chance *rand.Rand) {
	for tr.wait(chance, 2*time.Second) {
		dirs := tr.rig.Dirs()
		dir := dirs[chance.IntN(len(dirs))]
		away := filepath.Join(tr.rig.Dir, "away")
		if os.Rename(dir, away) == nil {
			tr.wait(chance, 500*time.Millisecond)
			if err := os.Rename(away, dir); err != nil {
				tr.Errorf("a host did not come back: %v", err)
			}
		}
	}
}

// wipe does what Ironic's cleaning does with the disks of real machines.
func (tr *trouble) wipe(chance *rand.Rand) {
	for tr.wait(chance, 100*time.Millisecond) {
		for i := range tr.rig.Machines {
			name := fmt.Sprintf("machine-%d", i+1)
			if n, ok := tr.rig.Ironic.Get(name); ok && n.ProvisionState == "cleaning" {
				left, _ := filepath.Glob(filepath.Join(tr.rig.HostDir(name), "*.json"))
				for _, file := range left {
					_ = os.Remove(file)
				}
			}
		}
	}
}

// restarts stops the lab's own MariaDB and RabbitMQ and starts them again.
func (tr *trouble) restarts(chance *rand.Rand) {
	for tr.wait(chance, 20*time.Second) {
		part, what := "mariadb", ledger.Database
		if chance.IntN(2) == 0 {
			part, what = "rabbitmq", ledger.Broker
		}
		args := []string{part}
		if chance.IntN(2) == 0 {
			args = []string{"--kill", part}
		}
		over := tr.lasts(what)
		restart := exec.Command("../lab/restart", args...)
		restart.Env = append(restart.Environ(), "KEELSON_LAB_STATE="+os.Getenv("KEELSON_TEST_STATE"))
		if out, err := restart.CombinedOutput(); err != nil {
			tr.Errorf("restarting %s: %v\n%s", part, err, out)
			return
		}
		over()
	}
}
