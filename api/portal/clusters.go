// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// clustersPerPage is how many clusters one page of the list shows.
const clustersPerPage = 50

// clusterList is the page with all clusters.
type clusterList struct {
	Clusters []clusterRow
	Changing int
	Next     string // marker
	First    bool   // the first page
	Marker   string
}

type clusterRow struct {
	v1.Cluster
	Template string // name, or else uuid
	COE      string
}

func (p *Portal) listClusters(w http.ResponseWriter, r *http.Request, s *session) {
	query := url.Values{"limit": {strconv.Itoa(clustersPerPage)}}
	marker := r.URL.Query().Get("marker")
	if marker != "" {
		query.Set("marker", marker)
	}
	var page v1.Clusters
	if err := p.service.ask(r, s, http.MethodGet, "/v1/clusters/detail?"+query.Encode(), nil, &page); err != nil {
		p.fail(w, r, s, err)
		return
	}
	templates, err := p.templates(r, s)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	list := clusterList{First: marker == "", Marker: marker}
	for _, c := range page.Clusters {
		list.Clusters = append(list.Clusters, row(c, templates))
		if changing(c.Status) {
			list.Changing++
		}
	}
	if page.Next != "" {
		list.Next = page.Clusters[len(page.Clusters)-1].UUID
	}
	v := view{Title: "Clusters", Nav: "clusters", Session: s, Body: list, Every: 15}
	if list.Changing > 0 {
		v.Every = 2
	}
	p.render(w, r, http.StatusOK, "clusters", v)
}

func row(c v1.Cluster, templates []v1.ClusterTemplate) clusterRow {
	one := clusterRow{Cluster: c, Template: c.ClusterTemplateID}
	for _, t := range templates {
		if t.UUID == c.ClusterTemplateID {
			one.Template, one.COE = text(t.Name, t.UUID), t.COE
		}
	}
	return one
}

// templates are all that the project may use, by name.
func (p *Portal) templates(r *http.Request, s *session) ([]v1.ClusterTemplate, error) {
	var page v1.ClusterTemplates
	err := p.service.ask(r, s, http.MethodGet, "/v1/clustertemplates", nil, &page)
	slices.SortStableFunc(page.ClusterTemplates, func(a, b v1.ClusterTemplate) int {
		return strings.Compare(text(a.Name, a.UUID), text(b.Name, b.UUID))
	})
	return page.ClusterTemplates, err
}

// text is what the pointer leads to, or else the other text.
func text(s *string, other string) string {
	if s == nil || *s == "" {
		return other
	}
	return *s
}

// clusterPage is all about one cluster.
type clusterPage struct {
	clusterRow
	Nodes      []v1.Node
	Ready      int           // of Nodes
	Running    *v1.Operation // what is being done now
	Last       *v1.Operation // else what was done last
	Events     []v1.Event    // the newest first
	Usage      v1.Usage
	CPU, Mem   *gauge
	Autoscale  *v1.Autoscale
	Reasons    []pair // of the health
	NodeGroups []v1.NodeGroupSummary
}

type pair struct{ Name, Value string }

// eventsShown is how many of the newest events a page shows.
const eventsShown = 40

// clusterOf asks for the cluster that the address names; false when it has
// answered the request itself.
func (p *Portal) clusterOf(w http.ResponseWriter, r *http.Request, s *session) (clusterRow, bool) {
	var c v1.Cluster
	err := p.service.ask(r, s, http.MethodGet, clusterPath(r.PathValue("cluster"), ""), nil, &c)
	var templates []v1.ClusterTemplate
	if err == nil {
		templates, err = p.templates(r, s)
	}
	if err != nil {
		p.fail(w, r, s, err)
		return clusterRow{}, false
	}
	return row(c, templates), true
}

func (p *Portal) showCluster(w http.ResponseWriter, r *http.Request, s *session) {
	c, found := p.clusterOf(w, r, s)
	if !found {
		return
	}
	page, err := p.everythingOf(r, s, c)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	v := view{Title: c.Name, Nav: "clusters", Session: s, Body: page, Every: 10}
	if page.Running != nil || changing(c.Status) {
		v.Every = 1
	}
	p.render(w, r, http.StatusOK, "cluster", v)
}

