// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"gorm.io/gorm"
)

// migrate202611230001 makes the first schema.
func migrate202611230001(tx *gorm.DB) error {
	type clusterTemplate struct {
		ID                  int64   `gorm:"primaryKey"`
		UUID                string  `gorm:"size:36;uniqueIndex"`
		ProjectID           string  `gorm:"size:255;index"`
		UserID              string  `gorm:"size:255"`
		Name                *string `gorm:"size:255;index"`
		COE                 string  `gorm:"column:coe;size:32"`
		Driver              *string `gorm:"size:255"`
		ImageID             string  `gorm:"size:255"`
		FlavorID            *string `gorm:"size:255"`
		MasterFlavorID      *string `gorm:"size:255"`
		KeypairID           *string `gorm:"size:255"`
		ExternalNetworkID   *string `gorm:"size:255"`
		FixedNetwork        *string `gorm:"size:255"`
		FixedSubnet         *string `gorm:"size:255"`
		DNSNameserver       *string `gorm:"column:dns_nameserver;size:255"`
		NetworkDriver       *string `gorm:"size:255"`
		VolumeDriver        *string `gorm:"size:255"`
		DockerVolumeSize    *int
		DockerStorageDriver *string `gorm:"size:255"`
		ClusterDistro       *string `gorm:"size:255"`
		APIServerPort       *int    `gorm:"column:apiserver_port"`
		HTTPProxy           *string `gorm:"column:http_proxy;size:255"`
		HTTPSProxy          *string `gorm:"column:https_proxy;size:255"`
		NoProxy             *string `gorm:"size:255"`
		Labels              string  `gorm:"type:text"`
		InsecureRegistry    *string `gorm:"size:255"`
		RegistryEnabled     bool
		TLSDisabled         bool `gorm:"column:tls_disabled"`
		Public              bool
		Hidden              bool
		ServerType          string  `gorm:"size:16"`
		MasterLBEnabled     bool    `gorm:"column:master_lb_enabled"`
		FloatingIPEnabled   bool    `gorm:"column:floating_ip_enabled"`
		Tags                *string `gorm:"size:255"`
		CreatedAt           time.Time
		UpdatedAt           *time.Time `gorm:"autoUpdateTime:false"`
	}
	type cluster struct {
		ID                 int64   `gorm:"primaryKey"`
		UUID               string  `gorm:"size:36;uniqueIndex"`
		ProjectID          string  `gorm:"size:255;index"`
		UserID             string  `gorm:"size:255"`
		Name               string  `gorm:"size:255;index"`
		TemplateID         string  `gorm:"column:cluster_template_id;size:36;index"`
		Keypair            *string `gorm:"size:255"`
		FlavorID           *string `gorm:"size:255"`
		MasterFlavorID     *string `gorm:"size:255"`
		DockerVolumeSize   *int
		FixedNetwork       *string `gorm:"size:255"`
		FixedSubnet        *string `gorm:"size:255"`
		FloatingIPEnabled  bool    `gorm:"column:floating_ip_enabled"`
		MasterLBEnabled    bool    `gorm:"column:master_lb_enabled"`
		Labels             string  `gorm:"type:text"`
		CreateTimeout      *int
		DiscoveryURL       *string `gorm:"column:discovery_url;size:255"`
		Status             string  `gorm:"size:32;index"`
		StatusReason       *string `gorm:"type:text"`
		HealthStatus       *string `gorm:"size:16"`
		HealthStatusReason string  `gorm:"type:text"`
		StackID            *string `gorm:"size:255"`
		APIAddress         *string `gorm:"column:api_address;size:255"`
		COEVersion         *string `gorm:"column:coe_version;size:255"`
		ContainerVersion   *string `gorm:"size:255"`
		DriverState        []byte  `gorm:"type:mediumblob"`
		CreatedAt          time.Time
		UpdatedAt          *time.Time `gorm:"autoUpdateTime:false"`
	}
	type nodeGroup struct {
		ID               int64   `gorm:"primaryKey"`
		UUID             string  `gorm:"size:36;uniqueIndex"`
		ClusterID        string  `gorm:"size:36;uniqueIndex:node_groups_name"`
		Name             string  `gorm:"size:255;uniqueIndex:node_groups_name"`
		ProjectID        string  `gorm:"size:255"`
		Role             string  `gorm:"size:255"`
		FlavorID         *string `gorm:"size:255"`
		ImageID          *string `gorm:"size:255"`
		DockerVolumeSize *int
		Labels           string `gorm:"type:text"`
		NodeCount        int
		MinNodeCount     int
		MaxNodeCount     *int
		IsDefault        bool
		Status           string  `gorm:"size:32"`
		StatusReason     *string `gorm:"type:text"`
		StackID          *string `gorm:"size:255"`
		Version          *string `gorm:"size:255"`
		CreatedAt        time.Time
		UpdatedAt        *time.Time `gorm:"autoUpdateTime:false"`
	}
	type node struct {
		ID          int64   `gorm:"primaryKey"`
		UUID        string  `gorm:"size:36;uniqueIndex"`
		ClusterID   string  `gorm:"size:36;uniqueIndex:nodes_name"`
		NodeGroupID string  `gorm:"size:36;index"`
		Name        string  `gorm:"size:63;uniqueIndex:nodes_name"`
		Index       int     `gorm:"column:ordinal"`
		Role        string  `gorm:"size:255"`
		State       string  `gorm:"size:16"`
		VCPUs       int     `gorm:"column:vcpus"`
		MemoryMiB   int     `gorm:"column:memory_mib"`
		DiskGiB     int     `gorm:"column:disk_gib"`
		Image       string  `gorm:"size:255"`
		HostID      *string `gorm:"size:36;index;uniqueIndex:nodes_host_slot"`
		Slot        *int    `gorm:"uniqueIndex:nodes_host_slot"`
		Network     *string `gorm:"size:64;uniqueIndex:nodes_address"`
		Address     *string `gorm:"size:45;uniqueIndex:nodes_address"`
		MAC         *string `gorm:"column:mac;size:17"`
		COEID       *string `gorm:"column:coe_id;size:255"`
		CreatedAt   time.Time
		UpdatedAt   *time.Time `gorm:"autoUpdateTime:false"`
	}
	type host struct {
		ID             int64   `gorm:"primaryKey"`
		UUID           string  `gorm:"size:36;uniqueIndex"`
		Name           string  `gorm:"size:255;uniqueIndex"`
		State          string  `gorm:"size:16;index"`
		Reason         *string `gorm:"type:text"`
		IronicNodeID   *string `gorm:"size:36;uniqueIndex"`
		AllocationID   *string `gorm:"size:36"`
		Address        *string `gorm:"size:45"`
		LibvirtURI     *string `gorm:"column:libvirt_uri;size:512"`
		Bridge         string  `gorm:"size:15"`
		TotalVCPUs     int     `gorm:"column:total_vcpus"`
		TotalMemoryMiB int     `gorm:"column:total_memory_mib"`
		TotalDiskGiB   int     `gorm:"column:total_disk_gib"`
		UsedVCPUs      int     `gorm:"column:used_vcpus"`
		UsedMemoryMiB  int     `gorm:"column:used_memory_mib"`
		UsedDiskGiB    int     `gorm:"column:used_disk_gib"`
		EmptySince     *time.Time
		Failures       int
		CreatedAt      time.Time
		UpdatedAt      *time.Time `gorm:"autoUpdateTime:false"`
	}
	type operation struct {
		ID              int64  `gorm:"primaryKey"`
		UUID            string `gorm:"size:36;uniqueIndex"`
		ClusterID       string `gorm:"size:36;index"`
		ProjectID       string `gorm:"size:255;index"`
		UserID          string `gorm:"size:255"`
		RequestID       string `gorm:"size:64"`
		Kind            string `gorm:"size:16"`
		State           string `gorm:"size:16;index"`
		Spec            string `gorm:"type:text"`
		CancelRequested bool
		Undo            bool
		Reason          *string `gorm:"type:text"`
		Owner           string  `gorm:"size:255;index"`
		Generation      int64
		Writes          int64
		LeaseUntil      *time.Time
		NotBefore       *time.Time
		Deadline        *time.Time
		PublishedAt     *time.Time `gorm:"index"`
		CreatedAt       time.Time
		StartedAt       *time.Time
		FinishedAt      *time.Time
	}
	type step struct {
		ID          int64  `gorm:"primaryKey"`
		OperationID string `gorm:"size:36;uniqueIndex:steps_key"`
		Name        string `gorm:"size:64;uniqueIndex:steps_key"`
		NodeID      string `gorm:"size:36;uniqueIndex:steps_key"`
		NodeName    string `gorm:"size:63"`
		Undo        bool   `gorm:"uniqueIndex:steps_key"`
		State       string `gorm:"size:16"`
		Attempts    int
		Message     string `gorm:"type:text"`
		StartedAt   time.Time
		FinishedAt  *time.Time
	}
	type certificate struct {
		ID        int64  `gorm:"primaryKey"`
		ClusterID string `gorm:"size:36;uniqueIndex:certificates_key"`
		Kind      string `gorm:"size:16;uniqueIndex:certificates_key"`
		NodeID    string `gorm:"size:36;uniqueIndex:certificates_key"`
		PEM       string `gorm:"column:pem;type:text"`
		SealedKey []byte `gorm:"type:blob"`
		NotAfter  time.Time
		CreatedAt time.Time
	}
	type quota struct {
		ID        int64  `gorm:"primaryKey"`
		ProjectID string `gorm:"size:255;uniqueIndex:quotas_key"`
		Resource  string `gorm:"size:255;uniqueIndex:quotas_key"`
		HardLimit int
		CreatedAt time.Time
		UpdatedAt *time.Time `gorm:"autoUpdateTime:false"`
	}
	type serviceRecord struct {
		ID             int64  `gorm:"primaryKey"`
		Host           string `gorm:"size:255;uniqueIndex:services_key"`
		Binary         string `gorm:"size:255;uniqueIndex:services_key"`
		ReportCount    int
		Disabled       bool
		DisabledReason *string `gorm:"size:255"`
		ForcedDown     bool
		LastSeenUp     *time.Time
		CreatedAt      time.Time
		UpdatedAt      *time.Time `gorm:"autoUpdateTime:false"`
	}
	type projectLock struct {
		ProjectID string `gorm:"primaryKey;size:255"`
		Creates   int64
	}
	for _, table := range []struct {
		name string
		row  any
	}{
		{"cluster_templates", &clusterTemplate{}},
		{"clusters", &cluster{}},
		{"node_groups", &nodeGroup{}},
		{"nodes", &node{}},
		{"hosts", &host{}},
		{"operations", &operation{}},
		{"steps", &step{}},
		{"certificates", &certificate{}},
		{"quotas", &quota{}},
		{"service_records", &serviceRecord{}},
		{"project_locks", &projectLock{}},
	} {
		if err := createTable(tx.Table(table.name), table.row); err != nil {
			return err
		}
	}
	return nil
}
