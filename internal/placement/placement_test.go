// SPDX-License-Identifier: Apache-2.0

package placement

import (
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
func in(state model.HostState) func(*Candidate) { return func(c *Candidate) { c.State = state } }

func TestChoose(t *testing.T) {
	node := Request{Room{2, 4096, 20}}
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
			"as a fraction",
			[]Candidate{
				h("big", func(c *Candidate) { c.Total.MemoryMiB, c.Used.MemoryMiB = 1<<20, 1<<19 }), h("small", used(0, 4096, 0)),
			},
			[]string{"id-small", "id-big"},
		},
		{"then fewest failures", []Candidate{h("a", failures(2)), h("b", failures(1))}, []string{"id-b", "id-a"}},
		{"then by name", []Candidate{h("b"), h("a"), h("c")}, []string{"id-a", "id-b", "id-c"}},
	} {
		if diff := cmp.Diff(c.want, Choose(c.hosts, node)); diff != "" {
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
	one, two := "h1", "h2"
	got := Candidates(
		[]model.Host{
			{UUID: one, Name: "a", State: model.HostReady, TotalVCPUs: 1, TotalMemoryMiB: 2, TotalDiskGiB: 3, UsedVCPUs: 4, UsedMemoryMiB: 5, UsedDiskGiB: 6, Failures: 7},
			{UUID: two, Name: "b"},
		},
		[]model.Node{{HostID: &one}, {HostID: nil}, {HostID: &one}},
	)
	want := []Candidate{
		{UUID: one, Name: "a", State: model.HostReady, Total: Room{1, 2, 3}, Used: Room{4, 5, 6}, Siblings: 2, Failures: 7},
		{UUID: two, Name: "b"},
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
		r := Request{Room{small.Draw(t, "rv"), small.Draw(t, "rm"), small.Draw(t, "rd")}}
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
