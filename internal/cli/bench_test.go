// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkList times keelson list with a kept token, and as the yardstick curl
// of the same address with the same token, turn and turn about. Both start a
// process, connect and read the same answer.
func BenchmarkList(b *testing.B) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		b.Skip(err)
	}
	home := b.TempDir()
	run := func(program string, args ...string) time.Duration {
		c := exec.Command(program, args...)
		c.Env = environment(shared, home)
		began := time.Now()
		out, err := c.CombinedOutput()
		took := time.Since(began)
		if err != nil {
			b.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return took
	}
	run(keelson, "list") // logs in
	files, err := filepath.Glob(filepath.Join(home, ".cache", "keelson", "session-*.json"))
	if err != nil || len(files) != 1 {
		b.Fatalf("there are sessions %v (%v), want one", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	var session struct{ Token, Endpoint string }
	if err := json.Unmarshal(text, &session); err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(home, "curl")
	if err := os.WriteFile(config, fmt.Appendf(nil, "header = \"X-Auth-Token: %s\"\nsilent\nfail\nurl = %s/clusters\n", session.Token, session.Endpoint), 0o600); err != nil {
		b.Fatal(err)
	}
	var ours, theirs []time.Duration
	for b.Loop() {
		ours = append(ours, run(keelson, "list"))
		theirs = append(theirs, run(curl, "--config", config))
	}
	our, their := median(ours), median(theirs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(our.Microseconds())/1000, "ms/list")
	b.ReportMetric(float64(their.Microseconds())/1000, "ms/curl")
	b.ReportMetric(float64(our)/float64(their), "times-curl")
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}
