// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/keelson/keelson/drivers/plugin/proto"
	"github.com/keelson/keelson/internal/fault"
)

// Times of the supervision. Machines may be slow and busy: nothing hurries but
// the first restarts.
const (
	startTimeout = 30 * time.Second // until a driver has said what it is
	pulseEvery   = 10 * time.Second
	pulseTimeout = 10 * time.Second
	pulsesMissed = 2 // in a row: it hangs
	restartFirst = 100 * time.Millisecond
	restartMost  = 30 * time.Second
	steady       = time.Minute     // after which a driver is trusted to stay
	patience     = 2 * time.Second // of calls, for a driver that is being restarted
)

// process keeps one driver's program running.
type process struct {
	program program
	opts    *Options
	log     *slog.Logger
	info    *pb.InfoReply // what it said first, and must always say

	mu      sync.Mutex
	running pb.DriverClient // nil while it does not run
	changed chan struct{}   // closed when running or problem change
	problem string          // why it does not run
}

// life is one run of the program.
type life struct {
	child  *child
	plugin *goplugin.Client
	driver pb.DriverClient
	info   *pb.InfoReply
	begun  time.Time
}

// start starts the program and learns what it is.
func (p *process) start(ctx context.Context) (_ *life, err error) {
	if err := p.program.check(p.opts.Checksums); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	identity, err := newIdentity()
	if err != nil {
		return nil, err
	}
	c := newChild(p.program.path, p.opts.Limits, p.log)
	l := &life{child: c, begun: time.Now()}
	l.plugin = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{MagicCookieKey: cookieKey, MagicCookieValue: cookie},
		VersionedPlugins: map[int]goplugin.PluginSet{Version: {service: served{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		TLSConfig:        identity.config(),
		SkipHostEnv:      true,
		StartTimeout:     startTimeout,
		Logger:           quiet(),
		SyncStdout:       &logWriter{p.log},
		SyncStderr:       &logWriter{p.log},
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.opts.SocketDir},
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))},
		RunnerFunc: func(_ hclog.Logger, want *exec.Cmd, dir string) (runner.Runner, error) {
			want.Env = append(want.Env, "PLUGIN_CLIENT_CERT="+identity.certificate)
			c.prepare(want, dir)
			return c, nil
		},
	})
	// go-plugin knows no contexts: what it waits for ends with the process.
	defer context.AfterFunc(ctx, c.kill)()
	defer func() {
		if err == nil {
			return
		}
		c.stop()
		if end := c.end(); end != "" {
			err = fmt.Errorf("%w (%s)", err, end)
		}
		l.plugin.Kill()
	}()
	connection, err := l.plugin.Client()
	if err != nil {
		return nil, fmt.Errorf("starting it: %w", err)
	}
	driver, err := connection.Dispense(service)
	if err != nil {
		return nil, err
	}
	l.driver = driver.(pb.DriverClient)
	if l.info, err = l.driver.Info(ctx, &pb.InfoRequest{}); err != nil {
		return nil, fmt.Errorf("asking it what it is: %w", err)
	}
	return l, checkInfo(l.info)
}

// end ends the run and gives back all that it had.
func (l *life) end() {
	l.child.stop()
	l.plugin.Kill()
}

// watch returns why the run is over: the process has ended, hangs, or ctx has
// ended.
func (p *process) watch(ctx context.Context, l *life) string {
	pulse := time.NewTicker(p.opts.PulseEvery)
	defer pulse.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return "it is being stopped"
		case <-l.child.gone:
			return "it ended: " + l.child.end()
		case <-pulse.C:
		}
		ask, cancel := context.WithTimeout(ctx, p.opts.PulseTimeout)
		_, err := l.driver.Info(ask, &pb.InfoRequest{})
		cancel()
		if missed++; err == nil {
			missed = 0
		}
		if missed >= pulsesMissed {
			return fmt.Sprintf("it does not answer: %v", err)
		}
	}
}

// supervise restarts the program, with growing pauses, until ctx ends.
func (p *process) supervise(ctx context.Context, l *life) {
	pause := restartFirst
	for {
		p.up(l)
		why := p.watch(ctx, l)
		p.down(why)
		l.end()
		if ctx.Err() != nil {
			return
		}
		if time.Since(l.begun) > steady {
			pause = restartFirst
		}
		p.log.Warn("driver stopped", "reason", why, "restart_in", pause)
		for l = nil; l == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, p.opts.RestartMost)
			next, err := p.start(ctx)
			if err == nil && !proto.Equal(next.info, p.info) {
				next.end()
				err = fmt.Errorf("it is another driver than before (%s %s): restart keelsond", next.info.GetName(), next.info.GetVersion())
			}
			if err != nil {
				p.down(err.Error())
				p.log.Error("driver could not be restarted", "error", err, "again_in", pause)
				continue
			}
			l = next
		}
		p.log.Info("driver restarted")
	}
}

func (p *process) up(l *life) { p.set(l.driver, "") }

func (p *process) down(why string) { p.set(nil, line(why)) }

func (p *process) set(running pb.DriverClient, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.problem = running, problem
	close(p.changed)
	p.changed = make(chan struct{})
}

// trouble says why the driver does not run; empty: it does.
func (p *process) trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// client returns the driver, for which it has some patience. The error is
// temporary.
func (p *process) client(ctx context.Context) (pb.DriverClient, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		p.mu.Lock()
		running, changed, problem := p.running, p.changed, p.problem
		p.mu.Unlock()
		if running != nil {
			return running, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, fault.Temporary(fmt.Errorf("%s", problem), "the driver %s does not run at the moment", p.info.GetName())
		}
	}
}

// logWriter brings into the log what a driver's program writes to standard
// output and error once it serves.
type logWriter struct{ log *slog.Logger }

func (w *logWriter) Write(b []byte) (int, error) {
	if said := text(string(b)); said != "" {
		w.log.Info(said)
	}
	return len(b), nil
}

// quiet is go-plugin's log: what is worth knowing we say ourselves.
func quiet() hclog.Logger { return hclog.NewNullLogger() }
