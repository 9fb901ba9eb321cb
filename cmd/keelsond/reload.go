// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// reloadEvery is how often files are looked at that may change while the
// process runs.
const reloadEvery = 10 * time.Second

// reloadable is something that is read from files and can be read again. What
// can not be read leaves all as it was.
type reloadable struct {
	what string
	// reload reads the files again if they have changed, or anyhow when it is
	// told to, and says whether there was something new.
	reload func(anyhow bool) (changed bool, err error)
}

// heedHangups keeps SIGHUP from ending the process, from now until it closes.
func (p *process) heedHangups() {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	p.onClose(func() error { signal.Stop(hangup); return nil })
	p.hangup = hangup
}

// startReloads lets the group read changed files again: soon after they have
// changed, and at once when the process gets a SIGHUP. It comes last: nothing
// may be added to p.reloads any more.
func (p *process) startReloads(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error {
		tick := time.NewTicker(reloadEvery)
		defer tick.Stop()
		told := make(map[string]string) // the last error of each, so that it is told once
		for {
			asked := false
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			case <-p.hangup:
				asked = true
				p.log.Info("SIGHUP: files are read again")
			}
			for _, r := range p.reloads {
				changed, err := r.reload(asked)
				switch {
				case err != nil && (asked || told[r.what] != err.Error()):
					p.log.Error("can not be read again, what was read before stays", "what", r.what, "error", err)
				case changed:
					p.log.Info("read again", "what", r.what)
				}
				told[r.what] = ""
				if err != nil {
					told[r.what] = err.Error()
				}
			}
		}
	})
}

// fileState tells whether a file, or what a link leads to, is another one than
// before.
type fileState struct {
	modified time.Time
	size     int64
	inode    uint64
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	state := fileState{modified: info.ModTime(), size: info.Size()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		state.inode = s.Ino
	}
	return state
}

// certificateFile is a server's certificate with its key, in two PEM files.
// New handshakes get the newest; connections that exist go on.
type certificateFile struct {
	cert, key string

	reloading sync.Mutex
	seen      [2]fileState // of what is in use
	current   atomic.Pointer[tls.Certificate]
}

// Reload reads the files if they have changed, or anyhow. While one of both is
// new and the other is not, they do not fit together: that is an error, and
// the next call looks again.
func (c *certificateFile) Reload(anyhow bool) (changed bool, err error) {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	state := [2]fileState{stateOf(c.cert), stateOf(c.key)}
	if state == c.seen && !anyhow {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return false, err
	}
	c.current.Store(&pair)
	c.seen = state
	return true, nil
}

// Get is for tls.Config.
func (c *certificateFile) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
