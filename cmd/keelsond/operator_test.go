// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// operator is one who has a machine with a configuration and a state_path.
type operator struct {
	*testing.T
	dir    string // state_path
	config string // further lines of keelson.conf
}

func newOperator(t *testing.T, config string) *operator {
	t.Helper()
	o := &operator{t, t.TempDir(), config}
	must(t, os.Chmod(o.dir, 0o700))
	_, err := ca.LoadOrCreateKeyFile(filepath.Join(o.dir, "master.key"))
	must(t, err)
	return o
}

// run gives a command to keelsond and returns what it prints.
func (o *operator) run(args ...string) (string, error) {
	o.Helper()
	file := filepath.Join(o.TempDir(), "keelson.conf")
	must(o.T, os.WriteFile(file, []byte("[DEFAULT]\nstate_path = "+o.dir+"\n[drivers]\nplugin_dir =\n"+o.config), 0o600))
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"--config-file", file}, args...))
	err := root.ExecuteContext(o.Context())
	return out.String(), err
}

// onDatabase gives the operator a database that has this release's schema.
func (o *operator) onDatabase(connection string) *store.Store {
	o.Helper()
	o.config += "[database]\nconnection = " + connection + "\n"
	s := storetest.Open(o.T, connection)
	must(o.T, s.Migrate(o.Context()))
	return s
}
