// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
)

// Conductors and hosts know each other by the hosts' authority, and nobody
// takes one for the other.
func TestHostsAndConductorsKnowEachOther(t *testing.T) {
	for _, keyType := range []string{ECDSA, RSA} {
		t.Run(keyType, func(t *testing.T) {
			a, rows := newCA(t, keyType)
			hosts := a.Hosts()
			authority, err := hosts.Authority(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			again, err := hosts.Authority(t.Context())
			if err != nil || !bytes.Equal(authority, again) {
				t.Errorf("asked again, the authority is another: %v", err)
			}
			serverPEM, serverKey, err := hosts.Server(t.Context(), "host-1", "192.0.2.7", "host-1.example.org")
			if err != nil {
				t.Fatal(err)
			}
			clientPEM, clientKey, err := hosts.Conductor(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(rows.rows) != 1 {
				t.Errorf("%d certificates are kept, want the authority alone", len(rows.rows))
			}
			server, client := parse(t, serverPEM), parse(t, clientPEM)
			if diff := cmp.Diff([]string{"host-1", "host-1.example.org"}, server.DNSNames); diff != "" {
				t.Error(diff)
			}
			if len(server.IPAddresses) != 1 || !server.IPAddresses[0].Equal(net.IPv4(192, 0, 2, 7)) {
				t.Errorf("addresses of the host: %v", server.IPAddresses)
			}
			if got := client.Subject.String(); got != "CN="+ConductorName {
				t.Errorf("a conductor is %s", got)
			}
			named, _, err := hosts.Server(t.Context(), ConductorName, "192.0.2.8")
			if err != nil {
				t.Fatal(err)
			}
			if got := parse(t, named).Subject.String(); got == client.Subject.String() {
				t.Error("a host got a conductor's subject")
			}

			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(authority)
			verify := func(cert *x509.Certificate, name string, usage x509.ExtKeyUsage) error {
				_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: noon})
				return err
			}
			for _, name := range []string{"host-1", "host-1.example.org", "192.0.2.7"} {
				if err := verify(server, name, x509.ExtKeyUsageServerAuth); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := verify(client, "", x509.ExtKeyUsageClientAuth); err != nil {
				t.Error(err)
			}
			for what, err := range map[string]error{
				"a host as a client":         verify(server, "", x509.ExtKeyUsageClientAuth),
				"a host as another":          verify(server, "192.0.2.8", x509.ExtKeyUsageServerAuth),
				"a conductor as a host":      verify(client, "", x509.ExtKeyUsageServerAuth),
				"a conductor under its name": verify(client, ConductorName, x509.ExtKeyUsageClientAuth),
			} {
				if err == nil {
					t.Errorf("%s passes", what)
				}
			}
			for what, pair := range map[string][2][]byte{"host": {serverPEM, serverKey}, "conductor": {clientPEM, clientKey}} {
				if _, err := tls.X509KeyPair(pair[0], pair[1]); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// What the authority signs ends with the authority at the latest.
func TestHostCertificatesEndWithTheirAuthority(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	authorityPEM, err := a.Hosts().Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end := parse(t, authorityPEM).NotAfter
	if end.Before(noon.Add(2 * DefaultTerm)) {
		t.Errorf("the authority ends on %s", end)
	}
	cert, _, err := a.Hosts().Conductor(t.Context())
	if err != nil || !parse(t, cert).NotAfter.Equal(noon.Add(DefaultTerm)) {
		t.Errorf("%v, ends on %s", err, parse(t, cert).NotAfter)
	}
	a.opts.Now = func() time.Time { return end.Add(-time.Hour) }
	if cert, _, err = a.Hosts().Conductor(t.Context()); err != nil || !parse(t, cert).NotAfter.Equal(end) {
		t.Errorf("%v, ends on %s, the authority on %s", err, parse(t, cert).NotAfter, end)
	}
}

// A cluster's authority can not be put in the place of the hosts'.
func TestAuthorityOfAClusterIsNotTheHosts(t *testing.T) {
	a, rows := newCA(t, ECDSA)
	if _, err := a.Cluster(cluster, "blue", 0).AuthorityOf(t.Context(), model.CertCA); err != nil {
		t.Fatal(err)
	}
	stolen := rows.rows[key{cluster, 0, model.CertCA, ""}]
	stolen.ClusterID, stolen.Kind = "", model.CertHostCA
	rows.rows[key{"", 0, model.CertHostCA, ""}] = stolen
	if _, err := a.Hosts().Authority(t.Context()); err == nil {
		t.Error("it can")
	}
}

func TestWriteClient(t *testing.T) {
	a, _ := newCA(t, ECDSA)
	dir := filepath.Join(t.TempDir(), "state", "pki")
	for range 2 {
		if err := a.Hosts().WriteClient(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the directory: %v, %v", info.Mode(), err)
		}
		for _, name := range []string{"cacert.pem", "clientcert.pem", "clientkey.pem"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem")); err != nil {
			t.Error(err)
		}
	}
	if err := a.Hosts().WriteClient(t.Context(), filepath.Join(dir, "cacert.pem")); err == nil || errors.Is(err, errNone) {
		t.Errorf("a file as the directory: %v", err)
	}
}
