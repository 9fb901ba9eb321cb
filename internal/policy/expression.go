// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
)

// maxTokens bounds the size of one check string. The longest default has
// about ten tokens.
const maxTokens = 1000

// expression is a check string that was understood, written anew in the form
// that goslo.policy reads the way oslo.policy would.
type expression struct {
	text       string
	references []string // names after "rule:", and context_is_admin for each is_admin check
	attributes []string // credentials that are compared, for a warning about unknown ones
}

// parseExpression reads an oslo.policy check string.
//
// The text handed on to goslo.policy is always one it can parse: its lexer
// leaves a goroutine behind when the parser gives up early, it knows neither
// upper-case operators nor names with a colon ("rule:cluster:get"), and it
// takes "http:" and the list syntax without a word and refuses everybody.
func parseExpression(check string) (expression, error) {
	check = strings.TrimSpace(check)
	if check == "" {
		return expression{text: "@"}, nil
	}
	if strings.HasPrefix(check, "[") {
		return expression{}, errors.New("the list syntax is not supported, write \"role:a or role:b\"")
	}
	var (
		e           expression
		out         []string
		depth       int
		wantOperand = true // a check, "not" or "(" must come next
	)
	tokens, err := tokenize(check)
	if err != nil {
		return expression{}, err
	}
	for _, token := range tokens {
		operator := strings.ToLower(token)
		switch {
		case token == "(" && wantOperand:
			depth++
		case token == ")" && !wantOperand && depth > 0:
			depth--
		case operator == "not" && wantOperand:
			token = operator
		case (operator == "and" || operator == "or") && !wantOperand:
			token, wantOperand = operator, true
		case token == "(" || token == ")" || operator == "not" || operator == "and" || operator == "or":
			return expression{}, fmt.Errorf("%q is out of place", token)
		case !wantOperand:
			return expression{}, fmt.Errorf("\"and\" or \"or\" is missing before %q", token)
		default:
			if token, err = e.check(token); err != nil {
				return expression{}, err
			}
			wantOperand = false
		}
		out = append(out, token)
	}
	if wantOperand {
		return expression{}, errors.New("it ends where a check was expected")
	}
	if depth > 0 {
		return expression{}, errors.New("a closing bracket is missing")
	}
	e.text = strings.Join(out, " ")
	return e, nil
}

// tokenize splits as oslo.policy does: at white space, and brackets at the
// ends of a word. A bracket inside a word belongs to a "%(variable)s".
func tokenize(check string) ([]string, error) {
	var tokens []string
	for _, word := range strings.Fields(check) {
		for strings.HasPrefix(word, "(") {
			tokens, word = append(tokens, "("), word[1:]
		}
		bare := strings.TrimRight(word, ")")
		if bare != "" {
			tokens = append(tokens, bare)
		}
		for range len(word) - len(bare) {
			tokens = append(tokens, ")")
		}
		if len(tokens) > maxTokens {
			return nil, fmt.Errorf("it has more than %d parts", maxTokens)
		}
	}
	return tokens, nil
}

// check translates one "kind:match" and notes what it depends on.
func (e *expression) check(token string) (string, error) {
	if token == "@" || token == "!" {
		return token, nil
	}
	kind, match, ok := strings.Cut(token, ":")
	if !ok || kind == "" || match == "" {
		return "", fmt.Errorf("%q is not a check: write kind:match, for example role:member", token)
	}
	if literal, ok := pythonLiteral(kind); ok {
		return literalCheck(token, literal, match)
	}
	if !isName(kind) || kind == "and" || kind == "or" || kind == "not" {
		return "", fmt.Errorf("%q has no attribute name before the colon", token)
	}
	if kind == "http" || kind == "https" || kind == "remote" {
		return "", fmt.Errorf("%q: checks by a remote server are not supported", token)
	}
	variable, isVariable := cutVariable(match)
	literal := match
	if unquoted, ok := unquote(match); ok {
		literal = unquoted
	}
	if isVariable && !isName(variable) || !isVariable && !isPlain(literal) {
		return "", fmt.Errorf("%q has an unsupported value: use plain text or %%(attribute)s alone", token)
	}
	switch kind {
	case "rule":
		if isVariable {
			return "", fmt.Errorf("%q: a rule can not be named by a variable", token)
		}
		e.references = append(e.references, literal)
	case "is_admin":
		e.references = append(e.references, contextIsAdmin)
	case "role":
	default:
		e.attributes = append(e.attributes, kind)
	}
	if isVariable {
		return kind + ":%(" + variable + ")s", nil
	}
	return kind + ":'" + literal + "'", nil
}

// literalCheck translates "'text':%(attribute)s", which compares an attribute
// of the target with a constant.
func literalCheck(token, literal, match string) (string, error) {
	variable, isVariable := cutVariable(match)
	if !isVariable {
		if unquoted, ok := unquote(match); ok {
			match = unquoted
		}
		if strings.Contains(match, "%") {
			return "", fmt.Errorf("%q has an unsupported value: use plain text or %%(attribute)s alone", token)
		}
		if literal == match {
			return "@", nil
		}
		return "!", nil
	}
	if !isName(variable) || !isPlain(literal) {
		return "", fmt.Errorf("%q has an unsupported value: use plain text or %%(attribute)s alone", token)
	}
	return "'" + literal + "':%(" + variable + ")s", nil
}

// pythonLiteral returns what str() gives for the constants that oslo.policy
// evaluates on the left of a check.
func pythonLiteral(kind string) (string, bool) {
	if text, ok := unquote(kind); ok {
		return text, true
	}
	switch kind {
	case "True", "False", "None":
		return kind, true
	}
	digits := strings.TrimPrefix(kind, "-")
	return kind, digits != "" && strings.Trim(digits, "0123456789") == ""
}

func unquote(s string) (string, bool) {
	if len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1], true
	}
	return "", false
}

func cutVariable(match string) (string, bool) {
	if strings.HasPrefix(match, "%(") && strings.HasSuffix(match, ")s") {
		return match[2 : len(match)-2], true
	}
	return "", false
}

// isName tells whether s may name an attribute: user_id, target.project.id.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' ||
			i > 0 && (c >= '0' && c <= '9' || c == '.' || c == '-')
		if !ok {
			return false
		}
	}
	return s != ""
}

// isPlain tells whether s can stand between quotes as it is.
func isPlain(s string) bool {
	return s != "" && !strings.ContainsAny(s, "'\"\\%()\n\r\t ")
}
