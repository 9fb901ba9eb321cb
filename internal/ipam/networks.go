// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"slices"
)

// Networks are the pools that there are, the usual one first. It does not
// change and may be used from several goroutines.
type Networks []*Pool

// Named returns the network of that name.
func (n Networks) Named(name string) (*Pool, bool) {
	i := slices.IndexFunc(n, func(p *Pool) bool { return p.name == name })
	if i < 0 {
		return nil, false
	}
	return n[i], true
}

// Matching returns the networks that a wish may be met with: the one of that
// name, or those with that label (key=value). An empty wish is for the usual
// network. It fails when there is none.
func (n Networks) Matching(wish string) ([]*Pool, error) {
	if wish == "" && len(n) > 0 {
		return n[:1], nil
	}
	if p, ok := n.Named(wish); ok {
		return []*Pool{p}, nil
	}
	var labelled []*Pool
	for _, p := range n {
		if slices.Contains(p.labels, wish) {
			labelled = append(labelled, p)
		}
	}
	if len(labelled) == 0 {
		return nil, fmt.Errorf("there is no network with the name or label %q", wish)
	}
	return labelled, nil
}
