// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// A process that is paused in the middle of a transaction, or cut off from the
// database, does not hold its locks for ever: after some seconds others go on,
// and it finds its transaction gone.
func TestPausedTransactionLosesItsLocks(t *testing.T) {
	s := storetest.NewMariaDB(t)
	c, _, _ := created(t, s, "project")
	locked, release, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() { ended <- s.HoldCluster(t.Context(), c.UUID, locked, release) }()
	<-locked
	began := time.Now()
	must(t, s.SetHealth(t.Context(), c.UUID, new("HEALTHY"), nil))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the cluster was locked for %s", took)
	}
	close(release)
	if err := <-ended; err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("the paused transaction ended with %v", err)
	}
}
