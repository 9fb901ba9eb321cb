// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestHeartbeat(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := s.Heartbeat(t.Context(), "h1", "magnum-conductor"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		must(t, s.Heartbeat(t.Context(), "h2", "magnum-conductor"))
		list, err := s.ListServices(t.Context())
		must(t, err)
		if len(list) != 2 || list[0].Host != "h1" || list[0].ReportCount != 8 || list[1].ReportCount != 1 {
			t.Fatalf("%+v", list)
		}
		for _, r := range list {
			if age := time.Since(*r.LastSeenUp); age < -time.Second || age > 10*time.Second || r.UpdatedAt == nil || r.Disabled {
				t.Errorf("seen %v ago: %+v", age, r)
			}
		}
	})
}

func TestCertificateMakersGetTheSame(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := cluster(t, s, "p1")
		makersGetTheSame(t, s, c.UUID, model.CertCA)
		makersGetTheSame(t, s, "", model.CertHostCA) // of no cluster
		for _, key := range [][3]string{{c.UUID, model.CertService, ""}, {c.UUID, model.CertCA, "node"}, {uuid.NewString(), model.CertCA, ""}} {
			_, err := s.Certificate(t.Context(), key[0], 0, key[1], key[2])
			wantErr(t, err, store.ErrNotFound)
		}
		_, err := s.PutCertificates(t.Context(), model.Certificate{Kind: model.CertCA, NotAfter: time.Now()})
		wantErr(t, err, store.ErrNotFound)

		there, err := s.Certificate(t.Context(), c.UUID, 0, model.CertCA, "")
		must(t, err)
		for range 2 { // one of them is there already
			stored, err := s.PutCertificates(t.Context(),
				model.Certificate{ClusterID: c.UUID, Kind: model.CertEtcdCA, PEM: "etcd", NotAfter: there.NotAfter},
				model.Certificate{ClusterID: c.UUID, Kind: model.CertCA, PEM: "late", NotAfter: there.NotAfter})
			must(t, err)
			if len(stored) != 2 || stored[0].PEM != "etcd" || stored[0].ID == 0 || stored[1].PEM != there.PEM || stored[1].ID != there.ID {
				t.Errorf("stored %+v", stored)
			}
		}
	})
}

func makersGetTheSame(t *testing.T, s *store.Store, clusterID, kind string) {
	t.Helper()
	_, err := s.Certificate(t.Context(), clusterID, 0, kind, "")
	wantErr(t, err, store.ErrNotFound)
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			stored, err := s.PutCertificates(t.Context(), model.Certificate{
				ClusterID: clusterID, Kind: kind, PEM: fmt.Sprint("pem ", i), SealedKey: []byte{0, byte(i)}, NotAfter: time.Now().Add(time.Hour),
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			got[fmt.Sprint(stored[0].ID, stored[0].PEM, stored[0].SealedKey)]++
			mu.Unlock()
		})
	}
	all.Wait()
	if len(got) != 1 {
		t.Errorf("makers got different ones: %v", got)
	}
	stored, err := s.Certificate(t.Context(), clusterID, 0, kind, "")
	if err != nil || got[fmt.Sprint(stored.ID, stored.PEM, stored.SealedKey)] != 8 {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestInMemory(t *testing.T) {
	s := storetest.Open(t, "sqlite://")
	must(t, s.Migrate(t.Context()))
	must(t, s.Ping(t.Context()))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { cluster(t, s, fmt.Sprint("p", i)) })
	}
	all.Wait()
	if n, _, err := s.Stats(t.Context(), ""); n != 8 || err != nil {
		t.Errorf("%d clusters, %v", n, err)
	}
}

func TestOpenFailsWhenNothingAnswers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, connection := range []string{
		"mysql+pymysql://k:hunter2@127.0.0.1:1/keelson",
		"mysql+pymysql://k:hunter2@localhost/keelson?unix_socket=/no/such/socket",
		"sqlite:////no/such/folder/k.db",
	} {
		if s, err := store.Open(ctx, connection, store.Options{}); err == nil {
			t.Errorf("%s opened", connection)
			_ = s.Close()
		}
	}
}

func TestEndedContextEndsTheCall(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, s.CreateTemplate(ctx, &model.ClusterTemplate{}), context.Canceled)
		_, err := s.ListClusters(ctx, everything, store.Page{})
		wantErr(t, err, context.Canceled)
	})
}

// TestConnectionsThatWereCut: the server ended all idle connections, as it
// does when it is restarted; the next call makes new ones.
func TestConnectionsThatWereCut(t *testing.T) {
	connection := storetest.MariaDB(t)
	s, server := storetest.Open(t, connection), storetest.Open(t, connection)
	must(t, s.Migrate(t.Context()))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { cluster(t, s, fmt.Sprint("p", i)) })
	}
	all.Wait()
	var cut []int64
	server.Query(t, &cut, "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
	for _, id := range cut {
		server.Exec(t, fmt.Sprint("KILL ", id))
	}
	if len(cut) == 0 {
		t.Fatal("no connection to cut")
	}
	for i := range 8 {
		cluster(t, s, fmt.Sprint("q", i))
	}
	if n, _, err := s.Stats(t.Context(), ""); n != 16 || err != nil {
		t.Errorf("%d clusters, %v", n, err)
	}
}