func (p *Portal) everythingOf(r *http.Request, s *session, c clusterRow) (*clusterPage, error) {
	page := &clusterPage{clusterRow: c}
	var nodes v1.Nodes
	var operations v1.Operations
	for path, into := range map[string]any{"/nodes": &nodes, "/operations?limit=5": &operations, "/usage": &page.Usage} {
		// Not found: the cluster went while we asked, and there is none of it.
		err := p.service.ask(r, s, http.MethodGet, clusterPath(c.UUID, path), nil, into)
		if err != nil && !refusedWith(err, http.StatusNotFound) {
			return nil, err
		}
	}
	var autoscale v1.Autoscale
	switch err := p.service.ask(r, s, http.MethodGet, clusterPath(c.UUID, "/autoscale"), nil, &autoscale); {
	case err == nil:
		page.Autoscale = &autoscale
	case !refusedWith(err, http.StatusNotFound, http.StatusForbidden):
		return nil, err
	}
	page.Nodes = nodes.Nodes
	for _, n := range page.Nodes {
		if n.Status == "ready" {
			page.Ready++
		}
	}
	if len(operations.Operations) > 0 {
		last := operations.Operations[0]
		if last.FinishedAt == nil {
			page.Running = &last
		} else {
			page.Last = &last
		}
	}
	var err error
	if page.Events, err = p.events(r, s, c.UUID); err != nil && !refusedWith(err, http.StatusNotFound) {
		return nil, err
	}
	page.CPU, page.Mem = gauges(page.Usage)
	for name, value := range c.HealthStatusReason {
		page.Reasons = append(page.Reasons, pair{name, value})
	}
	slices.SortFunc(page.Reasons, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return page, nil
}

// events are the newest ones, the newest first. More are asked for than are
// shown: not all of them are worth it.
func (p *Portal) events(r *http.Request, s *session, cluster string) ([]v1.Event, error) {
	var page v1.Events
	path := clusterPath(cluster, "/events?sort_dir=desc&limit="+strconv.Itoa(4*eventsShown))
	if err := p.service.ask(r, s, http.MethodGet, path, nil, &page); err != nil {
		return nil, err
	}
	shown := slices.DeleteFunc(page.Events, func(e v1.Event) bool { return !worthTelling(&e) })
	return shown[:min(len(shown), eventsShown)], nil
}

// worthTelling leaves out what another event says as well: that a step began,
// and the status that an operation brings.
func worthTelling(e *v1.Event) bool {
	return e.Kind != v1.EventStepStart && (e.Kind != v1.EventClusterStatus || e.Level != v1.LevelInfo)
}

// refusedWith tells whether the API said no with one of the statuses.
func refusedWith(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*Refusal](err)
	return ok && slices.Contains(statuses, refused.Status)
}

// newClusterForm is the page that makes a cluster: what is filled in, and what
// is wrong with it.
type newClusterForm struct {
	Templates []v1.ClusterTemplate
	Flavors   []string // known from templates
	Values    map[string]string
	faults
}

// faults are what is wrong with a form, by field; "" is the form as a whole.
type faults map[string]string

// Fault is what is wrong with the field.
func (f faults) Fault(field string) string { return f[field] }

