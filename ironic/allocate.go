// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/keelson/keelson/internal/fault"
)

// AllocationRequest says which machine is wanted.
type AllocationRequest struct {
	// Key is the caller's own name for the wish: asking again under it never
	// takes a second machine. A uuid (the host's) becomes the allocation's own
	// uuid, as Ironic cannot look up names that look like one; anything else
	// becomes its name (letters, digits, '-', '.', '_').
	Key           string
	ResourceClass string
	Traits        []string // all of them
	Candidates    []string // uuids or names to choose from; empty means any
	Avoid         []string // uuids or names never to choose, e.g. where a deploy failed

	// What the machine must have at least, going by its properties; 0 means any.
	CPUs      int
	MemoryMiB int
	DiskGiB   int
	Owner     string // under whose name Reserved finds it; empty: under nobody's
}

// Allocation is a machine reserved in Ironic.
type Allocation struct {
	ID     string // uuid; also the node's instance_uuid
	NodeID string // empty while Ironic is still choosing
}

// Allocate reserves a machine. When it is done, the allocation names the node.
// An allocation that exists under the key is taken as it is, even when it
// holds a node of Avoid: release it first. When there is no free machine the
// error is permanent and nothing stays behind in Ironic, so that a later call
// asks anew.
func (c *Client) Allocate(ctx context.Context, req AllocationRequest) (Allocation, Result, error) {
	if req.Key == "" || req.ResourceClass == "" {
		return Allocation{}, Result{}, errors.New("allocate a bare-metal host: key and resource class are needed")
	}
	found, err := c.allocation(ctx, req.Key)
	if err != nil {
		return Allocation{}, Result{}, err
	}
	if found == nil {
		return c.createAllocation(ctx, req)
	}
	a := Allocation{ID: found.UUID, NodeID: found.NodeUUID}
	switch found.State {
	case string(allocations.Allocating):
		return a, c.later(found.CreatedAt, "Ironic is choosing a host"), nil
	case allocations.Active:
		return a, done("reserved node " + found.NodeUUID), nil
	case allocations.Error:
		if err := c.deleteAllocation(ctx, found.UUID); err != nil {
			return Allocation{}, Result{}, err
		}
		return Allocation{}, Result{}, c.noneFree(ctx, req, found.LastError)
	default:
		return a, Result{}, fault.Temporary(fmt.Errorf("allocation %s is in state %q, which is not known", found.UUID, found.State), "the bare-metal service answers in a way that Keelson does not know")
	}
}

func (c *Client) createAllocation(ctx context.Context, req AllocationRequest) (Allocation, Result, error) {
	sc, err := c.connect(ctx)
	if err != nil {
		return Allocation{}, Result{}, err
	}
	candidates := req.Candidates
	if len(req.Avoid) > 0 || req.CPUs > 0 || req.MemoryMiB > 0 || req.DiskGiB > 0 {
		// Ironic knows neither a list of nodes to avoid nor sizes, so name all
		// those that will do.
		candidates = nil
		pool, err := c.nodesOfClass(ctx, req.ResourceClass)
		if err != nil {
			return Allocation{}, Result{}, err
		}
		for i := range pool {
			if n := &pool[i]; req.allows(n) && req.whyNot(n) == "" {
				candidates = append(candidates, n.UUID)
			}
		}
		if len(candidates) == 0 {
			// The last one may just have been taken under this very key.
			if found, err := c.allocation(ctx, req.Key); err != nil || found != nil {
				return Allocation{}, c.soon("asked for a host"), err
			}
			return Allocation{}, Result{}, c.noneFree(ctx, req, "")
		}
	}
	opts := allocations.CreateOpts{ResourceClass: req.ResourceClass, Traits: req.Traits, CandidateNodes: candidates}
	if req.Owner != "" {
		opts.Extra = map[string]string{extraOwner: req.Owner}
	}
	if uuid.Validate(req.Key) == nil {
		opts.UUID = req.Key
	} else {
		opts.Name = req.Key
	}
	made, err := allocations.Create(ctx, sc, opts).Extract()
	switch {
	case isStatus(err, http.StatusConflict): // someone else asked under this key just now
		return Allocation{}, c.soon("asked for a host"), nil
	case err != nil:
		return Allocation{}, Result{}, classify("allocate a node for "+req.Key, err)
	}
	c.log.DebugContext(ctx, "asked for a bare-metal node", "key", req.Key, "allocation", made.UUID, "resource_class", req.ResourceClass, "traits", req.Traits)
	return Allocation{ID: made.UUID, NodeID: made.NodeUUID}, c.soon("asked for a host"), nil
}

