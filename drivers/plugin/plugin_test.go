// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/kubernetes"
	"github.com/keelson/keelson/drivers/plugin"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/testenv"
)

func TestMain(m *testing.M) {
	plugintest.Main(map[string]func(string) drivers.Driver{
		"fake":       func(dir string) drivers.Driver { return fake.New(engine(dir)) },
		"kubernetes": func(string) drivers.Driver { return kubernetes.New() },
		"odd":        func(dir string) drivers.Driver { return odd{fake.New(engine(dir))} },
	})
	goleak.VerifyTestMain(m)
}

// engine is the pretended COE in the plugins' directory, which the test sees too.
func engine(dir string) *fake.COE { return fake.OpenCOE(filepath.Join(dir, "coe")) }

// odd does what its steps are named after.
type odd struct{ *fake.Driver }

func (odd) Info() drivers.Info {
	return drivers.Info{Name: "odd", Version: "1", COEs: []string{"odd"}, ServerTypes: []string{"vm"}}
}

func (odd) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error) {
	switch step.Name {
	case "pid":
		return drivers.Done(fmt.Sprint(os.Getpid())), nil
	case "environment":
		var names []string
		for _, v := range os.Environ() {
			name, _, _ := strings.Cut(v, "=")
			names = append(names, name)
		}
		slices.Sort(names)
		text, err := json.Marshal(names)
		return drivers.Done(string(text)), err
	case "limits":
		var files, core, data syscall.Rlimit
		err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files), syscall.Getrlimit(syscall.RLIMIT_CORE, &core), syscall.Getrlimit(syscall.RLIMIT_DATA, &data))
		return drivers.Done(fmt.Sprint(files.Max, core.Max, data.Max)), err
	case "panic":
		panic("at the disco")
	case "exit":
		fmt.Fprintln(os.Stderr, "it is all too much")
		os.Exit(3)
	case "hang":
		select {} // whatever ctx says
	case "temporary":
		return drivers.Outcome{}, drivers.Temporary(errors.New("inner"), "host %s is busy", "a")
	case "permanent":
		return drivers.Outcome{}, drivers.Permanent(nil, "no such image")
	case "plain":
		return drivers.Outcome{}, errors.New("two\nlines")
	case "escape":
		return job.Services.Nodes.Start(ctx, step.NodeID, []drivers.File{{Path: "/../etc/passwd", Mode: 0o644}})
	case "stranger":
		return drivers.Outcome{}, job.Services.Records.Joined(ctx, "another-cluster's-node", "x")
	case "soon":
		return drivers.Outcome{After: time.Microsecond}, nil
	}
	return drivers.Done("done"), nil
}

// machines are pretended ones that take their part of the COE down with them.
type machines struct {
	*conformance.Memory
	dir string
}

func (m machines) Delete(ctx context.Context, nodeID string) error {
	members, err := filepath.Glob(filepath.Join(m.dir, "coe", "*", nodeID))
	for _, file := range members {
		err = errors.Join(err, os.Remove(file))
	}
	return errors.Join(err, m.Memory.Delete(ctx, nodeID))
}

// A driver does the same in a process of its own.
func TestConformance(t *testing.T) {
	opts, dir := plugintest.Install(t, "fake", "kubernetes")
	registry := plugintest.Load(t, opts)
	t.Run("Fake", func(t *testing.T) {
		conformance.Run(t, conformance.Suite{
			New:      func() drivers.Driver { return plugintest.Named(t, registry, "fake") },
			Machines: func(testing.TB) conformance.Machines { return machines{conformance.NewMemory(), dir} },
			Template: drivers.Template{COE: "fake", ServerType: "bm"},
			Members: func(_ context.Context, job *drivers.Job) ([]string, error) {
				return engine(dir).Members(job.Cluster.ID), nil
			},
			Managers: 3,
		})
	})
	t.Run("Kubernetes", func(t *testing.T) {
		conformance.Run(t, conformance.Suite{
			New:      func() drivers.Driver { return plugintest.Named(t, registry, "kubernetes") },
			Template: drivers.Template{COE: "kubernetes", ServerType: "vm", Distro: "debian"},
		})
	})
}

