// SPDX-License-Identifier: Apache-2.0

// Package ca is the certificate authority that each cluster has of its own.
//
// Authorities, Keelson's client certificate and the nodes' server certificates
// are made when first asked for and kept in the database; private keys are
// sealed before they get there. Tenants bring certificate requests and keep
// their keys. Contents follow Magnum, so that its clients find what they know.
package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/keelson/keelson/internal/model"
)

// Defaults of Options. Back-dating forgives clocks that are late by a day.
const (
	DefaultTerm    = 1825 * 24 * time.Hour
	DefaultRSABits = 2048
	backdated      = 24 * time.Hour
)

// Key types of Options.
const (
	ECDSA = "ecdsa" // P-256
	RSA   = "rsa"
)

// Certs is where certificates are kept: package store.
type Certs interface {
	// Certificate returns the cluster's certificate of that generation and kind;
	// nodeUUID is empty unless the kind is model.CertNode, and clusterUUID is
	// when the kind is model.CertHostCA. When there is none
	// the error is (or wraps) Options.NotFound.
	Certificate(ctx context.Context, clusterUUID string, generation int, kind, nodeUUID string) (*model.Certificate, error)

	// Certificates returns all of the cluster's certificates of these kinds,
	// the newest generation first.
	Certificates(ctx context.Context, clusterUUID string, kinds ...string) ([]model.Certificate, error)

	// PutCertificates keeps certificates of one cluster, all or none, and
	// returns them; in place of one that there is already it returns that. Of
	// two that race, both get the same.
	PutCertificates(ctx context.Context, certificates ...model.Certificate) ([]model.Certificate, error)
}

// Options of the authorities; zero values mean the defaults.
type Options struct {
	KeyType string        // of new keys: ECDSA (default) or RSA
	RSABits int           // 2048 or more
	Term    time.Duration // how long certificates are valid from now on
	// NotFound is the error by which Certs says that there is no such
	// certificate: store.ErrNotFound.
	NotFound error
	Now      func() time.Time // for tests
}

// CA makes and keeps the certificates of all clusters. It may be used from
// several goroutines and processes at once.
type CA struct {
	certs  Certs
	sealer *Sealer
	opts   Options
}

// New returns the authorities of the clusters in certs.
func New(certs Certs, sealer *Sealer, opts Options) (*CA, error) {
	if opts.KeyType == "" {
		opts.KeyType = ECDSA
	}
	if opts.RSABits == 0 {
		opts.RSABits = DefaultRSABits
	}
	if opts.Term == 0 {
		opts.Term = DefaultTerm
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	switch {
	case opts.KeyType != ECDSA && opts.KeyType != RSA:
		return nil, fmt.Errorf("key type %q is neither %s nor %s", opts.KeyType, ECDSA, RSA)
	case opts.RSABits < 2048:
		return nil, fmt.Errorf("RSA keys of %d bits are too short: 2048 at least", opts.RSABits)
	case opts.Term < 0:
		return nil, fmt.Errorf("a term of %s is negative", opts.Term)
	case opts.NotFound == nil:
		return nil, errors.New("the option NotFound is missing")
	}
	return &CA{certs: certs, sealer: sealer, opts: opts}, nil
}

// pair is a certificate with its private key.
type pair struct {
	cert *x509.Certificate
	pem  []byte // of cert, without a newline at the end
	key  crypto.Signer
}

// keyPEM returns the private key as PKCS #8.
func (p *pair) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func certifies(cert *x509.Certificate, name string, address netip.Addr) bool {
	return slices.Contains(cert.DNSNames, name) &&
		slices.ContainsFunc(cert.IPAddresses, func(ip net.IP) bool { return ip.Equal(address.AsSlice()) })
}

func checkAuthority(kind string) error {
	switch kind {
	case model.CertCA, model.CertEtcdCA, model.CertFrontProxy:
		return nil
	}
	return fmt.Errorf("no authority is called %q", kind)
}

// certify makes a key and a certificate for it, self-signed when issuer is nil.
func (a *CA) certify(template *x509.Certificate, issuer *pair) (*pair, error) {
	key, err := a.newKey()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if template.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return nil, err
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &pair{cert: cert, pem: encodeCertificate(der), key: key}, nil
}

func (a *CA) open(row *model.Certificate) (*pair, error) {
	block, _ := pem.Decode([]byte(row.PEM))
	if block == nil {
		return nil, fmt.Errorf("%s certificate of cluster %s is not PEM", row.Kind, row.ClusterID)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	secret, err := a.sealer.Open(row.SealedKey, row.ClusterID, row.Kind, row.NodeID)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, errors.New("sealed key is not PKCS #8")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("sealed key can not sign")
	}
	return &pair{cert: cert, pem: []byte(row.PEM), key: signer}, nil
}

func (a *CA) newKey() (crypto.Signer, error) {
	if a.opts.KeyType == RSA {
		return rsa.GenerateKey(rand.Reader, a.opts.RSABits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// template has what all certificates share: a random serial of 128 bits and
// the validity.
func (a *CA) template() *x509.Certificate {
	now := a.opts.Now().UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: newSerial(),
		NotBefore:    now.Add(-backdated),
		NotAfter:     now.Add(a.opts.Term),
	}
}

// shorten lets a certificate end after the term, if that is sooner.
func (a *CA) shorten(t *x509.Certificate, term time.Duration) {
	if end := a.opts.Now().UTC().Truncate(time.Second).Add(term); end.Before(t.NotAfter) {
		t.NotAfter = end
	}
}

// Term is how long certificates are valid unless asked otherwise.
func (a *CA) Term() time.Duration { return a.opts.Term }

func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive within 16 bytes
	b[15] |= 1   // and never zero
	return new(big.Int).SetBytes(b[:])
}

func (a *CA) authorityTemplate(name string) *x509.Certificate {
	t := a.template()
	t.Subject = pkix.Name{CommonName: name}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	return t
}

func (a *CA) clientTemplate() *x509.Certificate {
	t := a.template()
	t.Subject = pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return t
}

func (a *CA) nodeTemplate(name string, address netip.Addr) *x509.Certificate {
	t := a.template()
	t.Subject = pkix.Name{CommonName: name}
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.DNSNames = []string{name, "localhost"}
	t.IPAddresses = []net.IP{address.AsSlice(), net.IPv4(127, 0, 0, 1)}
	return t
}

// keyID returns a key's identifier as RFC 5280 §4.2.1.2 (1) has it.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha1.Sum(info.Key.Bytes)
	return sum[:], nil
}

// encodeCertificate returns PEM without a newline after the END line, as
// Magnum has it.
func encodeCertificate(der []byte) []byte {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return text[:len(text)-1]
}
