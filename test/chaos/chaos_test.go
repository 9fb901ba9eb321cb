// SPDX-License-Identifier: Apache-2.0

// Package chaos runs whole Keelsons under continuous faults: processes are
// killed and paused, the database and the broker go away, messages are lost and
// doubled, hosts, Ironic and the driver fail and hang. A program of its own
// (checker) looks from the outside whether anything was stuck, lost or left
// behind. `make chaos` is the long form of it.
package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/test/chaos/ledger"
	"github.com/keelson/keelson/test/rig"
)

// The size of the run. The environment makes it larger:
//
//	KEELSON_CHAOS_OPERATIONS  how many requests are to be accepted
//	KEELSON_CHAOS_SEED        to play a run again, as far as chance allows
//	KEELSON_CHAOS_RESTARTS    "1": the lab's MariaDB and RabbitMQ are restarted, too
//	KEELSON_CHAOS_KEEP        directory that logs and ledger are kept in
type size struct {
	operations int
	atLeast    int           // that many, if time is up before
	time       time.Duration // that faults last at most
	stories    int           // at once
	apis       int
	lease      time.Duration
	busy       time.Duration // the short form runs beside other tests: see the checker
	restarts   bool
}

const quota = 10 // clusters of each of the projects

func TestChaos(t *testing.T) {
	s := size{operations: 60, atLeast: 10, time: 8 * time.Second, stories: 16, apis: 2, lease: 4 * time.Second, busy: 20 * time.Second}
	if text := os.Getenv("KEELSON_CHAOS_OPERATIONS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal("KEELSON_CHAOS_OPERATIONS:", err)
		}
		s.operations, s.atLeast, s.time, s.lease, s.stories = n, n, time.Duration(n)*3*time.Second, 4*time.Second, 40
		s.busy = 0
	}
	s.restarts = os.Getenv("KEELSON_CHAOS_RESTARTS") == "1"
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEELSON_CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("KEELSON_CHAOS_SEED:", err)
		}
	}
	t.Logf("seed %d (KEELSON_CHAOS_SEED)", seed)
	dir := os.Getenv("KEELSON_CHAOS_KEEP")
	if dir == "" {
		dir = t.TempDir()
	}

	bin := t.TempDir()
	build(t, bin, "keelsond", "../../cmd/keelsond")
	build(t, bin, "checker", "./checker")
	r, err := rig.New(t.Context(), rig.Options{
		Dir: dir, Keelsond: filepath.Join(bin, "keelsond"),
		MariaDB: testenv.Require(t, testenv.MariaDB), RabbitMQ: testenv.Require(t, testenv.RabbitMQ),
		APIs: s.apis, Conductors: 3, Projects: 3, Hosts: 3, Machines: 6, VCPUs: 32, MemoryMiB: 32 << 10, DiskGiB: 1000, Quota: quota,
		Conductor: fmt.Sprintf("lease = %g\npoll_interval = 0.2\nheartbeat = 1\nstep_timeout = 30\nshutdown_timeout = 2\n"+
			"health_polling_interval = 5\nmachine_check_interval = 5\nsweep = delete\nsweep_interval = 5\nsweep_grace = 60", s.lease.Seconds()),
		Config: "[hosts]\nreserved_memory_mib = 0\nrelease_after = 2\ndeploy_timeout = 10\nprepare_timeout = 5\navoid_failed_for = 3\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	starting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Start(starting); err != nil {
		t.Fatal(err)
	}
	w, err := ledger.Create(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	checker, said := check(t, r, bin, s)

	// Trouble begins, work goes on, trouble ends.
	c := &crowd{rig: r, ledger: w, t: t, want: int64(s.operations), seed: seed}
	if err := c.templates(t.Context()); err != nil {
		t.Fatal(err)
	}
	trouble := begin(t, r, w, s, rand.New(rand.NewPCG(seed, 1)))
	c.work(t.Context(), s)
	trouble.end()

	bound := 60 * time.Second
	quiet(t, r, bound)
	swept(t, r)
	w.Write(ledger.Entry{Kind: ledger.End, From: time.Now()})
	err = checker.Wait()
	t.Logf("\n%s", said)
	if err != nil {
		t.Errorf("the checker: %v", err)
	}
	if c.accepted.Load() < int64(s.atLeast) {
		t.Errorf("%d requests were accepted, not %d", c.accepted.Load(), s.atLeast)
	}
}

// build compiles a program; keelsond with the race detector if the tests have it.
func build(t *testing.T, dir, name, from string) {
	t.Helper()
	args := []string{"build", "-tags", "libvirt_dlopen", "-o", filepath.Join(dir, name)}
	if raced && name == "keelsond" {
		args = append(args, "-race", "-gcflags=modernc.org/...=-race=false")
	}
	if out, err := exec.Command("go", append(args, from)...).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
}

// check starts the checker.
func check(t *testing.T, r *rig.Rig, bin string, s size) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	tokens := filepath.Join(r.Dir, "tokens")
	if err := os.WriteFile(tokens, []byte(strings.Join(r.Tokens, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	checker := exec.CommandContext(t.Context(), filepath.Join(bin, "checker"),
		"-ledger", filepath.Join(r.Dir, "ledger"), "-database", r.DSN, "-api", r.Of("api")[0].URL, "-tokens", tokens,
		"-hosts", filepath.Join(r.Dir, "hosts"), "-engine", filepath.Join(r.Dir, "fake"), "-ironic", r.IronicURL,
		"-quota", strconv.Itoa(quota), "-lease", s.lease.String(), "-busy", s.busy.String(), "-bound", "5m")
	checker.Stdout, checker.Stderr = said, said
	if err := checker.Start(); err != nil {
		t.Fatal(err)
	}
	return checker, said
}

// quiet waits until all operations have ended and the pool is at rest.
func quiet(t *testing.T, r *rig.Rig, bound time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(bound); ; time.Sleep(100 * time.Millisecond) {
		var open, moving int
		err := r.SQL.QueryRow("SELECT (SELECT COUNT(*) FROM operations WHERE state IN ('pending', 'running')), "+
			"(SELECT COUNT(*) FROM hosts WHERE state NOT IN ('ready', 'error'))").Scan(&open, &moving)
		if err == nil && open+moving == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Logf("after %s without faults %d operations have not ended and %d hosts are on their way: %v", bound, open, moving, err)
			return // the checker tells which
		}
	}
}

// swept does what a sweep does when its grace is over: a conductor that was
// paused in the middle of a call to a host ends it when it wakes up, which
// nobody can forbid, and what it made there is of nobody.
func swept(t *testing.T, r *rig.Rig) {
	t.Helper()
	s := conductor.Sweeper{Store: r.Store, Nodes: hosts{}, Logger: quietLog, Grace: 0, Silent: time.Hour}
	report, err := s.Sweep(t.Context(), true)
	if err != nil {
		t.Errorf("sweep: %v", err)
		return
	}
	machines := 0
	for _, o := range report.Orphans {
		if o.Kind == conductor.OrphanMachine && o.Removed {
			machines++
			continue
		}
		t.Errorf("the sweep found %+v", o)
	}
	t.Logf("machines of conductors that woke up late: %d, removed by the sweep", machines)
}

type hosts struct{}

func (hosts) Host(_, uri string) conductor.NodeHost { return simhost.Open(uri) }

// odds of the hosts and of the driver's steps.
const (
	hostOdds   = `{"ensure": {"error": 0.05, "lost": 0.05, "hang": 0.02, "permanent": 0.01}, "delete": {"error": 0.05, "lost": 0.05, "hang": 0.02}, "*": {"error": 0.02, "lost": 0.02, "hang": 0.01}}`
	driverOdds = `{"*": {"error": 0.03, "lost": 0.03, "hang": 0.01, "permanent": 0.003}}`
)

// mishaps lets hosts and driver go wrong, or ends that.
func mishaps(r *rig.Rig, on bool) {
	_ = os.MkdirAll(filepath.Join(r.Dir, "fake"), 0o700)
	files := map[string]string{filepath.Join(r.Dir, "fake", fake.Mishaps): driverOdds}
	for _, dir := range r.Dirs() {
		files[filepath.Join(dir, simhost.Mishaps)] = hostOdds
	}
	for file, odds := range files {
		if on {
			_ = os.WriteFile(file, []byte(odds), 0o600)
		} else {
			_ = os.Remove(file)
		}
	}
}
