// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
)

const sampleHead = `# Policy of Keelson, in oslo.policy's language. Copy it to policy.yaml and keep
# only the rules that you change: all others follow the defaults below, also
# when a later release changes them.
#
# Names and defaults are Magnum's. By default the rules of Magnum 18 and later
# stand alone ([oslo_policy] enforce_new_defaults = true): "reader" may look,
# "member" may change, "admin" may do both in all projects. A cloud that comes
# from Magnum 16 or older, or has no reader and member roles, sets it to false;
# then the deprecated default given with each rule lets callers pass as well.
# A rule that this file sets is taken as it is, with nothing added.
#
# Role names match in any case. Checks by a remote server (http:) and the old
# list syntax are refused when the file is loaded, and so are unknown rules
# and rules that lead to themselves. A changed file is loaded within seconds;
# a bad one is reported in the log and the rules stay as they were.
`

// WriteSample writes policy.yaml.sample: every rule with its default, commented
// out.
func WriteSample(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, sampleHead)
	for _, rule := range Rules() {
		fmt.Fprintf(out, "\n# %s\n", rule.Description)
		if rule.ProjectOnly {
			fmt.Fprint(out, "# Scope: project\n")
		}
		if rule.Deprecated != "" && rule.Deprecated != rule.Check {
			fmt.Fprintf(out, "# Deprecated default: %q\n", rule.Deprecated)
		}
		fmt.Fprintf(out, "#%q: %q\n", rule.Name, rule.Check)
	}
	return out.Flush()
}

// WriteShow writes the rules in force as a policy file, those set by the file
// marked.
func (e *Enforcer) WriteShow(w io.Writer) error {
	rules := e.rules.Load()
	out := bufio.NewWriter(w)
	show := func(name string) {
		mark := ""
		if rules.overridden[name] {
			mark = "  # set by the policy file"
		}
		fmt.Fprintf(out, "%q: %q%s\n", name, rules.checks[name], mark)
	}
	defaults := map[string]bool{}
	for _, rule := range Rules() {
		defaults[rule.Name] = true
		show(rule.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(rules.checks)) {
		if !defaults[name] {
			show(name)
		}
	}
	return out.Flush()
}
