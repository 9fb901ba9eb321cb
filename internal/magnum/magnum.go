// SPDX-License-Identifier: Apache-2.0

// Package magnum reads what a Magnum's database has of cluster templates,
// quotas and clusters. It never writes there.
//
// The tables are those that the migrations of Magnum 15 make (alembic revision
// 7da8489d6a68); testdata has them.
package magnum

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// Records are what was read.
type Records struct {
	Templates []model.ClusterTemplate
	Quotas    []model.Quota
	Clusters  []Cluster
}

// Cluster is what Magnum says of a cluster, but for what is secret: neither
// trusts and their passwords, nor discovery tokens, nor where certificates are.
type Cluster struct {
	UUID             string      `json:"uuid"`
	Name             string      `json:"name"`
	ProjectID        string      `json:"project_id"`
	UserID           string      `json:"user_id"`
	TemplateID       string      `json:"cluster_template_id"`
	Status           string      `json:"status"`
	StackID          string      `json:"stack_id"`
	APIAddress       string      `json:"api_address"`
	COEVersion       string      `json:"coe_version"`
	ContainerVersion string      `json:"container_version"`
	Keypair          string      `json:"keypair"`
	Created          *time.Time  `json:"created_at"`
	NodeGroups       []NodeGroup `json:"nodegroups"`
}

// NodeGroup is what Magnum says of a node group.
type NodeGroup struct {
	UUID     string `json:"uuid"`
	Name     string `json:"name"`
	Role     string `json:"role"`
	FlavorID string `json:"flavor_id"`
	ImageID  string `json:"image_id"`
	Nodes    int    `json:"node_count"`
}

