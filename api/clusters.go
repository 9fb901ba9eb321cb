// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/logging"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Every cluster has these two groups from its creation to its end.
const (
	defaultMaster = "default-master"
	defaultWorker = "default-worker"
)

// longestTimeout bounds create_timeout to what a duration can hold.
const longestTimeout = 365 * 24 * time.Hour

var clusterName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]*$`)

// healthStatuses and clusterStatuses are the words that requests may hold.
var (
	healthStatuses  = []string{"HEALTHY", "UNHEALTHY", "UNKNOWN"}
	clusterStatuses = []string{
		"CREATE_IN_PROGRESS", "CREATE_FAILED", "CREATE_COMPLETE",
		"UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_COMPLETE",
		"DELETE_IN_PROGRESS", "DELETE_FAILED", "DELETE_COMPLETE",
		"ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE",
		"RESUME_COMPLETE", "RESUME_FAILED",
		"RESTORE_COMPLETE", "SNAPSHOT_COMPLETE", "CHECK_COMPLETE", "ADOPT_COMPLETE",
	}
)

var clusterPatchRules = patchRules{
	internal: []string{
		"api_address", "node_addresses", "master_addresses", "stack_id", "ca_cert_ref", "magnum_cert_ref",
		"etcd_ca_cert_ref", "front_proxy_ca_cert_ref",
		"trust_id", "trustee_user_name", "trustee_password", "trustee_user_id",
	},
	mandatory: []string{"cluster_template_id"},
}

// clusterPatchable are the only fields that a patch may really change.
var clusterPatchable = []string{"node_count", "health_status", "health_status_reason"}

func (a *API) listClusters(c *call) (response, error) {
	page, err := a.permittedPage(c)
	if err != nil {
		return response{}, err
	}
	clusters, err := a.Store.ClusterSummaries(c.Context(), c.scope(), page)
	if err != nil {
		return response{}, err
	}
	body := v1.ClusterSummaries{Clusters: each(clusters, func(s *store.ClusterSummary) v1.ClusterSummary {
		return c.renderClusterSummary(&s.Cluster, s.Masters, s.Workers)
	})}
	if n := len(clusters); n > 0 {
		body.Next = c.next(c.route.path, page, n, clusters[n-1].UUID)
	}
	return ok(body), nil
}

func (a *API) listClustersInDetail(c *call) (response, error) {
	clusters, page, err := a.clusterPage(c)
	if err != nil {
		return response{}, err
	}
	details, err := a.clusterDetails(c, clusters)
	if err != nil {
		return response{}, err
	}
	body := v1.Clusters{Clusters: details}
	if n := len(clusters); n > 0 {
		body.Next = c.next(c.route.path, page, n, clusters[n-1].UUID)
	}
	return ok(body), nil
}

// permittedPage is the page of clusters that is asked for.
func (a *API) permittedPage(c *call) (store.Page, error) {
	page, err := a.page(c)
	if err != nil {
		return page, err
	}
	return page, c.authorize(c.self())
}

func (a *API) clusterPage(c *call) ([]model.Cluster, store.Page, error) {
	page, err := a.permittedPage(c)
	if err != nil {
		return nil, page, err
	}
	clusters, err := a.Store.ListClusters(c.Context(), c.scope(), page)
	return clusters, page, err
}

// clusterDetails renders clusters in full, with three queries however many
// there are.
func (a *API) clusterDetails(c *call, clusters []model.Cluster) ([]v1.Cluster, error) {
	parts, err := a.Store.ClusterParts(c.Context(), uuids(clusters)...)
	if err != nil {
		return nil, err
	}
	return each(clusters, func(cluster *model.Cluster) v1.Cluster {
		of := parts[cluster.UUID]
		return c.renderCluster(cluster, of.TemplateLabels, of.Groups, of.Nodes)
	}), nil
}

func (a *API) showCluster(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	parts, err := a.Store.ClusterParts(c.Context(), cluster.UUID)
	if err != nil {
		return response{}, err
	}
	of := parts[cluster.UUID]
	body := c.renderCluster(cluster, of.TemplateLabels, of.Groups, of.Nodes)
	body.Faults = faults(cluster, of.Groups)
	return ok(body), nil
}

// newCluster is the body of POST clusters, or of POST bays.
type newCluster struct {
	cluster                *model.Cluster
	kind                   string // last word of names that are made up
	template               string
	templateField          string // its name in the body
	templateMissing        int    // status when there is no such template
	nodeCount, masterCount int
	floatingIP, masterLB   *bool
	labels                 model.Labels
	mergeLabels            bool
	keepNoLabels           bool // labels given as {} stay so
}

func readCluster(o *object) newCluster {
	n := newCluster{cluster: &model.Cluster{}, kind: "cluster"}
	o.readOnly("project_id", "user_id")
	n.readSpec(o, "cluster_template_id", "create_timeout")
	c := n.cluster
	c.Keypair = o.text("keypair", 1, maxText)
	c.HealthStatus = o.enum("health_status", healthStatuses...)
	c.HealthStatusReason = o.labels("health_status_reason")
	n.nodeCount = or(o.integer("node_count", 0), 1)
	n.mergeLabels = or(o.boolean("merge_labels"), false)
	o.ignored("faults", "labels_overridden", "labels_added", "labels_skipped")
	return n
}

// readSpec reads what clusters and bays have in common; two fields have
// another name there.
func (n *newCluster) readSpec(o *object, templateField, timeoutField string) {
	c := n.cluster
	o.readOnly("stack_id", "links", "api_address", "coe_version", "container_version",
		"node_addresses", "master_addresses", "created_at", "updated_at")
	o.uuid("uuid") // the service makes its own
	if !o.has(templateField) {
		o.refuse(templateField, "it is required")
	}
	n.template, n.templateField = or(o.text(templateField, 0, maxText), ""), templateField
	c.Name = or(o.matching("name", 1, 242, clusterName), "")
	c.FlavorID = o.text("flavor_id", 1, maxText)
	c.MasterFlavorID = o.text("master_flavor_id", 1, maxText)
	c.DockerVolumeSize = o.integer("docker_volume_size", 1)
	c.FixedNetwork = o.text("fixed_network", 1, maxText)
	c.FixedSubnet = o.text("fixed_subnet", 1, maxText)
	c.DiscoveryURL = o.text("discovery_url", 0, maxText)
	c.CreateTimeout = o.integer(timeoutField, 0)
	if !o.has(timeoutField) {
		c.CreateTimeout = new(60)
	}
	if o.has("master_count") && o.members["master_count"] == nil {
		o.refuse("master_count", "it can not be null")
	}
	n.masterCount = or(o.integer("master_count", 1), 1)
	n.floatingIP = o.boolean("floating_ip_enabled")
	n.masterLB = o.boolean("master_lb_enabled")
	n.labels = o.labels("labels")
	o.enum("status", clusterStatuses...)
	o.ignored("status_reason")
}

func (a *API) createCluster(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	n := readCluster(o)
	n.templateMissing = http.StatusNotFound
	if c.version < withZeroNodes {
		n.templateMissing = http.StatusBadRequest
	}
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, _, err := a.makeCluster(c, n)
	if err != nil {
		return response{}, err
	}
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

// makeCluster checks in Magnum's order, so that a request with two faults is
// told of the same one, and stores the cluster.
func (a *API) makeCluster(c *call, n newCluster) (*model.Cluster, []model.NodeGroup, error) {
	template, err := a.template(c, n.template)
	if err != nil {
		return nil, nil, n.templateError(err)
	}
	cluster := n.from(template)
	cluster.ProjectID, cluster.UserID = c.caller.projectID, c.caller.userID
	groups, err := n.groups(template)
	if err != nil {
		return nil, nil, err
	}
	if err := refusal(a.COEs.ValidateCluster(template, cluster, groups)); err != nil {
		return nil, nil, err
	}
	if err := checkStorage(template.DockerStorageDriver, cluster.DockerVolumeSize); err != nil {
		return nil, nil, err
	}
	if err := checkNodeCount(c, n.nodeCount); err != nil {
		return nil, nil, err
	}
	if err := c.authorizeCreate(); err != nil {
		return nil, nil, err
	}
	if err := a.checkQuota(c); err != nil {
		return nil, nil, err
	}
	if err := a.checkClusterResources(c, template, cluster); err != nil {
		return nil, nil, err
	}
	if n.masterCount > 1 && !cluster.MasterLBEnabled {
		return nil, nil, badRequest("The master_count must be 1 when master_lb_enabled is false.")
	}
	operation, err := a.Store.CreateCluster(c.Context(), cluster, groups, a.config.MaxClusters, a.operation(c, a.deadline(cluster)))
	if err != nil { // the template may have been deleted by now
		return nil, nil, n.templateError(foundAs("ClusterTemplate", n.template, err))
	}
	a.announce(c, operation)
	return cluster, groups, nil
}

// templateError tells of a missing template: of clusters 400 below 1.10, 404
// from then on; of bays always 400.
func (n *newCluster) templateError(err error) error {
	if hasStatus(err, http.StatusNotFound) {
		return &Error{
			Status: n.templateMissing,
			Detail: fmt.Sprintf("ClusterTemplate %s (%s) could not be found.", n.template, n.templateField),
		}
	}
	return err
}

// from fills in the template's values where the request has none.
func (n *newCluster) from(t *model.ClusterTemplate) *model.Cluster {
	c := n.cluster
	c.UUID = uuid.NewString()
	c.TemplateID = t.UUID
	if c.Name == "" {
		c.Name = generatedName(n.kind)
	}
	c.Keypair = either(c.Keypair, t.KeypairID)
	c.FlavorID = either(c.FlavorID, t.FlavorID)
	c.MasterFlavorID = either(c.MasterFlavorID, t.MasterFlavorID)
	c.DockerVolumeSize = either(c.DockerVolumeSize, t.DockerVolumeSize)
	c.FixedNetwork = either(c.FixedNetwork, t.FixedNetwork)
	c.FixedSubnet = either(c.FixedSubnet, t.FixedSubnet)
	c.FloatingIPEnabled = or(n.floatingIP, t.FloatingIPEnabled)
	c.MasterLBEnabled = or(n.masterLB, t.MasterLBEnabled)
	c.Labels = n.labels
	if c.Labels == nil || !n.keepNoLabels {
		c.Labels = mergedLabels(t.Labels, n.labels, n.mergeLabels)
	}
	return c
}

// groups are the two groups that the cluster begins with.
func (n *newCluster) groups(t *model.ClusterTemplate) ([]model.NodeGroup, error) {
	c := n.cluster
	least := 0
	if text, given := c.Labels["min_node_count"]; given {
		var err error
		if least, err = strconv.Atoi(text); err != nil || least < 0 || least > maxInt {
			return nil, badRequest("Invalid input for attribute \"labels\": min_node_count must be a whole number, not %q.", text)
		}
	}
	group := model.NodeGroup{
		ClusterID: c.UUID, ProjectID: c.ProjectID, ImageID: &t.ImageID, DockerVolumeSize: c.DockerVolumeSize,
		MinNodeCount: least, IsDefault: true,
	}
	master, worker := group, group
	master.UUID, worker.UUID = uuid.NewString(), uuid.NewString()
	master.Name, worker.Name = defaultMaster, defaultWorker
	master.Role, worker.Role = model.RoleMaster, model.RoleWorker
	master.FlavorID, worker.FlavorID = c.MasterFlavorID, c.FlavorID
	master.NodeCount, worker.NodeCount = n.masterCount, n.nodeCount
	master.Labels, worker.Labels = copyLabels(c.Labels), copyLabels(c.Labels)
	return []model.NodeGroup{master, worker}, nil
}

func either[T any](first, second *T) *T {
	if first != nil {
		return first
	}
	return second
}

// checkNodeCount refuses clusters without nodes below 1.10.
func checkNodeCount(c *call, count int) error {
	if count == 0 && c.version < withZeroNodes {
		return badRequest("The node_count must be 1 or more before version %s.", withZeroNodes)
	}
	return nil
}

// checkQuota refuses early what CreateCluster refuses for certain: it is there
// only to keep the order of the checks.
func (a *API) checkQuota(c *call) error {
	limit, err := a.quotaLimit(c, c.caller.projectID)
	if err != nil {
		return err
	}
	used, _, err := a.Store.Stats(c.Context(), c.caller.projectID)
	if err != nil {
		return err
	}
	if used >= limit {
		return overQuota(limit)
	}
	return nil
}

// checkClusterResources looks up what cluster and template name elsewhere.
func (a *API) checkClusterResources(c *call, t *model.ClusterTemplate, cluster *model.Cluster) error {
	named := *t
	named.FlavorID, named.MasterFlavorID, named.Labels = cluster.FlavorID, cluster.MasterFlavorID, cluster.Labels
	named.FixedNetwork, named.FixedSubnet = cluster.FixedNetwork, cluster.FixedSubnet
	if _, err := a.checkResources(c, &named); err != nil {
		return err
	}
	if cluster.Keypair == nil {
		return nil
	}
	err := lookedUp("keypair", "Keypair", *cluster.Keypair, a.Keypairs.Keypair(c.Context(), *cluster.Keypair))
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusBadRequest {
		return notFound("%s", e.Detail) // of all look-ups only this one is a 404
	}
	return err
}

// deadline is how long the creation may take.
func (a *API) deadline(c *model.Cluster) time.Duration {
	if minutes := or(c.CreateTimeout, 0); minutes > 0 {
		return min(time.Duration(minutes), longestTimeout/time.Minute) * time.Minute
	}
	return a.config.OperationTimeout
}

// announce tells the conductors of an operation that has been stored, if there
// is one.
func (a *API) announce(c *call, operation *model.Operation) {
	if operation == nil {
		return
	}
	a.Announce()
	info := infoOf(c.Context())
	info.target, info.operation = operation.ClusterID, operation.UUID
	a.Logger.LogAttrs(c.Context(), slog.LevelInfo, "operation accepted",
		slog.String(logging.Operation, operation.UUID), slog.String(logging.Cluster, operation.ClusterID), slog.String("kind", string(operation.Kind)))
}

// checkRollback reads the argument rollback and forgets it: the old counts are
// put back whenever an update fails, asked for or not.
func checkRollback(c *call) error {
	if _, given := c.args["rollback"]; given && c.version < withRollback {
		return badRequest("Unknown argument: %q.", "rollback")
	}
	_, err := c.flag("rollback")
	return err
}

func (a *API) updateCluster(c *call) (response, error) {
	if err := checkRollback(c); err != nil {
		return response{}, err
	}
	patch, err := c.readPatch(clusterPatchRules)
	if err != nil {
		return response{}, err
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	if err := c.demand("cluster:update_health_status", c.self()); err != nil {
		return response{}, err
	}
	details, err := a.clusterDetails(c, []model.Cluster{*cluster})
	if err != nil {
		return response{}, err
	}
	doc, err := newDocument(details[0], "faults", "merge_labels", "labels_overridden", "labels_added", "labels_skipped")
	if err != nil {
		return response{}, err
	}
	want, err := patchCluster(c, doc, details[0].NodeCount, patch)
	if err != nil {
		return response{}, err
	}
	if err := a.changeCluster(c, cluster, want); err != nil {
		return response{}, err
	}
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

// clusterChange is what a patch of a cluster asks for.
type clusterChange struct {
	nodeCount    *int // nil: as it is
	health       bool // the two below are to be written
	healthStatus *string
	healthReason model.Labels
}

// patchCluster applies a patch to a cluster or bay with that many nodes.
func patchCluster(c *call, doc document, nodes int, patch []patchOperation) (clusterChange, error) {
	patched, err := doc.apply(patch)
	if err != nil {
		return clusterChange{}, err
	}
	o := newObject(patched)
	o.patched = true
	nodeCount := or(o.integer("node_count", 0), 1)
	want := clusterChange{
		healthStatus: o.enum("health_status", healthStatuses...),
		healthReason: o.labels("health_status_reason"),
	}
	if o.err != nil {
		return clusterChange{}, o.err
	}
	changed := doc.changed(patched)
	refused := slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return slices.Contains(clusterPatchable, name) })
	if len(refused) > 0 {
		return clusterChange{}, badRequest("It is not possible to change %s of a cluster.", strings.Join(refused, ", "))
	}
	if slices.Contains(changed, "node_count") && nodeCount != nodes {
		if err := checkNodeCount(c, nodeCount); err != nil {
			return clusterChange{}, err
		}
		want.nodeCount = &nodeCount
	}
	want.health = slices.Contains(changed, "health_status") || slices.Contains(changed, "health_status_reason")
	return want, nil
}

// changeCluster stores what a patch asks for. In a status that does not allow
// it nothing happens, and the caller is not told: that is Magnum's contract.
func (a *API) changeCluster(c *call, cluster *model.Cluster, want clusterChange) error {
	if !cluster.Status.Ready() {
		return nil
	}
	if want.health {
		if err := a.Store.SetHealth(c.Context(), cluster.UUID, want.healthStatus, want.healthReason); err != nil {
			return err
		}
	}
	if want.nodeCount == nil {
		return nil
	}
	worker, err := a.Store.NodeGroup(c.Context(), cluster.UUID, defaultWorker)
	if err != nil {
		return err
	}
	return a.scale(c, worker, *want.nodeCount, nil, model.Status.Ready, a.config.OperationTimeout)
}

// scale stores a group's new count and the operation that brings it about.
func (a *API) scale(c *call, group *model.NodeGroup, count int, remove []string, allowed func(model.Status) bool, deadline time.Duration) error {
	operation, err := a.Store.ScaleNodeGroup(c.Context(), group.ClusterID, group.UUID, count, remove, allowed, a.operation(c, deadline))
	if errors.Is(err, store.ErrStatus) {
		return nil // see changeCluster
	}
	if err != nil {
		return err
	}
	a.announce(c, operation)
	return nil
}

func (a *API) deleteCluster(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	operation, err := a.Store.DeleteCluster(c.Context(), cluster.UUID, a.operation(c, a.config.OperationTimeout))
	if err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	a.announce(c, operation)
	return noContent(), nil
}

func uuids(clusters []model.Cluster) []string {
	return each(clusters, func(c *model.Cluster) string { return c.UUID })
}

func (c *call) renderClusterSummary(cluster *model.Cluster, masters, workers int) v1.ClusterSummary {
	return v1.ClusterSummary{
		UUID:              cluster.UUID,
		Name:              cluster.Name,
		ClusterTemplateID: cluster.TemplateID,
		Keypair:           cluster.Keypair,
		NodeCount:         workers,
		MasterCount:       masters,
		DockerVolumeSize:  cluster.DockerVolumeSize,
		Labels:            present(cluster.Labels),
		FlavorID:          cluster.FlavorID,
		MasterFlavorID:    cluster.MasterFlavorID,
		CreateTimeout:     cluster.CreateTimeout,
		Status:            string(cluster.Status),
		HealthStatus:      cluster.HealthStatus,
		StackID:           cluster.StackID,
		Links:             c.links("/clusters/" + cluster.UUID),
	}
}

func (c *call) renderCluster(cluster *model.Cluster, templateLabels model.Labels, groups []model.NodeGroup, nodes []model.Node) v1.Cluster {
	master := func(n *model.Node) bool { return n.Master() }
	worker := func(n *model.Node) bool { return !n.Master() }
	masters, workers := 0, 0
	for i := range groups {
		if groups[i].Master() {
			masters += groups[i].NodeCount
		} else {
			workers += groups[i].NodeCount
		}
	}
	return v1.Cluster{
		ClusterSummary:     c.renderClusterSummary(cluster, masters, workers),
		StatusReason:       cluster.StatusReason,
		HealthStatusReason: present(cluster.HealthStatusReason),
		DiscoveryURL:       cluster.DiscoveryURL,
		APIAddress:         cluster.APIAddress,
		COEVersion:         cluster.COEVersion,
		ContainerVersion:   cluster.ContainerVersion,
		ProjectID:          cluster.ProjectID,
		UserID:             cluster.UserID,
		NodeAddresses:      addresses(nodes, worker),
		MasterAddresses:    addresses(nodes, master),
		FixedNetwork:       cluster.FixedNetwork,
		FixedSubnet:        cluster.FixedSubnet,
		FloatingIPEnabled:  cluster.FloatingIPEnabled,
		MasterLBEnabled:    cluster.MasterLBEnabled,
		LabelDifferences:   compareLabels(templateLabels, cluster.Labels),
		CreatedAt:          v1.Time(cluster.CreatedAt),
		UpdatedAt:          wireTime(cluster.UpdatedAt),
	}
}

// addresses are those of the nodes that have joined and that are asked for.
func addresses(nodes []model.Node, wanted func(*model.Node) bool) []string {
	found := []string{}
	for i := range nodes {
		if n := &nodes[i]; n.State == model.NodeReady && n.Address != nil && wanted(n) {
			found = append(found, *n.Address)
		}
	}
	return found
}

// faults are the reasons of a failed cluster's failed groups; nil for others.
func faults(cluster *model.Cluster, groups []model.NodeGroup) map[string]*string {
	if !cluster.Status.Failed() {
		return nil
	}
	reasons := map[string]*string{}
	for i := range groups {
		if groups[i].Status.Failed() {
			reasons[groups[i].Name] = groups[i].StatusReason
		}
	}
	return reasons
}
