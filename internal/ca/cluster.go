// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"net/netip"

	"github.com/keelson/keelson/internal/model"
)

// Cluster is the main authority of one cluster; it has the methods of
// drivers.Certificates.
type Cluster struct {
	ca         *CA
	uuid, name string
}

// Cluster returns the cluster's main authority. Nothing is made yet.
func (a *CA) Cluster(uuid, name string) *Cluster {
	return &Cluster{ca: a, uuid: uuid, name: name}
}

// Authority returns the CA certificate (PEM). The first call makes it, after
// the two others that the API shows.
func (c *Cluster) Authority(ctx context.Context) ([]byte, error) {
	if p, err := c.ca.kept(ctx, c.uuid, model.CertCA, ""); err == nil {
		return p.pem, nil
	}
	for _, kind := range []string{model.CertEtcdCA, model.CertFrontProxy} {
		if _, err := c.ca.Authority(ctx, c.uuid, c.name, kind); err != nil {
			return nil, err
		}
	}
	return c.ca.Authority(ctx, c.uuid, c.name, model.CertCA)
}

// Node returns the node's certificate and key (PEM).
func (c *Cluster) Node(ctx context.Context, nodeUUID, name string, address netip.Addr) (cert, key []byte, err error) {
	return c.ca.Node(ctx, c.uuid, nodeUUID, name, address)
}

// Client returns Keelson's own client certificate and key (PEM).
func (c *Cluster) Client(ctx context.Context) (cert, key []byte, err error) {
	return c.ca.Client(ctx, c.uuid)
}
