// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// shelf is a store for fuzzing: it has one template, swarm, and one cluster of
// it, c, with three node groups, and they stay as they are. What it is asked to
// write it only holds against the columns: a value that a database could not
// take panics, which is a 500.
type shelf struct {
	template model.ClusterTemplate
	cluster  model.Cluster
	groups   []model.NodeGroup
}

var _ api.Store = (*shelf)(nil)

func newShelf() *shelf {
	made := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &shelf{
		template: model.ClusterTemplate{
			ID: 1, UUID: "00000000-0000-4000-8000-000000000001", ProjectID: "project-1", UserID: "user-ann", Name: new("swarm"), COE: "swarm",
			ImageID: "debian-12", NetworkDriver: new("docker"), ClusterDistro: new("debian"), ServerType: "vm", FloatingIPEnabled: true,
			Labels: model.Labels{"a": "1"}, CreatedAt: made,
		},
		cluster: model.Cluster{
			ID: 1, UUID: "00000000-0000-4000-8000-000000000002", ProjectID: "project-1", UserID: "user-ann", Name: "c",
			TemplateID: "00000000-0000-4000-8000-000000000001", Labels: model.Labels{"a": "2", "b": "1"}, Status: model.CreateComplete,
			APIAddress: new("tcp://10.1.0.5:2376"), CreatedAt: made,
		},
	}
	for i, name := range []string{"default-master", "default-worker", "gpu"} {
		s.groups = append(s.groups, model.NodeGroup{
			ID: int64(i + 1), UUID: fmt.Sprintf("00000000-0000-4000-8000-00000000001%d", i), ClusterID: s.cluster.UUID, Name: name, ProjectID: "project-1",
			Role: strings.TrimPrefix(name, "default-"), NodeCount: 1, IsDefault: i < 2, Labels: model.Labels{"a": "2"}, Status: model.CreateComplete, CreatedAt: made,
		})
	}
	return s
}

// fits panics when a field of the row does not fit its column.
func fits(row any) {
	v := reflect.Indirect(reflect.ValueOf(row))
	for i := range v.NumField() {
		field, column := v.Field(i), v.Type().Field(i)
		if field.Kind() == reflect.Pointer {
			if field.IsNil() {
				continue
			}
			field = field.Elem()
		}
		bad := false
		switch field.Kind() {
		case reflect.String:
			_, size, sized := strings.Cut(column.Tag.Get("gorm"), "size:")
			size, _, _ = strings.Cut(size, ";")
			most, _ := strconv.Atoi(size)
			text := field.String()
			bad = !utf8.ValidString(text) || sized && utf8.RuneCountInString(text) > most || len(text) > 64<<10-1
		case reflect.Int:
			bad = field.Int() > math.MaxInt32 || field.Int() < math.MinInt32
		case reflect.Map: // labels, kept as JSON
			text, err := json.Marshal(field.Interface())
			bad = err != nil || len(text) > 64<<10-1 || !utf8.Valid(text)
		}
		if bad {
			panic(fmt.Sprintf("%s.%s does not take %v", v.Type(), column.Name, field))
		}
	}
}

// written is the outcome of a write.
func written(rows ...any) (*model.Operation, error) {
	for _, row := range rows {
		fits(row)
	}
	return &model.Operation{}, nil
}

// list is a page of one item.
func list[T any](page store.Page, one T) ([]T, error) {
	if !slices.Contains([]string{"id", "uuid", "name", "labels"}, page.SortKey) {
		return nil, store.ErrBadSortKey
	}
	if page.Marker != "" && strings.HasSuffix(page.Marker, "9") {
		return nil, store.ErrBadMarker
	}
	return []T{one}, nil
}

func (s *shelf) ListTemplates(_ context.Context, _ store.Scope, page store.Page) ([]model.ClusterTemplate, error) {
	return list(page, s.template)
}

func (s *shelf) Template(_ context.Context, _ store.Scope, ident string) (*model.ClusterTemplate, error) {
	switch ident {
	case "swarm", s.template.UUID, "1":
		t := s.template
		return &t, nil
	case "twin":
		return nil, store.ErrAmbiguous
	}
	return nil, store.ErrNotFound
}

