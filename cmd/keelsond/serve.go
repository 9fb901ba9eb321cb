// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/logging"
)

func apiCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "api",
		Short: "Serve the REST API",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), load, roles{api: true})
		},
	}
}

func conductorCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "conductor",
		Short: "Work on the operations that the API accepted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), load, roles{conductor: true})
		},
	}
}

func allInOneCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "all-in-one",
		Short: "API and conductor in one process, with the built-in services that the configuration enables",
		Long: "API and conductor in one process. The database schema is brought up to date and the master key made,\n" +
			"if need be. [identity] enabled and [ironic] builtin add a small Keystone and a small Ironic.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), load, roles{api: true, conductor: true, builtin: true})
		},
	}
}

// roles are what a process does.
type roles struct{ api, conductor, builtin bool }

// serve runs a process until ctx ends.
func serve(ctx context.Context, load loader, do roles) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	log := newLogger(cfg)
	p := &process{cfg: cfg, log: log}
	defer p.close()
	group, ctx := errgroup.WithContext(ctx)
	if err := p.start(ctx, group, do); err != nil {
		return errors.Join(err, group.Wait())
	}
	log.Info("keelsond is ready", "version", version, "api", do.api, "conductor", do.conductor)
	err = group.Wait()
	log.Info("keelsond has stopped")
	return err
}

func newLogger(cfg *config.Config) *slog.Logger {
	level := slog.LevelInfo
	if cfg.Debug {
		level = slog.LevelDebug
	}
	return logging.New(os.Stderr, cfg.LogFormat, level)
}

// listen opens a listening socket; a port that is taken is said plainly.
func listen(what, host string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s can not listen: %w", what, err)
	}
	return l, nil
}

// serveHTTP answers requests until ctx ends, then gives those under way that
// long to finish. A client that is slow to send its request, to read the
// answer or to come with the next request loses its connection; streams set
// deadlines of their own.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, readTimeout, grace time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: min(readTimeout, 10*time.Second), // and for a TLS handshake
		ReadTimeout:       readTimeout,
		WriteTimeout:      120 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		stopped <- server.Shutdown(last)
	})
	err := server.Serve(l)
	if !stop() { // Shutdown was asked for: Serve returned at once
		return <-stopped
	}
	return err
}
