// SPDX-License-Identifier: Apache-2.0

package ironic_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

func TestReservedAreThoseOfTheOwner(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) { reservesFor(t, l.Client, l.class) })
}

func TestReservedComeFromAllPages(t *testing.T) {
	reservesFor(t, newTyped(t, ironictest.Options{MaxLimit: 2}).Client, "baremetal")
}

// reservesFor reserves what may not be there: the wish is found all the same.
func reservesFor(t *testing.T, c *ironic.Client, class string) {
	t.Helper()
	mine, other := uuid.NewString(), uuid.NewString()
	var want []string
	for i := range 9 {
		owner := []string{mine, other, ""}[i%3]
		key := uuid.NewString()
		if _, _, err := c.Allocate(t.Context(), ironic.AllocationRequest{Key: key, ResourceClass: class, Owner: owner}); err != nil {
			t.Fatal(err)
		}
		if owner == mine {
			want = append(want, key)
		}
	}
	found, err := c.Reserved(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range found {
		got = append(got, a.ID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if none, err := c.Reserved(t.Context(), uuid.NewString()); len(none) > 0 || err != nil {
		t.Errorf("of a stranger: %v, %v", none, err)
	}
}
