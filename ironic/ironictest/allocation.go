// SPDX-License-Identifier: Apache-2.0

package ironictest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// allocation is a reservation of a node, or the wish for one. Backfilling (the
// field "node" in a request) is not offered.
type allocation struct {
	UUID           string         `json:"uuid"`
	CreatedAt      time.Time      `json:"created_at"`
	UpdatedAt      *time.Time     `json:"updated_at"`
	CandidateNodes []string       `json:"candidate_nodes"`
	Extra          map[string]any `json:"extra"`
	LastError      *string        `json:"last_error"`
	Name           *string        `json:"name"`
	Owner          *string        `json:"owner"`
	ResourceClass  string         `json:"resource_class"`
	State          string         `json:"state"`
	Traits         []string       `json:"traits"`
	NodeUUID       *string        `json:"node_uuid"`

	DueAt time.Time `json:"due_at"` // when a node will be looked for
}

func (c *call) showAllocation(a *allocation, names []string) (map[string]any, error) {
	all := map[string]any{
		"uuid": a.UUID, "created_at": stamp(&a.CreatedAt), "updated_at": stamp(a.UpdatedAt),
		"candidate_nodes": orEmpty(a.CandidateNodes), "extra": orEmptyMap(a.Extra), "last_error": a.LastError, "name": a.Name,
		"owner": a.Owner, "resource_class": a.ResourceClass, "state": a.State, "traits": orEmpty(a.Traits), "node_uuid": a.NodeUUID,
	}
	if c.minor < 60 {
		delete(all, "owner")
	}
	links := c.links("allocations/" + a.UUID)
	if names == nil {
		all["links"] = links
		return all, nil
	}
	shown := map[string]any{"links": links}
	for _, name := range names {
		value, ok := all[name]
		if !ok && name != "links" {
			return nil, refuse(http.StatusBadRequest, "Field(s) \"%s\" are not valid", name)
		}
		if ok {
			shown[name] = value
		}
	}
	return shown, nil
}

func (s *Server) findAllocation(ident string) *allocation {
	for _, a := range s.state.Allocations {
		if is(ident, a.UUID, a.Name) {
			return a
		}
	}
	return nil
}

func (s *Server) nameTaken(name string) bool {
	return slices.ContainsFunc(s.state.Allocations, func(a *allocation) bool { return a.Name != nil && *a.Name == name })
}

func (s *Server) namedAllocation(c *call) (*allocation, error) {
	ident := c.PathValue("allocation")
	if a := s.findAllocation(ident); a != nil {
		return a, nil
	}
	return nil, refuse(http.StatusNotFound, "Allocation %s could not be found.", ident)
}

