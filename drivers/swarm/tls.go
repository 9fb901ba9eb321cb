// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"

	"github.com/keelson/keelson/drivers"
)

// identity is what Keelson shows to engines that an authority has certified.
type identity struct {
	authority *x509.Certificate
	client    tls.Certificate
}

// dialTLS returns a function that connects to engines of the cluster and of no
// other: the server's certificate must be signed by the cluster's authority and
// be for the address it was reached at. While one authority takes over from
// another, engines that either has certified are the cluster's.
func (d *Driver) dialTLS(ctx context.Context, certificates drivers.Certificates) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	identities, err := identitiesOf(ctx, certificates)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, i := range identities {
		roots.AddCert(i.authority)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// The server's certificate is verified before the client's is asked for
		// (RFC 8446 §4.4.2, RFC 5246 §7.3), so its issuer tells which to show.
		client := &identities[0].client
		conn := tls.Client(raw, &tls.Config{
			ServerName: host,
			RootCAs:    roots,
			MinVersion: tls.VersionTLS12,
			VerifyConnection: func(state tls.ConnectionState) error {
				chain := state.VerifiedChains[0]
				for i := range identities {
					if identities[i].authority.Equal(chain[len(chain)-1]) {
						client = &identities[i].client
					}
				}
				return nil
			},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil },
		})
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return conn, nil
	}, nil
}

// identitiesOf loads the identity under the present authority and, if there is
// one, that under the other.
func identitiesOf(ctx context.Context, certificates drivers.Certificates) ([]identity, error) {
	authority, err := certificates.Authority(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the cluster's authority: %w", err)
	}
	cert, key, err := certificates.Client(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the client certificate: %w", err)
	}
	present, err := loadIdentity(authority, cert, key)
	if err != nil {
		return nil, err
	}
	authority, cert, key, err = certificates.Other(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the other authority: %w", err)
	}
	if authority == nil {
		return []identity{present}, nil
	}
	other, err := loadIdentity(authority, cert, key)
	return []identity{present, other}, err
}

func loadIdentity(authority, cert, key []byte) (identity, error) {
	client, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return identity{}, fmt.Errorf("load the client certificate: %w", err)
	}
	block, _ := pem.Decode(authority)
	if block == nil {
		return identity{}, errors.New("the cluster's authority is not a certificate")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return identity{}, fmt.Errorf("load the cluster's authority: %w", err)
	}
	return identity{parsed, client}, nil
}
