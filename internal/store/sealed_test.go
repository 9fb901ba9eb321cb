// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// The master key is replaced as operators do it, by one process, while another
// goes on making and reading keys of clusters.
func TestMasterKeyIsReplacedWhileTheServiceRuns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		path := filepath.Join(t.TempDir(), "master.key")
		running, err := ca.LoadOrCreateKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		old := running.KeyID()
		authorities, err := ca.New(s, running, ca.Options{NotFound: store.ErrNotFound})
		if err != nil {
			t.Fatal(err)
		}
		var clusters []string
		certificates := map[string]string{}
		for range 3 {
			c := cluster(t, s, "p1")
			clusters = append(clusters, c.UUID)
			certificates[c.UUID] = authority(t, authorities, c.UUID)
			s.Exec(t, "UPDATE clusters SET driver_state = ? WHERE uuid = ?", running.Seal([]byte("state of "+c.UUID), model.DriverStateContext, c.UUID), c.UUID)
		}

		next, err := ca.AddKey(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := ca.UseKey(path, next); err != nil {
				t.Fatal(err)
			}
		}
		command, err := ca.LoadKeyFile(path)
		if err != nil || command.KeyID() != next {
			t.Fatalf("%v, key %s", err, command.KeyID())
		}

		// Cut off after the first batch, and run again beside a process that
		// has not looked at the file yet.
		cut, cancel := context.WithCancel(t.Context())
		if err := command.Reseal(cut, s, func(int, int) { cancel() }); err == nil {
			t.Fatal("it was not cut off")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, c := range clusters {
				if _, err := authorities.Cluster(c, "x", 0).AuthorityOf(t.Context(), model.CertEtcdCA); err != nil {
					t.Error(err)
				}
			}
		})
		if err := command.Reseal(t.Context(), s, func(int, int) {}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()

		if changed, err := running.Reload(false); err != nil || !changed && running.KeyID() != next {
			t.Fatalf("%v, %v", changed, err)
		}
		seen, resealed := 0, 0
		for range 2 {
			if err := command.Reseal(t.Context(), s, func(n, m int) { seen, resealed = n, m }); err != nil {
				t.Fatal(err)
			}
		}
		count, err := ca.SealedWith(t.Context(), s)
		if diff := cmp.Diff(map[string]int{next: seen}, count); err != nil || diff != "" || resealed != 0 || seen != 9 {
			t.Errorf("%d seen, %d sealed anew the last time, %v\n%s", seen, resealed, err, diff)
		}

		if err := ca.RemoveKey(path, next); err == nil {
			t.Error("the key that seals was removed")
		}
		for range 2 {
			if err := ca.RemoveKey(path, old); err != nil {
				t.Fatal(err)
			}
		}
		alone, err := ca.LoadKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		authorities, err = ca.New(s, alone, ca.Options{NotFound: store.ErrNotFound})
		if err != nil {
			t.Fatal(err)
		}
		for c, want := range certificates {
			if got := authority(t, authorities, c); got != want {
				t.Error("the cluster has another authority now")
			}
			row, err := s.Cluster(t.Context(), everything, c)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := alone.Open(row.DriverState, model.DriverStateContext, c); err != nil || string(text) != "state of "+c {
				t.Errorf("%q, %v", text, err)
			}
		}
	})
}

func authority(t *testing.T, all *ca.CA, cluster string) string {
	t.Helper()
	text, err := all.Cluster(cluster, "x", 0).AuthorityOf(t.Context(), model.CertCA)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSecretsThatDoNotOpenAreToldAndLeftAlone(t *testing.T) {
	s := storetest.New(t)
	path := filepath.Join(t.TempDir(), "master.key")
	sealer, err := ca.LoadOrCreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good, bad := cluster(t, s, "p1"), cluster(t, s, "p1")
	stranger := filepath.Join(t.TempDir(), "other.key")
	other, err := ca.LoadOrCreateKeyFile(stranger)
	if err != nil {
		t.Fatal(err)
	}
	lost := other.Seal([]byte("lost"), model.DriverStateContext, bad.UUID)
	s.Exec(t, "UPDATE clusters SET driver_state = ? WHERE uuid = ?", lost, bad.UUID)
	s.Exec(t, "UPDATE clusters SET driver_state = ? WHERE uuid = ?", sealer.Seal([]byte("good"), model.DriverStateContext, good.UUID), good.UUID)
	next, err := ca.AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.UseKey(path, next); err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.Reload(true); err != nil {
		t.Fatal(err)
	}
	err = sealer.Reseal(t.Context(), s, func(int, int) {})
	if err == nil || !strings.Contains(err.Error(), "1 secrets could not be opened") || !strings.Contains(err.Error(), other.KeyID()) {
		t.Errorf("error %v", err)
	}
	count, err := ca.SealedWith(t.Context(), s)
	if diff := cmp.Diff(map[string]int{next: 1, other.KeyID(): 1}, count); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestACloudKeepsItsName(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for _, initial := range []string{"first", "second", "first"} {
			if id, err := s.CloudID(t.Context(), initial); err != nil || id != "first" {
				t.Errorf("%q, %v", id, err)
			}
		}
	})
}

func TestKeyFileKeepsItsModeAndItsComments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	content := "# of the cloud in the cellar\n\n" + string(ca.NewKeyLine())
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	id, err := ca.AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(after), content) {
		t.Fatalf("%v\n%s", err, after)
	}
	if err := ca.UseKey(path, id); err != nil {
		t.Fatal(err)
	}
	if after, err = os.ReadFile(path); err != nil || !strings.HasPrefix(string(after), "# of the cloud in the cellar\n\n"+id+" ") {
		t.Fatalf("%v\n%s", err, after)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := ca.UseKey(path, "nobody"); err == nil {
		t.Error("a key that is not there is used")
	}
}