// Read reads the database of a Magnum, in one transaction that can not write.
// The connection is what [database] connection in magnum.conf says, of MariaDB
// or MySQL.
func Read(ctx context.Context, connection string) (*Records, error) {
	pool, err := store.OpenForeign(connection, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("the database of Magnum: %w", err)
	}
	defer pool.Close()
	tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("reach Magnum's database: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	var r Records
	for _, part := range []struct {
		table string
		read  func(context.Context, *sql.Tx) error
	}{{"cluster_template", r.readTemplates}, {"quotas", r.readQuotas}, {"cluster", r.readClusters}, {"nodegroup", r.readNodeGroups}} {
		if err := part.read(ctx, tx); err != nil {
			return nil, fmt.Errorf("read Magnum's table %s: %w", part.table, err)
		}
	}
	return &r, nil
}

// each calls scan for each row.
func each(ctx context.Context, tx *sql.Tx, query string, scan func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *Records) readTemplates(ctx context.Context, tx *sql.Tx) error {
	return each(ctx, tx, `SELECT uuid, COALESCE(project_id, ''), COALESCE(user_id, ''), name, COALESCE(coe, ''), COALESCE(image_id, ''),
		flavor_id, master_flavor_id, keypair_id, external_network_id, fixed_network, fixed_subnet, dns_nameserver, network_driver, volume_driver,
		docker_volume_size, docker_storage_driver, cluster_distro, apiserver_port, http_proxy, https_proxy, no_proxy, labels, insecure_registry,
		COALESCE(registry_enabled, 0), COALESCE(tls_disabled, 0), COALESCE(public, 0), COALESCE(hidden, 0), COALESCE(NULLIF(server_type, ''), 'vm'),
		COALESCE(master_lb_enabled, 0), COALESCE(floating_ip_enabled, 1), tags, created_at, updated_at FROM cluster_template ORDER BY id`,
		func(rows *sql.Rows) error {
			var t model.ClusterTemplate
			var labels *string
			var created *time.Time
			err := rows.Scan(&t.UUID, &t.ProjectID, &t.UserID, &t.Name, &t.COE, &t.ImageID,
				&t.FlavorID, &t.MasterFlavorID, &t.KeypairID, &t.ExternalNetworkID, &t.FixedNetwork, &t.FixedSubnet, &t.DNSNameserver, &t.NetworkDriver, &t.VolumeDriver,
				&t.DockerVolumeSize, &t.DockerStorageDriver, &t.ClusterDistro, &t.APIServerPort, &t.HTTPProxy, &t.HTTPSProxy, &t.NoProxy, &labels, &t.InsecureRegistry,
				&t.RegistryEnabled, &t.TLSDisabled, &t.Public, &t.Hidden, &t.ServerType,
				&t.MasterLBEnabled, &t.FloatingIPEnabled, &t.Tags, &created, &t.UpdatedAt)
			if err != nil {
				return err
			}
			if created != nil {
				t.CreatedAt = *created
			}
			if t.Labels, err = readLabels(labels); err != nil {
				return fmt.Errorf("labels of %s: %w", t.UUID, err)
			}
			r.Templates = append(r.Templates, t)
			return nil
		})
}

// readLabels reads labels as Magnum keeps them: JSON, of which the values need
// not be text.
func readLabels(text *string) (model.Labels, error) {
	labels := model.Labels{}
	if text == nil || strings.TrimSpace(*text) == "" {
		return labels, nil
	}
	var found map[string]any
	decoder := json.NewDecoder(strings.NewReader(*text))
	decoder.UseNumber()
	if err := decoder.Decode(&found); err != nil {
		return nil, err
	}
	for key, value := range found {
		labels[key] = fmt.Sprint(value)
	}
	return labels, nil
}

func (r *Records) readQuotas(ctx context.Context, tx *sql.Tx) error {
	return each(ctx, tx, "SELECT project_id, resource, hard_limit FROM quotas WHERE project_id IS NOT NULL AND resource IS NOT NULL AND hard_limit IS NOT NULL ORDER BY id",
		func(rows *sql.Rows) error {
			var q model.Quota
			err := rows.Scan(&q.ProjectID, &q.Resource, &q.HardLimit)
			r.Quotas = append(r.Quotas, q)
			return err
		})
}

func (r *Records) readClusters(ctx context.Context, tx *sql.Tx) error {
	return each(ctx, tx, `SELECT uuid, COALESCE(name, ''), COALESCE(project_id, ''), COALESCE(user_id, ''), COALESCE(cluster_template_id, ''), COALESCE(status, ''),
		COALESCE(stack_id, ''), COALESCE(api_address, ''), COALESCE(coe_version, ''), COALESCE(container_version, ''), COALESCE(keypair, ''), created_at FROM cluster ORDER BY id`,
		func(rows *sql.Rows) error {
			c := Cluster{NodeGroups: []NodeGroup{}}
			err := rows.Scan(&c.UUID, &c.Name, &c.ProjectID, &c.UserID, &c.TemplateID, &c.Status, &c.StackID, &c.APIAddress, &c.COEVersion, &c.ContainerVersion, &c.Keypair, &c.Created)
			r.Clusters = append(r.Clusters, c)
			return err
		})
}

func (r *Records) readNodeGroups(ctx context.Context, tx *sql.Tx) error {
	at := make(map[string]int, len(r.Clusters))
	for i := range r.Clusters {
		at[r.Clusters[i].UUID] = i
	}
	return each(ctx, tx, `SELECT cluster_id, uuid, COALESCE(name, ''), COALESCE(role, ''), COALESCE(flavor_id, ''), COALESCE(image_id, ''), COALESCE(node_count, 0)
		FROM nodegroup WHERE cluster_id IS NOT NULL ORDER BY id`,
		func(rows *sql.Rows) error {
			var cluster string
			var g NodeGroup
			if err := rows.Scan(&cluster, &g.UUID, &g.Name, &g.Role, &g.FlavorID, &g.ImageID, &g.Nodes); err != nil {
				return err
			}
			if i, known := at[cluster]; known {
				r.Clusters[i].NodeGroups = append(r.Clusters[i].NodeGroups, g)
			}
			return nil
		})
}
