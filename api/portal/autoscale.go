// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// The fields of the form, in the names of the API. Those of a node group end
// in its place on the page: group-0 has the name, part-0 the tick.
const (
	thresholdField = "threshold_percent"
	settleField    = "settle_seconds"
	groupField     = "group-%d"
	partField      = "part-%d"
	leastField     = "min_node_count-%d"
	mostField      = "max_node_count-%d"
)

func (p *Portal) askToAutoscale(w http.ResponseWriter, r *http.Request, s *session, wrong faults) {
	p.ask(w, r, s, "autoscale", "Autoscaling of", func(a *action) error {
		groups, err := p.workers(r, s, a.UUID)
		if err != nil {
			return err
		}
		var now v1.Autoscale
		if err := p.service.ask(r, s, http.MethodGet, clusterPath(a.UUID, "/autoscale"), nil, &now); err != nil {
			return err
		}
		a.Groups, a.Values, a.Decision = groups, autoscaleValues(groups, now), now.LastDecision
		if r.Method == http.MethodPost { // what was filled in
			for field := range a.Values {
				a.Values[field] = r.PostForm.Get(field)
			}
		}
		return nil
	}, nil, wrong)
}

// autoscaleValues are what the form shows of the present settings.
func autoscaleValues(groups []v1.NodeGroupSummary, now v1.Autoscale) map[string]string {
	tick := map[bool]string{true: "yes"}
	values := map[string]string{
		"enabled": tick[now.Enabled], thresholdField: strconv.Itoa(now.ThresholdPercent), settleField: strconv.Itoa(now.SettleSeconds),
	}
	for i, g := range groups {
		n := slices.IndexFunc(now.NodeGroups, func(a v1.AutoscaleGroup) bool { return a.Name == g.Name })
		values[fmt.Sprintf(partField, i)] = tick[n >= 0 && now.NodeGroups[n].Autoscale]
		values[fmt.Sprintf(leastField, i)] = strconv.Itoa(g.MinNodeCount)
		values[fmt.Sprintf(mostField, i)] = ""
		if g.MaxNodeCount != nil {
			values[fmt.Sprintf(mostField, i)] = strconv.Itoa(*g.MaxNodeCount)
		}
	}
	return values
}

func (p *Portal) showAutoscale(w http.ResponseWriter, r *http.Request, s *session) {
	p.askToAutoscale(w, r, s, nil)
}

func (p *Portal) setAutoscale(w http.ResponseWriter, r *http.Request, s *session) {
	again := func(wrong faults) { p.askToAutoscale(w, r, s, wrong) }
	request, wrong := autoscaleRequest(r.PostForm)
	if len(wrong) > 0 {
		again(wrong)
		return
	}
	err := p.service.ask(r, s, http.MethodPut, clusterPath(r.PathValue("cluster"), "/autoscale"), request, nil)
	if wrong := groupFault(err, request.NodeGroups); wrong != nil {
		again(wrong)
		return
	}
	p.done(w, r, s, "autoscale", err, again, thresholdField, settleField)
}

// autoscaleRequest turns the form into what the API takes. Only what JSON could
// not say is found wrong here; all else the API judges.
func autoscaleRequest(form url.Values) (v1.AutoscaleRequest, faults) {
	wrong := faults{}
	number := func(field string) *int {
		text := strings.TrimSpace(form.Get(field))
		if text == "" {
			return nil
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			wrong[field] = "This must be a whole number."
		}
		return &n
	}
	request := v1.AutoscaleRequest{Enabled: new(form.Get("enabled") == "yes"), ThresholdPercent: number(thresholdField), SettleSeconds: number(settleField)}
	for i := 0; form.Has(fmt.Sprintf(groupField, i)); i++ {
		request.NodeGroups = append(request.NodeGroups, v1.AutoscaleGroupRequest{
			Name: form.Get(fmt.Sprintf(groupField, i)), Autoscale: new(form.Get(fmt.Sprintf(partField, i)) == "yes"),
			MinNodeCount: number(fmt.Sprintf(leastField, i)), MaxNodeCount: number(fmt.Sprintf(mostField, i)),
		})
	}
	return request, wrong
}

// groupFault lays what the API refused of a node group's bounds at their field;
// nil when it spoke of something else.
func groupFault(err error, groups []v1.AutoscaleGroupRequest) faults {
	refused, said := errors.AsType[*Refusal](err)
	if !said || refused.Status != http.StatusBadRequest {
		return nil
	}
	for i, g := range groups {
		if len(groups) > 1 && !strings.Contains(refused.Detail, "node group "+g.Name+" ") {
			continue
		}
		least, most := strings.Index(refused.Detail, "min_node_count"), strings.Index(refused.Detail, "max_node_count")
		switch {
		case least >= 0 && (most < 0 || least < most):
			return faults{fmt.Sprintf(leastField, i): refused.Detail}
		case most >= 0:
			return faults{fmt.Sprintf(mostField, i): refused.Detail}
		}
	}
	return nil
}
