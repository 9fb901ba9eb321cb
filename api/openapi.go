// SPDX-License-Identifier: Apache-2.0

package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

const (
	openAPIPath     = "/openapi.yaml"
	openAPIJSONPath = "/openapi.json"
)

// openAPI describes the API to programs. It is written by hand; the tests hold
// all that goes over the wire against it.
//
//go:embed openapi.yaml
var openAPI []byte

// openAPIJSON is the same as JSON, made when it is first asked for.
var openAPIJSON = sync.OnceValues(func() ([]byte, error) {
	var document map[string]any
	if err := yaml.Unmarshal(openAPI, &document); err != nil {
		return nil, fmt.Errorf("reading openapi.yaml: %w", err)
	}
	return json.Marshal(document)
})

// describe answers with the description of the API, without a token.
func (a *API) describe(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.fail(w, r, &Error{
			Status: http.StatusMethodNotAllowed, Detail: "The path has no such method.",
			Allow: []string{http.MethodGet, http.MethodHead}, routing: true,
		})
		return
	}
	document, kind := openAPI, "application/yaml"
	if strings.HasSuffix(r.URL.Path, ".json") {
		var err error
		if document, err = openAPIJSON(); err != nil {
			a.fail(w, r, err)
			return
		}
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(document) // a client that went away is no fault
}
