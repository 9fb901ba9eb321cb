// SPDX-License-Identifier: Apache-2.0

// Package v1 holds what goes over the wire in version 1 of the Container
// Infrastructure API, as JSON. A nil pointer is null; a key that may be absent
// says so with omitempty or omitzero, all others are always there.
//
// Servers render these types from their own records; clients may decode
// answers into them.
package v1

import "time"

// Time is a moment on the wire: ISO 8601 in UTC with a numeric offset and whole
// seconds, such as 2026-11-23T03:44:46+00:00.
type Time time.Time

const timeLayout = "2006-01-02T15:04:05-07:00"

// MarshalText writes the moment.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(make([]byte, 0, len(timeLayout)), timeLayout), nil
}

// UnmarshalText reads any RFC 3339 moment.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339, string(text))
	*t = Time(parsed)
	return err
}

// Link points at a resource: once under the versioned path (self), once
// without the version (bookmark).
type Link struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
}

// UUID is the answer to calls that began something.
type UUID struct {
	UUID string `json:"uuid"`
}

// ClusterTemplate says how clusters made from it look.
type ClusterTemplate struct {
	TemplateFields
	ProjectID string `json:"project_id"`
	UserID    string `json:"user_id"`
}

// Baymodel is a cluster template under its older name.
type Baymodel struct{ TemplateFields }

// Baymodels is a page of baymodels.
type Baymodels struct {
	Baymodels []Baymodel `json:"baymodels"`
	Next      string     `json:"next,omitempty"`
}

// TemplateFields are what a template is made of under either name.
type TemplateFields struct {
	UUID                string            `json:"uuid"`
	Name                *string           `json:"name"`
	COE                 string            `json:"coe"`
	ImageID             string            `json:"image_id"`
	FlavorID            *string           `json:"flavor_id"`
	MasterFlavorID      *string           `json:"master_flavor_id"`
	KeypairID           *string           `json:"keypair_id"`
	ExternalNetworkID   *string           `json:"external_network_id"`
	FixedNetwork        *string           `json:"fixed_network"`
	FixedSubnet         *string           `json:"fixed_subnet"`
	DNSNameserver       *string           `json:"dns_nameserver"`
	NetworkDriver       *string           `json:"network_driver"`
	VolumeDriver        *string           `json:"volume_driver"`
	DockerVolumeSize    *int              `json:"docker_volume_size"` // GiB
	DockerStorageDriver *string           `json:"docker_storage_driver"`
	ClusterDistro       *string           `json:"cluster_distro"`
	APIServerPort       *int              `json:"apiserver_port"`
	HTTPProxy           *string           `json:"http_proxy"`
	HTTPSProxy          *string           `json:"https_proxy"`
	NoProxy             *string           `json:"no_proxy"`
	Labels              map[string]string `json:"labels"`
	RegistryEnabled     bool              `json:"registry_enabled"`
	InsecureRegistry    *string           `json:"insecure_registry"`
	TLSDisabled         bool              `json:"tls_disabled"`
	Public              bool              `json:"public"`
	Hidden              bool              `json:"hidden"`
	ServerType          string            `json:"server_type"`
	MasterLBEnabled     bool              `json:"master_lb_enabled"`
	FloatingIPEnabled   bool              `json:"floating_ip_enabled"`
	Tags                *string           `json:"tags"`
	Driver              *string           `json:"driver"`
	Links               []Link            `json:"links"`
	CreatedAt           Time              `json:"created_at"`
	UpdatedAt           *Time             `json:"updated_at"`
}

// ClusterTemplates is a page of templates.
type ClusterTemplates struct {
	ClusterTemplates []ClusterTemplate `json:"clustertemplates"`
	Next             string            `json:"next,omitempty"`
}

// ClusterSummary is a cluster as plain lists show it.
type ClusterSummary struct {
	UUID              string            `json:"uuid"`
	Name              string            `json:"name"`
	ClusterTemplateID string            `json:"cluster_template_id"`
	Keypair           *string           `json:"keypair"`
	NodeCount         int               `json:"node_count"`
	MasterCount       int               `json:"master_count"`
	DockerVolumeSize  *int              `json:"docker_volume_size"` // GiB
	Labels            map[string]string `json:"labels"`
	FlavorID          *string           `json:"flavor_id"`
	MasterFlavorID    *string           `json:"master_flavor_id"`
	CreateTimeout     *int              `json:"create_timeout"` // minutes
	Status            string            `json:"status"`
	HealthStatus      *string           `json:"health_status"`
	StackID           *string           `json:"stack_id"`
	MergeLabels       bool              `json:"merge_labels"` // of the request only; false in answers
	Links             []Link            `json:"links"`
}

