// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/fault"
)

// The address of a node is that of its port in Neutron, from the node's first
// moment to its last.
func TestPorts(t *testing.T) {
	eachLand(t, true, func(t *testing.T, l *land) {
		l.apis.addresses = 2
		tenants := l.apis.networks[0]["id"].(string)
		p := NewPorts(l.cloud("admin", everything), map[string]string{"tenants": tenants, "gone": id(77)})
		if !p.Serves("tenants") || p.Serves("other") {
			t.Error("not the networks that it was told of")
		}
		node, other := uuid.NewString(), uuid.NewString()
		for range 2 {
			if a, err := p.Hold(t.Context(), "tenants", node, "web-0"); err != nil || a.String() != "10.99.0.10" {
				t.Errorf("%v, %v", a, err)
			}
			if err := p.SetMAC(t.Context(), node, "02:00:00:01:00:00"); err != nil {
				t.Error(err)
			}
		}
		if len(l.apis.ports) != 1 {
			t.Fatalf("%d ports", len(l.apis.ports))
		}
		port := l.apis.ports[0]
		for key, want := range map[string]any{
			"name": "web-0", "device_id": node, "device_owner": "keelson:node", "network_id": tenants, "mac_address": "02:00:00:01:00:00",
		} {
			if port[key] != want {
				t.Errorf("%s is %v, want %v", key, port[key], want)
			}
		}
		if a, err := p.Hold(t.Context(), "tenants", other, "web-1"); err != nil || a.String() != "10.99.0.11" {
			t.Errorf("%v, %v", a, err)
		}
		if held, err := p.Held(t.Context()); err != nil || len(held) != 2 || !slices.Contains(held, node) {
			t.Errorf("held: %v, %v", held, err)
		}
		_, err := p.Hold(t.Context(), "tenants", uuid.NewString(), "web-2")
		if !fault.IsPermanent(err) {
			t.Errorf("no address is left: %v", err)
		}
		if _, err = p.Hold(t.Context(), "gone", uuid.NewString(), "web-3"); !fault.IsPermanent(err) {
			t.Errorf("no such network: %v", err)
		}
		for range 2 {
			if err := p.Free(t.Context(), node); err != nil {
				t.Error(err)
			}
		}
		if len(l.apis.ports) != 1 || l.apis.ports[0]["device_id"] != other {
			t.Errorf("ports: %v", l.apis.ports)
		}
		// What is not Keelson's stays.
		l.apis.ports = append(l.apis.ports, object{"id": id(5), "device_id": other, "device_owner": "compute:nova", "network_id": tenants})
		if err := p.Free(t.Context(), other); err != nil || len(l.apis.ports) != 1 {
			t.Errorf("ports: %v, %v", l.apis.ports, err)
		}
	})
}

func TestPortsThatCanNotBeHad(t *testing.T) {
	builtInLand(t, true, func(t *testing.T, l *land) {
		l.apis.addresses = 2
		networks := map[string]string{"tenants": l.apis.networks[0]["id"].(string)}
		node := uuid.NewString()
		plain := NewPorts(l.cloud("keelson", everything), networks)
		if _, err := plain.Hold(t.Context(), "tenants", node, "web-0"); err != nil {
			t.Error(err)
		}
		if err := plain.SetMAC(t.Context(), node, "02:00:00:01:00:00"); !fault.IsPermanent(err) {
			t.Errorf("without the role admin: %v", err)
		}
		l.apis.play(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusServiceUnavailable) })
		if _, err := plain.Hold(t.Context(), "tenants", node, "web-0"); err == nil || fault.IsPermanent(err) || fault.Reason(err, "") == "" {
			t.Errorf("Neutron is away: %v", err)
		}
	})
	builtInLand(t, false, func(t *testing.T, l *land) {
		p := NewPorts(l.cloud("admin", everything), map[string]string{"tenants": id(1)})
		if err := p.Free(t.Context(), "node"); err == nil || fault.IsPermanent(err) {
			t.Errorf("no Neutron in the catalogue: %v", err)
		}
	})
}
