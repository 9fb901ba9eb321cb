// SPDX-License-Identifier: Apache-2.0

// Package plugin runs drivers as processes of their own, over gRPC.
//
// The author of a driver in Go calls [Serve] from main. Keelson's side is
// [Load]: it finds the programs, starts and watches them, and makes each a
// drivers.Driver like any other. Between the two is the protocol of
// drivers/plugin/proto/driver.proto, which drivers in other languages serve
// without this package: see docs/driver-protocol.md.
package plugin

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
)

// Version is the version of the protocol: a driver that serves another one is
// not loaded.
const Version = 1

// Prefix begins the file names of drivers.
const Prefix = "keelson-driver-"

// The cookie tells a driver that Keelson has started it, and not a person. It
// protects nothing.
const (
	cookieKey = "KEELSON_DRIVER_COOKIE"
	cookie    = "keelson-driver-v1"
)

// maxMessage bounds every message, in bytes. It is what gRPC libraries take
// unless told otherwise.
const maxMessage = 4 << 20

// service is the only thing that drivers serve, in go-plugin's terms.
const service = "driver"

// Serve makes the driver available to the Keelson that has started this
// process, until that ends it. It is all that main has to do, and must come
// before anything is written to standard output. What is written to standard
// error goes to Keelson's log.
func Serve(d drivers.Driver) {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{MagicCookieKey: cookieKey, MagicCookieValue: cookie},
		VersionedPlugins: map[int]goplugin.PluginSet{Version: {service: served{driver: d}}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage))...)
		},
		Logger: quiet(),
	})
}

// served is the driver as go-plugin knows it.
type served struct {
	goplugin.NetRPCUnsupportedPlugin
	driver drivers.Driver // in the driver's process
}

var errNotHere = errors.New("no driver is served here")

// GRPCServer implements goplugin.GRPCPlugin.
func (s served) GRPCServer(_ *goplugin.GRPCBroker, to *grpc.Server) error {
	if s.driver == nil {
		return errNotHere
	}
	pb.RegisterDriverServer(to, &server{driver: s.driver})
	return nil
}

// GRPCClient implements goplugin.GRPCPlugin.
func (s served) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pb.NewDriverClient(conn), nil
}