// allocation looks one up by name or uuid; nil means there is none.
func (c *Client) allocation(ctx context.Context, ident string) (*allocations.Allocation, error) {
	sc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	found, err := allocations.Get(ctx, sc, ident).Extract()
	switch {
	case isStatus(err, http.StatusNotFound):
		return nil, nil
	case err != nil:
		return nil, classify("look at allocation "+ident, err)
	}
	return found, nil
}

// deleteAllocation succeeds when it is gone already.
func (c *Client) deleteAllocation(ctx context.Context, ident string) error {
	sc, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = allocations.Delete(ctx, sc, ident).ExtractErr()
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return classify("delete allocation "+ident, err)
}

// allows tells whether the request's lists let n be chosen.
func (r *AllocationRequest) allows(n *nodes.Node) bool {
	named := func(list []string) bool {
		return slices.Contains(list, n.UUID) || n.Name != "" && slices.Contains(list, n.Name)
	}
	return !named(r.Avoid) && (len(r.Candidates) == 0 || named(r.Candidates))
}

// whyNot says why the node will not do or why Ironic would not give it out, or
// nothing.
func (r *AllocationRequest) whyNot(n *nodes.Node) string {
	switch {
	case number(n.Properties["cpus"]) < r.CPUs || number(n.Properties["memory_mb"]) < r.MemoryMiB || number(n.Properties["local_gb"]) < r.DiskGiB:
		return "too small"
	case slices.ContainsFunc(r.Traits, func(t string) bool { return !slices.Contains(n.Traits, t) }):
		return "without the traits"
	case n.InstanceUUID != "":
		return "in use"
	case n.Maintenance:
		return "in maintenance"
	case n.Retired:
		return "retired"
	case n.ProvisionState != string(nodes.Available):
		return n.ProvisionState
	case n.PowerState == "":
		return "of unknown power state"
	}
	return ""
}

// nodesOfClass lists what whyNot and allows need to know.
func (c *Client) nodesOfClass(ctx context.Context, class string) ([]nodes.Node, error) {
	sc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	fields := []string{"uuid", "name", "properties", "traits", "instance_uuid", "maintenance", "provision_state", "power_state"}
	if c.features.HasRetirement() {
		fields = append(fields, "retired")
	}
	// Ironic gives pages of at most max_limit nodes and a "next" link, which
	// gophercloud's pager does not follow for bare metal.
	var all []nodes.Node
	opts := nodes.ListOpts{ResourceClass: class, Fields: fields}
	for more := true; more && err == nil; {
		more = false
		err = nodes.List(sc, opts).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
			some, err := nodes.ExtractNodes(page)
			if len(some) > 0 {
				all = append(all, some...)
				opts.Marker = some[len(some)-1].UUID
				body, _ := page.GetBody().(map[string]any)
				_, more = body["next"]
			}
			return true, err
		})
	}
	return all, classify("list the nodes of resource class "+class, err)
}

// noneFree makes the error for a request that Ironic could not serve. When
// there is a free machine after all (it was locked, or has just come back),
// the error is temporary.
func (c *Client) noneFree(ctx context.Context, req AllocationRequest, lastError string) error {
	pool, err := c.nodesOfClass(ctx, req.ResourceClass)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	free := 0
	for i := range pool {
		why := req.whyNot(&pool[i])
		switch {
		case !req.allows(&pool[i]):
			counts["not to be used"]++
		case why != "":
			counts[why]++
		default:
			free++
		}
	}
	var parts []string
	for why, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, why))
	}
	slices.SortFunc(parts, cmp.Compare[string])
	cause := fmt.Errorf("%d nodes in all, %d free (%s); Ironic said: %s", len(pool), free, strings.Join(parts, ", "), cmp.Or(lastError, "nothing"))

	wanted := fmt.Sprintf("resource class %q", req.ResourceClass)
	if len(req.Traits) > 0 {
		wanted += " with traits " + strings.Join(req.Traits, ", ")
	}
	if req.CPUs > 0 || req.MemoryMiB > 0 || req.DiskGiB > 0 {
		wanted += fmt.Sprintf(" with at least %d CPUs, %d MiB memory and %d GiB disk", req.CPUs, req.MemoryMiB, req.DiskGiB)
	}
	switch {
	case free > 0:
		return fault.Temporary(cause, "no bare-metal host of %s could be reserved just now", wanted)
	case len(pool) == 0:
		return fault.Permanent(cause, "there is no bare-metal host of resource class %q; add hosts or choose another class", req.ResourceClass)
	default:
		return fault.Permanent(cause, "no bare-metal host of %s is free; add hosts or give some back", wanted)
	}
}
