// SPDX-License-Identifier: Apache-2.0

// Package plugintest makes plugins of drivers in tests: the test's own program,
// under another name, is the plugin.
package plugintest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/plugin"
)

// Main serves a driver and ends the process when this is a plugin; otherwise it
// returns at once. It is to be called first in TestMain. Each function makes
// the driver of its name, which may keep things in the directory of the plugins.
func Main(all map[string]func(dir string) drivers.Driver) {
	dir, file := filepath.Split(os.Args[0])
	if name, ok := strings.CutPrefix(file, plugin.Prefix); ok {
		plugin.Serve(all[name](dir))
		os.Exit(0)
	}
}

// Install returns options that load the named plugins, and the directory where
// they and their checksums are.
func Install(tb testing.TB, names ...string) (opts plugin.Options, dir string) {
	tb.Helper()
	dir, err := filepath.EvalSymlinks(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum := checksum(tb, self)
	var sums strings.Builder
	for _, name := range names {
		file := filepath.Join(dir, plugin.Prefix+name)
		if err := install(self, file); err != nil {
			tb.Fatal(err)
		}
		sums.WriteString(sum + "  " + plugin.Prefix + name + "\n")
	}
	opts = plugin.Options{
		Dir: dir, Checksums: filepath.Join(dir, "sums"), Limits: plugin.Limits{Memory: 1 << 46}, // the race detector's shadow counts
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)),
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(opts.Checksums, []byte(sums.String()), 0o600)); err != nil {
		tb.Fatal(err)
	}
	return opts, dir
}

// install copies the program: a second name of it would carry its permissions.
func install(program, file string) error {
	from, err := os.Open(program)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

func checksum(tb testing.TB, file string) string {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Load loads the plugins until the end of the test. They must all be good.
func Load(tb testing.TB, opts plugin.Options) *drivers.Registry {
	tb.Helper()
	loaded, err := plugin.Load(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = loaded.Close() })
	registry := drivers.NewRegistry()
	loaded.AddTo(registry)
	for _, l := range registry.Listings() {
		if l.Skipped != "" {
			tb.Fatalf("%s was skipped: %s", l.Path, l.Skipped)
		}
	}
	return registry
}

// Named returns a driver of the registry.
func Named(tb testing.TB, r *drivers.Registry, name string) drivers.Driver {
	tb.Helper()
	d, err := r.Named(name)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// Kill ends the process of a plugin that was installed, if it runs, and returns
// its number, or 0.
func Kill(tb testing.TB, opts plugin.Options, name string) int {
	tb.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range all {
		line, err := os.ReadFile(file)
		if program, _, _ := strings.Cut(string(line), "\x00"); err != nil || program != filepath.Join(opts.Dir, plugin.Prefix+name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			return pid
		}
	}
	return 0
}
