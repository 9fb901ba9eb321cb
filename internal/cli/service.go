// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// apiVersion is the microversion that the command was written for.
const apiVersion = "container-infra 1.11"

// service is the Container Infrastructure API as the user who is logged in.
type service struct {
	*session
	login  *login
	client *http.Client
	agent  string
}

// api logs in if that was not done yet.
func (a *app) api(ctx context.Context) (*service, error) {
	if a.service != nil {
		return a.service, nil
	}
	l, err := a.login()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = l.tls
	s := &service{login: l, client: &http.Client{Transport: transport, CheckRedirect: stay}, agent: "keelson/" + a.version}
	if s.session = l.keptSession(); s.session == nil {
		if err := s.logIn(ctx); err != nil {
			return nil, err
		}
	}
	a.service = s
	return s, nil
}

// stay follows no redirect: the token is for nobody else.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (s *service) logIn(ctx context.Context) error {
	session, err := s.login.logIn(ctx, s.client)
	if err != nil {
		return err
	}
	s.session = session
	s.login.keep(session)
	return nil
}

// call makes one call, with body as JSON unless that is nil, and decodes the
// answer into out unless that is nil. It returns the request's id.
func (s *service) call(ctx context.Context, method, path string, body, out any) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := s.send(ctx, method, path, body, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	id := answer.Header.Get("X-Openstack-Request-Id")
	if out == nil {
		return id, nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return id, fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return id, nil
}

// send makes one call. The caller closes the answer's body. An answer of 300
// and above is an error; a kept token that is not good any more is replaced.
func (s *service) send(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("writing the request to %s: %w", path, err)
		}
	}
	for again := true; ; again = false {
		where := s.Endpoint + path
		request, err := http.NewRequestWithContext(ctx, method, where, bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("calling %s: %w", path, err)
		}
		request.Header.Set("Accept", "application/json")
		request.Header.Set("OpenStack-API-Version", apiVersion)
		request.Header.Set("User-Agent", s.agent)
		request.Header.Set("X-Auth-Token", s.Token)
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		for k, v := range header {
			request.Header[k] = v
		}
		answer, err := s.client.Do(request)
		if err != nil {
			return nil, unreachable("the Container Infrastructure API", s.Endpoint, err)
		}
		if answer.StatusCode < http.StatusMultipleChoices {
			return answer, nil
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusUnauthorized && again {
			s.login.forget()
			if err := s.logIn(ctx); err != nil {
				return nil, err
			}
			continue
		}
		return nil, refusal(answer, text)
	}
}

// answerError is the status of an answer of 400 and above, beneath a failure.
type answerError struct{ status int }

func (e *answerError) Error() string { return fmt.Sprintf("status %d", e.status) }

// answered tells whether err is an answer with that status.
func answered(err error, status int) bool {
	e, ok := errors.AsType[*answerError](err)
	return ok && e.status == status
}

// refusal is an answer of 400 and above, in its own words.
func refusal(answer *http.Response, text []byte) error {
	f := &failure{code: codeFailed, cause: &answerError{answer.StatusCode}}
	var body v1.Errors
	if json.Unmarshal(text, &body) == nil && len(body.Errors) > 0 {
		f.message = first(body.Errors[0].Detail, body.Errors[0].Title)
	}
	if f.message == "" {
		f.message = fmt.Sprintf("the API answered with status %s", answer.Status)
	}
	id := answer.Header.Get("X-Openstack-Request-Id")
	switch answer.StatusCode {
	case http.StatusUnauthorized:
		f.code, f.hint = codeRefused, "the API does not know the token: the cloud's operator has to look at this"
	case http.StatusForbidden:
		f.code = codeRefused
	case http.StatusNotFound:
		f.code = codeNotFound
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		f.code, f.hint = codeUnreachable, "try again in a while"
		if after := answer.Header.Get("Retry-After"); after != "" {
			f.hint = fmt.Sprintf("try again in %s seconds", after)
		}
	}
	if answer.StatusCode >= http.StatusInternalServerError && id != "" {
		f.message += " (request " + id + ")"
	}
	return f
}

