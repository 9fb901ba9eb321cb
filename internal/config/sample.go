// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteSample writes a configuration file that lists every option, commented
// out, with its help and default, in the form of oslo-config-generator.
func WriteSample(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, "# Sample configuration of Keelson. Written by `keelsond config sample`: do not edit.\n")
	for _, g := range new(Config).groups() {
		fmt.Fprintf(out, "\n\n[%s]\n", g.name)
		paragraph(out, g.help)
		for _, o := range g.options {
			fmt.Fprintln(out)
			o.describe(out)
		}
	}
	return out.Flush()
}

// describe writes the option's entry in the sample.
func (o *option) describe(w io.Writer) {
	paragraph(w, fmt.Sprintf("%s (%s)", o.help, o.kind))
	if o.limits != nil {
		fmt.Fprintf(w, "# Minimum value: %s\n# Maximum value: %s\n", number(o.limits.min), number(o.limits.max))
	}
	if o.choices != nil {
		fmt.Fprintf(w, "# Possible values: %s\n", strings.Join(o.choices, ", "))
	}
	for _, old := range o.oldNames {
		fmt.Fprintf(w, "# Deprecated group/name - [%s]/%s\n", old.group, old.name)
	}
	if o.sample != "" {
		fmt.Fprintf(w, "#\n# This option has a sample default set, which means that\n"+
			"# its actual default value may vary from the one documented below.\n%s\n", entry("#"+o.name, o.sample))
		return
	}
	for _, def := range o.defaults {
		fmt.Fprintln(w, entry("#"+o.name, def))
	}
}

// WriteShow writes c as a configuration file. Read again, it gives the same
// configuration, but for secrets, which are masked.
func WriteShow(w io.Writer, c *Config) error {
	out := bufio.NewWriter(w)
	for i, g := range c.groups() {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "[%s]\n", g.name)
		for _, o := range g.options {
			lines := o.text()
			if len(lines) == 0 { // an empty multi option
				lines = []string{""}
			}
			for _, text := range lines {
				fmt.Fprintln(out, entry(o.name, guard(escape(text))))
			}
		}
	}
	return out.Flush()
}

// guard quotes text whose own quotes or outer spaces a reader would take off.
func guard(text string) string {
	if text != strings.TrimSpace(text) || text != unquote(text) {
		return `"` + text + `"`
	}
	return text
}

func entry(name, text string) string { return strings.TrimRight(name+" = "+text, " ") }

// paragraph writes text as a comment of at most 79 columns.
func paragraph(w io.Writer, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 79 {
			fmt.Fprintln(w, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}