func TestWhatADriverSaysOfItselfArrives(t *testing.T) {
	opts, _ := plugintest.Install(t, "fake", "kubernetes")
	registry := plugintest.Load(t, opts)
	for name, inside := range map[string]drivers.Driver{"fake": fake.New(fake.NewCOE()), "kubernetes": kubernetes.New()} {
		remote := plugintest.Named(t, registry, name)
		if diff := cmp.Diff(inside.Info(), remote.Info()); diff != "" {
			t.Errorf("info of %s (-inside +remote):\n%s", name, diff)
		}
		want := drivers.List(inside)
		want.Kind, want.Path = drivers.Plugin, filepath.Join(opts.Dir, plugin.Prefix+name)
		if diff := cmp.Diff(want, drivers.List(remote)); diff != "" {
			t.Errorf("listing of %s:\n%s", name, diff)
		}
		if _, reports := remote.(drivers.UsageReporter); reports != (name == "fake") {
			t.Errorf("%s reports usage: %v", name, reports)
		}
	}
}

func TestRefusalsArriveAsTheyAre(t *testing.T) {
	opts, _ := plugintest.Install(t, "fake", "kubernetes")
	registry := plugintest.Load(t, opts)
	pretended, stub := plugintest.Named(t, registry, "fake"), plugintest.Named(t, registry, "kubernetes")
	if err := pretended.ValidateTemplate(&drivers.Template{Labels: map[string]string{"refuse": "label refuse must not be set"}}); err == nil || err.Error() != "label refuse must not be set" {
		t.Errorf("a bad template: %v", err)
	}
	if err := pretended.ValidateTemplate(&drivers.Template{}); err != nil {
		t.Errorf("a good template: %v", err)
	}
	var unsupported *drivers.UnsupportedError
	template := &drivers.Template{COE: "kubernetes", ServerType: "vm", Distro: "debian"}
	masters := []drivers.NodeGroup{{Role: "master", NodeCount: 1}}
	err := stub.ValidateCluster(template, &drivers.Cluster{}, masters)
	if inside := kubernetes.New().ValidateCluster(template, &drivers.Cluster{}, masters); !errors.As(err, &unsupported) || err.Error() != inside.Error() {
		t.Errorf("a cluster of a stub: %v", err)
	}
}

// stepper takes steps of the odd driver.
func stepper(t *testing.T, change ...func(*plugin.Options)) (d drivers.Driver, job *drivers.Job, run func(string) (drivers.Outcome, error)) {
	t.Helper()
	opts, _ := plugintest.Install(t, "odd")
	for _, f := range change {
		f(&opts)
	}
	d = plugintest.Named(t, plugintest.Load(t, opts), "odd")
	cloud := conformance.NewCloud(t, conformance.NewMemory(), drivers.Template{COE: "odd", ServerType: "vm"})
	cloud.Resize(1, 0)
	job = cloud.Job(cloud.Operation(drivers.Create))
	return d, job, func(name string) (drivers.Outcome, error) {
		return d.Run(t.Context(), job, drivers.Step{Name: name, NodeID: job.Nodes[0].ID})
	}
}

func TestErrorsKeepTheirClassAndWords(t *testing.T) {
	_, _, run := stepper(t)
	for _, tt := range []struct {
		step      string
		permanent bool
		reason    string
		in        string // of the text for the log
	}{
		{"temporary", false, "host a is busy", "inner"},
		{"permanent", true, "no such image", ""},
		{"plain", false, "fallback", "two lines"},
		{"panic", true, "the driver failed", "at the disco"},
		{"escape", true, "the driver gave a node a file whose path is not absolute and plain, or whose mode is not permission bits", ""},
		{"stranger", true, "the driver named a node that is not one of the cluster", ""},
	} {
		_, err := run(tt.step)
		if err == nil || fault.IsPermanent(err) != tt.permanent || fault.Reason(err, "fallback") != tt.reason || !strings.Contains(err.Error(), tt.in) {
			t.Errorf("%s: %v (permanent %v, reason %q)", tt.step, err, fault.IsPermanent(err), fault.Reason(err, "fallback"))
		}
	}
	if outcome, err := run("soon"); err != nil || outcome.After != time.Millisecond {
		t.Errorf("what is not done yet: %+v, %v", outcome, err)
	}
}

