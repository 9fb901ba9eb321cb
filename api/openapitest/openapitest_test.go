// SPDX-License-Identifier: Apache-2.0

package openapitest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/keelson/keelson/api/openapitest"
)

// served is the API's own document.
func served(t *testing.T) *openapitest.Document {
	t.Helper()
	text, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapitest.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

const (
	stats    = `{"clusters": 1, "nodes": 2}`
	created  = `{"uuid": "5d12f6fd-a196-4bf0-ae4c-1f639a523a52"}`
	notFound = `{"errors": [{"request_id": "", "code": "client", "status": 404, "title": "No", "detail": "No.", "links": []}]}`
	routing  = `{"errors": [{"request_id": "", "code": "", "status": 404, "title": "", "detail": "", "links": []}]}`
)

// The check can fail: each exchange but the first ones is wrong in one way.
func TestCheck(t *testing.T) {
	document := served(t)
	for _, test := range []struct {
		name, method, path, sent string
		request                  []string // "Name: value"
		status                   int
		answer                   []string
		body                     string
		want                     string // words of the complaint; empty: none
	}{
		{name: "as documented", path: "/v1/stats?type=cluster", status: 200, body: stats},
		{name: "without /v1 and with a slash", path: "/stats/?type=cluster", status: 200, body: stats},
		{name: "a name with a slash", path: "/v1/clusters/a%2Fb", status: 404, body: notFound},
		{name: "a request as documented", method: "POST", path: "/v1/clusters", sent: `{"cluster_template_id": "t", "node_count": "3"}`, status: 202, body: created},
		{name: "a wrong request that is refused", path: "/v1/clusters/x?y=z", status: 404, body: notFound},
		{name: "an unknown path", path: "/v1/nowhere", status: 404, answer: without, body: routing},

		{name: "an attribute too many", path: "/v1/stats", status: 200, body: `{"clusters": 1, "nodes": 2, "hosts": 3}`, want: `property "hosts" is unsupported`},
		{name: "an attribute too few", path: "/v1/stats", status: 200, body: `{"clusters": 1}`, want: `property "nodes" is missing`},
		{name: "a wrong type", path: "/v1/stats", status: 200, body: `{"clusters": "1", "nodes": 2}`, want: "value must be an integer"},
		{name: "null", path: "/v1/stats", status: 200, body: `{"clusters": null, "nodes": 2}`, want: "not nullable"},
		{name: "out of range", path: "/v1/stats", status: 200, body: `{"clusters": -1, "nodes": 2}`, want: "at least 0"},
		{name: "no UUID", method: "POST", path: "/v1/clusters", sent: `{"cluster_template_id": "t"}`, status: 202, body: `{"uuid": "x"}`, want: "uuid"},
		{name: "no JSON", path: "/v1/stats", status: 200, body: `clusters`, want: "failed to decode"},
		{name: "another content type", path: "/v1/stats", status: 200, answer: []string{"Content-Type: text/html"}, body: stats, want: "Content-Type"},
		{name: "a status that is not documented", path: "/v1/stats", status: 418, body: stats, want: "status 418"},
		{name: "a status of another operation", path: "/v1/stats", status: 202, body: stats, want: "status 202"},
		{name: "a body where there is none", method: "DELETE", path: "/v1/clusters/x", status: 204, body: stats, want: "there is a body"},
		{name: "an error of another kind", path: "/v1/clusters/x", status: 404, body: routing, want: "not one of the allowed values"},
		{name: "no version in the answer", path: "/v1/stats", status: 200, answer: []string{"OpenStack-API-Version: "}, body: stats, want: `"OpenStack-API-Version"`},
		{name: "a wrong version in the answer", path: "/v1/stats", status: 200, answer: []string{"OpenStack-API-Version: container-infra 2.0"}, body: stats, want: `"OpenStack-API-Version"`},
		{name: "a header too many", path: "/v1/stats", status: 200, answer: []string{"X-Host: h"}, body: stats, want: "header X-Host"},
		{name: "versions where there are none", path: "/v1/nowhere", status: 404, body: routing, want: "header Openstack-Api-Version"},
		{name: "an undocumented path that is served", path: "/v1/nowhere", status: 200, answer: without, body: stats, want: "status 200"},
		{name: "an undocumented method that is served", method: "PUT", path: "/v1/stats", status: 200, answer: without, body: stats, want: "status 200"},
		{name: "a slash after detail", path: "/v1/clusters/detail/", status: 200, body: `{"clusters": []}`, want: "status 200"},

		{name: "an attribute too many was taken", method: "POST", path: "/v1/clusters", sent: `{"cluster_template_id": "t", "colour": "red"}`, status: 202, body: created, want: `property "colour" is unsupported`},
		{name: "too few were taken", method: "POST", path: "/v1/clusters", sent: `{}`, status: 202, body: created, want: `property "cluster_template_id" is missing`},
		{name: "a wrong type was taken", method: "POST", path: "/v1/clusters", sent: `{"cluster_template_id": "t", "node_count": "many"}`, status: 202, body: created, want: "node_count"},
		{name: "a body that was not sent was taken", method: "POST", path: "/v1/clusters", status: 202, body: created, want: "value is required"},
		{name: "another content type was taken", method: "POST", path: "/v1/clusters", sent: `{"cluster_template_id": "t"}`, request: []string{"Content-Type: text/plain"}, status: 202, body: created, want: "Content-Type"},
		{name: "an argument too many was taken", path: "/v1/stats?colour=red", status: 200, body: stats, want: `argument "colour"`},
		{name: "a wrong argument was taken", path: "/v1/clusters?limit=0", status: 200, body: `{"clusters": []}`, want: `"limit" in query`},
		{name: "a wrong version was taken", path: "/v1/stats", request: []string{"OpenStack-API-Version: container-infra 1.99"}, status: 200, body: stats, want: "OpenStack-API-Version"},
		{name: "no token was needed", path: "/v1/stats", request: []string{"X-Auth-Token: "}, status: 200, body: stats, want: "no X-Auth-Token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			method := "GET"
			if test.method != "" {
				method = test.method
			}
			r := httptest.NewRequest(method, "http://magnum.example"+test.path, nil)
			set(r.Header, "Content-Type: application/json", "X-Auth-Token: t")
			set(r.Header, test.request...)
			header := http.Header{}
			set(header, "X-Openstack-Request-Id: req-5d12f6fd-a196-4bf0-ae4c-1f639a523a52", "Content-Type: application/json", "Vary: OpenStack-API-Version",
				"OpenStack-API-Version: container-infra 1.1", "OpenStack-API-Minimum-Version: container-infra 1.1", "OpenStack-API-Maximum-Version: container-infra 1.11")
			set(header, test.answer...)
			err := document.Check(openapitest.Exchange{Request: r, Sent: []byte(test.sent), Status: test.status, Header: header, Body: []byte(test.body)})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("complaint %v, want %q", err, test.want)
			}
		})
	}
}

