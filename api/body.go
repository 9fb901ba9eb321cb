// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
)

// Widths of columns that no rule of the API bounds.
const (
	maxText = 255
	maxJSON = 60000 // bytes of labels or other text kept as JSON; the column holds 64 KiB
	maxInt  = math.MaxInt32
)

// readBody decodes the body as JSON into v. Numbers stay as they were written.
func (c *call) readBody(v any) error {
	kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	switch {
	case err != nil, kind == "application/x-www-form-urlencoded", kind == "multipart/form-data":
		return badRequest("The request body must be JSON, with the Content-Type application/json.")
	case kind != "application/json" && kind != "text/javascript" && kind != "application/javascript":
		return &Error{Status: http.StatusUnsupportedMediaType, Detail: "The Content-Type must be application/json."}
	}
	d := json.NewDecoder(c.Body)
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return err
		}
		return badRequest("The request body is not valid JSON: %s.", plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("The request body is not valid JSON: something follows its end.")
	}
	return nil
}

// plain is the text of a JSON error without the words that only Go programmers
// understand.
func plain(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	default:
		return strings.TrimPrefix(err.Error(), "json: ")
	}
}

// readObject decodes the body, which must be a JSON object.
func (c *call) readObject() (*object, error) {
	if c.noBody() {
		return nil, badRequest("Missing argument: the request has no body.")
	}
	var body any
	if err := c.readBody(&body); err != nil {
		return nil, err
	}
	members, ok := body.(map[string]any)
	if !ok {
		return nil, badRequest("The request body must be a JSON object.")
	}
	return newObject(members), nil
}

// noBody tells whether nothing was sent. A body of unknown length is looked
// into: the first byte decides.
func (c *call) noBody() bool {
	if c.ContentLength >= 0 {
		return c.ContentLength == 0
	}
	var first [1]byte
	n, err := io.ReadFull(c.Body, first[:])
	if err != nil {
		return n == 0 && errors.Is(err, io.EOF)
	}
	c.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(first[:]), c.Body), c.Body}
	return false
}

// object reads the members of a JSON object one by one, each by its type and
// rule. null counts as absent, and so yields nil. The first violated rule is
// kept and comes out of done, which also refuses members that nobody read: so
// a handler reads all it knows and looks at the error once.
type object struct {
	members map[string]any
	read    map[string]bool
	err     error
	// patched: the object is the outcome of a JSON patch, where integers in
	// strings are not integers.
	patched bool
}

func newObject(members map[string]any) *object {
	return &object{members: members, read: make(map[string]bool, len(members))}
}

// done returns the first violated rule, or names a member that nobody read.
func (o *object) done() error {
	if o.err != nil {
		return o.err
	}
	for _, name := range slices.Sorted(maps.Keys(o.members)) {
		if !o.read[name] {
			return badRequest("Unknown attribute: %q.", name)
		}
	}
	return nil
}

// has tells whether the member is there, be it null.
func (o *object) has(name string) bool {
	_, ok := o.members[name]
	return ok
}

// take returns the member and marks it as read.
func (o *object) take(name string) any {
	o.read[name] = true
	return o.members[name]
}

func (o *object) refuse(name, format string, args ...any) {
	if o.err == nil {
		o.err = badRequest("Invalid input for attribute %q: %s.", name, fmt.Sprintf(format, args...))
	}
}

// readOnly refuses members that only the service may set.
func (o *object) readOnly(names ...string) {
	for _, name := range names {
		if o.has(name) {
			o.refuse(name, "it cannot be set")
		}
	}
}

// ignored lets members pass that have no effect.
func (o *object) ignored(names ...string) {
	for _, name := range names {
		o.read[name] = true
	}
}

// text reads text of shortest to longest characters.
func (o *object) text(name string, shortest, longest int) *string {
	value := o.take(name)
	if value == nil {
		return nil
	}
	s, ok := value.(string)
	if !ok {
		o.refuse(name, "it must be text")
		return nil
	}
	if n := utf8.RuneCountInString(s); n < shortest || n > longest {
		o.refuse(name, "it must have %d to %d characters, not %d", shortest, longest, n)
		return nil
	}
	return &s
}

