// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestHostIsDrainedAndComesBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		_, groups, op := created(t, s, "p1")
		f := claim(t, s, op, "c1")
		rows := nodes(t, s, f, groups[1], 2)
		h := host(t, s, "h1", 4)
		_, err := s.ClaimHost(ctx, f, rows[0].UUID, h.UUID)
		must(t, err)
		now := func() *model.Host {
			t.Helper()
			got, err := s.Host(ctx, h.UUID)
			must(t, err)
			return got
		}
		for _, reason := range []string{"fan", "new fan"} {
			must(t, s.DrainHost(ctx, h.UUID, reason))
			if got := now(); got.State != model.HostDraining || *got.Reason != reason {
				t.Errorf("drained: %+v", got)
			}
		}
		_, err = s.ClaimHost(ctx, f, rows[1].UUID, h.UUID)
		wantErr(t, err, store.ErrNoRoom)
		// The pool, which believes that it drains the host itself, has no say.
		for _, to := range []model.HostState{model.HostReady, model.HostReleasing} {
			moved, err := s.UpdateHost(ctx, h.UUID, []model.HostState{model.HostDraining}, map[string]any{"state": to})
			if moved || err != nil {
				t.Errorf("moved to %s: %v, %v", to, moved, err)
			}
		}
		wantErr(t, s.ReleaseHost(ctx, h.UUID), store.ErrInUse)
		for range 2 {
			must(t, s.UndrainHost(ctx, h.UUID))
			if got := now(); got.State != model.HostReady || got.Reason != nil || got.EmptySince != nil {
				t.Errorf("back: %+v", got)
			}
		}

		// An empty one counts as empty from now on, and goes when it is told to.
		must(t, s.RemoveNode(ctx, f, rows[0].UUID))
		long := now().EmptySince.Add(-time.Hour)
		_, err = s.UpdateHost(ctx, h.UUID, nil, map[string]any{"empty_since": long})
		must(t, err)
		must(t, s.DrainHost(ctx, h.UUID, "fan"))
		must(t, s.UndrainHost(ctx, h.UUID))
		if got := now(); got.EmptySince == nil || got.EmptySince.Sub(long) < time.Minute {
			t.Errorf("empty since %v", got.EmptySince)
		}
		must(t, s.DrainHost(ctx, h.UUID, "fan"))
		for range 2 {
			must(t, s.ReleaseHost(ctx, h.UUID))
			if got := now(); got.State != model.HostReleasing {
				t.Errorf("released: %+v", got)
			}
		}
		wantErr(t, s.DrainHost(ctx, h.UUID, "late"), store.ErrHostState)
		wantErr(t, s.UndrainHost(ctx, h.UUID), store.ErrHostState)
		wantErr(t, s.DrainHost(ctx, "no such host", "fan"), store.ErrNotFound)
	})
}
