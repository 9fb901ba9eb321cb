// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/plugin"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
	"github.com/keelson/keelson/internal/fault"
)

// python packs the driver of the folder python into one program, as its author
// would, and installs it. Python and its libraries are Debian's.
func python(tb testing.TB) (opts plugin.Options, dir string) {
	tb.Helper()
	const interpreter = "/usr/bin/python3"
	command := func(name string, args ...string) {
		tb.Helper()
		if out, err := exec.CommandContext(tb.Context(), name, args...).CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	_, err := exec.LookPath("protoc")
	if err == nil {
		err = exec.CommandContext(tb.Context(), interpreter, "-c", "import grpc, google.protobuf, cryptography").Run()
	}
	if err != nil && os.Getenv("CI") != "true" {
		tb.Skipf("no protoc, python3-grpcio, python3-protobuf or python3-cryptography (%v): test/lab/packages tools", err)
	}
	source := tb.TempDir()
	for from, to := range map[string]string{"keelson_driver.py": "keelson_driver.py", "pond.py": "__main__.py"} {
		text, err := os.ReadFile(filepath.Join("python", from))
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, to), text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	command("protoc", "--proto_path=proto", "--python_out="+source, "driver.proto")
	opts, dir = plugintest.Install(tb)
	program := filepath.Join(dir, plugin.Prefix+"pond")
	command(interpreter, "-m", "zipapp", "--python", interpreter, "--output", program, source)
	text, err := os.ReadFile(program)
	if err != nil {
		tb.Fatal(err)
	}
	line := fmt.Sprintf("%x  %s\n", sha256.Sum256(text), filepath.Base(program))
	if err := errors.Join(os.Chmod(program, 0o700), os.WriteFile(opts.Checksums, []byte(line), 0o600)); err != nil {
		tb.Fatal(err)
	}
	return opts, dir
}

// Any language will do: a driver in Python keeps all rules of the contract.
func TestConformance_Python(t *testing.T) {
	opts, dir := python(t)
	registry := plugintest.Load(t, opts)
	conformance.Run(t, conformance.Suite{
		New:      func() drivers.Driver { return plugintest.Named(t, registry, "pond") },
		Machines: func(testing.TB) conformance.Machines { return machines{conformance.NewMemory(), dir} },
		Template: drivers.Template{COE: "pond", ServerType: "vm"},
		Members: func(_ context.Context, job *drivers.Job) ([]string, error) {
			return engine(dir).Members(job.Cluster.ID), nil
		},
		Managers: 3,
	})
}

// What goes wrong in a driver in Python, and what it refuses, arrives as from
// one in Go.
func TestPythonSaysWhatIsWrong(t *testing.T) {
	opts, _ := python(t)
	d := plugintest.Named(t, plugintest.Load(t, opts), "pond")
	template := drivers.Template{COE: "pond", ServerType: "vm", VolumeDriver: "cinder"}
	if err := d.ValidateTemplate(&template); err == nil || err.Error() != `volume_driver "cinder" is not supported for pond: leave it empty` {
		t.Errorf("a template with a volume driver: %v", err)
	}
	template.VolumeDriver = ""
	cloud := conformance.NewCloud(t, conformance.NewMemory(), template)
	cloud.Resize(1, 0)
	job := cloud.Job(cloud.Operation(drivers.Create))
	// It looks for the address of a master: without one the step has a mistake.
	job.Nodes = nil
	if _, err := d.Run(t.Context(), job, drivers.Step{Name: "cluster.record"}); err == nil || fault.IsPermanent(err) {
		t.Errorf("a step that raises: %v, want a failure that is not for good", err)
	}
	job = cloud.Job(cloud.Operation("evaporate"))
	if _, err := d.Plan(t.Context(), job); !fault.IsPermanent(err) || fault.Reason(err, "") != `the pond driver knows no operation "evaporate"` {
		t.Errorf("an unknown operation: %v", err)
	}
}
