// SPDX-License-Identifier: Apache-2.0

package simhost

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
)

func TestRebuildFollowsImageAndRevision(t *testing.T) {
	dir := t.TempDir()
	for _, image := range []string{"first", "second"} {
		if err := os.MkdirAll(filepath.Join(dir, "images", image), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := Open("sim://" + dir)
	spec := func(image, revision string) lxc.Spec {
		return lxc.Spec{UUID: "6f1c8a52-9d3e-4b77-8a1f-2c5d7e9b0a34", Image: image, Revision: revision}
	}
	if _, err := h.Node(spec("", "").UUID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a node that is not there: %v", err)
	}
	for _, c := range []struct {
		name string
		call func() error
		want string // image and revision afterwards
		ok   bool
	}{
		{"a missing node is made", func() error { return h.Rebuild(t.Context(), spec("first", "1")) }, "first 1", true},
		{"Ensure leaves it as it is", func() error { return h.Ensure(t.Context(), spec("second", "2")) }, "first 1", true},
		{"another revision", func() error { return h.Rebuild(t.Context(), spec("first", "2")) }, "first 2", true},
		{"another image", func() error { return h.Rebuild(t.Context(), spec("second", "2")) }, "second 2", true},
		{"no such image", func() error { return h.Rebuild(t.Context(), spec("third", "3")) }, "second 2", false},
	} {
		for range 2 {
			err := c.call()
			if (err == nil) != c.ok || err != nil && !fault.IsPermanent(err) {
				t.Errorf("%s: %v", c.name, err)
			}
			made, err := h.Node(spec("", "").UUID)
			if got := made.Image + " " + made.Revision; err != nil || got != c.want {
				t.Errorf("%s: the node is made from %q, %v, not %q", c.name, got, err, c.want)
			}
		}
	}
}