// required reads text that must be there.
func (o *object) required(name string, shortest, longest int) string {
	s := o.text(name, shortest, longest)
	if s == nil {
		o.refuse(name, "it is required")
		return ""
	}
	return *s
}

// or returns what was read, or the default.
func or[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}

// matching reads text like text does and holds it against a pattern.
func (o *object) matching(name string, shortest, longest int, pattern *regexp.Regexp) *string {
	s := o.text(name, shortest, longest)
	if s != nil && !pattern.MatchString(*s) {
		o.refuse(name, "it must match %s", pattern)
		return nil
	}
	return s
}

// enum reads one of the given words.
func (o *object) enum(name string, words ...string) *string {
	s := o.text(name, 0, maxText)
	if s != nil && !slices.Contains(words, *s) {
		o.refuse(name, "%q is not one of %s", *s, strings.Join(words, ", "))
		return nil
	}
	return s
}

// uuid reads a UUID and returns it in its usual form.
func (o *object) uuid(name string) *string {
	s := o.text(name, 1, maxText)
	if s == nil {
		return nil
	}
	id, err := uuid.Parse(*s)
	if err != nil {
		o.refuse(name, "it must be a UUID")
		return nil
	}
	return new(id.String())
}

// integer reads a whole number from least up. Numbers in strings, true and
// fractions (cut off) count as well, as they always did.
func (o *object) integer(name string, least int) *int {
	value := o.take(name)
	if value == nil {
		return nil
	}
	n, ok := toInteger(value, o.patched)
	switch {
	case !ok:
		o.refuse(name, "it must be an integer")
	case n < least:
		o.refuse(name, "it must be %d or more, not %d", least, n)
	case n > maxInt:
		o.refuse(name, "it must be %d or less", maxInt)
	default:
		return &n
	}
	return nil
}

func toInteger(value any, strict bool) (int, bool) {
	switch v := value.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n), true
		}
		f, err := v.Float64()
		// Beyond ±2^53 a float is no exact integer; such a number is out of every range.
		if err != nil || math.Abs(f) > 1<<53 {
			return 0, false
		}
		return int(f), true
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return int(n), err == nil && !strict
	}
	return 0, false
}

// boolean reads true or false, 0 or 1, or a word for them.
func (o *object) boolean(name string) *bool {
	value := o.take(name)
	if value == nil {
		return nil
	}
	b, ok := toBoolean(value)
	if !ok {
		o.refuse(name, "it must be true or false")
		return nil
	}
	return &b
}

// toBoolean reads JSON's booleans and OpenStack's words for them.
func toBoolean(value any) (b, ok bool) {
	switch v := value.(type) {
	case bool:
		return v, true
	case json.Number:
		return v == "1", v == "0" || v == "1"
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "1", "t", "true", "on", "y", "yes":
			return true, true
		case "0", "f", "false", "off", "n", "no":
			return false, true
		}
	}
	return false, false
}

// labels reads an object of text, numbers and booleans. Values become text
// the way Python writes them: 1, 1.5, True.
func (o *object) labels(name string) model.Labels {
	value := o.take(name)
	if value == nil {
		return nil
	}
	members, ok := value.(map[string]any)
	if !ok {
		o.refuse(name, "it must be an object")
		return nil
	}
	labels := make(model.Labels, len(members))
	for key, value := range members {
		text, ok := toLabel(value)
		if !ok {
			o.refuse(name, "the value of %q must be text, a number or a boolean", key)
			return nil
		}
		labels[key] = text
	}
	o.fits(name, labels)
	return labels
}

// fits refuses what is too long for its column, where it is kept as JSON.
func (o *object) fits(name string, value any) {
	if text, err := json.Marshal(value); err != nil || len(text) > maxJSON {
		o.refuse(name, "all together must be %d bytes or less", maxJSON)
	}
}

func toLabel(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		if v {
			return "True", true
		}
		return "False", true
	case json.Number:
		return pythonNumber(string(v))
	}
	return "", false
}

// pythonNumber writes a number as Python's str does.
func pythonNumber(literal string) (string, bool) {
	if !strings.ContainsAny(literal, ".eE") {
		return literal, true
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return "", false
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64), true
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text, true
}