// without are the headers that answers of no controller do not have.
var without = []string{"Vary: ", "OpenStack-API-Version: ", "OpenStack-API-Minimum-Version: ", "OpenStack-API-Maximum-Version: "}

// set sets headers; those without a value are removed.
func set(h http.Header, lines ...string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if h.Set(name, value); value == "" {
			h.Del(name)
		}
	}
}

func TestHandler_HandsOnAndComplains(t *testing.T) {
	var complaints []error
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/changed"
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%d %s", r.ContentLength, body)
	})
	handler := served(t).Handler(echo, func(err error) { complaints = append(complaints, err) })
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("POST", "/v1/clusters", strings.NewReader("{}")))
	if recorder.Code != 202 || recorder.Body.String() != "2 {}" || recorder.Header().Get("Content-Type") != "application/json" {
		t.Errorf("handed on: %d %v %s", recorder.Code, recorder.Header(), recorder.Body)
	}
	if len(complaints) != 1 || !strings.Contains(complaints[0].Error(), "POST /v1/clusters {}\nanswered 202 2 {}\n") {
		t.Errorf("complaints: %v", complaints)
	}

	complaints = nil
	gone, leave := context.WithCancel(t.Context())
	leave()
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, "POST", "/v1/clusters", strings.NewReader("{}")))
	if len(complaints) != 0 {
		t.Errorf("of an answer that nobody waits for: %v", complaints)
	}
}

// A document that is not valid, or has an example that is not, is refused.
func TestLoad(t *testing.T) {
	for text, want := range map[string]string{
		"openapi: [":                                "reading",
		"openapi: 3.0.3\npaths: {}":                 "info",
		minimal("{$ref: '#/components/schemas/X'}"): "reading",
		minimal("{type: number, example: text}"):    "example",
		minimal("{type: numeral}"):                  "numeral",
		minimal("{type: number, colour: red}"):      "colour",
		minimal("{type: number, example: 5}"):       "",
	} {
		_, err := openapitest.Load([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func minimal(schema string) string {
	return "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {}\ncomponents: {schemas: {S: " + schema + "}}"
}
