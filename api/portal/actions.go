// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// deeds are what a page says after something was asked for, by the word in
// its address.
var deeds = map[string]string{
	"create":    "The cluster is being made. This page follows along.",
	"grow":      "The new size is on its way.",
	"rebuild":   "The nodes are being rebuilt.",
	"repair":    "Unhealthy nodes are being repaired.",
	"upgrade":   "The upgrade has begun. Nodes are rebuilt one batch after the other.",
	"delete":    "The cluster is being deleted.",
	"autoscale": "The settings are kept. The next look at the cluster goes by them.",
	"template":  "The template is there. Clusters can be made from it.",
	"project":   "You are in another project now.",
	"logout":    "You are logged out.",
}

// action is a page that asks before something is done to a cluster.
type action struct {
	clusterRow
	Groups    []v1.NodeGroupSummary // that can be resized
	Nodes     []v1.Node
	Templates []v1.ClusterTemplate // of the same COE
	Values    map[string]string
	Chosen    []string
	Decision  *v1.AutoscaleDecision // the last one of autoscaling
	faults
}

// ask shows the page of an action, after a fault as well.
func (p *Portal) ask(w http.ResponseWriter, r *http.Request, s *session, name, title string, fill func(*action) error, values map[string]string, wrong faults) {
	c, found := p.clusterOf(w, r, s)
	if !found {
		return
	}
	a := &action{clusterRow: c, Values: values, Chosen: r.PostForm["node"], faults: wrong}
	if fill != nil {
		if err := fill(a); err != nil {
			p.fail(w, r, s, err)
			return
		}
	}
	status := http.StatusOK
	if len(wrong) > 0 {
		status, title = http.StatusUnprocessableEntity, "Error: "+title
	}
	p.render(w, r, status, name, view{Title: title + " " + c.Name, Nav: "clusters", Session: s, Body: a})
}

// done goes back to the cluster, or shows the page of the action once more.
func (p *Portal) done(w http.ResponseWriter, r *http.Request, s *session, did string, err error, again func(faults), fields ...string) {
	if err == nil {
		http.Redirect(w, r, p.link(r, "/clusters/"+r.PathValue("cluster")+"?did="+did), http.StatusSeeOther)
		return
	}
	if refusedWith(err, http.StatusNotFound) {
		p.fail(w, r, s, err)
		return
	}
	wrong := faultsOf(err, fields...)
	if wrong == nil {
		p.fail(w, r, s, err)
		return
	}
	again(wrong)
}

func (p *Portal) askToGrow(w http.ResponseWriter, r *http.Request, s *session, wrong faults) {
	values := map[string]string{"nodegroup": r.PostForm.Get("nodegroup"), "node_count": r.PostForm.Get("node_count")}
	p.ask(w, r, s, "grow", "Resize", func(a *action) error {
		groups, err := p.workers(r, s, a.UUID)
		a.Groups = groups
		return err
	}, values, wrong)
}

// workers are the node groups that can be resized.
func (p *Portal) workers(r *http.Request, s *session, cluster string) ([]v1.NodeGroupSummary, error) {
	var page v1.NodeGroupSummaries
	err := p.service.ask(r, s, http.MethodGet, clusterPath(cluster, "/nodegroups"), nil, &page)
	return slices.DeleteFunc(page.NodeGroups, func(g v1.NodeGroupSummary) bool { return g.Role == "master" }), err
}

func (p *Portal) showGrow(w http.ResponseWriter, r *http.Request, s *session) {
	p.askToGrow(w, r, s, nil)
}

func (p *Portal) growCluster(w http.ResponseWriter, r *http.Request, s *session) {
	again := func(wrong faults) { p.askToGrow(w, r, s, wrong) }
	count, err := strconv.Atoi(strings.TrimSpace(r.PostForm.Get("node_count")))
	if err != nil {
		again(faults{"node_count": "This must be a whole number."})
		return
	}
	cluster := r.PathValue("cluster")
	groups, err := p.workers(r, s, cluster)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	for _, g := range groups {
		if g.Name == r.PostForm.Get("nodegroup") && count < g.NodeCount && r.PostForm.Get("consent") != "yes" {
			again(faults{"consent": "This takes nodes away, with the containers and volumes on them. Tick the box to say that you want that."})
			return
		}
	}
	err = p.service.ask(r, s, http.MethodPost, clusterPath(cluster, "/actions/resize"),
		map[string]any{"nodegroup": r.PostForm.Get("nodegroup"), "node_count": count}, nil)
	p.done(w, r, s, "grow", err, again, "node_count")
}

func (p *Portal) askToRebuild(w http.ResponseWriter, r *http.Request, s *session, wrong faults) {
	p.ask(w, r, s, "rebuild", "Rebuild", func(a *action) error {
		var nodes v1.Nodes
		err := p.service.ask(r, s, http.MethodGet, clusterPath(a.UUID, "/nodes"), nil, &nodes)
		a.Nodes = nodes.Nodes
		return err
	}, nil, wrong)
}

