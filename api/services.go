// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

func (a *API) listServices(c *call) (response, error) {
	if err := c.authorize(c.self()); err != nil {
		return response{}, err
	}
	records, err := a.Store.ListServices(c.Context())
	if err != nil {
		return response{}, err
	}
	now := a.Now()
	return ok(v1.Services{Services: each(records, func(r *model.ServiceRecord) v1.Service {
		return v1.Service{
			ID:             r.ID,
			Host:           r.Host,
			Binary:         r.Binary,
			State:          a.serviceState(r, now),
			ReportCount:    r.ReportCount,
			Disabled:       r.Disabled,
			DisabledReason: r.DisabledReason,
			CreatedAt:      v1.Time(r.CreatedAt),
			UpdatedAt:      wireTime(r.UpdatedAt),
		}
	})}), nil
}

// serviceState is up while the conductor's last sign of life is recent.
func (a *API) serviceState(r *model.ServiceRecord, now time.Time) string {
	seen := *either(r.LastSeenUp, either(r.UpdatedAt, &r.CreatedAt))
	if r.ForcedDown || now.Sub(seen) > a.config.ServiceDownTime {
		return "down"
	}
	return "up"
}
