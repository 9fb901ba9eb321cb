// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ClientTLS returns how Keelson itself connects to the API of a cluster: it
// shows its client certificate and trusts what the cluster's present authority
// has signed. A driver that plans RotateCA must also look at
// [Certificates.Other].
func ClientTLS(ctx context.Context, certificates Certificates) (*tls.Config, error) {
	authority, err := certificates.Authority(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the cluster's authority: %w", err)
	}
	cert, key, err := certificates.Client(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the client certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("load the client certificate: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		return nil, errors.New("the cluster's authority is not a certificate")
	}
	return &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