// ClusterSummaries is a page of a plain list.
type ClusterSummaries struct {
	Clusters []ClusterSummary `json:"clusters"`
	Next     string           `json:"next,omitempty"`
}

// Cluster is a cluster in full.
type Cluster struct {
	ClusterSummary
	StatusReason       *string           `json:"status_reason"`
	HealthStatusReason map[string]string `json:"health_status_reason"`
	DiscoveryURL       *string           `json:"discovery_url"`
	APIAddress         *string           `json:"api_address"`
	COEVersion         *string           `json:"coe_version"`
	ContainerVersion   *string           `json:"container_version"`
	ProjectID          string            `json:"project_id"`
	UserID             string            `json:"user_id"`
	NodeAddresses      []string          `json:"node_addresses"`
	MasterAddresses    []string          `json:"master_addresses"`
	FixedNetwork       *string           `json:"fixed_network"`
	FixedSubnet        *string           `json:"fixed_subnet"`
	FloatingIPEnabled  bool              `json:"floating_ip_enabled"`
	MasterLBEnabled    bool              `json:"master_lb_enabled"`
	LabelDifferences
	CreatedAt Time  `json:"created_at"`
	UpdatedAt *Time `json:"updated_at"`

	// Faults are the reasons of the failed node groups, by name; absent unless
	// one failed cluster is shown.
	Faults map[string]*string `json:"faults,omitzero"`
}

// Clusters is a page of a detailed list.
type Clusters struct {
	Clusters []Cluster `json:"clusters"`
	Next     string    `json:"next,omitempty"`
}

// BaySummary is a cluster, under its older name, as plain lists show it.
type BaySummary struct {
	UUID              string            `json:"uuid"`
	Name              string            `json:"name"`
	BaymodelID        string            `json:"baymodel_id"`
	NodeCount         int               `json:"node_count"`
	MasterCount       int               `json:"master_count"`
	DockerVolumeSize  *int              `json:"docker_volume_size"` // GiB
	Labels            map[string]string `json:"labels"`
	MasterFlavorID    *string           `json:"master_flavor_id"`
	FlavorID          *string           `json:"flavor_id"`
	BayCreateTimeout  *int              `json:"bay_create_timeout"` // minutes
	Links             []Link            `json:"links"`
	StackID           *string           `json:"stack_id"`
	Status            string            `json:"status"`
	FloatingIPEnabled bool              `json:"floating_ip_enabled"`
}

// BaySummaries is a page of a plain list.
type BaySummaries struct {
	Bays []BaySummary `json:"bays"`
	Next string       `json:"next,omitempty"`
}

// Bay is a cluster in full, under its older name.
type Bay struct {
	BaySummary
	StatusReason     *string  `json:"status_reason"`
	DiscoveryURL     *string  `json:"discovery_url"`
	APIAddress       *string  `json:"api_address"`
	COEVersion       *string  `json:"coe_version"`
	ContainerVersion *string  `json:"container_version"`
	NodeAddresses    []string `json:"node_addresses"`
	MasterAddresses  []string `json:"master_addresses"`
	FixedNetwork     *string  `json:"fixed_network"`
	FixedSubnet      *string  `json:"fixed_subnet"`
	MasterLBEnabled  bool     `json:"master_lb_enabled"`
	CreatedAt        Time     `json:"created_at"`
	UpdatedAt        *Time    `json:"updated_at"`
}

// Bays is a page of a detailed list.
type Bays struct {
	Bays []Bay  `json:"bays"`
	Next string `json:"next,omitempty"`
}

// LabelDifferences compare the labels of a cluster with those of its template,
// or those of a node group with those of its cluster.
type LabelDifferences struct {
	Overridden map[string]string `json:"labels_overridden"` // in both, different: the parent's value
	Added      map[string]string `json:"labels_added"`      // not in the parent
	Skipped    map[string]string `json:"labels_skipped"`    // only in the parent
}

