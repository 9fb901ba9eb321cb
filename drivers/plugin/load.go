// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keelson/keelson/drivers"
)

// Options say which drivers are loaded, and how they may live.
type Options struct {
	// Dir is where the programs are, named Prefix and something. One that does
	// not exist has none.
	Dir string
	// Checksums is a file with a line for each program that may run, as
	// sha256sum writes it: the checksum and the file name. It is read before
	// every start.
	Checksums string
	// SocketDir is where a directory is made for the socket of each run; empty:
	// the system's directory for temporary files.
	SocketDir string
	Limits    Limits
	Logger    *slog.Logger

	// How long to wait at most between two starts, and how often to ask for a
	// sign of life and how long to wait for it; 0: sensible defaults.
	RestartMost              time.Duration
	PulseEvery, PulseTimeout time.Duration
}

// Limits are of each driver's process.
type Limits struct {
	Memory    uint64 // bytes of data; 0: 1 GiB
	OpenFiles uint64 // 0: 1024
}

// Loaded are the drivers that were found, running.
type Loaded struct {
	drivers []drivers.Driver
	skipped []drivers.Listing
	stop    context.CancelFunc
	all     sync.WaitGroup
}

// Load starts all programs of the directory, side by side, and keeps them
// running until Close. A program that can not be used is skipped, with a
// reason: the error is only about the directory itself, or ctx, which bounds
// the loading.
func Load(ctx context.Context, opts Options) (*Loaded, error) {
	opts.Limits.Memory = orDefault(opts.Limits.Memory, 1<<30)
	opts.Limits.OpenFiles = orDefault(opts.Limits.OpenFiles, 1024)
	opts.RestartMost = orDefault(opts.RestartMost, restartMost)
	opts.PulseEvery = orDefault(opts.PulseEvery, pulseEvery)
	opts.PulseTimeout = orDefault(opts.PulseTimeout, pulseTimeout)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	programs, err := find(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory of drivers %s: %w", opts.Dir, err)
	}
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Loaded{stop: stop}
	var started sync.WaitGroup
	found := make([]drivers.Driver, len(programs))
	refused := make([]error, len(programs))
	for i, program := range programs {
		started.Go(func() {
			p := &process{program: program, opts: &opts, changed: make(chan struct{}), log: opts.Logger.With("driver", program.name())}
			run, err := p.start(ctx)
			if err != nil {
				refused[i] = err
				return
			}
			p.info = run.info
			p.running = run.driver
			found[i] = newRemote(p)
			l.all.Go(func() { p.supervise(live, run) })
		})
	}
	started.Wait()
	for i, program := range programs {
		switch {
		case refused[i] != nil:
			opts.Logger.Error("driver not loaded", "driver", program.name(), "path", program.path, "error", refused[i])
			l.skipped = append(l.skipped, drivers.Listing{
				Info: drivers.Info{Name: program.name()}, Kind: drivers.Plugin, Path: program.path, Skipped: line(refused[i].Error()), Mend: mend(refused[i]),
			})
		default:
			opts.Logger.Info("driver loaded", "driver", program.name(), "version", found[i].Info().Version, "path", program.path)
			l.drivers = append(l.drivers, found[i])
		}
	}
	return l, ctx.Err()
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// AddTo adds the drivers to a registry, and to its listings those that were
// skipped. A driver whose name is taken is skipped too.
func (l *Loaded) AddTo(r *drivers.Registry) {
	for _, skipped := range l.skipped {
		r.Skip(skipped)
	}
	for _, d := range l.drivers {
		if err := r.Add(d); err != nil {
			listing := drivers.List(d)
			listing.Skipped, listing.Mend = err.Error(), "take one of the two away: from [drivers] enabled, or out of the directory"
			r.Skip(listing)
		}
	}
}

// Close ends all drivers and returns when they have ended. Calls under way fail.
func (l *Loaded) Close() error {
	l.stop()
	l.all.Wait()
	return nil
}

// program is a driver's file.
type program struct{ path string }

func (p program) name() string { return strings.TrimPrefix(filepath.Base(p.path), Prefix) }

// find returns the programs in the directory.
func find(dir string) ([]program, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []program
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), Prefix) && len(e.Name()) > len(Prefix) {
			all = append(all, program{filepath.Join(dir, e.Name())})
		}
	}
	return all, nil
}

// mendable is what is wrong with a file, and how an operator mends it.
type mendable struct{ how, what string }

func (m *mendable) Error() string { return m.what }

// mend says what an operator can do about a program that was not loaded.
func mend(err error) string {
	if m, ok := errors.AsType[*mendable](err); ok {
		return m.how
	}
	return "the program itself does not do what it should: it may be for another version of Keelson; its author knows"
}

// check refuses a program that somebody other than the operator could have put
// there or changed, or that is not the one with the checksum in the list.
func (p program) check(checksums string) error {
	info, err := os.Lstat(p.path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &mendable{"put the program itself there", fmt.Sprintf("%s is not a regular file", p.path)}
	}
	if info.Mode()&0o111 == 0 {
		return &mendable{"chmod 755 " + p.path, fmt.Sprintf("%s is not executable", p.path)}
	}
	for _, file := range []string{p.path, checksums} {
		if err := trusted(file); err != nil {
			return err
		}
	}
	want, err := listed(checksums, filepath.Base(p.path))
	if err != nil {
		return err
	}
	f, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("reading %s: %w", p.path, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return &mendable{
			fmt.Sprintf("if you have changed it yourself, write its line in %s anew: cd %s && sha256sum %s", checksums, filepath.Dir(p.path), filepath.Base(p.path)),
			fmt.Sprintf("%s has the checksum %s, but %s says %s: was it changed?", p.path, got, checksums, want),
		}
	}
	return nil
}

// trusted refuses a file when somebody other than root and the user that this
// process runs as may write to it or exchange it.
func trusted(file string) error {
	path, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &mendable{"make it, as root, with sha256sum " + Prefix + "* in the directory of the drivers", fmt.Sprintf("%s: no such file", file)}
	}
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		if owner != 0 && int(owner) != os.Geteuid() {
			return &mendable{"chown root " + at, fmt.Sprintf("%s belongs to user %d, not to root or the user that keelsond runs as", at, owner)}
		}
		// In a directory like /tmp nobody can exchange what is another's.
		shared := at != path && at != filepath.Dir(path) && info.Mode()&fs.ModeSticky != 0
		if info.Mode()&0o022 != 0 && !shared {
			return &mendable{"chmod go-w " + at, fmt.Sprintf("%s may be written to by others (mode %o)", at, info.Mode().Perm())}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// listed returns the checksum that the list has for the name.
func listed(checksums, name string) (string, error) {
	f, err := os.Open(checksums)
	if err != nil {
		return "", err // check has seen it
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, file, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		file = strings.TrimPrefix(strings.TrimLeft(file, " "), "*")
		if ok && filepath.Base(file) == name {
			return strings.ToLower(sum), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("reading %s: %w", checksums, err)
	}
	return "", &mendable{
		fmt.Sprintf("if you trust it, in its directory: sha256sum %s >>%s", name, checksums),
		fmt.Sprintf("%s has no checksum of %s", checksums, name),
	}
}
