// SPDX-License-Identifier: Apache-2.0

// Command keelson makes and uses container clusters: the tenant's command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/keelson/keelson/internal/cli"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := cli.Main(ctx, version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
