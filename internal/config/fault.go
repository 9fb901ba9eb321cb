// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"strings"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Source string // "/etc/keelson/keelson.conf:12", "OS_API__PORT" or "default"
	Group  string // empty when the fault is about the file itself
	Option string // empty when the fault is about the file itself
	Rule   string // what the value must be; never holds a secret
}

// Error returns the fault as one line.
func (f Fault) Error() string { return line(f.Source, f.Group, f.Option, f.Rule) }

// Faults are all things that are wrong with the configuration, so that an
// operator can mend them in one go.
type Faults []Fault

// Error returns one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is something an operator should know that stops nothing: an option
// that nothing reads, or one under an old name.
type Warning struct {
	Source, Group, Option string // as in Fault
	Text                  string
}

// String returns the warning as one line.
func (w Warning) String() string { return line(w.Source, w.Group, w.Option, w.Text) }

func line(source, group, option, text string) string {
	if group == "" && option == "" {
		return source + ": " + text
	}
	return fmt.Sprintf("%s: [%s] %s: %s", cmp.Or(source, "default"), group, option, text)
}
