// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

// plugins are the drivers that this test's program is when it is started as one.
var plugins = map[string]func(dir string) drivers.Driver{
	"fake": func(dir string) drivers.Driver { return fake.New(fake.OpenCOE(filepath.Join(dir, "coe"))) },
}

// A driver's process is killed in the middle of each create: no create is lost,
// and each has made all of its nodes.
func TestNoCreateIsLostWhenItsDriverIsKilled(t *testing.T) {
	kills := 4 // all nodes fit on one host
	if all := os.Getenv("KEELSON_PLUGIN_KILLS"); all != "" {
		var err error
		if kills, err = strconv.Atoi(all); err != nil {
			t.Fatal(err)
		}
	}
	opts, dir := plugintest.Install(t, "fake")
	opts.RestartMost = 50 * time.Millisecond
	w := newWorld(t, storetest.New(t))
	w.networks = nil
	w.addNetwork("net", "10.99.0.0/16", "10.99.1.0-10.99.250.0")
	for i := range kills / 20 { // with 64 CPUs each
		dir := w.hostDir + "-" + strconv.Itoa(i)
		w.must(os.Mkdir(dir, 0o700))
		w.addHost("more-"+strconv.Itoa(i), dir, 1<<20)
	}
	w.deadline, w.options.StepTimeout = time.Hour, time.Hour // the same create may be hit many times
	w.driver = plugintest.Named(t, plugintest.Load(t, opts), "fake")
	// A start of each create goes on until the driver that asked for it is gone.
	var armed atomic.Bool
	reached := make(chan struct{})
	w.fault = func(ctx context.Context, call, _ string) error {
		if call != "ensure" || !armed.CompareAndSwap(true, false) {
			return nil
		}
		reached <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	w.conduct()

	began := time.Now()
	operations := map[string]*model.Operation{} // by cluster
	for i := range kills {
		armed.Store(true)
		c, op := w.create("c"+strconv.Itoa(i), 1, 1)
		operations[c.UUID] = op
		<-reached
		w.eventually("the driver is there to be killed", func() bool { return plugintest.Kill(t, opts, "fake") != 0 })
	}
	for cluster, op := range operations {
		if ended := w.ended(op.UUID); ended.State != model.OpDone {
			t.Errorf("create of %s: %s, %s", cluster, ended.State, *ended.Reason)
		}
		if members := fake.OpenCOE(filepath.Join(dir, "coe")).Members(cluster); len(members) != 2 {
			t.Errorf("the COE of %s has the members %v", cluster, members)
		}
	}
	t.Logf("%d kills in %d creates, %s", kills, len(operations), time.Since(began).Round(time.Millisecond))
}
