// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	goslo "github.com/databus23/goslo.policy"
)

// compile overlays the defaults and checks the whole: every expression reads,
// every reference leads to a rule, and no rule leads to itself (goslo.policy
// would overflow the stack on the first use of such a rule).
func compile(overlay map[string]string, newDefaultsOnly bool) (rules *ruleSet, warnings []string, err error) {
	rules = &ruleSet{
		checks:      map[string]string{},
		overridden:  map[string]bool{},
		projectOnly: map[string]bool{},
	}
	for _, rule := range Rules() {
		rules.checks[rule.Name] = defaultCheck(rule, newDefaultsOnly)
		rules.projectOnly[rule.Name] = rule.ProjectOnly
	}
	for name, check := range overlay {
		rules.checks[name] = check
		rules.overridden[name] = true
	}

	var faults []error
	names := slices.Sorted(maps.Keys(rules.checks))
	expressions := make(map[string]expression, len(names))
	texts := make(map[string]string, len(names))
	for _, name := range names {
		e, err := parseExpression(rules.checks[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %q: %w", name, err))
			continue
		}
		expressions[name], texts[name] = e, e.text
	}
	for _, name := range names {
		for _, reference := range expressions[name].references {
			if _, ok := rules.checks[reference]; !ok {
				faults = append(faults, fmt.Errorf("rule %q: there is no rule %q", name, reference))
			}
		}
		for _, attribute := range expressions[name].attributes {
			if !slices.Contains(knownAttributes, attribute) {
				warnings = append(warnings, fmt.Sprintf("policy rule %q compares %q, which no token has", name, attribute))
			}
		}
	}
	if cycle := findCycle(names, expressions); cycle != nil {
		faults = append(faults, fmt.Errorf("rule %q leads to itself: %s", cycle[0], strings.Join(cycle, " → ")))
	}
	if len(faults) > 0 {
		return nil, nil, errors.Join(faults...)
	}
	for _, name := range unusedRules(overlay, expressions) {
		warnings = append(warnings, fmt.Sprintf("policy rule %q is used by no operation", name))
	}

	rules.engine, err = goslo.NewEnforcer(texts)
	if err != nil {
		return nil, nil, err
	}
	rules.engine.AddCheck("role", hasRole)
	rules.engine.AddCheck("is_admin", isAdmin)
	return rules, warnings, nil
}

func defaultCheck(rule Rule, newDefaultsOnly bool) string {
	if newDefaultsOnly || rule.Deprecated == "" || rule.Deprecated == rule.Check {
		return rule.Check
	}
	return rule.Check + " or " + rule.Deprecated
}

// hasRole compares role names as oslo.policy does, whatever their case.
func hasRole(c goslo.Context, _, role string) bool {
	for _, r := range c.Roles {
		if strings.EqualFold(r, role) {
			return true
		}
	}
	return false
}

func isAdmin(c goslo.Context, _, match string) bool {
	return pythonBool(goslo.RuleCheck(c, "rule", contextIsAdmin)) == match
}

// findCycle returns the names along a cycle, the first one repeated at the
// end, or nil.
func findCycle(names []string, expressions map[string]expression) []string {
	const (
		unseen = iota
		onPath
		done
	)
	var (
		state = make(map[string]int, len(names))
		path  []string
		visit func(name string) []string
	)
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case onPath:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = onPath
		path = append(path, name)
		for _, reference := range expressions[name].references {
			if cycle := visit(reference); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, name := range names {
		if cycle := visit(name); cycle != nil {
			return cycle
		}
	}
	return nil
}

// unusedRules returns the rules of the file that no operation asks for, not
// even through others: a misspelt name, or one that only the deprecated
// defaults use.
func unusedRules(overlay map[string]string, expressions map[string]expression) []string {
	used := map[string]bool{}
	var mark func(name string)
	mark = func(name string) {
		if used[name] {
			return
		}
		used[name] = true
		for _, reference := range expressions[name].references {
			mark(reference)
		}
	}
	mark(contextIsAdmin)
	mark("default")
	for _, rule := range operationRules {
		mark(rule.Name)
	}
	var unused []string
	for _, name := range slices.Sorted(maps.Keys(overlay)) {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	return unused
}
