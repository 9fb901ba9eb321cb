// SPDX-License-Identifier: Apache-2.0

package mishap_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/mishap"
)

// Each kind of mishap is what its name says, for the call it is meant for.
func TestPlay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mishaps")
	say := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if lost, err := mishap.Play(t.Context(), file, "start"); err != nil || lost() != nil {
		t.Error("something went wrong without a file")
	}
	say(`{"start": {"error": 1}, "stop": {"permanent": 1}, "list": {"lost": 1}, "*": {"hang": 1}}`)
	if _, err := mishap.Play(t.Context(), file, "start"); err == nil || fault.IsPermanent(err) {
		t.Error("start:", err)
	}
	if _, err := mishap.Play(t.Context(), file, "stop"); !fault.IsPermanent(err) {
		t.Error("stop:", err)
	}
	if lost, err := mishap.Play(t.Context(), file, "list"); err != nil || lost() == nil {
		t.Error("list:", err)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mishap.Play(given, file, "other"); err == nil {
		t.Error("other did not hang")
	}
}
