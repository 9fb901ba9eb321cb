// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"math"
	"time"

	"github.com/keelson/keelson/internal/model"
)

// Now asks the database what time it is, by the clock that leases are reckoned
// by.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	query := "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) / 1e6"
	if s.writer != nil {
		query = "SELECT (julianday('now') - 2440587.5) * 86400"
	}
	var seconds float64
	if err := s.read(ctx).Raw(query).Scan(&seconds).Error; err != nil {
		return time.Time{}, failed("ask the database for the time", err)
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}

// EndingCertificates returns the certificates that end before the time, without
// their keys, those first that end first, at most limit.
func (s *Store) EndingCertificates(ctx context.Context, before time.Time, limit int) ([]model.Certificate, error) {
	var ending []model.Certificate
	err := s.read(ctx).Select("cluster_id", "kind", "node_id", "generation", "not_after").
		Where("not_after < ?", utc(before)).Order("not_after, id").Limit(limit).Find(&ending).Error
	return ending, failed("look for certificates that end", err)
}
