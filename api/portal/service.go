// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/keelson/keelson/api/v1"
)

// service is the API, asked in this process as any client would ask it.
type service struct{ handler http.Handler }

// Refusal is an error answer of the API.
type Refusal struct {
	Status    int
	Detail    string // a sentence for people
	RequestID string
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("the API answered %d (%s): %s", e.Status, e.RequestID, e.Detail)
}

// passedOn is what the API is told of the browser's request, for its audit.
var passedOn = []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "Traceparent"}

// ask sends a request in the name of the session and decodes the answer into
// the last argument, unless that is nil. The error is a *Refusal when the API
// said no.
func (s service) ask(r *http.Request, who *session, method, path string, body, into any) error {
	answer, err := s.send(r, who, method, path, body)
	if err != nil {
		return err
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.body.Bytes(), into); err != nil {
		return fmt.Errorf("read the answer of the API to %s: %w", path, err)
	}
	return nil
}

func (s service) send(r *http.Request, who *session, method, path string, body any) (*recorded, error) {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	inner, err := http.NewRequestWithContext(ctx, method, path, &content)
	if err != nil {
		return nil, err
	}
	inner.Host, inner.RemoteAddr, inner.TLS = r.Host, r.RemoteAddr, r.TLS
	for _, name := range passedOn {
		if values := r.Header.Values(name); len(values) > 0 {
			inner.Header[name] = values
		}
	}
	inner.Header.Set("X-Auth-Token", who.Token)
	inner.Header.Set("OpenStack-API-Version", "container-infra latest")
	inner.Header.Set("Accept", "*/*")
	inner.Header.Set("User-Agent", "keelson-portal")
	if body != nil {
		inner.Header.Set("Content-Type", "application/json")
	}
	answer := &recorded{header: http.Header{}}
	s.handler.ServeHTTP(answer, inner)
	if answer.status < http.StatusBadRequest {
		return answer, nil
	}
	refusal := &Refusal{
		Status: answer.status, Detail: http.StatusText(answer.status) + ".",
		RequestID: answer.header.Get("X-Openstack-Request-Id"),
	}
	var said v1.Errors
	if json.Unmarshal(answer.body.Bytes(), &said) == nil && len(said.Errors) > 0 && said.Errors[0].Detail != "" {
		refusal.Detail = said.Errors[0].Detail
	}
	return nil, refusal
}

// recorded is an answer of the API.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorded) Header() http.Header { return a.header }

func (a *recorded) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorded) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// clusterPath is the API's address of a cluster, or of what lies under it.
func clusterPath(ident, below string) string {
	return "/v1/clusters/" + url.PathEscape(ident) + below
}
