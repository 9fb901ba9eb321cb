// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// Cluster is one generation of one cluster's authorities; it has the methods of
// drivers.Certificates. It may be used from several goroutines at once.
type Cluster struct {
	ca         *CA
	uuid, name string
	generation int

	mu   sync.Mutex
	main *pair // the main authority, once read: it never changes
}

// Cluster returns the cluster's authorities of that generation. Nothing is
// made yet.
func (a *CA) Cluster(uuid, name string, generation int) *Cluster {
	return &Cluster{ca: a, uuid: uuid, name: cmp.Or(name, uuid), generation: generation}
}

// Of returns the cluster's authorities of its present generation.
func (a *CA) Of(c *model.Cluster) *Cluster { return a.Cluster(c.UUID, c.Name, c.CAGeneration) }

// Authority returns the certificate (PEM) of the main authority. The first
// call makes it, together with the two others that the API shows.
func (c *Cluster) Authority(ctx context.Context) ([]byte, error) {
	if p, err := c.authority(ctx); err == nil {
		return p.pem, nil
	}
	var made []model.Certificate
	for _, kind := range []string{model.CertCA, model.CertEtcdCA, model.CertFrontProxy} {
		row, err := c.make(kind, "", c.ca.authorityTemplate(c.name), nil)
		if err != nil {
			return nil, fmt.Errorf("authority %s of cluster %s: %w", kind, c.uuid, err)
		}
		made = append(made, row)
	}
	stored, err := c.ca.certs.PutCertificates(ctx, made...)
	if err != nil {
		return nil, fmt.Errorf("authorities of cluster %s: %w", c.uuid, err)
	}
	return []byte(stored[0].PEM), nil
}

// authority returns the main authority. It must exist.
func (c *Cluster) authority(ctx context.Context) (*pair, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.main == nil {
		p, err := c.kept(ctx, model.CertCA, "")
		if err != nil {
			return nil, err
		}
		c.main = p
	}
	return c.main, nil
}

// AuthorityOf returns the certificate (PEM, no newline after the END line) of
// one of the authorities: model.CertCA, CertEtcdCA or CertFrontProxy. The first
// call makes it, with the cluster's name as its common name.
func (c *Cluster) AuthorityOf(ctx context.Context, kind string) ([]byte, error) {
	if err := checkAuthority(kind); err != nil {
		return nil, err
	}
	p, err := c.ensure(ctx, kind, "", func() (*x509.Certificate, *pair, error) {
		return c.ca.authorityTemplate(c.name), nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("authority %s of cluster %s: %w", kind, c.uuid, err)
	}
	return p.pem, nil
}

// Client implements drivers.Certificates. The main authority must exist.
func (c *Cluster) Client(ctx context.Context) (cert, key []byte, err error) {
	p, err := c.ensure(ctx, model.CertService, "", func() (*x509.Certificate, *pair, error) {
		authority, err := c.authority(ctx)
		return c.ca.clientTemplate(), authority, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("client certificate for cluster %s: %w", c.uuid, err)
	}
	key, err = p.keyPEM()
	return p.pem, key, err
}

// Visitor returns a new client certificate with a key of its own (PEM), which
// nobody keeps, valid for the term or the configured one if that is shorter.
// The main authority must exist.
func (c *Cluster) Visitor(ctx context.Context, term time.Duration) (cert, key []byte, err error) {
	authority, err := c.authority(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("authority of cluster %s: %w", c.uuid, err)
	}
	template := c.ca.clientTemplate()
	c.ca.shorten(template, term)
	p, err := c.ca.certify(template, authority)
	if err != nil {
		return nil, nil, fmt.Errorf("client certificate for cluster %s: %w", c.uuid, err)
	}
	key, err = p.keyPEM()
	return p.pem, key, err
}

// Other implements drivers.Certificates.
func (c *Cluster) Other(ctx context.Context) (authority, cert, key []byte, err error) {
	rows, err := c.ca.certs.Certificates(ctx, c.uuid, model.CertCA, model.CertService)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("certificates of cluster %s: %w", c.uuid, err)
	}
	authorities := map[int]string{}
	for i := range rows {
		if rows[i].Kind == model.CertCA {
			authorities[rows[i].Generation] = rows[i].PEM
		}
	}
	for i := range rows {
		pem, known := authorities[rows[i].Generation]
		if rows[i].Kind != model.CertService || rows[i].Generation == c.generation || !known {
			continue
		}
		p, err := c.ca.open(&rows[i])
		if err != nil {
			return nil, nil, nil, fmt.Errorf("former client certificate for cluster %s: %w", c.uuid, err)
		}
		key, err := p.keyPEM()
		return []byte(pem), p.pem, key, err
	}
	return nil, nil, nil, nil
}

// Node implements drivers.Certificates. The main authority must exist. A node
// keeps its name and address for life: asking again with others is an error.
func (c *Cluster) Node(ctx context.Context, nodeUUID, name string, address netip.Addr) (cert, key []byte, err error) {
	p, err := c.ensure(ctx, model.CertNode, nodeUUID, func() (*x509.Certificate, *pair, error) {
		issuer, err := c.authority(ctx)
		return c.ca.nodeTemplate(name, address), issuer, err
	})
	if err == nil && !certifies(p.cert, name, address) {
		err = fault.Permanent(nil, "it is for %v %v, not for %s %s", p.cert.DNSNames, p.cert.IPAddresses, name, address)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of node %s: %w", nodeUUID, err)
	}
	key, err = p.keyPEM()
	return p.pem, key, err
}

// kept returns the pair that the database has.
func (c *Cluster) kept(ctx context.Context, kind, nodeUUID string) (*pair, error) {
	row, err := c.ca.certs.Certificate(ctx, c.uuid, c.generation, kind, nodeUUID)
	if err != nil {
		return nil, err
	}
	return c.ca.open(row)
}

// ensure returns the pair that is kept; if there is none it makes one and keeps
// it, or returns the one that somebody else kept meanwhile. prepare gives the
// certificate's template and its issuer, nil for a self-signed one.
func (c *Cluster) ensure(ctx context.Context, kind, nodeUUID string, prepare func() (*x509.Certificate, *pair, error)) (*pair, error) {
	if p, err := c.kept(ctx, kind, nodeUUID); !errors.Is(err, c.ca.opts.NotFound) {
		return p, err
	}
	template, issuer, err := prepare()
	if err != nil {
		return nil, err
	}
	made, err := c.make(kind, nodeUUID, template, issuer)
	if err != nil {
		return nil, err
	}
	stored, err := c.ca.certs.PutCertificates(ctx, made)
	if err != nil {
		return nil, err
	}
	return c.ca.open(&stored[0])
}

// make makes a certificate, which nobody keeps yet.
func (c *Cluster) make(kind, nodeUUID string, template *x509.Certificate, issuer *pair) (model.Certificate, error) {
	p, err := c.ca.certify(template, issuer)
	if err != nil {
		return model.Certificate{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return model.Certificate{}, err
	}
	return model.Certificate{
		ClusterID:  c.uuid,
		Kind:       kind,
		NodeID:     nodeUUID,
		Generation: c.generation,
		PEM:        string(p.pem),
		SealedKey:  c.ca.sealer.Seal(secret, c.uuid, kind, nodeUUID),
		NotAfter:   template.NotAfter,
	}, nil
}
