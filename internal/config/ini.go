// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// assignment is one "option = value" of a file, or one environment variable.
type assignment struct {
	group, option, value string
	source               string
}

// readINI reads a file's text by the rules of oslo.config's own reader:
//
//   - "=" or ":" separates; one pair of quotes around the value is taken off
//   - an indented line continues the value before it; a blank line ends it
//   - "#" and ";" start a comment only as the first character of a line, so
//     that a password may hold them
//   - groups and options may come again; what a repetition means is up to the
//     option
//
// The general INI libraries differ in each of these and put the line, secrets
// and all, into their errors; here a fault has a line number instead. Reading
// goes on after a fault, to find the others.
func readINI(name, text string) (found []assignment, faults []Fault) {
	if !utf8.ValidString(text) {
		return nil, []Fault{{Source: name, Rule: "is not UTF-8 text"}}
	}
	group := defaultGroup
	var open *assignment // may be continued by the next line
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		source := fmt.Sprintf("%s:%d", name, i+1)
		fault := func(rule string) { faults = append(faults, Fault{Source: source, Rule: rule}) }
		line = strings.TrimRight(line, " \t\r\f\v")

		if line != "" && (line[0] == ' ' || line[0] == '\t') {
			if open == nil {
				fault("is indented but there is no option before it to continue")
				continue
			}
			open.value += "\n" + strings.TrimSpace(line)
			continue
		}
		if open != nil {
			found = append(found, *open)
			open = nil
		}

		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			inner, closed := strings.CutSuffix(line[1:], "]")
			if !closed || inner == "" {
				fault("a group must be written [name]")
				continue
			}
			group = groupName(inner)
		default:
			at := strings.IndexAny(line, "=:")
			if at < 0 {
				fault(`must be "option = value"`)
				continue
			}
			option := strings.TrimSpace(line[:at])
			if option == "" {
				fault("has a value but no option name")
				continue
			}
			open = &assignment{group, option, unquote(strings.TrimSpace(line[at+1:])), source}
		}
	}
	if open != nil {
		found = append(found, *open)
	}
	return found, faults
}

// unquote takes off one pair of quotes around the whole value. As in
// oslo.config a lone quote is a pair of its own, and leaves nothing.
func unquote(value string) string {
	if value == "" || value[0] != '"' && value[0] != '\'' || value[0] != value[len(value)-1] {
		return value
	}
	return value[1:max(1, len(value)-1)]
}

const defaultGroup = "DEFAULT"

// groupName brings a group's name to the form that it is declared in.
func groupName(written string) string {
	if strings.EqualFold(written, defaultGroup) {
		return defaultGroup
	}
	return strings.ToLower(written)
}
