// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/plugin"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
	"github.com/keelson/keelson/internal/testenv"
)

func TestMain(m *testing.M) {
	plugintest.Main(map[string]func(string) drivers.Driver{
		"fake": func(string) drivers.Driver { return fake.New(fake.NewCOE(), "pretended") },
		"mute": func(string) drivers.Driver { os.Exit(7); return nil },
	})
	os.Exit(m.Run())
}

// section are the lines of [drivers] that load what was installed.
func section(opts plugin.Options) string {
	return "plugin_dir = " + opts.Dir + "\nplugin_checksums = " + opts.Checksums + "\nplugin_memory = 1048576"
}

func TestDriverList(t *testing.T) {
	opts, dir := plugintest.Install(t, "fake")
	must(t, os.Symlink("/bin/true", filepath.Join(dir, plugin.Prefix+"odd")))
	for range 2 {
		out, err := runWith(t, section(opts), "driver", "list")
		must(t, err)
		var got [][]string
		for line := range strings.Lines(out) {
			got = append(got, strings.Fields(line))
		}
		want := [][]string{
			{"NAME", "VERSION", "KIND", "COES", "SERVER", "TYPES", "STATE"},
			{"fake", "1.0", "plugin", "pretended", "vm,bm", "ready"},
			{"kubernetes", "0.2", "stub", "kubernetes", "vm,bm", "stub"},
			strings.Fields("odd - plugin - - skipped: " + filepath.Join(dir, "keelson-driver-odd") + " is not a regular file"),
			{"swarm", got[4][1], "built-in", "swarm,swarm-mode", "vm,bm", "ready"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	out, err := runWith(t, section(opts), "driver", "list", "-f", "json")
	must(t, err)
	var listed v1.Drivers
	must(t, json.Unmarshal([]byte(out), &listed))
	if len(listed.Drivers) != 4 || listed.Drivers[0].Name != "fake" || cmp.Diff([]string{"upgrade", "rotate-ca", "rebuild", "usage"}, listed.Drivers[0].Capabilities) != "" ||
		cmp.Diff([]string{"stub"}, listed.Drivers[1].Capabilities) != "" || listed.Drivers[2].Skipped == nil {
		t.Errorf("got %s", out)
	}
}

func TestDriverShow(t *testing.T) {
	opts, dir := plugintest.Install(t, "fake")
	out, err := runWith(t, section(opts), "driver", "show", "fake")
	must(t, err)
	for _, want := range []string{"kind             plugin\n", "path             " + filepath.Join(dir, "keelson-driver-fake") + "\n", "capabilities     upgrade, rotate-ca, rebuild, usage\n", "distros          any\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if _, err := runWith(t, section(opts), "driver", "show", "nomad"); err == nil || !strings.Contains(err.Error(), `there is no driver "nomad"`) {
		t.Errorf("a driver that is not there: %v", err)
	}
}

// Each thing that keeps a program from being loaded is named, with what mends
// it; mended so, it is good.
func TestDriverCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil, mend func(program string, opts plugin.Options) error
		says, how   string
	}{
		"writable by others": {
			func(p string, _ plugin.Options) error { return os.Chmod(p, 0o777) }, func(p string, _ plugin.Options) error { return os.Chmod(p, 0o755) },
			"may be written to by others (mode 777)", "to mend it: chmod go-w ",
		},
		"directory writable by others": {
			func(p string, _ plugin.Options) error { return os.Chmod(filepath.Dir(p), 0o777) }, func(p string, _ plugin.Options) error { return os.Chmod(filepath.Dir(p), 0o755) },
			"may be written to by others", "to mend it: chmod go-w ",
		},
		"another's": {
			func(p string, _ plugin.Options) error { return os.Chown(p, 65534, -1) }, func(p string, _ plugin.Options) error { return os.Chown(p, 0, -1) },
			"belongs to user 65534", "to mend it: chown root ",
		},
		"not executable": {
			func(p string, _ plugin.Options) error { return os.Chmod(p, 0o600) }, func(p string, _ plugin.Options) error { return os.Chmod(p, 0o755) },
			"is not executable", "to mend it: chmod 755 ",
		},
		"another checksum": {
			func(_ string, o plugin.Options) error { return spoil(o.Checksums, "  ", "00  ") }, func(p string, o plugin.Options) error { return spoil(o.Checksums, "00  ", "  ") },
			"was it changed?", "sha256sum keelson-driver-fake",
		},
		"no checksum": {
			func(_ string, o plugin.Options) error { return os.Rename(o.Checksums, o.Checksums+".away") },
			func(_ string, o plugin.Options) error { return os.Rename(o.Checksums+".away", o.Checksums) },
			"no such file", "to mend it: make it, as root, with sha256sum",
		},
		"not listed": {
			func(_ string, o plugin.Options) error { return spoil(o.Checksums, "driver-fake", "driver-else") },
			func(_ string, o plugin.Options) error { return spoil(o.Checksums, "driver-else", "driver-fake") },
			"has no checksum of keelson-driver-fake", "to mend it: if you trust it, in its directory: sha256sum keelson-driver-fake >>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && name == "another's" {
				testenv.Lacks(t, "only root gives files away")
			}
			opts, dir := plugintest.Install(t, "fake")
			program := filepath.Join(dir, plugin.Prefix+"fake")
			must(t, tt.spoil(program, opts))
			out, err := runWith(t, section(opts), "driver", "check")
			if err == nil || !strings.Contains(err.Error(), "1 of 3 drivers can not be used") || !strings.Contains(out, "fake: bad: ") || !strings.Contains(out, tt.says) || !strings.Contains(out, tt.how) {
				t.Errorf("%v\n%s", err, out)
			}
			must(t, tt.mend(program, opts))
			out, err = runWith(t, section(opts), "driver", "check")
			if err != nil || !strings.Contains(out, "fake: good: version 1.0, serves pretended ("+program+")") || !strings.Contains(out, "sums: left alone") {
				t.Errorf("mended: %v\n%s", err, out)
			}
		})
	}
	t.Run("does not serve", func(t *testing.T) {
		opts, _ := plugintest.Install(t, "mute")
		out, err := runWith(t, section(opts), "driver", "check")
		if err == nil || !strings.Contains(out, "mute: bad: ") || !strings.Contains(out, "exit status 7") || !strings.Contains(out, "its author knows") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// spoil replaces a word in a file.
func spoil(file, word, by string) error {
	text, err := os.ReadFile(file)
	return errors.Join(err, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), word, by)), 0o600))
}
