// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"regexp"
	"strings"
)

// reference is "$$" or "\$" (a dollar sign), "$name", "$group.name" or the
// same in braces.
var reference = regexp.MustCompile(`\$\$|\\\$|\$([A-Za-z_][A-Za-z0-9_.]*)|\$\{([A-Za-z_][A-Za-z0-9_.]*)\}`)

// substitution replaces references to other options by their values.
type substitution struct {
	values map[*option][]value
	find   func(group, name string) *option
	active map[*option]bool // being replaced just now, to find circles
}

// expand returns text, a value of o, with its references replaced. A name
// without a group is looked for in o's own group, then in [DEFAULT].
func (s *substitution) expand(o *option, text string) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	if s.active[o] {
		return "", errors.New("refers to itself, maybe through other options")
	}
	s.active[o] = true
	defer delete(s.active, o)

	var firstErr error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		if ref == "$$" || ref == `\$` {
			return "$"
		}
		replacement, err := s.lookUp(o, strings.Trim(ref, "${}"))
		if err != nil && firstErr == nil {
			firstErr = err
		}
		return replacement
	})
	return out, firstErr
}

func (s *substitution) lookUp(from *option, name string) (string, error) {
	var target *option
	if group, option, ok := strings.Cut(name, "."); ok {
		target = s.find(groupName(group), option)
	} else if target = s.find(from.group, name); target == nil {
		target = s.find(defaultGroup, name)
	}
	// The messages do not repeat the name: after a forgotten $$ it is a piece
	// of a password.
	switch {
	case target == nil:
		return "", errors.New("refers with $ to an option that does not exist; a plain dollar sign is written $$")
	case target.multi:
		return "", errors.New("refers with $ to an option that has several values")
	case target.secret && !from.secret:
		return "", errors.New("refers with $ to a secret option, and would show it")
	}
	values := s.values[target]
	return s.expand(target, values[len(values)-1].text)
}

// escape writes text so that expand gives it back.
func escape(text string) string { return strings.ReplaceAll(text, "$", "$$") }
