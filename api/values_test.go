// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/model"
)

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		t.Fatal(err)
	}
	return members
}

func TestValues_3_1_Integers(t *testing.T) {
	for text, want := range map[string]int{
		`7`: 7, `"7"`: 7, `" 7 "`: 7, `true`: 1, `false`: 0, `2.9`: 2, `1e3`: 1000, `0.1`: 0, `2147483647`: 2147483647,
	} {
		o := newObject(decode(t, `{"n": `+text+`}`))
		if n := o.integer("n", 0); o.err != nil || *n != want {
			t.Errorf("%s: %v, %v", text, n, o.err)
		}
	}
	for _, text := range []string{`"2.5"`, `"x"`, `""`, `[]`, `{}`, `-1`, `2147483648`, `99999999999999999999`, `1e999`, `"99999999999999999999"`} {
		o := newObject(decode(t, `{"n": `+text+`}`))
		if n := o.integer("n", 0); o.err == nil {
			t.Errorf("%s: taken as %d", text, *n)
		}
	}
	o := newObject(decode(t, `{"n": "7"}`))
	o.patched = true
	if o.integer("n", 0); o.err == nil {
		t.Error("a patch took text for a number")
	}
	o = newObject(decode(t, `{"n": null}`))
	if n := o.integer("n", 0); n != nil || o.done() != nil {
		t.Errorf("null: %v, %v", n, o.err)
	}
}

func TestValues_3_1_Booleans(t *testing.T) {
	for text, want := range map[string]bool{
		`true`: true, `1`: true, `"1"`: true, `"T"`: true, `"true"`: true, `"On"`: true, `"y"`: true, `"YES"`: true,
		`false`: false, `0`: false, `"0"`: false, `"f"`: false, `"False"`: false, `"off"`: false, `"N"`: false, `"no"`: false,
	} {
		o := newObject(decode(t, `{"b": `+text+`}`))
		if b := o.boolean("b"); o.err != nil || *b != want {
			t.Errorf("%s: %v, %v", text, b, o.err)
		}
	}
	for _, text := range []string{`2`, `"maybe"`, `""`, `[]`, `1.0`, `"2"`} {
		o := newObject(decode(t, `{"b": `+text+`}`))
		if o.boolean("b"); o.err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestValues_3_1_LabelsBecomeTextAsInPython(t *testing.T) {
	o := newObject(decode(t, `{"l": {"i": 1, "neg": -5, "f": 1.5, "whole": 2.0, "big": 1e16, "small": 0.00001, "t": true, "n": false, "s": "x", "long": 123456789012345678901}}`))
	want := model.Labels{
		"i": "1", "neg": "-5", "f": "1.5", "whole": "2.0", "big": "1e+16", "small": "1e-05", "t": "True", "n": "False", "s": "x",
		"long": "123456789012345678901",
	}
	if diff := cmp.Diff(want, o.labels("l")); diff != "" || o.done() != nil {
		t.Errorf("%v\n%s", o.err, diff)
	}
}

func TestPatch_13_PythonDicts(t *testing.T) {
	for text, want := range map[string]map[string]string{
		`{}`:                   {},
		` { } `:                {},
		`{'a': '1'}`:           {"a": "1"},
		`{'a': '1', 'b': 2,}`:  {"a": "1", "b": "2"},
		`{"it's": "say 'hi'"}`: {"it's": "say 'hi'"},
		`{'q': '\'\\\n\t\x41\u00e9\U0001F600\q'}`: {"q": "'\\\n\tAé😀\\q"},
		`{u'a': u'b'}`:                    {"a": "b"},
		`{'t': True, 'f': False}`:         {"t": "True", "f": "False"},
		`{'x': 1.50, 'y': -3, 'z': 1e20}`: {"x": "1.5", "y": "-3", "z": "1e+20"},
		"{\n'a'\n:\n'b'\n}":               {"a": "b"},
		`{"a": "json"}`:                   {"a": "json"},
		`{'a': '1', 'a': '2'}`:            {"a": "2"},
	} {
		got, err := parsePythonDict(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for _, text := range []string{
		``, `{`, `}`, `[]`, `'a'`, `{'a'}`, `{'a':}`, `{'a': '1' 'b'}`, `{'a': '1'} x`, `{'a: 1}`, `{'a': None}`, `{'a': null}`, `{'a': true}`,
		`{'a': {}}`, `{'a': ['b']}`, `{1: 'a'}`, `{'a': '\x4'}`, `{'a': '\u12'}`, `{'a': '\UFFFFFFFF'}`, `{'a': '\`, `{'a': 1.2.3}`, `{'a': -}`,
		"{'a': 'b\nc'}", `{'a': Trues}`, `{,}`, `{'a': u}`,
	} {
		if got, err := parsePythonDict(text); err == nil {
			t.Errorf("%s was taken as %v", text, got)
		}
	}
}

func FuzzPythonDict(f *testing.F) {
	for _, seed := range []string{`{'a': '1', 'b': 2}`, `{"it's": True}`, `{'\x41': 1.5e3}`, `{u'a': '\u00e9',}`, `{`, `{'a': None}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dict, err := parsePythonDict(text)
		if err != nil {
			return
		}
		if !utf8.ValidString(text) {
			return // JSON brings valid text only
		}
		for key, value := range dict {
			if !utf8.ValidString(key) || !utf8.ValidString(value) {
				t.Errorf("%q: not text: %q: %q", text, key, value)
			}
		}
	})
}

func FuzzVersionHeader(f *testing.F) {
	for _, seed := range []string{"container-infra 1.4", "compute latest", "container-infra 99999999999.1", "a b c", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		v, err := parseVersion(http.Header{http.CanonicalHeaderKey(versionHeader): {value}})
		if err == nil && (v < minVersion || v > maxVersion) {
			t.Errorf("%q: version %d", value, v)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/", "/v1", "/v1/clusters/detail/", "//", "/clusters/../x", "/v1/%2e%2e/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		normal, ok := normalPath(path)
		if !ok {
			return
		}
		if again, ok := normalPath(normal); !ok || again != normal {
			t.Errorf("%q: %q, then %q", path, normal, again)
		}
	})
}

func TestNames_Generated(t *testing.T) {
	for range 1000 {
		if name := generatedName("cluster"); !clusterName.MatchString(name) {
			t.Fatalf("%q is no name for a cluster", name)
		}
	}
}
