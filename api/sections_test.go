// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// section is one of the contract, with its rows.
type section struct {
	title  string
	absent string // why it has no test; empty: it must have one
	rows   []string
}

// readSections reads testdata/contract.txt; by number.
func readSections(t *testing.T) map[string]*section {
	t.Helper()
	file, err := os.Open("testdata/contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sections := map[string]*section{}
	var current *section
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if row, ok := strings.CutPrefix(line, "\t"); ok {
			current.rows = append(current.rows, row)
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		number, rest, _ := strings.Cut(line, " ")
		title, state, ok := cutLast(rest, ": ")
		if !ok || sections[number] != nil {
			t.Fatalf("testdata/contract.txt: %q", line)
		}
		current = &section{title: title}
		if state != "covered" {
			current.absent = state
		}
		sections[number] = current
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sections
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// A test is named after a section: TestClusters_5_3_OrderOfChecksOnCreate.
var testName = regexp.MustCompile(`^Test[A-Za-z]+_(\d+(?:_\d+)?)(?:_|$)`)

// A section of the contract without a test fails here, and so does a row that
// no test of its section names, and a test named after no section.
func TestContract_EveryRowHasItsTest(t *testing.T) {
	sections := readSections(t)
	tested := map[string]map[string]bool{} // words of the tests of a section
	for _, dir := range testedPackages(t) {
		words := wordsOfTests(t, dir)
		for name, all := range words {
			number := strings.ReplaceAll(testName.FindStringSubmatch(name)[1], "_", ".")
			within := func(other string) bool { return other == number || strings.HasPrefix(other, number+".") }
			if !slices.ContainsFunc(slices.Collect(maps.Keys(sections)), within) {
				t.Errorf("%s: %s is named after no section of the contract", dir, name)
			}
			if tested[number] == nil {
				tested[number] = map[string]bool{}
			}
			maps.Copy(tested[number], all)
		}
	}
	rows := 0
	for _, number := range slices.Sorted(maps.Keys(sections)) {
		s := sections[number]
		switch {
		case s.absent != "" && tested[number] != nil:
			t.Errorf("§%s %s has tests: it is covered", number, s.title)
		case s.absent == "" && tested[number] == nil:
			t.Errorf("§%s %s has no test Test…_%s_…", number, s.title, strings.ReplaceAll(number, ".", "_"))
		}
		for _, row := range s.rows {
			rows++
			if s.absent == "" && !tested[number][row] {
				t.Errorf("§%s %s: no test names the row %q", number, s.title, row)
			}
		}
	}
	t.Logf("%d sections, %d rows", len(sections), rows)
}

// testedPackages are the directories of the module with tests in them.
func testedPackages(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != ".." && (name[0] == '.' || name == "build" || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			found[filepath.Dir(path)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// wordsOfTests are the string literals, and what is called of other packages,
// of each test of the directory that is named after a section: in the function
// and in what it uses of the package.
func wordsOfTests(t *testing.T, dir string) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]ast.Node{}
	var tests []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					continue
				}
				declared[d.Name.Name] = d.Body
				if testName.MatchString(d.Name.Name) {
					tests = append(tests, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if value, ok := spec.(*ast.ValueSpec); ok {
						for _, name := range value.Names {
							declared[name.Name] = value
						}
					}
				}
			}
		}
	}
	all := map[string]map[string]bool{}
	for _, name := range tests {
		words, seen := map[string]bool{}, map[string]bool{}
		collect(declared, name, words, seen)
		all[name] = words
	}
	return all
}

func collect(declared map[string]ast.Node, name string, words, seen map[string]bool) {
	node, ok := declared[name]
	if !ok || seen[name] || node == nil {
		return
	}
	seen[name] = true
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				words[text] = true
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				words[x.Name+"."+n.Sel.Name] = true
			}
		case *ast.Ident:
			collect(declared, n.Name, words, seen)
		}
		return true
	})
}
