// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parsePythonDict reads the text form of a Python dict with text keys, such as
// {'a': '1', 'b': 2}: that is how Python clients send labels in a JSON patch.
// Values become text as labels do; None and nested values are refused.
func parsePythonDict(text string) (map[string]string, error) {
	p := &pythonParser{rest: text}
	dict, err := p.dict()
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, errors.New("something follows the closing brace")
	}
	return dict, nil
}

type pythonParser struct{ rest string }

func (p *pythonParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n\f") }

// next takes the word if it comes next, after white space.
func (p *pythonParser) next(word string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, word)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *pythonParser) dict() (map[string]string, error) {
	if !p.next("{") {
		return nil, errors.New("it does not begin with a brace")
	}
	dict := map[string]string{}
	for !p.next("}") {
		key, err := p.text()
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		if !p.next(":") {
			return nil, fmt.Errorf("no colon after key %q", key)
		}
		value, err := p.scalar()
		if err != nil {
			return nil, fmt.Errorf("value of %q: %w", key, err)
		}
		dict[key] = value
		if !p.next(",") {
			if p.next("}") {
				break
			}
			return nil, fmt.Errorf("no comma or brace after the value of %q", key)
		}
	}
	return dict, nil
}

func (p *pythonParser) scalar() (string, error) {
	for _, word := range []string{"True", "False"} {
		if p.next(word) {
			return word, nil
		}
	}
	p.space()
	end := strings.IndexFunc(p.rest, func(r rune) bool { return !strings.ContainsRune("+-.0123456789eE", r) })
	if end < 0 {
		end = len(p.rest)
	}
	if end == 0 {
		return p.text()
	}
	literal := strings.TrimPrefix(p.rest[:end], "+")
	p.rest = p.rest[end:]
	if _, err := strconv.ParseFloat(literal, 64); err != nil {
		return "", fmt.Errorf("%q is not a number", literal)
	}
	number, _ := pythonNumber(literal)
	return number, nil
}

// escapes of one letter.
var pythonEscapes = map[byte]byte{
	'\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
}

// text reads a string in single or double quotes.
func (p *pythonParser) text() (string, error) {
	p.space()
	p.rest = strings.TrimPrefix(p.rest, "u") // Python 2 wrote u'…'
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", errors.New("not a string in quotes")
	}
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); {
		switch char := p.rest[i]; {
		case char == quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case char == '\n':
			return "", errors.New("a line ends within a string")
		case char == '\\':
			n, err := unescape(&b, p.rest[i+1:])
			if err != nil {
				return "", err
			}
			i += 1 + n
		default:
			b.WriteByte(char)
			i++
		}
	}
	return "", errors.New("a string has no end")
}

// unescape writes what the escape after a backslash stands for and returns
// the escape's length.
func unescape(b *strings.Builder, s string) (int, error) {
	if s == "" {
		return 0, errors.New("a string has no end")
	}
	if char, ok := pythonEscapes[s[0]]; ok {
		b.WriteByte(char)
		return 1, nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]
	if digits == 0 {
		b.WriteByte('\\') // Python keeps escapes that it does not know
		return 0, nil
	}
	if len(s) < 1+digits {
		return 0, fmt.Errorf(`\%c needs %d digits`, s[0], digits)
	}
	code, err := strconv.ParseUint(s[1:1+digits], 16, 32)
	if err != nil || code > utf8.MaxRune {
		return 0, fmt.Errorf(`\%s is not a character`, s[:1+digits])
	}
	b.WriteRune(rune(code))
	return 1 + digits, nil
}
