// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// The database of the tests is on this machine: it has the same time, whatever
// its time zone.
func TestNow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		before := time.Now()
		got, err := s.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slack := 10 * time.Millisecond; got.Before(before.Add(-slack)) || got.After(time.Now().Add(slack)) {
			t.Errorf("the database says %s, it is %s", got, before)
		}
	})
}

func TestEndingCertificates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		end := time.Now().Add(time.Hour)
		if _, err := s.PutCertificates(t.Context(), model.Certificate{Kind: model.CertHostCA, PEM: "pem", SealedKey: []byte("sealed"), NotAfter: end}); err != nil {
			t.Fatal(err)
		}
		for when, want := range map[time.Duration]int{0: 0, 2 * time.Hour: 1} {
			got, err := s.EndingCertificates(t.Context(), time.Now().Add(when), 10)
			if err != nil || len(got) != want {
				t.Errorf("before %s: %v, %v", when, got, err)
			}
			if want == 1 && (got[0].Kind != model.CertHostCA || got[0].SealedKey != nil || got[0].NotAfter.Sub(end).Abs() > time.Second) {
				t.Errorf("got %+v", got[0])
			}
		}
	})
}