func (s *shelf) CreateTemplate(_ context.Context, t *model.ClusterTemplate) error {
	fits(t)
	return nil
}

func (s *shelf) UpdateTemplate(_ context.Context, t *model.ClusterTemplate, onlyIfUnused bool) error {
	fits(t)
	if onlyIfUnused && t.Tags != nil {
		return store.ErrInUse
	}
	return nil
}

func (s *shelf) DeleteTemplate(context.Context, string) error { return store.ErrInUse }

func (s *shelf) TemplateUsers(context.Context, string) (int, error) { return 0, nil }

func (s *shelf) TemplatesByID(context.Context, []string) (map[string]*model.ClusterTemplate, error) {
	t := s.template
	return map[string]*model.ClusterTemplate{t.UUID: &t}, nil
}

func (s *shelf) ListClusters(_ context.Context, _ store.Scope, page store.Page) ([]model.Cluster, error) {
	return list(page, s.cluster)
}

func (s *shelf) ClusterSummaries(_ context.Context, _ store.Scope, page store.Page) ([]store.ClusterSummary, error) {
	return list(page, store.ClusterSummary{Cluster: s.cluster, Masters: 1, Workers: 2})
}

func (s *shelf) ClusterParts(_ context.Context, clusterUUIDs ...string) (map[string]*store.ClusterParts, error) {
	parts := make(map[string]*store.ClusterParts, len(clusterUUIDs))
	for _, id := range clusterUUIDs {
		parts[id] = &store.ClusterParts{Groups: s.groups, TemplateLabels: s.template.Labels}
	}
	return parts, nil
}

func (s *shelf) Cluster(_ context.Context, _ store.Scope, ident string) (*model.Cluster, error) {
	switch ident {
	case "c", s.cluster.UUID:
		c := s.cluster
		return &c, nil
	case "twin":
		return nil, store.ErrAmbiguous
	}
	return nil, store.ErrNotFound
}

func (s *shelf) NodeGroups(context.Context, ...string) (map[string][]model.NodeGroup, error) {
	return map[string][]model.NodeGroup{s.cluster.UUID: slices.Clone(s.groups)}, nil
}

func (s *shelf) Nodes(context.Context, ...string) (map[string][]model.Node, error) { return nil, nil }

func (s *shelf) NodeGroup(_ context.Context, _, ident string) (*model.NodeGroup, error) {
	for _, g := range s.groups {
		if ident == g.Name || ident == g.UUID {
			return &g, nil
		}
	}
	return nil, store.ErrNotFound
}

func (s *shelf) CreateCluster(_ context.Context, c *model.Cluster, groups []model.NodeGroup, _ int, _ store.NewOperation) (*model.Operation, error) {
	return written(c, groups[0], groups[1])
}

func (s *shelf) ScaleNodeGroup(_ context.Context, _, _ string, count int, remove []string, _ func(model.Status) bool, _ store.NewOperation) (*model.Operation, error) {
	if text, err := json.Marshal(remove); err != nil || len(text) > 64<<10-1 {
		panic("the operation is too long")
	}
	return written(model.NodeGroup{NodeCount: count})
}

func (s *shelf) CreateNodeGroup(_ context.Context, g *model.NodeGroup, _ func(model.Status) bool, _ store.NewOperation) (*model.Operation, error) {
	return written(g)
}

func (s *shelf) UpdateNodeGroupLimits(_ context.Context, _, _ string, least int, most *int, check func(model.NodeGroup) error, _ store.NewOperation) (*model.Operation, error) {
	g := s.groups[2]
	g.MinNodeCount, g.MaxNodeCount = least, most
	if err := check(g); err != nil {
		return nil, err
	}
	return written(g)
}

func (s *shelf) DeleteNodeGroup(context.Context, string, string, func(model.Status) bool, store.NewOperation) (*model.Operation, error) {
	return written()
}

func (s *shelf) UpgradeCluster(context.Context, string, string, []string, int, func(model.Status) bool, store.NewOperation) (*model.Operation, error) {
	return written(model.Cluster{})
}

