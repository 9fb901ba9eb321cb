// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// referenceCommand prints docs/cli-reference.md.
func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print all commands with their help, as Markdown",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return writeReference(a.Out, c.Root())
		},
	}
}

func writeReference(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	b.WriteString("# Commands of keelson\n\nMade from the command's own help by `make generate`; [cli.md](cli.md) explains how to use them.\n")
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(group.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID != group.ID || c.Hidden || c.Name() == "help" || c.Name() == "completion" {
				continue
			}
			fmt.Fprintf(&b, "\n### keelson %s\n\n%s\n\n```\n%s\n", c.Name(), first(c.Long, c.Short+"."), c.UseLine())
			if flags := c.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
				b.WriteString("\n" + flags.FlagUsages())
			}
			b.WriteString("```\n")
			if c.Example != "" {
				b.WriteString("\n```\n" + dedent(c.Example) + "\n```\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// dedent takes away the two blanks that cobra wants before examples.
func dedent(example string) string {
	return strings.TrimPrefix(strings.ReplaceAll(example, "\n  ", "\n"), "  ")
}
