// SPDX-License-Identifier: Apache-2.0

// Package packaging tests what operators install: the files of `make install`,
// the units, the examples, and the Debian package. `make deb-check` has systemd
// start the package's units as well.
package packaging

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run runs a command at the top of the project and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// tool skips the test where a program is missing, but in CI.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: test/lab/packages installs it", err)
		}
		t.Skip(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestInstall(t *testing.T) {
	root := t.TempDir()
	for range 2 { // the second time over an operator's configuration
		run(t, "make", "install", "DESTDIR="+root, "PREFIX=/opt/keelson")
		own := filepath.Join(root, "etc/keelson/keelson.conf")
		if content := read(t, own); strings.HasPrefix(content, "[DEFAULT]\n") {
			continue
		}
		if err := os.WriteFile(own, []byte("[DEFAULT]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, root, "etc/keelson/keelson.conf"); got != "[DEFAULT]\n" {
		t.Errorf("the operator's configuration was overwritten by:\n%s", got)
	}
	for _, file := range []string{
		"etc/keelson/keelson.conf.sample", "etc/keelson/policy.yaml.sample", "etc/logrotate.d/keelson",
		"opt/keelson/lib/sysusers.d/keelson.conf", "opt/keelson/share/man/man8/keelsond.8",
		"opt/keelson/share/bash-completion/completions/keelson", "opt/keelson/share/zsh/site-functions/_keelson",
		"opt/keelson/share/fish/vendor_completions.d/keelson.fish", "opt/keelson/share/keelson/templates/host/prepare.sh",
		"opt/keelson/share/keelson/templates/node/build.sh", "opt/keelson/share/doc/keelson/examples/keelson.cfg",
	} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	for role, unit := range map[string]string{"api": "keelson-api.service", "conductor": "keelson-conductor.service"} {
		want := "\nExecStart=/opt/keelson/bin/keelsond " + role + "\n"
		if content := read(t, root, "opt/keelson/lib/systemd/system", unit); !strings.Contains(content, want) {
			t.Errorf("%s does not start %s", unit, want)
		}
	}
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".go") {
			t.Errorf("%s: source code was installed", path)
		}
		return nil
	})
}

// An exposure of 2.0 of 10 is what systemd calls OK.
func TestUnitsAreHardened(t *testing.T) {
	tool(t, "systemd-analyze")
	for _, unit := range []string{"etc/systemd/keelson-api.service", "etc/systemd/keelson-conductor.service"} {
		run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", unit)
	}
}

// The units have no mistakes that systemd knows of; its only complaint may be
// that the program is not installed.
func TestUnitsAreValid(t *testing.T) {
	tool(t, "systemd-analyze")
	for _, unit := range []string{"etc/systemd/keelson-api.service", "etc/systemd/keelson-conductor.service"} {
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", "--man=no", "--recursive-errors=no", "verify", unit)
		cmd.Dir = "../.."
		out, _ := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "/usr/bin/keelsond is not executable") {
				t.Error(line)
			}
		}
	}
}

func TestHAProxyAcceptsTheExample(t *testing.T) {
	tool(t, "haproxy")
	tool(t, "openssl")
	dir := t.TempDir()
	pem := filepath.Join(dir, "keelson.pem")
	run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=keelson",
		"-keyout", filepath.Join(dir, "key"), "-out", filepath.Join(dir, "crt"))
	if err := os.WriteFile(pem, []byte(read(t, dir, "crt")+read(t, dir, "key")), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "keelson.cfg")
	example := strings.ReplaceAll(read(t, "../../etc/haproxy/keelson.cfg"), "/etc/haproxy/keelson.pem", pem)
	if err := os.WriteFile(config, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "haproxy", "-c", "-f", config)
}

// The package is installed in a root of its own; API and conductor are started
// there as their user, and it is upgraded, removed and purged.
func TestDebianPackage(t *testing.T) {
	tool(t, "dpkg-deb")
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("it takes root to install a package")
		}
		t.Skip("it takes root to install a package")
	}
	lines := strings.Fields(run(t, "make", "--silent", "deb", "DEB_COMPRESSION=none"))
	deb := lines[len(lines)-1]
	conffiles := run(t, "dpkg-deb", "--info", deb, "conffiles")
	if !strings.Contains(conffiles, "/etc/keelson/keelson.conf\n") {
		t.Errorf("keelson.conf is no conffile:\n%s", conffiles)
	}
	out := run(t, "test/packaging/root", deb)
	if !strings.HasSuffix(out, "the master key stayed\n") {
		t.Error(out)
	}
}