// list gets all pages of a list; path may have a query. items takes one page
// and returns its next one.
func (s *service) list(ctx context.Context, path string, page func(json.RawMessage) (next string, err error)) error {
	for path != "" {
		var body json.RawMessage
		if _, err := s.call(ctx, http.MethodGet, path, nil, &body); err != nil {
			return err
		}
		next, err := page(body)
		if err != nil {
			return fmt.Errorf("reading the answer to GET %s: %w", path, err)
		}
		if path, err = s.pathOf(next); err != nil {
			return err
		}
	}
	return nil
}

// pathOf is the path below the endpoint that the link leads to.
func (s *service) pathOf(link string) (string, error) {
	if link == "" {
		return "", nil
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", fmt.Errorf("the link to the next page: %w", err)
	}
	_, path, found := strings.Cut(u.Path, "/v1/")
	if !found {
		return "", fmt.Errorf("the link to the next page, %s, does not lead into the API", link)
	}
	return "/" + path + "?" + u.RawQuery, nil
}

// clusters are all clusters that the user sees, in short.
func (s *service) clusters(ctx context.Context) ([]v1.ClusterSummary, error) {
	var all []v1.ClusterSummary
	err := s.list(ctx, "/clusters", func(text json.RawMessage) (string, error) {
		var page v1.ClusterSummaries
		err := json.Unmarshal(text, &page)
		all = append(all, page.Clusters...)
		return page.Next, err
	})
	return all, err
}

// cluster finds a cluster by name or uuid.
func (s *service) cluster(ctx context.Context, ident string) (*v1.Cluster, error) {
	var c v1.Cluster
	if _, err := s.call(ctx, http.MethodGet, clusterPath(ident), nil, &c); err != nil {
		return nil, s.whichCluster(ctx, ident, err)
	}
	return &c, nil
}

// clusterPath is the path of a cluster, and of what is below it.
func clusterPath(ident string, below ...string) string {
	path := "/clusters/" + url.PathEscape(ident)
	for _, b := range below {
		path += "/" + b
	}
	return path
}

// act calls something below a cluster that is named by name or uuid.
func (s *service) act(ctx context.Context, method, ident, below string, body, out any) (string, error) {
	id, err := s.call(ctx, method, clusterPath(ident, below), body, out)
	if answered(err, http.StatusNotFound) && !strings.Contains(err.Error(), "could not be found") {
		// Either there is no such cluster, or the service knows no such path.
		if _, missing := s.call(ctx, http.MethodGet, clusterPath(ident), nil, nil); missing == nil {
			what, _, _ := strings.Cut(below, "?")
			f := &failure{code: codeFailed, cause: err, message: fmt.Sprintf("the service at %s does not serve %s of clusters", s.Endpoint, what)}
			return id, f.next("it is another than Keelson, or an older one")
		}
	}
	return id, s.whichCluster(ctx, ident, err)
}

// whichCluster adds what helps when a cluster was not found, or several were.
func (s *service) whichCluster(ctx context.Context, ident string, err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return err
	}
	switch {
	case answered(err, http.StatusNotFound) && f.hint == "":
		f.hint = "keelson list shows the clusters there are"
	case answered(err, http.StatusConflict):
		all, listErr := s.clusters(ctx)
		if listErr != nil {
			return err
		}
		var same []string
		for _, c := range all {
			if c.Name == ident {
				same = append(same, fmt.Sprintf("  %s  %s", c.UUID, c.Status))
			}
		}
		if len(same) > 1 {
			return &failure{
				code: codeUsage, cause: err,
				message: fmt.Sprintf("%d clusters have the name %s:\n%s", len(same), ident, strings.Join(same, "\n")),
				hint:    "use the uuid of the one you mean",
			}
		}
	}
	return f
}
