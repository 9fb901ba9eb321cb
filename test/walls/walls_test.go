// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package walls

import "testing"

// One scene for all: making it takes longer than most attacks.
func TestWalls(t *testing.T) {
	s := newScene(t)
	t.Run("kernel", func(t *testing.T) { testKernel(t, s) })
	t.Run("network", func(t *testing.T) { testNetwork(t, s) })
	t.Run("resources", func(t *testing.T) { testResources(t, s) })
}
