// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is one keelsond under a supervisor that starts it again when it ends,
// as systemd does.
type Process struct {
	Name, Role, URL string

	program, config, log string

	mu      sync.Mutex
	cmd     *exec.Cmd
	stopped bool
	over    chan struct{} // closed when the supervisor has ended
}

// restartAfter is how long a process that ended stays down.
const restartAfter = 300 * time.Millisecond

// Start starts the process; the supervisor keeps it running until Stop.
func (p *Process) Start() error {
	p.over = make(chan struct{})
	if err := p.run(); err != nil {
		close(p.over)
		return err
	}
	go func() {
		defer close(p.over)
		for {
			_ = p.cmd.Wait()
			time.Sleep(restartAfter)
			p.mu.Lock()
			done := p.stopped
			p.mu.Unlock()
			if done || p.run() != nil {
				return
			}
		}
	}()
	return nil
}

func (p *Process) run() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.program, "--config-file", p.config, p.Role)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return fmt.Errorf("%s is to stop", p.Name)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	return nil
}

// PID of the process that runs, or ran last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Owner is the name under which a conductor owns operations.
func (p *Process) Owner() string { return fmt.Sprintf("%s/%d", p.Name, p.PID()) }

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// Stop ends the process for good.
func (p *Process) Stop() {
	if p.over == nil {
		return
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.over:
	case <-time.After(10 * time.Second):
		p.Signal(syscall.SIGKILL)
		<-p.over
	}
}
