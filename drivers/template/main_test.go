// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
)

// The whole contract: create, resize and delete, with each step taken twice and
// stopped before each step, undone, with services that fail, side by side.
func TestConformance(t *testing.T) {
	hives := &hives{agents: map[string]*agent{}}
	conformance.Run(t, conformance.Suite{
		New:      func() drivers.Driver { return &Driver{Dial: hives.dial} },
		Machines: hives.machines,
		Template: drivers.Template{COE: "hive", ServerType: "vm"},
		Members:  hives.members,
		Managers: 3,
	})
}

func TestTemplatesWithoutTLSAreRefused(t *testing.T) {
	err := (&Driver{}).ValidateTemplate(&drivers.Template{COE: "hive", ServerType: "vm", TLSDisabled: true})
	if err == nil || !strings.HasPrefix(err.Error(), "tls_disabled ") {
		t.Errorf("got %v, want a refusal that names the field", err)
	}
}

// hives plays what is on the node image: the agents of all nodes of all tests.
type hives struct {
	mu     sync.Mutex
	placed int
	agents map[string]*agent // by the address of the node
}

// agent is Hive's part of one node. What a hive knows is shared by its agents.
type agent struct {
	name    string
	server  *httptest.Server
	members map[string]*agent // nil until it is in a hive
}

// dial brings the driver to an agent, as the network between Keelson and the
// nodes does.
func (h *hives) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	a := h.agents[host]
	h.mu.Unlock()
	if a == nil {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, a.server.Listener.Addr().String())
}

// members asks the hive itself.
func (h *hives) members(_ context.Context, job *drivers.Job) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range job.Nodes {
		if a := h.agents[n.Address]; a != nil && n.Master() && a.members != nil {
			return slices.Sorted(maps.Keys(a.members)), nil
		}
	}
	return nil, errors.New("no master answers")
}

// serve answers as the agent.
func (h *hives) serve(w http.ResponseWriter, r *http.Request, a *agent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/members"), "/")
	switch {
	case r.Method == http.MethodPut && a.members == nil && name == a.name:
		a.members = map[string]*agent{name: a}
	case a.members == nil:
		http.Error(w, "not in a hive", http.StatusConflict)
		return
	case r.Method == http.MethodPut:
		joining := h.find(name, a)
		if joining == nil {
			http.Error(w, "no such agent", http.StatusConflict)
			return
		}
		joining.members, a.members[name] = a.members, joining
	case r.Method == http.MethodDelete:
		delete(a.members, name)
	}
	ready := map[string]bool{}
	for name, member := range a.members {
		ready[name] = h.find(name, a) == member
	}
	_ = json.NewEncoder(w).Encode(ready)
}

// find returns the agent of that name which runs and has the same authority.
func (h *hives) find(name string, of *agent) *agent {
	for _, a := range h.agents {
		if a.name == name && a.server.TLS.ClientCAs.Equal(of.server.TLS.ClientCAs) {
			return a
		}
	}
	return nil
}

// machines are nodes that exist in name only, but for their agents.
type machines struct {
	*conformance.Memory
	hives     *hives
	addresses map[string]string // of the nodes that run, by id
}

func (h *hives) machines(tb testing.TB) conformance.Machines {
	m := &machines{conformance.NewMemory(), h, map[string]string{}}
	tb.Cleanup(func() {
		left, _ := m.List(context.Background())
		for _, id := range left {
			_ = m.Delete(context.Background(), id)
		}
	})
	return m
}

// Address implements conformance.Machines: no two nodes of all tests share one.
func (m *machines) Address(int) netip.Addr {
	m.hives.mu.Lock()
	defer m.hives.mu.Unlock()
	m.hives.placed++
	return netip.AddrFrom4([4]byte{198, 18, byte(m.hives.placed / 250), byte(1 + m.hives.placed%250)})
}

// Start implements conformance.Machines: the node's init starts the agent with
// the files that the driver has put there.
func (m *machines) Start(ctx context.Context, node drivers.Node, revision string, files []drivers.File) error {
	m.hives.mu.Lock()
	defer m.hives.mu.Unlock()
	if m.hives.agents[node.Address] != nil {
		return nil
	}
	text := map[string][]byte{}
	for _, f := range files {
		text[f.Path] = f.Content
	}
	pair, err := tls.X509KeyPair(text["/etc/hive/cert.pem"], text["/etc/hive/key.pem"])
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(text["/etc/hive/ca.pem"])
	a := &agent{name: node.Name}
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.hives.serve(w, r, a) }))
	a.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	a.server.StartTLS()
	m.hives.agents[node.Address], m.addresses[node.ID] = a, node.Address
	return m.Memory.Start(ctx, node, revision, files)
}

// Delete implements conformance.Machines: the agent goes with its node.
func (m *machines) Delete(ctx context.Context, nodeID string) error {
	m.hives.mu.Lock()
	a := m.hives.agents[m.addresses[nodeID]]
	delete(m.hives.agents, m.addresses[nodeID])
	m.hives.mu.Unlock()
	if a != nil {
		a.server.Close() // waits for its calls
	}
	return m.Memory.Delete(ctx, nodeID)
}
