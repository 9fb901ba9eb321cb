// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
)

// reconcileNodes makes the node records match the counts of the node groups
// that the operation is about: it adds wanted nodes and marks surplus ones as
// leaving. Doing it again changes nothing. What other groups lack or have too
// much belongs to operations that wait for this one to end.
func (r *runner) reconcileNodes(ctx context.Context) error {
	id := r.op.ClusterID
	cluster, err := r.Store.Cluster(ctx, everything, id)
	if err != nil {
		return fmt.Errorf("reading cluster: %w", err)
	}
	read, err := r.recordsOf(ctx, cluster)
	if err != nil {
		return err
	}
	nodes, err := r.Store.Nodes(ctx, id)
	if err != nil {
		return fmt.Errorf("reading nodes: %w", err)
	}
	if r.op.Kind == model.OpDelete {
		return nil
	}
	leave, err := r.lostNodes(ctx, nodes[id])
	if err != nil {
		return err
	}
	var add []model.Node
	for _, group := range read.groups {
		if !r.op.Spec.Concerns(group.UUID) {
			continue
		}
		var have []model.Node
		for _, n := range nodes[id] {
			if n.NodeGroupID == group.UUID && n.State != model.NodeLeaving && !slices.Contains(leave, n.UUID) {
				have = append(have, n)
			}
		}
		if surplus := len(have) - group.NodeCount; surplus > 0 {
			leave = append(leave, surplusNodes(have, surplus, r.op.Spec.NodesToRemove)...)
			continue
		}
		missing := group.NodeCount - len(have)
		if missing == 0 {
			continue
		}
		network, err := r.network(ctx, cluster, nodes[id])
		if err != nil {
			return err
		}
		// Every node needs an address: a count beyond that is not even tried.
		if most := network.Size(); missing > most {
			return fault.Permanent(nil, "node group %s can not have %d nodes: network %s has %d addresses", group.Name, group.NodeCount, network.Name(), most)
		}
		shape, err := r.shape(ctx, read.template, cluster, &group)
		if err != nil {
			return err
		}
		name := network.Name()
		shape.Network = &name
		for index := 0; missing > 0; index++ {
			name := NodeName(cluster.Name, &group, index)
			taken := func(n model.Node) bool {
				return n.Name == name || n.NodeGroupID == group.UUID && n.Index == index
			}
			if slices.ContainsFunc(nodes[id], taken) || slices.ContainsFunc(add, taken) {
				continue
			}
			node := shape
			node.UUID, node.Name, node.Index = uuid.NewString(), name, index
			add = append(add, node)
			missing--
		}
	}
	if len(add) > 0 {
		if err := r.Store.AddNodes(ctx, r.fence, add); err != nil {
			return fmt.Errorf("adding node records: %w", err)
		}
	}
	if len(leave) > 0 {
		if err := r.Store.MarkLeaving(ctx, r.fence, leave); err != nil {
			return fmt.Errorf("marking leaving nodes: %w", err)
		}
	}
	return nil
}

// lostNodes are the nodes that the operation is to replace and whose hosts
// still do not answer.
func (r *runner) lostNodes(ctx context.Context, nodes []model.Node) ([]string, error) {
	var lost []string
	for _, n := range nodes {
		if !slices.Contains(r.op.Spec.Replace, n.UUID) || n.State == model.NodeLeaving || n.HostID == nil {
			continue
		}
		host, err := r.Store.Host(ctx, *n.HostID)
		if err != nil {
			return nil, fmt.Errorf("reading the host of node %s: %w", n.Name, err)
		}
		if host.UnreachableSince != nil {
			lost = append(lost, n.UUID)
		}
	}
	return lost, nil
}

// renewsRoots tells whether the operation makes the roots of nodes anew.
func renewsRoots(kind model.OperationKind) bool {
	return kind == model.OpUpgrade || kind == model.OpRotateCA
}

