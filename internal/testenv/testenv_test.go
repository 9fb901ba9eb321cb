// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAwaitNextImageWaitsForItsBuild(t *testing.T) {
	state := t.TempDir()
	t.Setenv(State, state)
	t.Setenv(NextImage, "keelson-node-next")
	if got := AwaitNextImage(t); got != "keelson-node-next" { // nobody builds
		t.Errorf("got %q", got)
	}

	build := exec.Command("sleep", "1")
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", build.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	began := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	if err := os.Mkdir(filepath.Join(state, "pids"), 0o755); err != nil {
		t.Fatal(err)
	}
	note := func(began string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(state, "pids", "image-next"), fmt.Appendf(nil, "%d %s\n", build.Process.Pid, began), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", build.Process.Pid))
		return err == nil && !strings.Contains(string(stat), ") Z ")
	}
	note("1") // another process had this number
	if AwaitNextImage(t); !running() {
		t.Error("it waited for a process that is not the build")
	}
	note(began)
	if AwaitNextImage(t); running() {
		t.Error("it did not wait")
	}
	if err := build.Wait(); err != nil {
		t.Error(err)
	}
}