func (s *shelf) RotateAuthorities(context.Context, string, func(model.Status) bool, store.NewOperation) (*model.Operation, error) {
	return written(model.Cluster{})
}

func (s *shelf) DeleteCluster(context.Context, string, store.NewOperation) (*model.Operation, error) {
	return written()
}

func (s *shelf) SetHealth(_ context.Context, _ string, status *string, reasons model.Labels) error {
	fits(model.Cluster{HealthStatus: status, HealthStatusReason: reasons})
	return nil
}

func (s *shelf) ListQuotas(_ context.Context, _ string, _ bool, page store.Page) ([]model.Quota, error) {
	return list(page, model.Quota{ID: 7, ProjectID: "project-1", Resource: "Cluster", HardLimit: 5})
}

func (s *shelf) Quota(context.Context, string, string) (*model.Quota, error) {
	return nil, store.ErrNotFound
}

func (s *shelf) CreateQuota(_ context.Context, q *model.Quota) error {
	q.ID = 7
	fits(q)
	return nil
}

func (s *shelf) UpdateQuota(_ context.Context, project, resource string, limit int) (*model.Quota, error) {
	q := model.Quota{ID: 7, ProjectID: project, Resource: resource, HardLimit: limit}
	fits(q)
	return &q, nil
}

func (s *shelf) DeleteQuota(context.Context, string, string) error { return store.ErrNotFound }

func (s *shelf) Stats(context.Context, string) (clusters, nodes int, err error) { return 1, 3, nil }

func (s *shelf) ListServices(context.Context) ([]model.ServiceRecord, error) {
	return []model.ServiceRecord{{ID: 1, Host: "host", Binary: "magnum-conductor"}}, nil
}

func (s *shelf) RebuildNodes(context.Context, string, []string, func(model.Status) bool, store.NewOperation) (*model.Operation, error) {
	return nil, nil
}

func (s *shelf) Autoscalings(context.Context, ...string) (map[string]model.Autoscaling, error) {
	return nil, nil
}
func (s *shelf) SetAutoscaling(context.Context, string, store.AutoscaleChange) error { return nil }
func (s *shelf) Samples(context.Context, string) ([]model.UsageSample, error)        { return nil, nil }

func (s *shelf) LatestOperations(context.Context, string, int) ([]model.Operation, map[string][]model.Step, error) {
	return nil, nil, nil
}

func (s *shelf) Events(context.Context, string, int64, int) ([]model.Event, error) { return nil, nil }

func (s *shelf) NewestEvents(context.Context, string, int64, int) ([]model.Event, error) {
	return nil, nil
}

// LatestEvents says that all clusters are gone, so that streams end.
func (s *shelf) LatestEvents(_ context.Context, clusters []string) (map[string]int64, map[string]bool, error) {
	gone := make(map[string]bool)
	for _, c := range clusters {
		gone[c] = true
	}
	return nil, gone, nil
}

func (s *shelf) Hosts(context.Context) ([]model.Host, error)          { return nil, nil }
func (s *shelf) NodesPerHost(context.Context) (map[string]int, error) { return nil, nil }

// keyring keeps certificates in memory.
type keyring struct {
	mu   sync.Mutex
	rows []model.Certificate
}

func (k *keyring) Certificate(_ context.Context, cluster string, generation int, kind, node string) (*model.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.find(cluster, generation, kind, node)
}

func (k *keyring) find(cluster string, generation int, kind, node string) (*model.Certificate, error) {
	for _, row := range k.rows {
		if row.ClusterID == cluster && row.Generation == generation && row.Kind == kind && row.NodeID == node {
			return &row, nil
		}
	}
	return nil, store.ErrNotFound
}

func (k *keyring) Certificates(context.Context, string, ...string) ([]model.Certificate, error) {
	return nil, nil
}

func (k *keyring) PutCertificates(_ context.Context, certificates ...model.Certificate) ([]model.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stored := slices.Clone(certificates)
	for i, c := range stored {
		if row, err := k.find(c.ClusterID, c.Generation, c.Kind, c.NodeID); err == nil {
			stored[i] = *row
			continue
		}
		k.rows = append(k.rows, c)
	}
	return stored, nil
}
