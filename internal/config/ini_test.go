// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/testenv"
)

// oslo reads INI texts with oslo.config's own reader and prints for each the
// [group, option, value] it found, or null if it refused the text.
const oslo = `
import json, sys
from oslo_config import iniparser

class Parser(iniparser.BaseParser):
    def __init__(self):
        self.group, self.found = "DEFAULT", []
    def new_section(self, section):
        self.group = section
    def assignment(self, key, value):
        self.found.append([self.group, key, "\n".join(value)])

results = []
for text in json.load(sys.stdin):
    parser = Parser()
    try:
        parser.parse(text.split("\n"))
        results.append(parser.found)
    except iniparser.ParseError:
        results.append(None)
json.dump(results, sys.stdout)
`

// python is the one that Debian's packages belong to; another may come first
// in PATH.
const python = "/usr/bin/python3"

// TestReadsAsOsloDoes compares readINI with oslo.config's reader.
func TestReadsAsOsloDoes(t *testing.T) {
	if err := exec.Command(python, "-c", "import oslo_config").Run(); err != nil {
		testenv.Lacks(t, "python3-oslo.config is not installed: apt-get install python3-oslo.config")
	}
	texts := []string{
		"", "\n", "a=b", "a = b\n c\n\td\n\n", "a = b\n\n c", " a=b", "[x]\na:b=c", "[x]\na=b:c", "[x\na=b", "[]\na=b", "=b", ":b", "a", "a=",
		"a = 'b'", "a = \"b'", "a = \"\"", "a = \"", "a = 'b' 'c'", "a = b # c", "#a=b\n;c=d\n # e", "a=b\n# c\n d", "a=`b\nc=d`", "a=\"\"\"b\nc=d\"\"\"", "a=b\\\nc=d",
		"-=b", "a b = c", "\"a\" = b", "a=\n b", "a=\n  'b'", "[x] \na=b", "[x]]\na=b", "[a b]\nc=d", "a=b\na=c\n[DEFAULT]\na=d", "a=%(b)s", "a\t=\tb\t", "a=b\n[x]\n c",
	}
	// And many put together by chance from the pieces that matter.
	pieces := []string{"a", "b c", "=", ":", " ", "\t", "\n", "\n", "\n ", "[x]", "[", "]", "#", ";", "'", "\"", "`", "\\", "$", "%", ","}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var text strings.Builder
		for range 1 + random.IntN(14) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		texts = append(texts, text.String())
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", oslo)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][][3]string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		found, faults := readINI("x", text)
		if refused := want[i] == nil; refused != (len(faults) > 0) {
			t.Errorf("%q: oslo.config refuses: %t; faults: %v", text, refused, faults)
			continue
		} else if refused {
			continue
		}
		got := [][3]string{}
		for _, a := range found {
			got = append(got, [3]string{a.group, a.option, a.value})
		}
		equal(t, text, got, want[i])
	}
}
