// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// all lists the pool's addresses by their last part.
func all(p *Pool, skip int) string {
	var parts []string
	for a := range p.All(skip) {
		parts = append(parts, a.String()[strings.LastIndex(a.String(), ".")+1:])
	}
	return strings.Join(parts, " ")
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		cidr, gateway string
		ranges        []string
		skip          int
		want          string
	}{
		{"192.0.2.0/29", "", nil, 0, "1 2 3 4 5 6"},
		{"192.0.2.0/29", "192.0.2.1", nil, 0, "2 3 4 5 6"},
		{"192.0.2.0/29", "192.0.2.3", nil, 0, "1 2 4 5 6"},
		{"192.0.2.0/29", "192.0.2.3", nil, 3, "4 5 6 1 2"},
		{"192.0.2.0/29", "", nil, 4, "5 6 1 2 3 4"},
		{"192.0.2.0/29", "", nil, 6 * 1000, "1 2 3 4 5 6"},
		{"192.0.2.0/29", "", nil, -1, "4 5 6 1 2 3"},
		{"192.0.2.0/24", "192.0.2.1", []string{"192.0.2.10-192.0.2.12"}, 0, "10 11 12"},
		{"192.0.2.0/24", "192.0.2.11", []string{"192.0.2.10-192.0.2.12"}, 1, "12 10"},
		{"192.0.2.0/24", "", []string{" 192.0.2.20 - 192.0.2.21 ", "192.0.2.10"}, 0, "10 20 21"},
		{"192.0.2.0/24", "", []string{"192.0.2.10-192.0.2.12", "192.0.2.12-192.0.2.13", "192.0.2.14"}, 0, "10 11 12 13 14"},
		{"192.0.2.0/29", "", []string{"192.0.2.0-192.0.2.1", "192.0.2.6-192.0.2.7"}, 0, "1 6"},
		{"192.0.2.4/31", "", nil, 0, "4 5"},
		{"192.0.2.4/32", "", nil, 0, "4"},
		{"255.255.255.252/30", "", nil, 0, "253 254"},
	} {
		p, err := Parse("net", c.cidr, c.gateway, c.ranges...)
		if err != nil {
			t.Errorf("%s %v: %v", c.cidr, c.ranges, err)
			continue
		}
		if diff := cmp.Diff(c.want, all(p, c.skip)); diff != "" {
			t.Errorf("%s %s %v from %d:\n%s", c.cidr, c.gateway, c.ranges, c.skip, diff)
		}
		if got := len(strings.Fields(c.want)); p.Size() != got {
			t.Errorf("%s %v: size %d, want %d", c.cidr, c.ranges, p.Size(), got)
		}
	}
}

func TestPool(t *testing.T) {
	p, err := Parse("tenants", "10.0.0.0/8", "10.0.0.1", "10.1.0.0-10.1.255.255")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "tenants" || p.Prefix().String() != "10.0.0.0/8" || p.Gateway().String() != "10.0.0.1" || p.Size() != 65536 {
		t.Errorf("%s %s %s %d", p.Name(), p.Prefix(), p.Gateway(), p.Size())
	}
	whole, err := Parse("all", "0.0.0.0/0", "")
	if err != nil || whole.Size() != 1<<32-2 || whole.Gateway().IsValid() {
		t.Errorf("%v, %v", whole, err)
	}
	for a := range whole.All(1<<32 - 3) { // the last one; stops when told to
		if a.String() != "255.255.255.254" {
			t.Errorf("got %s", a)
		}
		break
	}
}

func TestBadPoolsSayWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		cidr, gateway string
		ranges        []string
		want          string
	}{
		{"", "", nil, "not a network"},
		{"192.0.2.0", "", nil, "not a network"},
		{"192.0.2.0/33", "", nil, "not a network"},
		{"2001:db8::/64", "", nil, "not IPv4"},
		{"192.0.2.5/24", "", nil, "write 192.0.2.0/24"},
		{"192.0.2.0/24", "router", nil, `gateway "router" is not an IP address`},
		{"192.0.2.0/24", "198.51.100.1", nil, "gateway 198.51.100.1 is not in 192.0.2.0/24"},
		{"192.0.2.0/24", "", []string{""}, "not an IP address"},
		{"192.0.2.0/24", "", []string{"192.0.2.9-192.0.2.8"}, "ends before it begins"},
		{"192.0.2.0/24", "", []string{"192.0.2.9-192.0.3.8"}, "192.0.3.8 is not in"},
		{"192.0.2.0/24", "", []string{"192.0.2.1-192.0.2.2-192.0.2.3"}, "not an IP address"},
		{"192.0.2.0/24", "", []string{"192.0.2.255"}, "no address is left"},
		{"192.0.2.0/24", "192.0.2.7", []string{"192.0.2.7"}, "no address is left"},
	} {
		_, err := Parse("net", c.cidr, c.gateway, c.ranges...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "network net: ") {
			t.Errorf("%q %q %q: got %v, want %q", c.cidr, c.gateway, c.ranges, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("192.0.2.0/24", "192.0.2.1", "192.0.2.10-192.0.2.20", 3)
	f.Add("0.0.0.0/0", "", "255.255.255.254-255.255.255.255", -5)
	f.Fuzz(func(t *testing.T, cidr, gateway, ranges string, skip int) {
		p, err := Parse("net", cidr, gateway, ranges)
		if err != nil {
			return
		}
		var seen []netip.Addr
		for a := range p.All(skip) {
			if !p.Prefix().Contains(a) || a == p.Gateway() || !p.ranged(a) || slices.Contains(seen, a) {
				t.Fatalf("%s is given away", a)
			}
			if seen = append(seen, a); len(seen) == 50 {
				break
			}
		}
		if len(seen) != min(50, p.Size()) {
			t.Fatalf("%d addresses of %d", len(seen), p.Size())
		}
	})
}
