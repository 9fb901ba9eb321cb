// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/internal/model"
)

// h is a ready host with 8 VCPUs, 16 GiB memory and 100 GiB disk.
func h(name string, change ...func(*Candidate)) Candidate {
	c := Candidate{UUID: "id-" + name, Name: name, State: model.HostReady, Total: Room{8, 16384, 100}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func used(v, m, d int) func(*Candidate)         { return func(c *Candidate) { c.Used = Room{v, m, d} } }
func siblings(n int) func(*Candidate)           { return func(c *Candidate) { c.Siblings = n } }
func failures(n int) func(*Candidate)           { return func(c *Candidate) { c.Failures = n } }
func class(name string) func(*Candidate)        { return func(c *Candidate) { c.ResourceClass = name } }
func traits(t ...string) func(*Candidate)       { return func(c *Candidate) { c.Traits = t } }
func in(state model.HostState) func(*Candidate) { return func(c *Candidate) { c.State = state } }

func TestChoose(t *testing.T) {
	room := Room{2, 4096, 20}
	for _, c := range []struct {
		name  string
		hosts []Candidate
		want  []string
	}{
		{"no hosts", nil, []string{}},
		{
			"only ready ones",
			[]Candidate{
				h("a", in(model.HostEnrolled)), h("b", in(model.HostDeploying)), h("c", in(model.HostPreparing)), h("d"),
				h("e", in(model.HostDraining)), h("f", in(model.HostReleasing)), h("g", in(model.HostError)),
			},
			[]string{"id-d"},
		},
		{
			"only with room for all three",
			[]Candidate{
				h("a", used(7, 0, 0)), h("b", used(0, 12289, 0)), h("c", used(0, 0, 81)), h("d", used(6, 12288, 80)),
			},
			[]string{"id-d"},
		},
		{"fewest of the same cluster first", []Candidate{h("a", siblings(2)), h("b", siblings(1), used(4, 8192, 40)), h("c", siblings(3))}, []string{"id-b", "id-a", "id-c"}},
		{"then most memory free", []Candidate{h("a", used(2, 8192, 20)), h("b", used(4, 4096, 40)), h("c")}, []string{"id-c", "id-b", "id-a"}},
		{
			"in MiB, not as a fraction",
			[]Candidate{
				h("small", used(0, 4096, 0)), h("big", func(c *Candidate) { c.Total.MemoryMiB, c.Used.MemoryMiB = 1<<20, 1<<19 }),
			},
			[]string{"id-big", "id-small"},
		},
		{"then fewest failures", []Candidate{h("a", failures(2)), h("b", failures(1))}, []string{"id-b", "id-a"}},
		{
			"where nothing starts last of all",
			[]Candidate{h("a", failures(3)), h("b", failures(2), siblings(5), used(6, 12288, 80)), h("c", failures(4))},
			[]string{"id-b", "id-a", "id-c"},
		},
		{"then by name", []Candidate{h("b"), h("a"), h("c")}, []string{"id-a", "id-b", "id-c"}},
	} {
		if diff := cmp.Diff(c.want, Choose(c.hosts, Request{Room: room})); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestKindOfHost(t *testing.T) {
	hosts := []Candidate{h("a"), h("b", class("baremetal")), h("c", class("gpu"), traits("CUSTOM_A", "CUSTOM_B")), h("d", class("gpu"))}
	for _, c := range []struct {
		name string
		ask  Request
		want []string
	}{
		{"of no class", Request{}, []string{"id-a"}},
		{"of a class", Request{ResourceClass: "baremetal"}, []string{"id-b"}},
		{"of the usual class, which those without may stand in for", Request{ResourceClass: "baremetal", OrNoClass: true}, []string{"id-a", "id-b"}},
		{"with a trait", Request{ResourceClass: "gpu", Traits: []string{"CUSTOM_B"}}, []string{"id-c"}},
		{"with both", Request{ResourceClass: "gpu", Traits: []string{"CUSTOM_B", "CUSTOM_A"}}, []string{"id-c"}},
		{"with one that none has", Request{ResourceClass: "gpu", Traits: []string{"CUSTOM_A", "CUSTOM_C"}}, []string{}},
		{"part of a trait's name", Request{ResourceClass: "gpu", Traits: []string{"CUSTOM_"}}, []string{}},
	} {
		if diff := cmp.Diff(c.want, Choose(hosts, c.ask)); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestHostWithoutMemoryTakesANodeWithoutNeeds(t *testing.T) {
	empty := h("a", func(c *Candidate) { c.Total = Room{} })
	if got := Choose([]Candidate{empty, h("b")}, Request{}); !slices.Equal(got, []string{"id-b", "id-a"}) {
		t.Errorf("got %v", got)
	}
}

func TestCandidates(t *testing.T) {
	got := Candidates(
		[]model.Host{
			{
				UUID: "h1", Name: "a", State: model.HostReady, TotalVCPUs: 1, TotalMemoryMiB: 2, TotalDiskGiB: 3,
				UsedVCPUs: 4, UsedMemoryMiB: 5, UsedDiskGiB: 6, Failures: 7, ResourceClass: "gpu", Traits: []string{"CUSTOM_A"},
			},
			{UUID: "h2", Name: "b"},
		},
		map[string]int{"h1": 2, "h3": 1},
	)
	want := []Candidate{
		{UUID: "h1", Name: "a", State: model.HostReady, Total: Room{1, 2, 3}, Used: Room{4, 5, 6}, Siblings: 2, Failures: 7, ResourceClass: "gpu", Traits: []string{"CUSTOM_A"}},
		{UUID: "h2", Name: "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestChooseAlwaysHolds: the order of the question does not matter, and what
// is chosen has room.
func TestChooseAlwaysHolds(t *testing.T) {
	small := rapid.IntRange(0, 4)
	hosts := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Candidate {
		return Candidate{
			UUID:     rapid.StringMatching(`[a-d]{1,6}`).Draw(t, "uuid"),
			Name:     rapid.StringMatching(`[a-c]`).Draw(t, "name"),
			State:    rapid.SampledFrom([]model.HostState{model.HostReady, model.HostError}).Draw(t, "state"),
			Total:    Room{small.Draw(t, "v"), small.Draw(t, "m"), small.Draw(t, "d")},
			Used:     Room{small.Draw(t, "uv"), small.Draw(t, "um"), small.Draw(t, "ud")},
			Siblings: small.Draw(t, "siblings"),
			Failures: small.Draw(t, "failures"),
		}
	}), 0, 12, func(c Candidate) string { return c.UUID })
	rapid.Check(t, func(t *rapid.T) {
		some := hosts.Draw(t, "hosts")
		r := Request{Room: Room{small.Draw(t, "rv"), small.Draw(t, "rm"), small.Draw(t, "rd")}}
		got := Choose(some, r)
		shuffled := rapid.Permutation(some).Draw(t, "shuffled")
		if diff := cmp.Diff(got, Choose(shuffled, r)); diff != "" {
			t.Fatalf("another order of hosts, another choice:\n%s", diff)
		}
		for _, c := range some {
			may := c.State == model.HostReady && fits(r.Room, c.Used, c.Total)
			if may != slices.Contains(got, c.UUID) {
				t.Fatalf("%+v: may take it %v", c, may)
			}
		}
	})
}

// BenchmarkChoose is a decision over 10,000 hosts that all could take the node.
func BenchmarkChoose(b *testing.B) {
	hosts := make([]Candidate, 10_000)
	for i := range hosts {
		hosts[i] = h(fmt.Sprint(i), used(0, i%1000, 0), siblings(i%7), failures(i%5))
	}
	for b.Loop() {
		if chosen := Choose(hosts, Request{Room: Room{2, 4096, 20}}); len(chosen) != len(hosts) {
			b.Fatalf("%d hosts chosen", len(chosen))
		}
	}
}
