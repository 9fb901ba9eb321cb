// SPDX-License-Identifier: Apache-2.0

package conductor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/store/storetest"
)

// Connections to the database that break cost an operation a moment: its
// conductor keeps it and carries on, and does not give it back or wait for its
// own lease to run out.
func TestDatabaseAwayForAMoment(t *testing.T) {
	direct := storetest.MariaDB(t)
	through, network := storetest.BadNet(t, direct)
	s := storetest.Open(t, direct)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, s)
	w.options.RetryMost = 50 * time.Millisecond
	var once sync.Once
	w.fault = func(_ context.Context, call, _ string) error {
		if call == "ensure" { // its outcome can not be written
			once.Do(func() {
				network.Down()
				time.AfterFunc(200*time.Millisecond, network.Up)
			})
		}
		return nil
	}
	w.conductOn(storetest.Open(t, through))
	_, op := w.create("c", 1, 1)
	if ended := w.ended(op.UUID); ended.State != "done" || ended.Generation != 1 {
		t.Errorf("%s after %d claims", ended.State, ended.Generation)
	}
	if n := w.coe.Taken(fake.StepStart, ""); n < 3 {
		t.Errorf("%d starts of two nodes: none was tried again", n)
	}
}
