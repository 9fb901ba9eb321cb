// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keelson/keelson/api/openapitest"
	"github.com/keelson/keelson/internal/store/storetest"
)

// document is the API's description. Every request of a world, and its
// answer, is held against it.
func document(t testing.TB) *openapitest.Document {
	t.Helper()
	d, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var loadDocument = sync.OnceValues(func() (*openapitest.Document, error) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return openapitest.Load(text)
})

// complaints are what went over the wire and is not in the document.
type complaints struct {
	mu  sync.Mutex
	all []error
}

func (c *complaints) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, err)
}

// fail fails the test with the complaints since the last time.
func (c *complaints) fail(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.all {
		t.Error(err)
	}
	c.all = nil
}

func TestOpenAPI_IsServedWithoutAToken(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := yaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, storetest.New(t))

	a := w.ask("", "GET", "/openapi.yaml", nil).want(200)
	if got := a.header.Get("Content-Type"); got != "application/yaml" || a.raw != string(text) {
		t.Errorf("content type %q, and the file is served as it is: %t", got, a.raw == string(text))
	}
	a = w.ask("", "GET", "/openapi.json", nil).want(200)
	var got any
	if err := json.Unmarshal([]byte(a.raw), &got); err != nil || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("content type %q: %v", a.header.Get("Content-Type"), err)
	}
	if diff := cmp.Diff(numbered(t, want), got); diff != "" {
		t.Errorf("JSON and YAML differ:\n%s", diff)
	}
	if a := w.ask("", "POST", "/openapi.yaml", object{}).want(405); a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow is %q", a.header.Get("Allow"))
	}
	w.ask("", "GET", "/openapi.yaml/", nil).want(401)
	w.ask("", "GET", "/v1/openapi.yaml", nil).want(401)
	w.ask("ann", "GET", "/v1/openapi.json", nil).want(404)
}

// numbered is a value as JSON reads it.
func numbered(t *testing.T, v any) (out any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Each documented call is there, and says what is wrong before it looks at
// anything: no token, an argument too many, a version that does not have it.
func TestOpenAPI_EveryCallAnswers(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	variable := regexp.MustCompile(`\{\w+\}`)
	for path, item := range document(t).Paths.Map() {
		for method, operation := range item.Operations() {
			target := variable.ReplaceAllString(path, "x")
			since, versioned := operation.Extensions["x-openstack-min-version"].(string)
			if public := operation.Security != nil; public {
				w.ask("", method, target, nil).want(200)
			} else {
				w.ask("", method, target, nil).want(401)
				w.ask("nobody knows", method, target, nil).want(503)
			}
			if !versioned && path != "/" {
				continue // a file or a word
			}
			w.ask("ann", method, target+"?no_such=1", nil, latest).want(400)
			w.ask("ann", method, target, nil, latest, "Accept: text/html").want(406)
			if versioned && since != "1.1" {
				w.ask("ann", method, target, nil).want(406)
			}
		}
	}
}

// An answer never has an attribute that is not described, so all objects of
// answers are closed, and all attributes that are always there are required.
func TestOpenAPI_AnswersAreClosed(t *testing.T) {
	open := map[string]bool{"/openapi.yaml": true, "/openapi.json": true}
	for path, item := range document(t).Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				for kind, media := range response.Value.Content {
					if !open[path] {
						closed(t, method+" "+path+" "+status+" "+kind, media.Schema)
					}
				}
			}
		}
	}
}

// closed looks for objects that anything may be put into.
func closed(t *testing.T, where string, s *openapi3.SchemaRef) {
	t.Helper()
	schema := s.Value
	values := schema.AdditionalProperties.Schema
	if shut := schema.AdditionalProperties.Has; schema.Type.Is("object") && values == nil && (shut == nil || *shut) {
		if schema.MaxItems == nil {
			t.Errorf("%s: additionalProperties is not false", where)
		}
	}
	if len(schema.Properties) > 0 && len(schema.Required) == 0 {
		t.Errorf("%s: nothing is required", where)
	}
	for name, property := range schema.Properties {
		closed(t, where+"/"+name, property)
	}
	if schema.Items != nil && (schema.MaxItems == nil || *schema.MaxItems > 0) {
		closed(t, where+"/0", schema.Items)
	}
	for _, one := range schema.OneOf {
		closed(t, where, one)
	}
}
