// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/keelson/keelson/test/chaos/ledger"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// healthy is a small cloud in which all is well: two clusters, of which one was
// resized and one deleted, a host that is there and one of Ironic's.
func healthy() (*state, *history) {
	done := start.Add(time.Second)
	s := &state{
		Clusters:     []cluster{{"c1", "p", "UPDATE_COMPLETE"}},
		Groups:       []group{{UUID: "g1", Cluster: "c1", Status: "UPDATE_COMPLETE", Count: 2}},
		Hosts:        []host{{UUID: "h1", State: "ready", URI: "sim:///h/1", UsedVCPUs: 2, TotalVCPUs: 4}, {UUID: "h2", State: "ready", URI: "sim:///h/2", Machine: "bm"}},
		Certificates: []certificate{{"c1", ""}, {"c1", "n1"}},
		Operations: []operation{
			{ID: 1, UUID: "o1", Cluster: "c1", Kind: "create", State: "done", RequestID: "r1", CreatedAt: start, FinishedAt: &done, Generation: 2},
			{ID: 2, UUID: "o2", Cluster: "c1", Kind: "update", State: "done", RequestID: "r2", CreatedAt: start, FinishedAt: &done, Spec: spec{map[string]int{"g1": 1}}},
			{ID: 3, UUID: "o3", Cluster: "c2", Kind: "delete", State: "done", RequestID: "r3", CreatedAt: start, FinishedAt: &done},
		},
		Members: []member{{"c1", "n1"}, {"c1", "n2"}},
		Ironic:  []bareMetal{{UUID: "bm", State: "active", Instance: "h2", Allocation: "h2"}, {UUID: "free", State: "available"}},
		Shown:   map[string]string{"c1": "UPDATE_COMPLETE"},
	}
	for i, name := range []string{"n1", "n2"} {
		s.Nodes = append(s.Nodes, node{UUID: name, Cluster: "c1", Group: "g1", State: "ready", Host: "h1", Network: "net", Address: "10.0.0." + name, Slot: i, VCPUs: 1})
		s.Machines = append(s.Machines, machine{"/h/1", name, "10.0.0." + name})
	}
	answer := func(asked, request, cluster string, status int) ledger.Entry {
		return ledger.Entry{Kind: ledger.Answer, Asked: asked, RequestID: request, Cluster: cluster, Status: status, From: start, To: start}
	}
	h := &history{
		Quota: 1, Lease: 2 * time.Second, Bound: time.Minute,
		Ledger: []ledger.Entry{
			answer("create", "r1", "c1", 202), answer("delete", "r3", "c2", 204), answer("delete", "r4", "c2", 204),
			{Kind: ledger.Answer, Asked: "resize", RequestID: "r2", Cluster: "c1", Group: "g1", Count: 2, Status: 202},
			{Kind: ledger.Fault, What: ledger.Database, From: start.Add(time.Minute), To: start.Add(time.Minute + time.Second)},
			{Kind: ledger.Answer, Status: 503, RetryAfter: "10", From: start.Add(time.Minute), To: start.Add(time.Minute)},
			{Kind: ledger.Fault, What: ledger.KillConductor, Owner: "a/1", From: start, To: start},
			answer("resize", "r5", "c1", 202), // while it is created: of no effect
		},
		Claims: []claim{
			{Operation: "o1", Owner: "a/1", Generation: 1, Seen: start.Add(-time.Second)},
			{Operation: "o1", Owner: "b/1", Generation: 2, Seen: start.Add(3 * time.Second)},
			{Operation: "o1", Generation: 2, Ended: true, Seen: start.Add(4 * time.Second)},
		},
	}
	return s, h
}

func TestHealthy(t *testing.T) {
	s, h := healthy()
	if all := final(s, h); len(all) > 0 {
		t.Errorf("%+v", all)
	}
	if _, took := resumptions(h); !slices.Equal(took, []time.Duration{3 * time.Second}) {
		t.Errorf("resumptions: %v", took)
	}
}

