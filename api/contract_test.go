// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/store/storetest"
)

// The contract is what Magnum's API accepts, answers and does. Its sections
// are listed in testdata/contract.txt with their rows; tests are named after
// the section, and the subtests or table rows after the row. See
// sections_test.go, which holds the two against each other.

// rule tells one row of the contract as a subtest of that name.
func (w *world) rule(name string, story func()) {
	w.t.Helper()
	whole := w.t.(*testing.T)
	whole.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = whole }()
		story()
	})
}

// refused sends a request that violates a rule. It fails the test unless the
// status is this one, the answer's detail has all the words ("field … rule"),
// the database is as it was before and nothing was queued.
func (w *world) refused(status int, words, person, method, path string, body any, headers ...string) {
	w.t.Helper()
	before, queued := w.dump(), w.announced.Load()
	a := w.ask(person, method, path, body, append([]string{"Accept: application/json"}, headers...)...)
	if a.status != status {
		w.t.Errorf("%s %v: status %d, want %d\n%s", a.what, body, a.status, status, a.raw)
	} else if status != 401 {
		a.want(status)
		for word := range strings.SplitSeq(words, " … ") {
			a.saying(word)
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		w.t.Errorf("%s %v was refused and changed the database (-before +after):\n%s", a.what, body, diff)
	}
	if now := w.announced.Load(); now != queued {
		w.t.Errorf("%s %v was refused and announced %d operations", a.what, body, now-queued)
	}
}

// dump returns all rows of the database (SQLite), by table.
func (w *world) dump() map[string][]string {
	w.t.Helper()
	tables := w.query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
	all := make(map[string][]string, len(tables))
	for _, table := range tables {
		all[table] = w.query("SELECT * FROM `" + table + "`")
	}
	return all
}

// query returns the rows of a question to the database, as text.
func (w *world) query(question string) []string {
	w.t.Helper()
	if w.direct == nil {
		w.direct = storetest.Direct(w.whole, w.store)
	}
	rows, err := w.direct.QueryContext(w.t.Context(), question)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			w.t.Fatal(err)
		}
		texts := make([]string, len(columns))
		for i, value := range values {
			texts[i] = fmt.Sprint(value)
		}
		all = append(all, strings.Join(texts, " | "))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// put changes the database past the store: to states that it takes a
// conductor, or Magnum, to get into.
func (w *world) put(statement string, args ...any) {
	w.t.Helper()
	if w.direct == nil {
		w.direct = storetest.Direct(w.whole, w.store)
	}
	if _, err := w.direct.ExecContext(w.t.Context(), statement, args...); err != nil {
		w.t.Fatal(err)
	}
}

// field is one row of a table of fields.
type field struct {
	name  string
	unset any      // what is shown when it is not given
	taken [][2]any // what is sent, and what is shown then
	wrong []wrong
}

// wrong is a value that a field does not take, and the rule that says so.
type wrong struct {
	value any
	rule  string
}

// text are the rules of optional text from one to most characters.
func text(most int) []wrong {
	length := fmt.Sprintf("1 to %d characters", most)
	return []wrong{{"", length}, {strings.Repeat("ü", most+1), length}, {7, "text"}, {true, "text"}, {[]string{"x"}, "text"}, {object{}, "text"}}
}

// integer are the rules of whole numbers from least on.
func integer(least int) []wrong {
	return []wrong{
		{least - 1, fmt.Sprintf("%d or more", least)},
		{1 << 31, "or less"},
		{1 << 60, "or less"},
		{"many", "integer"},
		{"", "integer"},
		{"2.5", "integer"},
		{1e300, "integer"},
		{[]int{1}, "integer"},
		{object{}, "integer"},
	}
}

// flag are the rules of booleans.
func flag() []wrong {
	return []wrong{{"maybe", "true or false"}, {2, "true or false"}, {"", "true or false"}, {1.5, "true or false"}, {object{}, "true or false"}}
}

// labelled are the rules of labels.
func labelled() []wrong {
	return []wrong{
		{"a=b", "object"},
		{[]string{"a"}, "object"},
		{object{"a": nil}, `"a" must be text`},
		{object{"a": object{}}, `"a" must be text`},
		{object{"a": []string{}}, `"a" must be text`},
		{object{"a": strings.Repeat("x", 66000)}, "60000 bytes"},
		{object{"a": strings.Repeat("<", 15000)}, "60000 bytes"}, // six bytes each, as JSON
	}
}

// oneOf are the rules of an enum.
func oneOf(first string) []wrong {
	return []wrong{{"other", "not one of " + first}, {strings.ToLower(first) + " ", "not one of"}, {"", "not one of"}, {1, "text"}}
}

func readOnly() []wrong {
	return []wrong{{"x", "cannot be set"}, {nil, "cannot be set"}, {5, "cannot be set"}}
}

// each value that is wrong is refused with a detail that names the field.
func (w *world) refusesFields(path string, good object, fields []field, headers ...string) {
	for _, f := range fields {
		w.rule(f.name, func() {
			for _, v := range f.wrong {
				w.refused(400, f.name+" … "+v.rule, "ann", "POST", path, good.with(f.name, v.value), headers...)
			}
		})
	}
}
