// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"strings"
	"testing"
)

func TestNetworksAreChosenByNameOrLabel(t *testing.T) {
	pool := func(name, cidr string, labels ...string) *Pool {
		p, err := Parse(name, cidr, "")
		if err != nil {
			t.Fatal(err)
		}
		return p.Labelled(labels...)
	}
	networks := Networks{
		pool("usual", "192.0.2.0/24"), pool("gold-1", "198.51.100.0/25", "tier=gold", "zone=a"), pool("gold-2", "198.51.100.128/25", "tier=gold"),
	}
	for wish, want := range map[string]string{
		"": "usual", "usual": "usual", "gold-2": "gold-2", "tier=gold": "gold-1 gold-2", "zone=a": "gold-1",
		"gold": "", "tier": "", "tier=": "", "zone=b": "", "Usual": "",
	} {
		found, err := networks.Matching(wish)
		var names []string
		for _, p := range found {
			names = append(names, p.Name())
		}
		if got := strings.Join(names, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", wish, got, err, want)
		}
	}
	if _, err := (Networks{}).Matching(""); err == nil {
		t.Error("no network at all will do")
	}
}