func TestADriverGetsNothingOfItsHostsEnvironment(t *testing.T) {
	t.Setenv("OS_PASSWORD", "secret")
	_, _, run := stepper(t, func(o *plugin.Options) { o.Limits.OpenFiles = 200 })
	outcome, err := run("environment")
	if err != nil {
		t.Fatal(err)
	}
	want := `["KEELSON_DRIVER_COOKIE","LANG","PATH","PLUGIN_CLIENT_CERT","PLUGIN_PROTOCOL_VERSIONS","PLUGIN_UNIX_SOCKET_DIR","TMPDIR"]`
	if outcome.Message != want {
		t.Errorf("environment %s, want %s", outcome.Message, want)
	}
	if outcome, err := run("limits"); err != nil || outcome.Message != fmt.Sprint(200, 0, uint64(1<<46)) {
		t.Errorf("limits %q, %v", outcome.Message, err)
	}
}

// untilDone takes the step until it does not fail.
func untilDone(t *testing.T, run func(string) (drivers.Outcome, error), step string) drivers.Outcome {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		outcome, err := run(step)
		if err == nil {
			return outcome
		}
		if fault.IsPermanent(err) || time.Now().After(deadline) {
			t.Fatalf("step %s: %v", step, err)
		}
	}
}

func TestADriverThatEndsIsStartedAgain(t *testing.T) {
	d, _, run := stepper(t)
	first := untilDone(t, run, "pid")
	_, err := run("exit")
	if err == nil || fault.IsPermanent(err) || fault.Reason(err, "") != "the driver odd has broken off its work" {
		t.Fatalf("a step that ended the process: %v", err)
	}
	if second := untilDone(t, run, "pid"); second == first {
		t.Errorf("still process %s", first.Message)
	}
	if l := drivers.List(d); l.Problem != "" {
		t.Errorf("a driver that runs has the problem %q", l.Problem)
	}
}

