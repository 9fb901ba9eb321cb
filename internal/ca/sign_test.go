// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
)

func readyCA(t testing.TB) (*CA, *x509.Certificate) {
	t.Helper()
	a, _ := newCA(t, ECDSA)
	text, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertCA)
	if err != nil {
		t.Fatal(err)
	}
	return a, parse(t, text)
}

func TestSign_15_2_TheRequestOfMagnumClient(t *testing.T) {
	a, authority := readyCA(t)
	text, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, rsaCSR(t))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasSuffix(text, []byte("\n")) {
		t.Error("Magnum's PEM has no newline at the end")
	}
	cert := parse(t, text)
	if err := cert.CheckSignatureFrom(authority); err != nil {
		t.Error(err)
	}
	if cert.Subject.CommonName != "admin" || cert.Subject.Organization[0] != "system:masters" || cert.Issuer.String() != "CN=blue" {
		t.Errorf("subject %s, issuer %s", cert.Subject, cert.Issuer)
	}
	if len(cert.Extensions) != 0 {
		t.Errorf("a request without extensions got %v", cert.Extensions)
	}
	if !cert.NotBefore.Equal(noon.Add(-24*time.Hour)) || !cert.NotAfter.Equal(noon.Add(DefaultTerm)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
}

// Tempest's request has 1024 bits and SHA-1.
func TestSign_15_2_TheRequestOfTempest(t *testing.T) {
	a, authority := readyCA(t)
	request, err := os.ReadFile("testdata/tempest-sha1-1024.csr")
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, request)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, text)
	if err := cert.CheckSignatureFrom(authority); err != nil {
		t.Error(err)
	}
	if bits := cert.PublicKey.(*rsa.PublicKey).N.BitLen(); bits != 1024 {
		t.Errorf("a key of %d bits", bits)
	}
}

func TestSignWithTheAuthorityAskedFor(t *testing.T) {
	a, _ := readyCA(t)
	if _, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertFrontProxy, csr(t)); !errors.Is(err, errNone) {
		t.Errorf("signed by an authority that is not there: %v", err)
	}
	text, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertFrontProxy)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertFrontProxy, csr(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(t, signed).CheckSignatureFrom(parse(t, text)); err != nil {
		t.Error(err)
	}
	if _, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertService, csr(t)); err == nil {
		t.Error("signed with the key of a client certificate")
	}
}

func usage(critical bool, bits string) pkix.Extension {
	s := asn1.BitString{Bytes: make([]byte, 2), BitLength: len(bits)}
	for i, b := range bits {
		if b == '1' {
			s.Bytes[i/8] |= 0x80 >> (i % 8)
		}
	}
	s.Bytes = s.Bytes[:(len(bits)+7)/8]
	der, _ := asn1.Marshal(s)
	return pkix.Extension{Id: oidKeyUsage, Critical: critical, Value: der}
}

func constraints(critical, isCA bool) pkix.Extension {
	der, _ := asn1.Marshal(struct {
		IsCA bool `asn1:"optional"`
	}{isCA})
	return pkix.Extension{Id: oidBasicConstraints, Critical: critical, Value: der}
}

