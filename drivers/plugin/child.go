// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// termTime is how long a driver has to end itself.
const termTime = 2 * time.Second

// child is one process of a driver: go-plugin's runner, with limits. It dies
// with this process, however that ends, and takes its own children with it.
type child struct {
	path   string
	limits Limits
	log    *slog.Logger

	cmd            *exec.Cmd
	dir            string // of the socket
	stdout, stderr *os.File
	gone           chan struct{} // closed when it has ended

	mu       sync.Mutex
	unwanted bool   // killed, perhaps before it was started
	state    string // how it ended: "exit status 1"
	last     string // the last line it wrote to its log
}

var _ runner.Runner = (*child)(nil)

func newChild(path string, limits Limits, log *slog.Logger) *child {
	return &child{path: path, limits: limits, log: log, gone: make(chan struct{})}
}

// prepare takes over what go-plugin wants the process to be given.
func (c *child) prepare(want *exec.Cmd, dir string) {
	c.dir = dir
	env := slices.DeleteFunc(want.Env, func(v string) bool {
		return strings.HasPrefix(v, "PLUGIN_MIN_PORT=") || strings.HasPrefix(v, "PLUGIN_MAX_PORT=")
	})
	c.cmd = &exec.Cmd{
		Path: c.path,
		Args: []string{c.path},
		Dir:  "/",
		Env:  append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TMPDIR=" + dir}, env...),
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true, // a signal for the terminal's group is not for drivers
			Pdeathsig: syscall.SIGKILL,
		},
	}
}

// Start implements runner.Runner.
func (c *child) Start(context.Context) error {
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdoutEnd.Close()
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		return errors.Join(err, stdout.Close())
	}
	defer stderrEnd.Close()
	c.stdout, c.stderr = stdout, stderr
	c.cmd.Stdout, c.cmd.Stderr = stdoutEnd, stderrEnd
	started := make(chan error)
	go c.live(started)
	if err := <-started; err != nil {
		return errors.Join(err, stdout.Close(), stderr.Close())
	}
	go c.listen()
	return nil
}

// live starts the process and waits for its end, on one thread: Linux ends the
// process when the thread that started it does.
func (c *child) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.mu.Lock()
	err := errors.New("it was stopped before it began")
	if !c.unwanted {
		err = c.cmd.Start()
	}
	c.mu.Unlock()
	if err == nil {
		if err = c.limits.apply(c.cmd.Process.Pid); err != nil {
			err = fmt.Errorf("limiting it: %w", err)
			c.signal(syscall.SIGKILL)
			_ = c.cmd.Wait()
		}
	}
	started <- err
	if err != nil {
		close(c.gone)
		return
	}
	_ = c.cmd.Wait()
	c.signal(syscall.SIGKILL) // what it has started
	c.mu.Lock()
	c.state = c.cmd.ProcessState.String()
	c.mu.Unlock()
	close(c.gone)
}

// signal sends a signal to the process and all that it has started.
func (c *child) signal(s syscall.Signal) {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, s)
	}
}

// kill ends the process at once.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unwanted = true
	select {
	case <-c.gone: // its number may be another's by now
	default:
		c.signal(syscall.SIGKILL)
	}
}

// stop asks the process to end, ends it when it does not, and waits for that.
func (c *child) stop() {
	c.mu.Lock()
	c.unwanted = true
	begun := c.cmd != nil && c.cmd.Process != nil
	c.mu.Unlock()
	if !begun {
		return
	}
	select {
	case <-c.gone:
		return
	default:
		c.signal(syscall.SIGTERM)
	}
	select {
	case <-c.gone:
	case <-time.After(termTime):
		c.kill()
		<-c.gone
	}
}

// end says how the process ended, with the last that it said.
func (c *child) end() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == "" {
		return c.state
	}
	return c.state + ", after it wrote: " + c.last
}

// Bounds of what a driver may write to the log: bytes of a line, lines in a
// second, and lines at once.
const (
	maxLogLine   = 8 << 10
	logPerSecond = 50
	logAtOnce    = 500
)

// listen brings what the process writes to standard error into the log. It
// ends when the process and what it has started have.
func (c *child) listen() {
	defer c.stderr.Close()
	limit := rate.NewLimiter(logPerSecond, logAtOnce)
	lost := 0
	lines := bufio.NewReaderSize(c.stderr, maxLogLine)
	for {
		raw, more, err := lines.ReadLine()
		if err != nil {
			return
		}
		for rest := more; rest && err == nil; {
			_, rest, err = lines.ReadLine()
		}
		said := text(string(raw))
		if said == "" {
			continue
		}
		c.mu.Lock()
		c.last = clean(said, 300)
		c.mu.Unlock()
		if !limit.Allow() {
			lost++
			continue
		}
		if lost > 0 {
			c.log.Warn("the driver wrote more than the log takes", "lines_lost", lost)
			lost = 0
		}
		c.log.Info(said)
	}
}

// Wait implements runner.Runner.
func (c *child) Wait(context.Context) error {
	<-c.gone
	return c.stdout.Close()
}

// Kill implements runner.Runner.
func (c *child) Kill(context.Context) error {
	c.kill()
	return nil
}

// Stdout implements runner.Runner.
func (c *child) Stdout() io.ReadCloser { return c.stdout }

// Stderr implements runner.Runner: see listen.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (c *child) Name() string { return c.path }

// ID implements runner.Runner.
func (c *child) ID() string { return c.path }

// Diagnose implements runner.Runner.
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner: a driver listens where it was told to.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(address) != c.dir {
		return "", "", fmt.Errorf("it listens on %q %q, which is not a unix socket in the directory of PLUGIN_UNIX_SOCKET_DIR", clean(network, 16), clean(address, 200))
	}
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// apply sets the limits of a process that has just begun.
func (l Limits) apply(pid int) error {
	for _, limit := range []struct {
		resource int
		most     uint64
	}{
		{unix.RLIMIT_DATA, l.Memory},
		{unix.RLIMIT_NOFILE, l.OpenFiles},
		{unix.RLIMIT_CORE, 0}, // a core would hold the keys of nodes
	} {
		if err := unix.Prlimit(pid, limit.resource, &unix.Rlimit{Cur: limit.most, Max: limit.most}, nil); err != nil {
			return err
		}
	}
	return nil
}
