// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import "testing"

// One scene for all: making it takes longer than most attacks.
func TestWalls(t *testing.T) {
	s := newScene(t)
	t.Run("kernel", func(t *testing.T) { testKernel(t, s) })
}
