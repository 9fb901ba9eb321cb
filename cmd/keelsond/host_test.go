// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The keys of conductors that were killed go with the next start; those of
// conductors that live, or have just been made, stay.
func TestKeysOfKilledConductorsAreRemoved(t *testing.T) {
	state := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"pki-1", "pki-2", "pki-3"} {
		dir := filepath.Join(state, name)
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "clientkey.pem"), nil, 0o600))
		if name != "pki-3" {
			must(t, os.Chtimes(dir, old, old))
		}
	}
	alive, err := os.Open(filepath.Join(state, "pki-2"))
	must(t, err)
	defer alive.Close()
	must(t, unix.Flock(int(alive.Fd()), unix.LOCK_SH))
	for range 2 {
		must(t, removeDeadKeys(state))
		for name, want := range map[string]bool{"pki-1": false, "pki-2": true, "pki-3": true} {
			if _, err := os.Stat(filepath.Join(state, name)); (err == nil) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
