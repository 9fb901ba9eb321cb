// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Who has credentials of before is locked out, and gets new ones.
func TestRotatesTheAuthority(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("old")
	p.must("create", "old", "--template", "swarm", "--wait")
	authority := func(dir string) []byte {
		dir = filepath.Join(t.TempDir(), dir)
		p.must("credentials", "old", "--dir", dir)
		ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	before := authority("before")
	p.fails(2, "add --yes", "rotate-ca", "old")
	if !bytes.Equal(before, authority("asked")) {
		t.Error("another authority, though nobody said yes")
	}
	for range 2 {
		p.must("rotate-ca", "old", "--yes", "--wait")
		after := authority("after")
		if bytes.Equal(before, after) {
			t.Error("the authority is the same")
		}
		before = after
	}
	p.fails(3, "keelson list", "rotate-ca", "nobody", "--yes")
	p.must("delete", "old", "--yes", "--wait")
}
