// SPDX-License-Identifier: Apache-2.0

package ironictest

import (
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// port is a network interface of a node.
type port struct {
	UUID            string         `json:"uuid"`
	CreatedAt       time.Time      `json:"created_at"`
	NodeUUID        string         `json:"node_uuid"`
	Address         string         `json:"address"`
	PXEEnabled      *bool          `json:"pxe_enabled"`
	PhysicalNetwork *string        `json:"physical_network"`
	Extra           map[string]any `json:"extra"`
}

func (c *call) showPort(p *port, names []string) (map[string]any, error) {
	all := map[string]any{
		"uuid": p.UUID, "created_at": stamp(&p.CreatedAt), "updated_at": nil, "address": p.Address, "node_uuid": p.NodeUUID,
		"extra": orEmptyMap(p.Extra), "internal_info": map[string]any{}, "is_smartnic": false, "local_link_connection": map[string]any{},
		"physical_network": p.PhysicalNetwork, "portgroup_uuid": nil, "pxe_enabled": p.PXEEnabled == nil || *p.PXEEnabled,
	}
	for name, minor := range map[string]int{
		"internal_info": 18, "local_link_connection": 19, "pxe_enabled": 19, "portgroup_uuid": 24, "physical_network": 34, "is_smartnic": 53,
	} {
		if c.minor < minor {
			delete(all, name)
		}
	}
	links := c.links("ports/" + p.UUID)
	if names == nil {
		all["links"] = links
		return all, nil
	}
	shown := map[string]any{"links": links}
	for _, name := range names {
		value, ok := all[name]
		if !ok {
			return nil, refuse(http.StatusBadRequest, "Field(s) \"%s\" are not valid", name)
		}
		shown[name] = value
	}
	return shown, nil
}

func (s *Server) listPorts(c *call) (any, error) { return s.portList(c, []string{"uuid", "address"}) }

func (s *Server) listPortsInDetail(c *call) (any, error) { return s.portList(c, nil) }

func (s *Server) portList(c *call, names []string) (any, error) {
	args, err := c.query("node", "node_uuid", "address", "limit", "marker", "sort_key", "sort_dir", "fields", "detail", "portgroup", "shard")
	if err != nil {
		return nil, err
	}
	if asked := fieldList(args); asked != nil {
		names = asked
	}
	if detail, err := truth("detail", args); err != nil {
		return nil, err
	} else if detail != nil && *detail {
		names = nil
	}
	ident := args["node"]
	for _, other := range []string{args["node_uuid"], c.PathValue("node")} {
		if other != "" {
			ident = other
		}
	}
	if ident != "" {
		n := s.find(ident)
		if n == nil {
			return nil, refuse(http.StatusNotFound, "Node %s could not be found.", ident)
		}
		ident = n.UUID
	}
	var matching []*port
	for _, p := range s.state.Ports {
		if (ident == "" || p.NodeUUID == ident) && (args["address"] == "" || args["address"] == p.Address) {
			matching = append(matching, p)
		}
	}
	part, more, err := page(s, args, matching, func(p *port) string { return p.UUID })
	if err != nil {
		return nil, err
	}
	shown := make([]map[string]any, 0, len(part))
	for _, p := range part {
		one, err := c.showPort(p, names)
		if err != nil {
			return nil, err
		}
		shown = append(shown, one)
	}
	answer := map[string]any{"ports": shown}
	if more {
		answer["next"] = c.next("ports", args, part[len(part)-1].UUID)
	}
	return answer, nil
}

func (s *Server) namedPort(c *call) (*port, error) {
	for _, p := range s.state.Ports {
		if p.UUID == c.PathValue("port") {
			return p, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "Port %s could not be found.", c.PathValue("port"))
}

func (s *Server) getPort(c *call) (any, error) {
	p, err := s.namedPort(c)
	if err != nil {
		return nil, err
	}
	args, err := c.query("fields")
	if err != nil {
		return nil, err
	}
	return c.showPort(p, fieldList(args))
}

func (s *Server) createPort(c *call) (any, error) {
	p := &port{UUID: uuid.NewString(), CreatedAt: s.now()}
	if err := c.resource("port", p, "uuid", "node_uuid", "address", "pxe_enabled", "physical_network", "extra"); err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(p.Address)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "Expected valid MAC address for address: %s", p.Address)
	}
	p.Address = mac.String()
	n := s.find(p.NodeUUID)
	switch {
	case n == nil:
		return nil, refuse(http.StatusBadRequest, "Node %s could not be found.", p.NodeUUID)
	case slices.ContainsFunc(s.state.Ports, func(other *port) bool { return other.Address == p.Address }):
		return nil, refuse(http.StatusConflict, "A port with MAC address %s already exists.", p.Address)
	}
	s.state.Ports = append(s.state.Ports, p)
	c.location = "/ports/" + p.UUID
	return c.showPort(p, nil)
}

func (s *Server) deletePort(c *call) (any, error) {
	p, err := s.namedPort(c)
	if err != nil {
		return nil, err
	}
	if err := unlocked(s.mustFind(p.NodeUUID)); err != nil {
		return nil, err
	}
	s.state.Ports = slices.DeleteFunc(s.state.Ports, func(other *port) bool { return other == p })
	return nil, nil
}
