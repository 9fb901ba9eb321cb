// SPDX-License-Identifier: Apache-2.0

// Command keelson-authz is the Docker authorization plugin of tenant nodes: it
// refuses what a node can not do, and says why. It is part of the node image.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keelson/keelson/internal/refusal"
)

// defaultSocket is where dockerd looks for a plugin called keelson.
const defaultSocket = "/run/docker/plugins/keelson.sock"

func main() {
	socket := defaultSocket
	if len(os.Args) > 1 {
		socket = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, socket); err != nil {
		fmt.Fprintln(os.Stderr, "keelson-authz:", err)
		os.Exit(1)
	}
}

// serve answers dockerd on the socket until ctx ends.
func serve(ctx context.Context, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: refusal.Plugin(), ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
