// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// patchOperation is one element of a JSON patch: add, replace or remove at a
// path of one name, or of two below labels.
type patchOperation struct {
	op    string
	path  []string
	value any // text, bool or json.Number
}

// patchRules are what a resource does not let a patch do.
type patchRules struct {
	internal  []string // not to be patched at all
	mandatory []string // not to be removed
}

// internalAttributes may not be patched in any resource.
var internalAttributes = []string{"created_at", "id", "links", "updated_at", "uuid", "project_id", "user_id"}

// pythonDicts are replaced by the text form of a Python dict.
var pythonDicts = []string{"labels", "health_status_reason"}

var patchPath = regexp.MustCompile(`^(/[\p{L}\p{N}_-]+)+$`)

// readPatch decodes the body as a JSON patch and holds each operation against
// the rules. Nothing is applied yet.
func (c *call) readPatch(rules patchRules) ([]patchOperation, error) {
	if c.noBody() {
		return nil, badRequest("Missing argument: the request has no body.")
	}
	var body any
	if err := c.readBody(&body); err != nil {
		return nil, err
	}
	elements, ok := body.([]any)
	if !ok {
		return nil, badRequest("The patch must be an array of operations.")
	}
	operations := make([]patchOperation, 0, len(elements))
	for i, element := range elements {
		members, ok := element.(map[string]any)
		if !ok {
			return nil, badRequest("Operation %d of the patch must be an object.", i+1)
		}
		o, err := readOperation(members)
		if err != nil {
			return nil, err
		}
		if err := rules.check(o); err != nil {
			return nil, err
		}
		operations = append(operations, o)
	}
	return operations, nil
}

func readOperation(members map[string]any) (patchOperation, error) {
	o := newObject(members)
	op := o.enum("op", "add", "replace", "remove")
	path := o.matching("path", 1, 1024, patchPath)
	value := o.take("value")
	switch err := o.done(); {
	case err != nil:
		return patchOperation{}, err
	case op == nil || path == nil:
		return patchOperation{}, badRequest("An operation of a patch needs op and path.")
	case *op == "remove":
		return patchOperation{op: *op, path: strings.Split(*path, "/")[1:]}, nil
	}
	switch v := value.(type) {
	case string, bool:
	case json.Number:
		if _, err := v.Int64(); err != nil {
			return patchOperation{}, badRequest("The value for %s must be text, an integer or a boolean.", *path)
		}
	case nil:
		return patchOperation{}, badRequest("The operation %s %s needs a value.", *op, *path)
	default:
		return patchOperation{}, badRequest("The value for %s must be text, an integer or a boolean.", *path)
	}
	return patchOperation{op: *op, path: strings.Split(*path, "/")[1:], value: value}, nil
}

func (r patchRules) check(o patchOperation) error {
	name := o.path[0]
	if slices.Contains(internalAttributes, name) || slices.Contains(r.internal, name) {
		return badRequest("%q is an internal attribute and can not be updated.", "/"+name)
	}
	if o.op == "remove" && len(o.path) == 1 && slices.Contains(r.mandatory, name) {
		return badRequest("%q is a mandatory attribute and can not be removed.", "/"+name)
	}
	return nil
}

// document is a resource as a patch sees it: its JSON members, of which
// objects may be patched one level down.
type document map[string]any

// newDocument makes a document of a wire value, without the named members.
func newDocument(wire any, without ...string) (document, error) {
	text, err := json.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("making a document to patch: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc document
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("making a document to patch: %w", err)
	}
	for _, name := range without {
		delete(doc, name)
	}
	return doc, nil
}

// apply returns a patched copy of the document. The types of the outcome are
// the caller's to check.
func (d document) apply(operations []patchOperation) (document, error) {
	patched := maps.Clone(d)
	for _, o := range operations {
		var err error
		switch len(o.path) {
		case 1:
			err = patched.applyTop(o)
		case 2:
			err = patched.applyBelow(o)
		default:
			err = badRequest("The path /%s does not exist.", strings.Join(o.path, "/"))
		}
		if err != nil {
			return nil, err
		}
	}
	return patched, nil
}

func (d document) applyTop(o patchOperation) error {
	name := o.path[0]
	before, known := d[name]
	switch {
	case o.op == "add" && !known:
		return badRequest("Adding a new attribute (/%s) is not allowed.", name)
	case o.op == "add" && before != nil:
		return badRequest("The attribute /%s has a value: use replace.", name)
	case !known:
		return badRequest("The attribute /%s does not exist.", name)
	case o.op == "remove":
		d[name] = nil
		return nil
	case slices.Contains(pythonDicts, name):
		text, ok := o.value.(string)
		if !ok {
			return badRequest("The value for /%s must be text that holds a Python dict.", name)
		}
		dict, err := parsePythonDict(text)
		if err != nil {
			return badRequest("The value for /%s is not a Python dict: %s.", name, err)
		}
		members := make(map[string]any, len(dict))
		for key, value := range dict {
			members[key] = value
		}
		d[name] = members
		return nil
	}
	if _, flag := before.(bool); flag { // a word for true equals true
		if b, ok := toBoolean(o.value); ok {
			o.value = b
		}
	}
	d[name] = o.value
	return nil
}

func (d document) applyBelow(o patchOperation) error {
	name, key := o.path[0], o.path[1]
	before, ok := d[name].(map[string]any)
	if !ok {
		return badRequest("The path /%s/%s does not exist.", name, key)
	}
	if _, known := before[key]; !known && o.op != "add" {
		return badRequest("The path /%s/%s does not exist.", name, key)
	}
	members := maps.Clone(before)
	if o.op == "remove" {
		delete(members, key)
	} else {
		text, _ := toLabel(o.value)
		members[key] = text
	}
	d[name] = members
	return nil
}

// changed names the members that differ between two documents, in order.
func (d document) changed(after document) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if !reflect.DeepEqual(d[name], after[name]) {
			names = append(names, name)
		}
	}
	return names
}