// allocationOf is the one that holds the node which the path names.
func (s *Server) allocationOf(c *call) (*allocation, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	if n.AllocationUUID != nil {
		if a := s.findAllocation(*n.AllocationUUID); a != nil {
			return a, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "Allocation for node %s was not found", c.PathValue("node"))
}

func (s *Server) dropAllocation(uuid string) {
	s.state.Allocations = slices.DeleteFunc(s.state.Allocations, func(a *allocation) bool { return a.UUID == uuid })
}

func (s *Server) listAllocations(c *call) (any, error) {
	args, err := c.query("node", "resource_class", "state", "owner", "limit", "marker", "sort_key", "sort_dir", "fields")
	if err != nil {
		return nil, err
	}
	nodeUUID := ""
	if ident, ok := args["node"]; ok {
		n := s.find(ident)
		if n == nil {
			return nil, refuse(http.StatusBadRequest, "Node %s could not be found.", ident)
		}
		nodeUUID = n.UUID
	}
	var matching []*allocation
	for _, a := range s.state.Allocations {
		if (nodeUUID == "" || a.NodeUUID != nil && *a.NodeUUID == nodeUUID) &&
			(args["resource_class"] == "" || args["resource_class"] == a.ResourceClass) &&
			(args["state"] == "" || args["state"] == a.State) &&
			(args["owner"] == "" || a.Owner != nil && args["owner"] == *a.Owner) {
			matching = append(matching, a)
		}
	}
	if args["sort_dir"] == "desc" {
		slices.Reverse(matching)
	}
	part, more, err := page(s, args, matching, func(a *allocation) string { return a.UUID })
	if err != nil {
		return nil, err
	}
	shown := make([]map[string]any, 0, len(part))
	for _, a := range part {
		one, err := c.showAllocation(a, fieldList(args))
		if err != nil {
			return nil, err
		}
		shown = append(shown, one)
	}
	answer := map[string]any{"allocations": shown}
	if more {
		answer["next"] = c.next("allocations", args, part[len(part)-1].UUID)
	}
	return answer, nil
}

func (s *Server) getAllocation(c *call) (any, error) {
	a, err := s.namedAllocation(c)
	if err != nil {
		return nil, err
	}
	args, err := c.query("fields")
	if err != nil {
		return nil, err
	}
	return c.showAllocation(a, fieldList(args))
}

func (s *Server) getNodeAllocation(c *call) (any, error) {
	a, err := s.allocationOf(c)
	if err != nil {
		return nil, err
	}
	return c.showAllocation(a, nil)
}

func (s *Server) createAllocation(c *call) (any, error) {
	a := &allocation{UUID: uuid.NewString(), State: "allocating", CreatedAt: s.now(), DueAt: s.now().Add(s.opt.Timing.Allocate)}
	if err := c.resource("allocation", a, "candidate_nodes", "extra", "name", "owner", "resource_class", "traits", "uuid"); err != nil {
		return nil, err
	}
	if err := checkTraits("allocation", a.Traits); err != nil {
		return nil, err
	}
	switch {
	case uuid.Validate(a.UUID) != nil:
		return nil, refuse(http.StatusBadRequest, "Expected UUID for uuid: %s", a.UUID)
	case a.Name != nil && !logicalName.MatchString(*a.Name):
		return nil, refuse(http.StatusBadRequest, "Cannot create allocation with invalid name '%s'", *a.Name)
	case a.ResourceClass == "":
		return nil, refuse(http.StatusBadRequest, "The resource_class field is mandatory when not backfilling")
	}
	var unknown []string
	for i, ident := range a.CandidateNodes {
		if n := s.find(ident); n != nil {
			a.CandidateNodes[i] = n.UUID
		} else {
			unknown = append(unknown, ident)
		}
	}
	switch {
	case unknown != nil:
		return nil, refuse(http.StatusBadRequest, "Nodes cannot be found: %s", strings.Join(unknown, ", "))
	case a.Name != nil && s.nameTaken(*a.Name):
		return nil, refuse(http.StatusConflict, "An allocation with name %s already exists.", *a.Name)
	case s.findAllocation(a.UUID) != nil:
		return nil, refuse(http.StatusConflict, "An allocation with UUID %s already exists.", a.UUID)
	}
	s.state.Allocations = append(s.state.Allocations, a)
	c.location = "/allocations/" + a.UUID
	return c.showAllocation(a, nil)
}

// patchAllocation changes name and extra.
func (s *Server) patchAllocation(c *call) (any, error) {
	a, err := s.namedAllocation(c)
	if err != nil {
		return nil, err
	}
	type patchable struct {
		Name  *string        `json:"name"`
		Extra map[string]any `json:"extra"`
	}
	var after patchable
	if err := c.patch([]string{"name", "extra"}, patchable{a.Name, orEmptyMap(a.Extra)}, &after); err != nil {
		return nil, err
	}
	if name := after.Name; name != nil && (a.Name == nil || *name != *a.Name) {
		if !logicalName.MatchString(*name) {
			return nil, refuse(http.StatusBadRequest, "Cannot update allocation with invalid name '%s'", *name)
		}
		if s.nameTaken(*name) {
			return nil, refuse(http.StatusConflict, "An allocation with name %s already exists.", *name)
		}
	}
	a.Name, a.Extra, a.UpdatedAt = after.Name, after.Extra, ptr(s.now())
	return c.showAllocation(a, nil)
}

// allocate gives a wish its node. Ironic takes a random one of those that fit;
// here it is the one of the allocation's name, or the first made.
func (s *Server) allocate(a *allocation) {
	fail := func(why string) {
		a.State, a.LastError = "error", ptr("Failed to process allocation "+a.UUID+": "+why+".")
	}
	a.UpdatedAt = ptr(s.now())
	var fit []*node
	for _, n := range s.state.Nodes {
		if n.ResourceClass != nil && *n.ResourceClass == a.ResourceClass && n.ProvisionState == "available" &&
			n.InstanceUUID == nil && n.PowerState != nil && !n.Maintenance &&
			(len(a.CandidateNodes) == 0 || slices.Contains(a.CandidateNodes, n.UUID)) {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		if len(a.CandidateNodes) > 0 {
			fail("none of the requested nodes are available and match the resource class " + a.ResourceClass)
		} else {
			fail("no available nodes match the resource class " + a.ResourceClass)
		}
		return
	}
	fit = slices.DeleteFunc(fit, func(n *node) bool {
		return slices.ContainsFunc(a.Traits, func(t string) bool { return !slices.Contains(n.Traits, t) })
	})
	if len(fit) == 0 {
		fail("no suitable nodes have the requested traits " + strings.Join(a.Traits, ", "))
		return
	}
	open := slices.DeleteFunc(slices.Clone(fit), func(n *node) bool { return n.Reservation != nil })
	if len(open) == 0 {
		fail(fmt.Sprintf("could not reserve any of %d suitable nodes", len(fit)))
		return
	}
	chosen := open[0]
	for _, n := range open {
		if n.Name != nil && a.Name != nil && *n.Name == *a.Name {
			chosen = n
		}
	}
	a.State, a.NodeUUID = "active", &chosen.UUID
	chosen.InstanceUUID, chosen.AllocationUUID = &a.UUID, &a.UUID
	chosen.InstanceInfo["traits"] = orEmpty(a.Traits)
	s.touch(chosen)
}

func (s *Server) deleteAllocation(c *call) (any, error) {
	a, err := s.namedAllocation(c)
	if err != nil {
		return nil, err
	}
	return nil, s.removeAllocation(a)
}

func (s *Server) deleteNodeAllocation(c *call) (any, error) {
	a, err := s.allocationOf(c)
	if err != nil {
		return nil, err
	}
	return nil, s.removeAllocation(a)
}

func (s *Server) removeAllocation(a *allocation) error {
	if a.NodeUUID == nil {
		s.dropAllocation(a.UUID)
		return nil
	}
	n := s.mustFind(*a.NodeUUID)
	if err := unlocked(n); err != nil {
		return err
	}
	switch {
	case n.Maintenance:
	case n.TargetProvisionState != nil && !updateAllowed[n.ProvisionState]:
		return refuse(http.StatusConflict, "Cannot remove allocation %s for node %s, because the node is in state %s where updates are not allowed (and maintenance mode is off)", a.UUID, n.UUID, n.ProvisionState)
	case n.ProvisionState == "active":
		return refuse(http.StatusConflict, "Cannot remove allocation %s for node %s, because the node is active (and maintenance mode is off)", a.UUID, n.UUID)
	}
	s.dropAllocation(a.UUID)
	n.InstanceUUID, n.AllocationUUID = nil, nil
	delete(n.InstanceInfo, "traits")
	s.touch(n)
	return nil
}
