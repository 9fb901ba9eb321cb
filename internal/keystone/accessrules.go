// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"regexp"
	"strings"
)

// AccessRule is one kind of request that an application credential is limited
// to.
type AccessRule struct {
	Service string `json:"service"` // its type, like "container-infra"
	Method  string `json:"method"`
	Path    string `json:"path"` // "*" and "{name}" stand for one segment, "**" for any text
}

// Permits tells whether the token may be used for such a request. The path is
// as the client sent it, escaped. Tokens without rules may be used for all
// requests; a service without a type permits none of the others.
func (t *Token) Permits(serviceType, method, path string) bool {
	if t.AccessRules == nil {
		return true
	}
	for _, rule := range t.AccessRules {
		if serviceType != "" && rule.Service == serviceType && rule.Method == method && rule.matches(path) {
			return true
		}
	}
	return false
}

// wildcards are the parts of a rule's path that do not stand for themselves.
var wildcards = regexp.MustCompile(`\*\*|\*|\{[^}]*\}`)

func (r *AccessRule) matches(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false // what it leads to is not what the rule was written for
		}
	}
	var pattern strings.Builder
	last := 0
	for _, at := range wildcards.FindAllStringIndex(r.Path, -1) {
		pattern.WriteString(regexp.QuoteMeta(r.Path[last:at[0]]))
		if r.Path[at[0]:at[1]] == "**" {
			pattern.WriteString(`.*`)
		} else {
			pattern.WriteString(`[^/]+`)
		}
		last = at[1]
	}
	pattern.WriteString(regexp.QuoteMeta(r.Path[last:]))
	matched, err := regexp.MatchString(`^(?:`+pattern.String()+`)$`, path)
	return err == nil && matched
}