// NodeGroupSummary is a node group as lists show it. The two bounds are always
// 0 and null there, whatever they are.
type NodeGroupSummary struct {
	UUID         string  `json:"uuid"`
	Name         string  `json:"name"`
	FlavorID     *string `json:"flavor_id"`
	ImageID      *string `json:"image_id"`
	NodeCount    int     `json:"node_count"`
	Role         string  `json:"role"`
	MinNodeCount int     `json:"min_node_count"`
	MaxNodeCount *int    `json:"max_node_count"`
	IsDefault    bool    `json:"is_default"`
	StackID      *string `json:"stack_id"`
	Status       string  `json:"status"`
	MergeLabels  bool    `json:"merge_labels"`
}

// NodeGroupSummaries is a page of node groups.
type NodeGroupSummaries struct {
	NodeGroups []NodeGroupSummary `json:"nodegroups"`
	Next       string             `json:"next,omitempty"`
}

// NodeGroup is a node group in full.
type NodeGroup struct {
	NodeGroupSummary
	ID               int64             `json:"id"`
	ClusterID        string            `json:"cluster_id"`
	ProjectID        string            `json:"project_id"`
	DockerVolumeSize *int              `json:"docker_volume_size"` // GiB
	Labels           map[string]string `json:"labels"`
	StatusReason     *string           `json:"status_reason"`
	Version          *string           `json:"version"`
	NodeAddresses    []string          `json:"node_addresses"`
	LabelDifferences
	Links     []Link `json:"links"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt *Time  `json:"updated_at"`
}

// NewNodeGroup is the answer to the creation of a node group: what was asked
// for, without what only its record has.
type NewNodeGroup struct {
	UUID             string            `json:"uuid"`
	Name             string            `json:"name"`
	ClusterID        string            `json:"cluster_id"`
	ProjectID        string            `json:"project_id"`
	DockerVolumeSize *int              `json:"docker_volume_size,omitempty"` // GiB
	Labels           map[string]string `json:"labels"`
	FlavorID         *string           `json:"flavor_id"`
	ImageID          *string           `json:"image_id"`
	NodeCount        int               `json:"node_count"`
	Role             string            `json:"role"`
	MinNodeCount     int               `json:"min_node_count"`
	MaxNodeCount     *int              `json:"max_node_count"`
	MergeLabels      bool              `json:"merge_labels"`
	LabelDifferences
	Links []Link `json:"links"`
}

// Certificate is a cluster's CA certificate, or one signed by it.
type Certificate struct {
	ClusterUUID string `json:"cluster_uuid"`
	BayUUID     string `json:"bay_uuid"` // the same, under its older name
	CSR         string `json:"csr,omitempty"`
	PEM         string `json:"pem"`
	CACertType  string `json:"ca_cert_type,omitempty"`
	Links       []Link `json:"links"`
}

// QuotaLimit is a project's limit, stored or not.
type QuotaLimit struct {
	ProjectID string `json:"project_id"`
	Resource  string `json:"resource"`
	HardLimit int    `json:"hard_limit"`
}

// Quota is a stored limit.
type Quota struct {
	ID int64 `json:"id"`
	QuotaLimit
	CreatedAt Time  `json:"created_at"`
	UpdatedAt *Time `json:"updated_at"`
}

// Quotas is a page of quotas.
type Quotas struct {
	Quotas []Quota `json:"quotas"`
	Next   string  `json:"next,omitempty"`
}

// Stats counts what there is.
type Stats struct {
	Clusters int `json:"clusters"`
	Nodes    int `json:"nodes"` // of all groups, masters included
}

// Service is one conductor.
type Service struct {
	ID             int64   `json:"id"`
	Host           string  `json:"host"`
	Binary         string  `json:"binary"`
	State          string  `json:"state"` // up or down
	ReportCount    int     `json:"report_count"`
	Disabled       bool    `json:"disabled"`
	DisabledReason *string `json:"disabled_reason"`
	CreatedAt      Time    `json:"created_at"`
	UpdatedAt      *Time   `json:"updated_at"`
}

// Services is the list of conductors.
type Services struct {
	Services []Service `json:"mservices"`
}

// Federations is the list of federations: there are none.
type Federations struct {
	Federations []struct{} `json:"federations"`
}

// Error is one element of an error answer.
type Error struct {
	RequestID string `json:"request_id"` // always empty; the id is in the header
	Code      string `json:"code"`
	Status    int    `json:"status"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Links     []Link `json:"links"`
}

// Errors is an error answer; it has exactly one element.
type Errors struct {
	Errors []Error `json:"errors"`
}
