// SPDX-License-Identifier: Apache-2.0

package api

import "slices"

// Lists returns the paths of all lists that there are: what takes the
// arguments of paging, and the services.
func Lists() []string {
	paths := []string{"/v1/mservices"}
	for _, r := range new(API).table() {
		if slices.Contains(r.args, "marker") {
			paths = append(paths, r.path)
		}
	}
	return paths
}

// Rules returns the policy rules that the routes ask for.
func Rules() []string {
	var rules []string
	for _, r := range new(API).table() {
		rules = append(rules, r.rule, r.across)
	}
	slices.Sort(rules)
	return slices.Compact(rules)[1:] // without that of discovery
}

// Routes returns all routes as "METHOD /path".
func Routes() []string {
	var routes []string
	for _, r := range new(API).table() {
		routes = append(routes, r.method+" "+r.path)
	}
	return routes
}
