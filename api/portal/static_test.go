// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// htmxSum is the SHA-256 of dist/htmx.min.js in htmx.org 4.0.1 on npm.
const htmxSum = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"

// The file that is not ours is the one that was released.
func TestForeignFilesAreAsReleased(t *testing.T) {
	sum := sha256.Sum256(statics["htmx.min.js"].plain)
	if hex.EncodeToString(sum[:]) != htmxSum {
		t.Error("htmx.min.js is not the file of htmx.org 4.0.1")
	}
	if !bytes.Contains(statics["htmx.LICENSE"].plain, []byte("Zero-Clause BSD")) {
		t.Error("the licence of htmx is missing")
	}
}