// reconcileImages gives the nodes of the operation's groups the image that
// their group has now. Doing it again changes nothing.
func (r *runner) reconcileImages(ctx context.Context) error {
	id := r.op.ClusterID
	cluster, err := r.Store.Cluster(ctx, everything, id)
	if err != nil {
		return fmt.Errorf("reading cluster: %w", err)
	}
	read, err := r.recordsOf(ctx, cluster)
	if err != nil {
		return err
	}
	nodes, err := r.Store.Nodes(ctx, id)
	if err != nil {
		return fmt.Errorf("reading nodes: %w", err)
	}
	change := make(map[string]string)
	for _, group := range read.groups {
		if !r.op.Spec.Concerns(group.UUID) {
			continue
		}
		image, err := r.image(ctx, read.template, &group)
		if err != nil {
			return err
		}
		for _, n := range nodes[id] {
			if n.NodeGroupID == group.UUID && n.Image != image.NodeImage {
				change[n.UUID] = image.NodeImage
			}
		}
	}
	if len(change) == 0 {
		return nil
	}
	if err := r.Store.SetNodeImages(ctx, r.fence, change); err != nil {
		return fmt.Errorf("writing the nodes' images: %w", err)
	}
	return nil
}

// image is what the group's nodes are made from.
func (r *runner) image(ctx context.Context, t *model.ClusterTemplate, g *model.NodeGroup) (catalog.Image, error) {
	name := cmp.Or(deref(g.ImageID), t.ImageID)
	image, err := r.Catalog.Image(ctx, name)
	if err != nil {
		return catalog.Image{}, lookupFault(err, "image %q of node group %s does not exist: choose one that the operator offers", name, g.Name)
	}
	return image, nil
}

// shape is a node record of the group without its identity.
func (r *runner) shape(ctx context.Context, t *model.ClusterTemplate, c *model.Cluster, g *model.NodeGroup) (model.Node, error) {
	name := cmp.Or(deref(g.FlavorID), deref(c.FlavorID), deref(t.FlavorID))
	if g.Master() {
		name = cmp.Or(deref(g.FlavorID), deref(c.MasterFlavorID), deref(t.MasterFlavorID), name)
	}
	ctx = catalog.WithProject(ctx, c.ProjectID)
	flavor, err := r.Catalog.Flavor(ctx, name)
	if err != nil {
		return model.Node{}, lookupFault(err, "flavor %q of node group %s does not exist: choose one that the operator offers", name, g.Name)
	}
	image, err := r.image(ctx, t, g)
	if err != nil {
		return model.Node{}, err
	}
	node := model.Node{
		ClusterID: c.UUID, NodeGroupID: g.UUID, Role: g.Role, State: model.NodeWanted,
		VCPUs: flavor.VCPUs, MemoryMiB: flavor.MemoryMiB, DiskGiB: flavor.DiskGiB, Image: image.NodeImage,
	}
	for _, size := range []*int{c.DockerVolumeSize, g.DockerVolumeSize} {
		if size != nil {
			node.DiskGiB = max(node.DiskGiB, *size)
		}
	}
	return node, nil
}

// lookupFault makes a missing flavour or image permanent; anything else (the
// service that knows it is away) may pass.
func lookupFault(err error, format string, args ...any) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return fault.Permanent(err, format, args...)
	}
	return err
}

// surplusNodes picks the nodes that leave: first those that the user named (by
// uuid, name, COE id or address), then those not joined yet, then the youngest.
func surplusNodes(have []model.Node, surplus int, named []string) []string {
	wished := func(n model.Node) bool {
		return slices.ContainsFunc(named, func(s string) bool {
			return s == n.UUID || s == n.Name || s == deref(n.COEID) || s == deref(n.Address)
		})
	}
	rank := func(n model.Node) int {
		switch {
		case wished(n):
			return 0
		case n.State != model.NodeReady:
			return 1
		default:
			return 2
		}
	}
	ordered := slices.SortedFunc(slices.Values(have), func(a, b model.Node) int {
		return cmp.Or(rank(a)-rank(b), b.Index-a.Index)
	})
	var leave []string
	for _, n := range ordered[:surplus] {
		leave = append(leave, n.UUID)
	}
	return leave
}

var notHostname = regexp.MustCompile(`[^a-z0-9-]+`)

// NodeName is the node's host name: a DNS label (RFC 1123) of at most 63
// characters that starts with the cluster's name.
func NodeName(cluster string, g *model.NodeGroup, index int) string {
	label := func(s string, most int) string {
		s = notHostname.ReplaceAllString(strings.ToLower(s), "-")
		return strings.Trim(s[:min(len(s), most)], "-")
	}
	group := label(strings.TrimPrefix(g.Name, "default-"), 20)
	return fmt.Sprintf("%s-%s-%d", cmp.Or(label(cluster, 36), "cluster"), cmp.Or(group, "node"), index)
}
