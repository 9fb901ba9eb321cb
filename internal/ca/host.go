// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/keelson/keelson/internal/model"
)

// ConductorName is the common name, and all of the subject, of conductors'
// certificates: the one client that a host's libvirt lets in.
const ConductorName = "keelson-conductor"

// hostAuthorityTerm is how long the authority of the hosts is valid. It is
// longer than what it signs, because to replace it is to prepare every host
// again.
const hostAuthorityTerm = 20 * 365 * 24 * time.Hour

// Hosts is the authority by which conductors and hosts know each other. Its
// key is kept like those of clusters, so that all conductors share it. What it
// signs is not kept anywhere: each call makes a new key, which is to be on the
// one machine that it is for.
type Hosts struct{ ca *CA }

// Hosts returns the authority of the hosts. Nothing is made yet.
func (a *CA) Hosts() *Hosts { return &Hosts{a} }

// Authority returns the authority's certificate (PEM). The first call makes it.
func (h *Hosts) Authority(ctx context.Context) ([]byte, error) {
	p, err := h.authority(ctx)
	if err != nil {
		return nil, err
	}
	return p.pem, nil
}

func (h *Hosts) authority(ctx context.Context) (*pair, error) {
	kept := &Cluster{ca: h.ca} // of no cluster
	p, err := kept.ensure(ctx, model.CertHostCA, "", func() (*x509.Certificate, *pair, error) {
		t := h.ca.authorityTemplate("Keelson hosts")
		t.NotAfter = t.NotBefore.Add(hostAuthorityTerm)
		return t, nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("authority of the hosts: %w", err)
	}
	return p, nil
}

// Server issues a certificate and its key (PEM) for the libvirt of a host, to
// be reached by that name and those addresses, which may be IP addresses or
// DNS names.
func (h *Hosts) Server(ctx context.Context, name string, addresses ...string) (cert, key []byte, err error) {
	t := h.ca.template()
	// Never a conductor's subject, whatever the host is called.
	t.Subject = pkix.Name{Organization: []string{"Keelson hosts"}, CommonName: name}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.DNSNames = []string{name}
	for _, address := range addresses {
		if ip := net.ParseIP(address); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if address != name {
			t.DNSNames = append(t.DNSNames, address)
		}
	}
	cert, key, err = h.issue(ctx, t)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of host %s: %w", name, err)
	}
	return cert, key, nil
}

// Conductor issues a conductor's client certificate and its key (PEM).
func (h *Hosts) Conductor(ctx context.Context) (cert, key []byte, err error) {
	t := h.ca.template()
	t.Subject = pkix.Name{CommonName: ConductorName}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key, err = h.issue(ctx, t)
	if err != nil {
		return nil, nil, fmt.Errorf("conductor's certificate for hosts: %w", err)
	}
	return cert, key, nil
}

func (h *Hosts) issue(ctx context.Context, t *x509.Certificate) (cert, key []byte, err error) {
	authority, err := h.authority(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !t.NotAfter.Before(authority.cert.NotAfter) {
		t.NotAfter = authority.cert.NotAfter
	}
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	p, err := h.ca.certify(t, authority)
	if err != nil {
		return nil, nil, err
	}
	key, err = p.keyPEM()
	return p.pem, key, err
}

// WriteClient writes the authority's certificate and a new certificate and key
// of a conductor into the directory, under the names that libvirt's client
// expects of a pkipath. The directory is made, closed to others, if need be.
func (h *Hosts) WriteClient(ctx context.Context, dir string) error {
	authority, err := h.Authority(ctx)
	if err != nil {
		return err
	}
	cert, key, err := h.Conductor(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return fmt.Errorf("conductor's certificate for hosts: %w", err)
	}
	for name, content := range map[string][]byte{"cacert.pem": authority, "clientcert.pem": cert, "clientkey.pem": key} {
		content = append(bytes.TrimRight(content, "\n"), '\n')
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("conductor's certificate for hosts: %w", err)
		}
	}
	return nil
}
