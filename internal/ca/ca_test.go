// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
)

const cluster = "7f3c8c2e-0000-4000-8000-000000000001"

var (
	errNone = errors.New("no such certificate")
	noon    = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
)

// memory keeps certificates like package store does.
type memory struct {
	mu   sync.Mutex
	rows map[key]model.Certificate
}

type key struct {
	cluster    string
	generation int
	kind, node string
}

func (m *memory) Certificate(_ context.Context, clusterUUID string, generation int, kind, nodeUUID string) (*model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[key{clusterUUID, generation, kind, nodeUUID}]
	if !ok {
		return nil, errNone
	}
	return &row, nil
}

func (m *memory) Certificates(_ context.Context, clusterUUID string, kinds ...string) ([]model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []model.Certificate
	for at, row := range m.rows {
		if at.cluster == clusterUUID && slices.Contains(kinds, at.kind) {
			found = append(found, row)
		}
	}
	slices.SortFunc(found, func(x, y model.Certificate) int { return y.Generation - x.Generation })
	return found, nil
}

func (m *memory) PutCertificates(_ context.Context, certificates ...model.Certificate) ([]model.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stored := slices.Clone(certificates)
	for i, c := range stored {
		at := key{c.ClusterID, c.Generation, c.Kind, c.NodeID}
		if _, ok := m.rows[at]; !ok {
			m.rows[at] = c
		}
		stored[i] = m.rows[at]
	}
	return stored, nil
}

func newSealer(t testing.TB) *Sealer {
	t.Helper()
	ring, err := parseKeys(NewKeyLine())
	if err != nil {
		t.Fatal(err)
	}
	s := new(Sealer)
	s.ring.Store(ring)
	return s
}

func newCA(t testing.TB, keyType string) (*CA, *memory) {
	t.Helper()
	rows := &memory{rows: map[key]model.Certificate{}}
	a, err := New(rows, newSealer(t), Options{KeyType: keyType, NotFound: errNone, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return a, rows
}

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAuthority(t *testing.T) {
	for _, keyType := range []string{ECDSA, RSA} {
		t.Run(keyType, func(t *testing.T) {
			a, rows := newCA(t, keyType)
			text, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertCA)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.HasSuffix(text, []byte("\n")) {
				t.Error("Magnum's PEM has no newline at the end")
			}
			cert := parse(t, text)
			if err := cert.CheckSignatureFrom(cert); err != nil {
				t.Error(err)
			}
			if cert.Subject.String() != "CN=blue" || !cert.IsCA || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign {
				t.Errorf("subject %s, CA %v, path length zero %v, usage %b", cert.Subject, cert.IsCA, cert.MaxPathLenZero, cert.KeyUsage)
			}
			if !cert.NotBefore.Equal(noon.Add(-24*time.Hour)) || !cert.NotAfter.Equal(noon.Add(DefaultTerm)) {
				t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
			}
			if n := cert.SerialNumber.BitLen(); n < 64 || n > 128 {
				t.Errorf("serial number of %d bits", n)
			}

			again, err := a.Cluster(cluster, "renamed", 0).AuthorityOf(t.Context(), model.CertCA)
			if err != nil || !bytes.Equal(text, again) {
				t.Errorf("the second call made another authority (%v)", err)
			}
			etcd, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertEtcdCA)
			if err != nil || bytes.Equal(text, etcd) {
				t.Errorf("etcd's authority is the main one (%v)", err)
			}
			if _, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertNode); err == nil {
				t.Error("a node certificate was made an authority")
			}

			row := rows.rows[key{cluster, 0, model.CertCA, ""}]
			key, err := a.sealer.Open(row.SealedKey, cluster, model.CertCA, "")
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(row.SealedKey, key[len(key)-16:]) {
				t.Error("the key lies open in the database")
			}
		})
	}
}

func TestAuthorities_15_1_WithoutANameCalledByTheUUID(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	text, err := a.Cluster(cluster, "", 0).AuthorityOf(t.Context(), model.CertCA)
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, text).Subject.CommonName; got != cluster {
		t.Errorf("common name %q", got)
	}
}

func TestRacersGetTheSameAuthority(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	var got [8][]byte
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _ = a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertCA) })
	}
	wg.Wait()
	for _, text := range got {
		if len(text) == 0 || !bytes.Equal(text, got[0]) {
			t.Fatal("two callers got different authorities")
		}
	}
}

