// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// formats are what -f takes.
var formats = []string{"table", "json", "yaml", "value"}

// printing adds the flags of commands that print records.
func (a *app) printing(c *cobra.Command) *cobra.Command {
	flags := c.Flags()
	flags.StringVarP(&a.format, "format", "f", "table", "how to print: table, json, yaml or value")
	flags.StringArrayVarP(&a.columns, "column", "c", nil, "print only this field (may be repeated)")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("column", cobra.NoFileCompletions)
	return c
}

func (a *app) checkFormat() error {
	if a.format == "" {
		a.format = "table"
	}
	if !slices.Contains(formats, a.format) {
		return usage("-f %s: the format is one of %s", a.format, strings.Join(formats, ", "))
	}
	return nil
}

// record is an object in the order of its fields.
type record struct {
	keys   []string
	values map[string]any
}

// recordOf reads what would be sent as JSON.
func recordOf(v any) (record, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return record{}, err
	}
	r := record{values: map[string]any{}}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if _, err := d.Token(); err != nil { // {
		return r, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return r, err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return r, err
		}
		name, _ := key.(string)
		r.keys = append(r.keys, name)
		r.values[name] = value
	}
	return r, nil
}

// only keeps these fields, in this order.
func (r record) only(names []string) (record, error) {
	kept := record{values: map[string]any{}}
	for _, name := range names {
		i := slices.IndexFunc(r.keys, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			known := slices.Sorted(maps.Keys(r.values))
			return kept, usage("-c %s: there is no such field", name).next("fields are %s", strings.Join(known, ", "))
		}
		kept.keys = append(kept.keys, r.keys[i])
		kept.values[r.keys[i]] = r.values[r.keys[i]]
	}
	return kept, nil
}

// MarshalJSON keeps the order of the fields.
func (r record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range r.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(r.values[k])
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// printRecord prints one object. The table has these fields, json and yaml all
// of them, unless -c says which.
func (a *app) printRecord(v any, fields ...string) error {
	r, err := recordOf(v)
	if err != nil {
		return err
	}
	switch {
	case len(a.columns) > 0:
		r, err = r.only(a.columns)
	case a.format == "table" || a.format == "value":
		r, err = r.only(fields)
	}
	if err != nil {
		return err
	}
	switch a.format {
	case "json", "yaml":
		return a.printDocument(r)
	case "value":
		for _, k := range r.keys {
			_, _ = fmt.Fprintln(a.Out, plain(r.values[k], ""))
		}
		return nil
	}
	t := a.table()
	t.AppendHeader(table.Row{"Field", "Value"})
	longest := 5
	for _, k := range r.keys {
		longest = max(longest, len(k))
		t.AppendRow(table.Row{k, a.cell(k, r.values[k])})
	}
	if w := width(a.Out); w > longest+20 {
		t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, WidthMax: w - longest - 7, WidthMaxEnforcer: text.WrapSoft}})
	}
	t.Render()
	return nil
}

// printList prints objects of one kind, with these fields in the table.
func printList[T any](a *app, items []T, fields ...string) error {
	records := make([]record, len(items))
	for i, v := range items {
		r, err := recordOf(v)
		if err != nil {
			return err
		}
		switch {
		case len(a.columns) > 0:
			r, err = r.only(a.columns)
		case a.format == "table" || a.format == "value":
			r, err = r.only(fields)
		}
		if err != nil {
			return err
		}
		records[i] = r
	}
	switch a.format {
	case "json", "yaml":
		return a.printDocument(records)
	case "value":
		for _, r := range records {
			line := make([]string, len(r.keys))
			for i, k := range r.keys {
				line[i] = plain(r.values[k], "-")
			}
			_, _ = fmt.Fprintln(a.Out, strings.Join(line, " "))
		}
		return nil
	}
	if len(records) == 0 {
		return nil
	}
	t := a.table()
	header := table.Row{}
	for _, k := range records[0].keys {
		header = append(header, k)
	}
	t.AppendHeader(header)
	for _, r := range records {
		row := table.Row{}
		for _, k := range r.keys {
			row = append(row, a.cell(k, r.values[k]))
		}
		t.AppendRow(row)
	}
	t.Render()
	return nil
}

func (a *app) table() table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(a.Out)
	t.Style().Format.Header = text.FormatDefault
	return t
}

// printDocument prints JSON or YAML, with the same fields in the same order.
func (a *app) printDocument(v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if a.format == "json" {
		_, err = fmt.Fprintln(a.Out, string(content))
		return err
	}
	var node yaml.Node // JSON is YAML, in another style
	if err := yaml.Unmarshal(content, &node); err != nil {
		return err
	}
	unstyle(&node)
	e := yaml.NewEncoder(a.Out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return err
	}
	return e.Close()
}

// unstyle has YAML choose how each value is written; texts that read like
// something else stay in quotes, for their tag says that they are texts.
func unstyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		unstyle(c)
	}
}

// cell is a value in a table.
func (a *app) cell(field string, v any) string {
	shown := plain(v, "-")
	if strings.HasSuffix(field, "status") || field == "state" {
		return paint(a.Out, colourOf(shown), shown)
	}
	return shown
}

// plain is a value in one line of text.
func plain(v any, none string) string {
	switch v := v.(type) {
	case nil:
		return none
	case string:
		if v == "" {
			return none
		}
		return printable(v)
	case []any:
		if len(v) == 0 {
			return none
		}
		texts := make([]string, len(v))
		for i, e := range v {
			texts[i] = plain(e, none)
		}
		return strings.Join(texts, ", ")
	case map[string]any:
		if len(v) == 0 {
			return none
		}
		var texts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			texts = append(texts, printable(k)+"="+plain(v[k], none))
		}
		return strings.Join(texts, ", ")
	}
	return fmt.Sprint(v)
}

// printable keeps what others wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

type colour string

const (
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	none   colour = ""
)

// colourOf is the colour of a state or status.
func colourOf(state string) colour {
	switch {
	case strings.HasSuffix(state, "_COMPLETE"), state == "HEALTHY", state == "ready", state == "done":
		return green
	case strings.HasSuffix(state, "_FAILED"), state == "UNHEALTHY", state == "stopped", state == "failed", state == "error":
		return red
	case strings.HasSuffix(state, "_IN_PROGRESS"), state == "UNKNOWN", state == "leaving", state == "running":
		return yellow
	}
	return none
}

// paint colours the text if f shows colours.
func paint(f *os.File, c colour, s string) string {
	if c == none || !colours(f) {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}
