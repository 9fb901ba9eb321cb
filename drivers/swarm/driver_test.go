// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/swarm"
)

var template = drivers.Template{COE: "swarm-mode", ServerType: "bm", NetworkDriver: "docker"}

func newDriver() drivers.Driver { return swarm.New(swarm.Options{}) }

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Suite{
		New:      newDriver,
		Machines: func(tb testing.TB) conformance.Machines { return newLXC(tb) },
		Template: template,
		Members:  members,
		Managers: 3,
	})
}

// docker connects to the cluster as its tenant does: by its API address.
func docker(ctx context.Context, job *drivers.Job) (*client.Client, error) {
	authority, err := job.Services.Certificates.Authority(ctx)
	if err != nil {
		return nil, err
	}
	cert, key, err := job.Services.Certificates.Client(ctx)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return client.New(client.WithHost(job.Cluster.APIAddress), client.WithHTTPClient(&http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
	}))
}

func members(ctx context.Context, job *drivers.Job) ([]string, error) {
	api, err := docker(ctx, job)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	list, err := api.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range list.Items {
		names = append(names, m.Description.Hostname)
	}
	return names, nil
}

// newImpostor returns the address of a TLS server of somebody else.
func newImpostor(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