func TestADriverThatHangsIsLeftAloneAndOneThatAnswersNothingIsStartedAgain(t *testing.T) {
	d, job, run := stepper(t, func(o *plugin.Options) { o.PulseEvery, o.PulseTimeout = 50*time.Millisecond, 500*time.Millisecond })
	first := untilDone(t, run, "pid")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := d.Run(ctx, job, drivers.Step{Name: "hang"})
	if err == nil || fault.IsPermanent(err) || fault.Reason(err, "") != "the driver odd did not answer in time" {
		t.Errorf("a step that hangs: %v", err)
	}
	if again := untilDone(t, run, "pid"); again != first {
		t.Error("one step that hangs ended the process")
	}
	var pid int
	if _, err := fmt.Sscan(first.Message, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	limited := func(step string) (drivers.Outcome, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return d.Run(ctx, job, drivers.Step{Name: step})
	}
	for deadline := time.Now().Add(time.Minute); untilDone(t, limited, "pid") == first; {
		if time.Now().After(deadline) {
			t.Fatal("the process that was stopped is still the driver")
		}
	}
}

func TestOnlyWhatTheOperatorPutThereIsRun(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, o *plugin.Options, file string) error
		want  string // in the reason
	}{
		"changed": {func(_ *testing.T, _ *plugin.Options, file string) error {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			return errors.Join(err, f.Close())
		}, "was it changed?"},
		"not in the list": {func(_ *testing.T, o *plugin.Options, _ string) error {
			return os.WriteFile(o.Checksums, nil, 0o600)
		}, "has no checksum of keelson-driver-odd"},
		"no list": {func(_ *testing.T, o *plugin.Options, _ string) error { return os.Remove(o.Checksums) }, "no such file"},
		"list that others may write to": {func(_ *testing.T, o *plugin.Options, _ string) error {
			return os.Chmod(o.Checksums, 0o666)
		}, "may be written to by others"},
		"others may write to it": {func(_ *testing.T, _ *plugin.Options, file string) error {
			return os.Chmod(file, 0o722)
		}, "may be written to by others"},
		"others may write to the directory": {func(_ *testing.T, o *plugin.Options, _ string) error {
			return os.Chmod(o.Dir, 0o777|os.ModeSticky)
		}, "may be written to by others"},
		"not executable": {func(_ *testing.T, _ *plugin.Options, file string) error { return os.Chmod(file, 0o600) }, "is not executable"},
		"another's": {func(t *testing.T, _ *plugin.Options, file string) error {
			if os.Geteuid() != 0 {
				testenv.Lacks(t, "only root gives files away")
			}
			return os.Chown(file, 65534, 65534)
		}, "belongs to user 65534"},
		"a link": {func(_ *testing.T, _ *plugin.Options, file string) error {
			return errors.Join(os.Rename(file, file+".real"), os.Symlink(file+".real", file))
		}, "is not a regular file"},
		"not a plugin": {func(_ *testing.T, o *plugin.Options, file string) error {
			script := "#!/bin/sh\necho no plugin >&2\nexit 7\n"
			return errors.Join(os.WriteFile(file, []byte(script), 0o700),
				os.WriteFile(o.Checksums, []byte("95efe3cbe5b9b2ff6c0bbf4c43d11bf77ea5da14ceb2b2f4d4f0b5e7e9db3d0b  keelson-driver-odd\n"), 0o600))
		}, "was it changed?"},
	} {
		t.Run(name, func(t *testing.T) {
			opts, dir := plugintest.Install(t, "odd")
			file := filepath.Join(dir, plugin.Prefix+"odd")
			if err := tt.spoil(t, &opts, file); err != nil {
				t.Fatal(err)
			}
			loaded, err := plugin.Load(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer loaded.Close()
			registry := drivers.NewRegistry()
			loaded.AddTo(registry)
			all := registry.Listings()
			at := slices.IndexFunc(all, func(l drivers.Listing) bool { return l.Path == file })
			if at < 0 || all[at].Info.Name != "odd" || !strings.Contains(all[at].Skipped, tt.want) {
				t.Errorf("listings %+v, want %q in the reason", all, tt.want)
			}
			if len(registry.All()) != 0 {
				t.Error("it was loaded")
			}
		})
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	opts, _ := plugintest.Install(t, "fake")
	loaded, err := plugin.Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	registry := drivers.NewRegistry(fake.New(fake.NewCOE()))
	loaded.AddTo(registry)
	all := registry.Listings()
	if len(all) != 2 || all[0].Skipped+all[1].Skipped != `there is a driver named "fake" already` {
		t.Errorf("listings %+v", all)
	}
}

func TestNoDirectoryHasNoDrivers(t *testing.T) {
	loaded, err := plugin.Load(t.Context(), plugin.Options{Dir: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	registry := drivers.NewRegistry()
	loaded.AddTo(registry)
	if err := loaded.Close(); err != nil || len(registry.Listings()) != 0 {
		t.Errorf("%v, %v", registry.Listings(), err)
	}
}

// BenchmarkStep takes the same step in process and over the wire, in turn, and
// tells what the wire adds: for a step that calls two services, and for one that
// calls none. The medians count: whatever else the machine does is in the means.
func BenchmarkStep(b *testing.B) {
	opts, dir := plugintest.Install(b, "fake")
	inside, outside := drivers.Driver(fake.New(engine(dir))), plugintest.Named(b, plugintest.Load(b, opts), "fake")
	cloud := conformance.NewCloud(b, conformance.NewMemory(), drivers.Template{COE: "fake", ServerType: "vm"})
	cloud.Resize(3, 7)
	job := cloud.Job(cloud.Operation(drivers.Create))
	for i := range job.Nodes {
		job.Nodes[i].Address = netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String()
	}
	for _, step := range []drivers.Step{{Name: fake.StepCertificates}, {Name: fake.StepLeave, NodeID: job.Nodes[0].ID}} {
		b.Run(step.Name, func(b *testing.B) {
			var here, there []time.Duration
			take := func(d drivers.Driver, times []time.Duration) []time.Duration {
				began := time.Now()
				if _, err := d.Run(b.Context(), job, step); err != nil {
					b.Fatal(err)
				}
				return append(times, time.Since(began))
			}
			for b.Loop() {
				here, there = take(inside, here), take(outside, there)
			}
			median := func(times []time.Duration) float64 {
				slices.Sort(times)
				return float64(times[len(times)/2]) / float64(time.Millisecond)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(here), "in-process-ms")
			b.ReportMetric(median(there), "plugin-ms")
			b.ReportMetric(median(there)-median(here), "added-ms")
		})
	}
}
