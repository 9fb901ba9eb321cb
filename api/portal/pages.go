// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"net/http"
	"net/url"

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