// Each violation that the suite is there to find is found, for what it is.
func TestViolationsAreFound(t *testing.T) {
	for name, plant := range map[string]struct {
		rule string
		harm func(s *state, h *history)
	}{
		"operation runs on":       {ruleStuck, func(s *state, _ *history) { s.Operations[1].State = "running" }},
		"operation took too long": {ruleStuck, func(s *state, h *history) { h.Bound = time.Millisecond }},
		"cluster in progress": {ruleStuck, func(s *state, _ *history) {
			s.Clusters[0].Status, s.Shown["c1"] = "UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"
		}},
		"group in progress": {ruleStuck, func(s *state, _ *history) { s.Groups[0].Status = "CREATE_IN_PROGRESS" }},
		"request forgotten": {ruleLost, func(_ *state, h *history) { h.Ledger[0].RequestID = "r9" }},
		"delete forgotten":  {ruleLost, func(s *state, _ *history) { s.Operations = s.Operations[:2] }},
		"resize forgotten": {ruleLost, func(_ *state, h *history) {
			h.Ledger[3].RequestID, h.Ledger[3].From, h.Ledger[3].To = "r9", start.Add(time.Minute), start.Add(time.Minute)
		}},
		"count put back": {ruleUpdate, func(s *state, _ *history) {
			s.Groups[0].Count, s.Nodes, s.Hosts[0].UsedVCPUs, s.Machines = 1, s.Nodes[:1], 1, s.Machines[:1]
		}},
		"node missing":         {ruleUpdate, func(s *state, _ *history) { s.Nodes, s.Hosts[0].UsedVCPUs, s.Machines = s.Nodes[:1], 1, s.Machines[:1] }},
		"node not ready":       {ruleUpdate, func(s *state, _ *history) { s.Nodes[0].State = "running" }},
		"node without machine": {ruleUpdate, func(s *state, _ *history) { s.Machines = s.Machines[1:] }},
		"node is no member":    {ruleUpdate, func(s *state, _ *history) { s.Members = s.Members[1:] }},
		"deleted cluster is there": {ruleUpdate, func(s *state, _ *history) {
			s.Clusters = append(s.Clusters, cluster{"c2", "q", "DELETE_FAILED"})
			s.Shown["c2"] = "DELETE_FAILED"
		}},
		"created cluster is gone": {ruleUpdate, func(s *state, h *history) { *s = state{Operations: s.Operations[:1]}; h.Ledger = h.Ledger[:1] }},
		"node on two hosts":       {ruleDouble, func(s *state, _ *history) { s.Machines = append(s.Machines, machine{"/h/2", "n1", "x"}) }},
		"address twice":           {ruleDouble, func(s *state, _ *history) { s.Nodes[0].Address = s.Nodes[1].Address }},
		"slot twice":              {ruleDouble, func(s *state, _ *history) { s.Nodes[0].Slot = s.Nodes[1].Slot }},
		"quota":                   {ruleQuota, func(_ *state, h *history) { h.Quota = 0 }},
		"seen on the way":         {ruleQuota, func(_ *state, h *history) { h.Watched = []violation{{ruleQuota, "once"}} }},
		"overbooked":              {ruleOverbooking, func(s *state, _ *history) { s.Hosts[0].TotalVCPUs = 1 }},
		"room of nobody":          {ruleOrphan, func(s *state, _ *history) { s.Hosts[0].UsedVCPUs = 3 }},
		"machine of nobody":       {ruleOrphan, func(s *state, _ *history) { s.Machines = append(s.Machines, machine{"/h/2", "n9", "x"}) }},
		"node of no cluster": {ruleOrphan, func(s *state, _ *history) {
			s.Nodes = append(s.Nodes, node{UUID: "n9", Cluster: "c9", Group: "g9", Address: "x"})
		}},
		"group of no cluster":            {ruleOrphan, func(s *state, _ *history) { s.Groups = append(s.Groups, group{UUID: "g9", Cluster: "c9"}) }},
		"member of nobody":               {ruleOrphan, func(s *state, _ *history) { s.Members = append(s.Members, member{"c9", "n1"}) }},
		"certificate of a gone cluster":  {ruleOrphan, func(s *state, _ *history) { s.Certificates = append(s.Certificates, certificate{"c9", ""}) }},
		"certificate of a gone node":     {ruleOrphan, func(s *state, _ *history) { s.Certificates = append(s.Certificates, certificate{"c1", "n9"}) }},
		"machine of Ironic's for nobody": {ruleOrphan, func(s *state, _ *history) { s.Ironic[1].Instance = "h9" }},
		"500":                            {ruleAnswer, func(_ *state, h *history) { h.Ledger[5].Status = 500 }},
		"503 without Retry-After":        {ruleAnswer, func(_ *state, h *history) { h.Ledger[5].RetryAfter = "" }},
		"503 for no reason":              {ruleAnswer, func(_ *state, h *history) { h.Ledger[4].What = ledger.Broker }},
		"late resumption":                {ruleResumption, func(_ *state, h *history) { h.Claims[1].Seen = start.Add(5 * time.Second) }},
		"shown otherwise":                {ruleShown, func(s *state, _ *history) { s.Shown["c1"] = "CREATE_COMPLETE" }},
		"not shown":                      {ruleShown, func(s *state, _ *history) { clear(s.Shown) }},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := healthy()
			plant.harm(s, h)
			all := final(s, h)
			if !slices.ContainsFunc(all, func(v violation) bool { return v.Rule == plant.rule }) {
				t.Errorf("not found: %+v", all)
			}
		})
	}
}
