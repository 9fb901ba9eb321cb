// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/model"
)

// What is in the certificates that a cluster is made with: §15.1 of the
// contract. Magnum's keys are RSA; here that is an option.
func TestAuthorities_15_1_Contents(t *testing.T) {
	a, rows := newCA(t, RSA)
	authority := map[string]*x509.Certificate{}
	for _, kind := range []string{model.CertCA, model.CertEtcdCA, model.CertFrontProxy} {
		text, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		authority[kind] = parse(t, text)
	}
	text, sealed, err := a.Cluster(cluster, "blue", 0).Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := parse(t, text)

	extension := func(c *x509.Certificate, id string) (there, critical bool) {
		i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.String() == id })
		return i >= 0, i >= 0 && c.Extensions[i].Critical
	}
	all := func(check func(t *testing.T, c *x509.Certificate)) func(*testing.T) {
		return func(t *testing.T) {
			for _, c := range authority {
				check(t, c)
			}
			check(t, client)
		}
	}
	t.Run("three authorities", func(t *testing.T) {
		if bytes.Equal(authority[model.CertCA].Raw, authority[model.CertEtcdCA].Raw) || bytes.Equal(authority[model.CertEtcdCA].Raw, authority[model.CertFrontProxy].Raw) {
			t.Error("two of them are the same")
		}
	})
	t.Run("subject", func(t *testing.T) {
		for kind, c := range authority {
			if got := c.Subject.String(); got != "CN=blue" {
				t.Errorf("%s: %s", kind, got)
			}
		}
		if s := client.Subject; s.CommonName != "admin" || !slices.Equal(s.Organization, []string{"system:masters"}) {
			t.Errorf("client: %s", s)
		}
	})
	t.Run("issuer", all(func(t *testing.T, c *x509.Certificate) {
		if got := c.Issuer.String(); got != "CN=blue" {
			t.Errorf("%s", got)
		}
	}))
	t.Run("key", func(t *testing.T) {
		all(func(t *testing.T, c *x509.Certificate) {
			if key, ok := c.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
				t.Errorf("%T", c.PublicKey)
			}
		})(t)
		if !bytes.HasPrefix(sealed, []byte("-----BEGIN PRIVATE KEY-----")) { // PKCS #8
			t.Errorf("the client's key is %.40q", sealed)
		}
		for key, row := range rows.rows {
			if bytes.Contains(row.SealedKey, []byte("PRIVATE")) || len(row.SealedKey) == 0 {
				t.Errorf("the key of %v lies open", key)
			}
		}
	})
	t.Run("signature", all(func(t *testing.T, c *x509.Certificate) {
		if c.SignatureAlgorithm != x509.SHA256WithRSA {
			t.Errorf("%s", c.SignatureAlgorithm)
		}
	}))
	t.Run("validity", all(func(t *testing.T, c *x509.Certificate) {
		if !c.NotBefore.Equal(noon.Add(-24*time.Hour)) || !c.NotAfter.Equal(noon.Add(1825*24*time.Hour)) {
			t.Errorf("from %s to %s", c.NotBefore, c.NotAfter)
		}
	}))
	t.Run("extensions", func(t *testing.T) {
		const basicConstraints, keyUsage, extKeyUsage = "2.5.29.19", "2.5.29.15", "2.5.29.37"
		for kind, c := range authority {
			if _, critical := extension(c, basicConstraints); !critical || !c.IsCA || !c.MaxPathLenZero {
				t.Errorf("%s: basicConstraints: CA %v, path length zero %v, critical %v", kind, c.IsCA, c.MaxPathLenZero, critical)
			}
			if _, critical := extension(c, keyUsage); !critical || c.KeyUsage != x509.KeyUsageCertSign {
				t.Errorf("%s: keyUsage %b, critical %v", kind, c.KeyUsage, critical)
			}
		}
		if _, critical := extension(client, basicConstraints); !critical || client.IsCA {
			t.Errorf("client: basicConstraints: CA %v, critical %v", client.IsCA, critical)
		}
		if _, critical := extension(client, keyUsage); !critical || client.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
			t.Errorf("client: keyUsage %b, critical %v", client.KeyUsage, critical)
		}
		if there, _ := extension(client, extKeyUsage); !there || !slices.Equal(client.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("client: extendedKeyUsage %v", client.ExtKeyUsage)
		}
	})
}
