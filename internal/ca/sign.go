// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// ErrRequest is in the chain of errors about the certificate request itself:
// 400 for who sent it. Their text says what is wrong with it.
var ErrRequest = errors.New("certificate request refused")

// requestError is a fault of the request; it matches ErrRequest.
type requestError struct{ reason string }

func (e *requestError) Error() string        { return e.reason }
func (e *requestError) Is(target error) bool { return target == ErrRequest }

func refuse(format string, args ...any) error {
	return &requestError{fmt.Sprintf(format, args...)}
}

// The extensions that a request may bring. Any other is dropped, or refused
// when it is critical.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
)

// Sign signs a PEM certificate request with one of the cluster's authorities,
// which must exist (see AuthorityOf), and returns the certificate (PEM, no
// newline after the END line). The subject is the request's. Neither the
// request's own signature nor the size of its key is checked: who may ask was
// settled by the API, and Magnum's test clients send SHA-1 and 1024 bits.
func (c *Cluster) Sign(ctx context.Context, kind string, request []byte) ([]byte, error) {
	return c.SignFor(ctx, kind, request, c.ca.opts.Term)
}

// SignFor does so for another term than the configured one, which is the
// longest.
func (c *Cluster) SignFor(ctx context.Context, kind string, request []byte, term time.Duration) ([]byte, error) {
	if err := checkAuthority(kind); err != nil {
		return nil, err
	}
	csr, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	extensions, err := acceptable(csr.Extensions)
	if err != nil {
		return nil, err
	}
	authority, err := c.kept(ctx, kind, "")
	if err != nil {
		return nil, fmt.Errorf("authority %s of cluster %s: %w", kind, c.uuid, err)
	}
	return c.ca.issue(csr, extensions, authority, term)
}

func (a *CA) issue(csr *x509.CertificateRequest, extensions []pkix.Extension, authority *pair, term time.Duration) ([]byte, error) {
	template := a.template()
	a.shorten(template, term)
	template.RawSubject = csr.RawSubject
	template.ExtraExtensions = extensions
	// Without its key identifier the issuer adds no extension of its own.
	issuer := *authority.cert
	issuer.SubjectKeyId = nil
	der, err := x509.CreateCertificate(rand.Reader, template, &issuer, csr.PublicKey, authority.key)
	if err != nil {
		return nil, refuse("the certificate request can not be signed: %s", err)
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return nil, refuse("the certificate request makes no valid certificate: %s", err)
	}
	return encodeCertificate(der), nil
}

func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, refuse("the certificate request is not PEM")
	}
	if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, refuse("the PEM block is a %q, not a CERTIFICATE REQUEST", block.Type)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuse("the certificate request can not be read: %s", err)
	}
	if csr.PublicKey == nil {
		return nil, refuse("the certificate request has a key of an unknown kind")
	}
	return csr, nil
}

// acceptable returns those of the requested extensions that the certificate
// gets.
func acceptable(requested []pkix.Extension) ([]pkix.Extension, error) {
	var kept []pkix.Extension
	for _, e := range requested {
		var err error
		switch {
		case e.Id.Equal(oidKeyUsage):
			e.Value, err = limitKeyUsage(e)
		case e.Id.Equal(oidBasicConstraints):
			e.Value, err = denyAuthority(e)
		case e.Id.Equal(oidExtKeyUsage), e.Id.Equal(oidSubjectAltName), e.Id.Equal(oidSubjectKeyID):
		case e.Critical:
			err = refuse("the critical extension %s is not allowed", e.Id)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, e)
	}
	return kept, nil
}

// Names of the key usage bits, and how many of the first are allowed.
var keyUsages = [...]string{
	"digitalSignature", "contentCommitment", "keyEncipherment",
	"dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
}

const allowedKeyUsages = 3

// limitKeyUsage clears the bits that are not allowed; in a critical extension
// they are refused.
func limitKeyUsage(e pkix.Extension) ([]byte, error) {
	var asked asn1.BitString
	if rest, err := asn1.Unmarshal(e.Value, &asked); err != nil || len(rest) > 0 {
		return nil, refuse("the extension keyUsage can not be read")
	}
	var bits byte
	last := 0
	for i, name := range keyUsages {
		switch {
		case asked.At(i) == 0:
		case i < allowedKeyUsages:
			bits |= 0x80 >> i
			last = i + 1
		case e.Critical:
			return nil, refuse("the key usage %s is not allowed", name)
		}
	}
	allowed := asn1.BitString{BitLength: last} // DER: no zero bits at the end
	if last > 0 {
		allowed.Bytes = []byte{bits}
	}
	return asn1.Marshal(allowed)
}

// denyAuthority turns a request for CA:true into CA:false; in a critical
// extension it is refused.
func denyAuthority(e pkix.Extension) ([]byte, error) {
	var asked struct {
		IsCA       bool `asn1:"optional"`
		MaxPathLen int  `asn1:"optional,default:-1"`
	}
	if rest, err := asn1.Unmarshal(e.Value, &asked); err != nil || len(rest) > 0 {
		return nil, refuse("the extension basicConstraints can not be read")
	}
	if asked.IsCA && e.Critical {
		return nil, refuse("a certificate authority can not be requested")
	}
	return asn1.Marshal(struct{}{}) // CA:false is the default, so it is left out
}