// A TLS server with the node's certificate and Keelson's client trust each
// other through the cluster's CA, and nobody else.
func TestNodeAndClientMeetOverMutualTLS(t *testing.T) {
	for _, keyType := range []string{ECDSA, RSA} {
		t.Run(keyType, func(t *testing.T) {
			a, _ := newCA(t, keyType)
			ours, other := a.Cluster(cluster, "blue", 0), a.Cluster("another", "red", 0)
			if _, _, err := ours.Client(t.Context()); !errors.Is(err, errNone) {
				t.Fatalf("a client certificate without an authority: %v", err)
			}
			for _, c := range []*Cluster{ours, other} {
				if _, err := c.Authority(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			server := serverConfig(t, ours)
			if err := handshake(t, server, clientConfig(t, ours, ours)); err != nil {
				t.Errorf("our client was refused: %v", err)
			}
			if err := handshake(t, server, clientConfig(t, other, ours)); err == nil {
				t.Error("another cluster's client was let in")
			}
			if err := handshake(t, server, clientConfig(t, ours, other)); err == nil {
				t.Error("our client trusted a server that the other cluster's CA has not signed")
			}
		})
	}
}

func serverConfig(t *testing.T, c *Cluster) *tls.Config {
	t.Helper()
	cert, key, err := c.Node(t.Context(), "n1", "blue-master-0", netip.MustParseAddr("192.0.2.7"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(t, c), Time: func() time.Time { return noon }}
}

func clientConfig(t *testing.T, identity, trusted *Cluster) *tls.Config {
	t.Helper()
	cert, key, err := identity.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool(t, trusted), ServerName: "192.0.2.7", Time: func() time.Time { return noon }}
}

func pool(t *testing.T, c *Cluster) *x509.CertPool {
	t.Helper()
	text, err := c.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		t.Fatal("authority is not PEM")
	}
	return p
}

// handshake returns the first error of either side.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	result := make(chan error, 1)
	go func() {
		err := tls.Server(a, server).HandshakeContext(t.Context())
		a.Close()
		result <- err
	}()
	err := tls.Client(b, client).HandshakeContext(t.Context())
	b.Close()
	return errors.Join(err, <-result)
}

func TestNodeCertificateIsKept(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	c := a.Cluster(cluster, "blue", 0)
	if _, err := c.Authority(t.Context()); err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("192.0.2.7")
	cert, key, err := c.Node(t.Context(), "n1", "blue-0", address)
	if err != nil {
		t.Fatal(err)
	}
	cert2, key2, err := c.Node(t.Context(), "n1", "blue-0", address)
	if err != nil || !bytes.Equal(cert, cert2) || !bytes.Equal(key, key2) {
		t.Errorf("the second call made another certificate (%v)", err)
	}
	got := parse(t, cert)
	if diff := cmp.Diff([]string{"blue-0", "localhost"}, got.DNSNames); diff != "" {
		t.Error(diff)
	}
	if len(got.IPAddresses) != 2 || !got.IPAddresses[0].Equal(net.IPv4(192, 0, 2, 7)) || !got.IPAddresses[1].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("addresses %v", got.IPAddresses)
	}
	if _, _, err := c.Node(t.Context(), "n1", "blue-0", netip.MustParseAddr("192.0.2.8")); err == nil {
		t.Error("the certificate of one address was given out for another")
	}
}

func TestSealedKeyOfAnotherRowDoesNotOpen(t *testing.T) {
	a, rows := newCA(t, ECDSA)
	for _, kind := range []string{model.CertCA, model.CertEtcdCA} {
		if _, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
	main, etcd := key{cluster, 0, model.CertCA, ""}, key{cluster, 0, model.CertEtcdCA, ""}
	swapped := rows.rows[main]
	swapped.SealedKey = rows.rows[etcd].SealedKey
	rows.rows[main] = swapped
	if _, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertCA); err == nil {
		t.Error("etcd's key opened as the main authority's")
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"key type":  {KeyType: "dsa", NotFound: errNone},
		"RSA bits":  {KeyType: RSA, RSABits: 1024, NotFound: errNone},
		"term":      {Term: -time.Hour, NotFound: errNone},
		"not found": {},
	} {
		if _, err := New(&memory{}, newSealer(t), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// csr makes a request like python-magnumclient does, plus extensions.
func csr(t testing.TB, extensions ...pkix.Extension) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtraExtensions: extensions,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func rsaCSR(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// While authorities are replaced nodes of both generations can be reached, each
// with the client certificate that it trusts, and they do not trust each other's.
func TestGenerationsOfAuthorities(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	first, second := a.Cluster(cluster, "blue", 0), a.Cluster(cluster, "blue", 1)
	for _, c := range []*Cluster{first, second} {
		if authority, _, _, err := c.Other(t.Context()); err != nil || authority != nil && c == first {
			t.Fatalf("another authority before there was one: %q, %v", authority, err)
		}
		if _, err := c.Authority(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Client(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Equal(authorityOf(t, first), authorityOf(t, second)) {
		t.Fatal("both generations have the same authority")
	}
	for name, c := range map[string][2]*Cluster{"from the first": {first, second}, "from the second": {second, first}} {
		authority, cert, key, err := c[0].Other(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, wantKey, err := c[1].Client(t.Context())
		if err != nil || !bytes.Equal(authority, authorityOf(t, c[1])) || !bytes.Equal(cert, want) || !bytes.Equal(key, wantKey) {
			t.Errorf("%s: the other is not the other (%v)", name, err)
		}
	}
	server := serverConfig(t, first)
	if err := handshake(t, server, clientConfig(t, first, first)); err != nil {
		t.Error(err)
	}
	if err := handshake(t, server, clientConfig(t, second, first)); err == nil {
		t.Error("a node let a client of the next generation in")
	}
}

func authorityOf(t *testing.T, c *Cluster) []byte {
	t.Helper()
	text, err := c.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return text
}
