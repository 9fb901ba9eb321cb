// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

func (p *Portal) listTemplates(w http.ResponseWriter, r *http.Request, s *session) {
	templates, err := p.templates(r, s)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	p.render(w, r, http.StatusOK, "templates", view{Title: "Templates", Nav: "templates", Session: s, Body: templates})
}

func (p *Portal) showTemplate(w http.ResponseWriter, r *http.Request, s *session) {
	var t v1.ClusterTemplate
	if err := p.service.ask(r, s, http.MethodGet, "/v1/clustertemplates/"+url.PathEscape(r.PathValue("template")), nil, &t); err != nil {
		p.fail(w, r, s, err)
		return
	}
	p.render(w, r, http.StatusOK, "template", view{Title: text(t.Name, t.UUID), Nav: "templates", Session: s, Body: t})
}

// newTemplateForm is the page that makes a template: what is filled in, what is
// wrong with it, and what other templates have in these fields.
type newTemplateForm struct {
	Values map[string]string
	Known  map[string][]string
	faults
}

// templateFields are the fields of the form, in the names of the API.
var templateFields = []string{
	"name", "coe", "image_id", "flavor_id", "master_flavor_id", "external_network_id", "docker_volume_size", "labels",
	"master_lb_enabled", "public",
}

func (p *Portal) newTemplate(w http.ResponseWriter, r *http.Request, s *session) {
	p.askForTemplate(w, r, s, http.StatusOK, map[string]string{"coe": "swarm-mode"}, nil)
}

func (p *Portal) askForTemplate(w http.ResponseWriter, r *http.Request, s *session, status int, values map[string]string, wrong faults) {
	templates, err := p.templates(r, s)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	form := newTemplateForm{Values: values, Known: map[string][]string{}, faults: wrong}
	for _, t := range templates {
		for field, value := range map[string]string{
			"coe": t.COE, "image_id": t.ImageID, "flavor_id": text(t.FlavorID, ""), "master_flavor_id": text(t.MasterFlavorID, ""),
			"external_network_id": text(t.ExternalNetworkID, ""),
		} {
			if value != "" && !slices.Contains(form.Known[field], value) {
				form.Known[field] = append(form.Known[field], value)
			}
		}
	}
	title := "Make a template"
	if len(wrong) > 0 {
		title = "Error: " + title
	}
	p.render(w, r, status, "newtemplate", view{Title: title, Nav: "templates", Session: s, Body: form})
}

func (p *Portal) createTemplate(w http.ResponseWriter, r *http.Request, s *session) {
	values := map[string]string{}
	for _, field := range templateFields {
		values[field] = strings.TrimSpace(r.PostForm.Get(field))
	}
	body, wrong := bodyOf(values)
	for field, fault := range map[string]string{"coe": "Say what kind of cluster it makes.", "image_id": "Say which image nodes are made from."} {
		if values[field] == "" {
			wrong[field] = fault
		}
	}
	if len(wrong) == 0 {
		var made v1.ClusterTemplate
		err := p.service.ask(r, s, http.MethodPost, "/v1/clustertemplates", body, &made)
		if err == nil {
			http.Redirect(w, r, p.link(r, "/templates/"+made.UUID+"?did=template"), http.StatusSeeOther)
			return
		}
		if wrong = faultsOf(err, templateFields...); wrong == nil {
			p.fail(w, r, s, err)
			return
		}
	}
	p.askForTemplate(w, r, s, http.StatusUnprocessableEntity, values, wrong)
}

// quotaPage is what the project has used of what it may use.
type quotaPage struct {
	Limit int
	Stats v1.Stats
}

// Left is how many more clusters may be made.
func (q quotaPage) Left() int { return max(0, q.Limit-q.Stats.Clusters) }

func (p *Portal) showQuotas(w http.ResponseWriter, r *http.Request, s *session) {
	var limit v1.QuotaLimit
	var page quotaPage
	err := p.service.ask(r, s, http.MethodGet, "/v1/quotas/"+url.PathEscape(s.Project)+"/Cluster", nil, &limit)
	if err == nil {
		err = p.service.ask(r, s, http.MethodGet, "/v1/stats?project_id="+url.QueryEscape(s.Project), nil, &page.Stats)
	}
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	page.Limit = limit.HardLimit
	p.render(w, r, http.StatusOK, "quotas", view{Title: "Quotas", Nav: "quotas", Session: s, Body: page})
}

// hostPage is the bare metal, for administrators.
type hostPage struct {
	Hosts []v1.Host
	Total v1.Host // sums
	Bad   int     // in state error
}

func (p *Portal) listHosts(w http.ResponseWriter, r *http.Request, s *session) {
	var all v1.Hosts
	if err := p.service.ask(r, s, http.MethodGet, "/v1/hosts", nil, &all); err != nil {
		p.fail(w, r, s, err)
		return
	}
	page := hostPage{Hosts: all.Hosts}
	for _, h := range all.Hosts {
		t := &page.Total
		t.VCPUs, t.VCPUsUsed = t.VCPUs+h.VCPUs, t.VCPUsUsed+h.VCPUsUsed
		t.MemoryMB, t.MemoryMBUsed = t.MemoryMB+h.MemoryMB, t.MemoryMBUsed+h.MemoryMBUsed
		t.DiskGB, t.DiskGBUsed = t.DiskGB+h.DiskGB, t.DiskGBUsed+h.DiskGBUsed
		t.Nodes += h.Nodes
		if h.State == "error" {
			page.Bad++
		}
	}
	p.render(w, r, http.StatusOK, "hosts", view{Title: "Hosts", Nav: "hosts", Session: s, Body: page, Every: 10})
}