// All lists them, for the summary at the top of the form.
func (f faults) All() []pair {
	all := make([]pair, 0, len(f))
	for field, fault := range f {
		all = append(all, pair{field, fault})
	}
	slices.SortFunc(all, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// clusterFields are the fields of the form, in the names of the API.
var clusterFields = []string{
	"name", "cluster_template_id", "node_count", "master_count", "flavor_id", "master_flavor_id",
	"docker_volume_size", "create_timeout", "labels",
}

func (p *Portal) newCluster(w http.ResponseWriter, r *http.Request, s *session) {
	values := map[string]string{"node_count": "1", "master_count": "1", "cluster_template_id": r.URL.Query().Get("template")}
	p.askForCluster(w, r, s, http.StatusOK, values, nil)
}

func (p *Portal) askForCluster(w http.ResponseWriter, r *http.Request, s *session, status int, values map[string]string, wrong faults) {
	templates, err := p.templates(r, s)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	form := newClusterForm{Templates: templates, Values: values, faults: wrong}
	for _, t := range templates {
		for _, flavor := range []*string{t.FlavorID, t.MasterFlavorID} {
			if name := text(flavor, ""); name != "" && !slices.Contains(form.Flavors, name) {
				form.Flavors = append(form.Flavors, name)
			}
		}
	}
	if form.Values["cluster_template_id"] == "" && len(templates) == 1 {
		form.Values["cluster_template_id"] = templates[0].UUID
	}
	title := "Create a cluster"
	if len(wrong) > 0 {
		title = "Error: " + title
	}
	p.render(w, r, status, "create", view{Title: title, Nav: "clusters", Session: s, Body: form})
}

func (p *Portal) createCluster(w http.ResponseWriter, r *http.Request, s *session) {
	values := map[string]string{}
	for _, field := range clusterFields {
		values[field] = strings.TrimSpace(r.PostForm.Get(field))
	}
	body, wrong := clusterBody(values)
	if len(wrong) == 0 {
		var made v1.UUID
		err := p.service.ask(r, s, http.MethodPost, "/v1/clusters", body, &made)
		if err == nil {
			http.Redirect(w, r, p.link(r, "/clusters/"+made.UUID+"?did=create"), http.StatusSeeOther)
			return
		}
		if wrong = faultsOf(err, clusterFields...); wrong == nil {
			p.fail(w, r, s, err)
			return
		}
	}
	p.askForCluster(w, r, s, http.StatusUnprocessableEntity, values, wrong)
}

// clusterBody turns the fields into what the API takes.
func clusterBody(values map[string]string) (map[string]any, faults) {
	body, wrong := bodyOf(values)
	if body["labels"] != nil {
		body["merge_labels"] = true
	}
	if values["cluster_template_id"] == "" {
		wrong["cluster_template_id"] = "Choose a template."
	}
	return body, wrong
}

// bodyOf turns the fields that are filled in into what the API takes. Only what
// JSON could not say is found wrong here; all else the API judges.
func bodyOf(values map[string]string) (map[string]any, faults) {
	body, wrong := map[string]any{}, faults{}
	for field, value := range values {
		if value == "" {
			continue
		}
		switch field {
		case "node_count", "master_count", "docker_volume_size", "create_timeout":
			n, err := strconv.Atoi(value)
			if err != nil {
				wrong[field] = "This must be a whole number."
			}
			body[field] = n
		case "labels":
			labels, fault := parseLabels(value)
			if fault != "" {
				wrong[field] = fault
			}
			body["labels"] = labels
		case "public", "master_lb_enabled":
			body[field] = value == "yes"
		default:
			body[field] = value
		}
	}
	return body, wrong
}

// parseLabels reads one "key=value" a line.
func parseLabels(text string) (labels map[string]string, fault string) {
	labels = map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !found || key == "" {
			return nil, "Write one key=value on each line. This line is not one: " + line
		}
		labels[key] = strings.TrimSpace(value)
	}
	return labels, ""
}

// faultsOf lays what the API refused at the field that it speaks of; nil when
// it was not about what somebody filled in.
func faultsOf(err error, fields ...string) faults {
	refused, said := errors.AsType[*Refusal](err)
	if !said || refused.Status < 400 || refused.Status >= 500 || refused.Status == http.StatusUnauthorized {
		return nil
	}
	// Longer names first: "flavor_id" is a part of "master_flavor_id".
	fields = slices.SortedFunc(slices.Values(fields), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, form := range []string{`"%"`, "(%)", "%"} {
		for _, field := range fields {
			if field != "name" || form != "%" { // a common word
				if strings.Contains(refused.Detail, strings.ReplaceAll(form, "%", field)) {
					return faults{field: refused.Detail}
				}
			}
		}
	}
	return faults{"": refused.Detail}
}