func TestSign_15_2_ExtensionsOfTheRequest(t *testing.T) {
	names, _ := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("example.org")}})
	clientAuth, _ := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})
	keyIdentifier, _ := asn1.Marshal([]byte("identifier"))
	unknown := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

	tests := []struct {
		name    string
		asked   pkix.Extension
		refused string                       // part of the error's text
		gone    bool                         // dropped
		check   func(*x509.Certificate) bool // of the result
	}{
		{name: "allowed key usages stay", asked: usage(true, "111"), check: func(c *x509.Certificate) bool {
			return c.KeyUsage == x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment|x509.KeyUsageKeyEncipherment
		}},
		{name: "others are cleared", asked: usage(false, "100001111"), check: func(c *x509.Certificate) bool {
			return c.KeyUsage == x509.KeyUsageDigitalSignature
		}},
		{name: "all of them may be cleared", asked: usage(false, "000001"), check: func(c *x509.Certificate) bool { return c.KeyUsage == 0 }},
		{name: "critical ones are refused", asked: usage(true, "100001"), refused: "keyCertSign"},
		{name: "the ninth bit is seen", asked: usage(true, "100000001"), refused: "decipherOnly"},
		{name: "no authority", asked: constraints(false, true), check: func(c *x509.Certificate) bool { return c.BasicConstraintsValid && !c.IsCA }},
		{name: "critical authority is refused", asked: constraints(true, true), refused: "authority"},
		{name: "critical CA:false stays", asked: constraints(true, false), check: func(c *x509.Certificate) bool { return c.BasicConstraintsValid && !c.IsCA }},
		{name: "names stay", asked: pkix.Extension{Id: oidSubjectAltName, Value: names}, check: func(c *x509.Certificate) bool {
			return len(c.DNSNames) == 1 && c.DNSNames[0] == "example.org"
		}},
		{name: "extended key usage stays", asked: pkix.Extension{Id: oidExtKeyUsage, Critical: true, Value: clientAuth}, check: func(c *x509.Certificate) bool {
			return len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth
		}},
		{name: "key identifier stays", asked: pkix.Extension{Id: oidSubjectKeyID, Value: keyIdentifier}, check: func(c *x509.Certificate) bool {
			return string(c.SubjectKeyId) == "identifier"
		}},
		{name: "unknown is dropped", asked: pkix.Extension{Id: unknown, Value: []byte{5, 0}}, gone: true},
		{name: "unknown and critical is refused", asked: pkix.Extension{Id: unknown, Critical: true, Value: []byte{5, 0}}, refused: unknown.String()},
		{name: "broken key usage", asked: pkix.Extension{Id: oidKeyUsage, Value: []byte{4, 1, 0}}, refused: "keyUsage"},
		{name: "broken constraints", asked: pkix.Extension{Id: oidBasicConstraints, Value: []byte{4, 1, 0}}, refused: "basicConstraints"},
	}
	a, _ := readyCA(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, csr(t, tt.asked))
			if tt.refused != "" {
				if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("want a refusal that names %q, got %v", tt.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			cert := parse(t, text)
			want := []string{tt.asked.Id.String()}
			if tt.gone {
				want = nil
			}
			var got []string
			for _, e := range cert.Extensions {
				got = append(got, e.Id.String())
				if e.Critical != tt.asked.Critical {
					t.Errorf("critical became %v", e.Critical)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("extensions (-want +got):\n%s", diff)
			}
			if tt.check != nil && !tt.check(cert) {
				t.Errorf("wrong content: %+v", cert)
			}
		})
	}
}

func TestSign_15_2_BadRequestsAreTheCallersFault(t *testing.T) {
	a, _ := readyCA(t)
	block, _ := pem.Decode(csr(t))
	for name, text := range map[string][]byte{
		"empty":         nil,
		"no PEM":        []byte("hello"),
		"a certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"cut off":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes[:50]}),
	} {
		if _, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, text); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: block.Bytes})
	if _, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, old); err != nil {
		t.Errorf("the old PEM label: %v", err)
	}
}

// Whatever is sent, the answer is a refusal or a certificate that is no
// authority and may do no more than allowed.
func FuzzSign(f *testing.F) {
	tempest, err := os.ReadFile("testdata/tempest-sha1-1024.csr")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range [][]byte{
		tempest,
		csr(f),
		csr(f, usage(false, "111111111"), constraints(false, true)),
		csr(f, usage(true, "101"), constraints(true, false)),
	} {
		block, _ := pem.Decode(text)
		f.Add(block.Bytes)
	}
	a, authority := readyCA(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		text, err := a.Cluster(cluster, "blue", 0).Sign(t.Context(), model.CertCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Fatalf("not the request's fault: %v", err)
			}
			return
		}
		cert := parse(t, text)
		if err := cert.CheckSignatureFrom(authority); err != nil {
			t.Fatal(err)
		}
		if cert.IsCA {
			t.Fatal("it is an authority")
		}
		if cert.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment|x509.KeyUsageKeyEncipherment) != 0 {
			t.Fatalf("key usage %b", cert.KeyUsage)
		}
	})
}