func (p *Portal) showRebuild(w http.ResponseWriter, r *http.Request, s *session) {
	p.askToRebuild(w, r, s, nil)
}

// rebuildCluster rebuilds, or repairs what is unhealthy: which is said by the
// button.
func (p *Portal) rebuildCluster(w http.ResponseWriter, r *http.Request, s *session) {
	again := func(wrong faults) { p.askToRebuild(w, r, s, wrong) }
	cluster, did := r.PathValue("cluster"), "rebuild"
	request := v1.NodesRequest{}
	if r.PostForm.Get("do") == "repair" {
		did = "repair"
	} else {
		request.Nodes = r.PostForm["node"]
		if !p.confirmed(w, r, s, again) {
			return
		}
	}
	err := p.service.ask(r, s, http.MethodPost, clusterPath(cluster, "/actions/"+did), request, nil)
	p.done(w, r, s, did, err, again, "nodes")
}

func (p *Portal) askToUpgrade(w http.ResponseWriter, r *http.Request, s *session, wrong faults) {
	values := map[string]string{"cluster_template": r.PostForm.Get("cluster_template"), "max_batch_size": r.PostForm.Get("max_batch_size")}
	p.ask(w, r, s, "upgrade", "Upgrade", func(a *action) error {
		templates, err := p.templates(r, s)
		a.Templates = slices.DeleteFunc(templates, func(t v1.ClusterTemplate) bool { return a.COE != "" && t.COE != a.COE })
		if a.Values["cluster_template"] == "" {
			a.Values["cluster_template"] = a.ClusterTemplateID
		}
		return err
	}, values, wrong)
}

func (p *Portal) showUpgrade(w http.ResponseWriter, r *http.Request, s *session) {
	p.askToUpgrade(w, r, s, nil)
}

func (p *Portal) upgradeCluster(w http.ResponseWriter, r *http.Request, s *session) {
	again := func(wrong faults) { p.askToUpgrade(w, r, s, wrong) }
	body := map[string]any{"cluster_template": r.PostForm.Get("cluster_template")}
	if batch := strings.TrimSpace(r.PostForm.Get("max_batch_size")); batch != "" {
		n, err := strconv.Atoi(batch)
		if err != nil {
			again(faults{"max_batch_size": "This must be a whole number."})
			return
		}
		body["max_batch_size"] = n
	}
	err := p.service.ask(r, s, http.MethodPost, clusterPath(r.PathValue("cluster"), "/actions/upgrade"), body, nil)
	p.done(w, r, s, "upgrade", err, again, "cluster_template", "max_batch_size")
}

func (p *Portal) askToDelete(w http.ResponseWriter, r *http.Request, s *session, wrong faults) {
	p.ask(w, r, s, "delete", "Delete", nil, nil, wrong)
}

func (p *Portal) showDelete(w http.ResponseWriter, r *http.Request, s *session) {
	p.askToDelete(w, r, s, nil)
}

func (p *Portal) deleteCluster(w http.ResponseWriter, r *http.Request, s *session) {
	again := func(wrong faults) { p.askToDelete(w, r, s, wrong) }
	if !p.confirmed(w, r, s, again) {
		return
	}
	err := p.service.ask(r, s, http.MethodDelete, clusterPath(r.PathValue("cluster"), ""), nil, nil)
	if err == nil {
		http.Redirect(w, r, p.link(r, "/clusters?did=delete"), http.StatusSeeOther)
		return
	}
	p.done(w, r, s, "delete", err, again)
}

// confirmed tells whether the name of the cluster was typed. Otherwise it has
// answered the request.
func (p *Portal) confirmed(w http.ResponseWriter, r *http.Request, s *session, again func(faults)) bool {
	var c v1.Cluster
	if err := p.service.ask(r, s, http.MethodGet, clusterPath(r.PathValue("cluster"), ""), nil, &c); err != nil {
		p.fail(w, r, s, err)
		return false
	}
	if strings.TrimSpace(r.PostForm.Get("confirm")) != c.Name {
		again(faults{"confirm": "Type the name of the cluster, " + c.Name + ", to say that you mean it."})
		return false
	}
	return true
}

func (p *Portal) showAccess(w http.ResponseWriter, r *http.Request, s *session) {
	p.ask(w, r, s, "access", "Access to", nil, nil, nil)
}

// unsafeInName is what a file name is better without.
var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

func (p *Portal) downloadBundle(w http.ResponseWriter, r *http.Request, s *session) {
	c, found := p.clusterOf(w, r, s)
	if !found {
		return
	}
	var request v1.BundleRequest
	if days, err := strconv.Atoi(r.PostForm.Get("days")); err == nil && days > 0 && days <= 365 {
		request.TTLSeconds = days * 24 * 3600
	}
	answer, err := p.service.send(r, s, http.MethodPost, clusterPath(c.UUID, "/credentials/bundle"), request)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+unsafeInName.ReplaceAllString(c.Name, "_")+`.zip"`)
	w.Header().Set("Content-Length", strconv.Itoa(answer.body.Len()))
	_, _ = w.Write(answer.body.Bytes()) // the browser may be gone
}
