// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/keelson/keelson/internal/keystone"
)

// response is what a handler answers when all went well.
type response struct {
	status   int
	body     any                                              // nil: no body
	location string                                           // of what was made
	stream   func(ctx context.Context, w http.ResponseWriter) // instead of a body: writes until there is no more
}

// file is a body that is no JSON.
type file struct {
	kind    string // media type
	name    string
	content []byte
}

func ok(body any) response       { return response{status: http.StatusOK, body: body} }
func accepted(body any) response { return response{status: http.StatusAccepted, body: body} }
func noContent() response        { return response{status: http.StatusNoContent} }

// longestRequest bounds the work on one request: what takes longer is stored
// and left to conductors. Clients wait a minute, so that they see the 503 of a
// database that does not answer.
const longestRequest = 30 * time.Second

// dispatch finds the route of the request, whose path it first brings into the
// form of the table: with /v1 in front and no slash at the end.
func (a *API) dispatch(w http.ResponseWriter, r *http.Request) {
	path, ok := normalPath(r.URL.EscapedPath())
	decoded, err := url.PathUnescape(path)
	if !ok || err != nil || !utf8.ValidString(decoded) {
		a.notRouted(w, r)
		return
	}
	r2 := r.WithContext(r.Context())
	r2.URL = &url.URL{Path: decoded, RawPath: path, RawQuery: r.URL.RawQuery}
	r2.Body = http.MaxBytesReader(w, r.Body, a.config.MaxBody)
	a.routes.ServeHTTP(w, r2)
}

// normalPath brings an escaped path into the form of the route table. Empty
// and dotted segments are found nowhere: they would make ServeMux redirect,
// and clients do not follow that on a POST.
func normalPath(path string) (string, bool) {
	if path == "/" {
		return path, true
	}
	if path != "/v1" && !strings.HasPrefix(path, "/v1/") {
		path = "/v1" + path
	}
	trimmed := strings.TrimSuffix(path, "/")
	if trimmed != path && strings.HasSuffix(trimmed, "/detail") && strings.Count(trimmed, "/") == 3 {
		return "", false // Magnum's one exception: /v1/clusters/detail/ is not there
	}
	for segment := range strings.SplitSeq(trimmed[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", false
		}
	}
	return trimmed, true
}

// notRouted answers for paths that are not in the table.
func (a *API) notRouted(w http.ResponseWriter, r *http.Request) {
	a.fail(w, r, &Error{Status: http.StatusNotFound, Detail: "The path is not known.", routing: true})
}

// endpoint is one path with its methods.
type endpoint struct {
	api     *API
	path    string // pattern, as in the table
	methods map[string]*route
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := infoOf(r.Context())
	info.route = e.path
	route, known := e.methods[r.Method]
	if !known {
		e.api.fail(w, r, &Error{
			Status: http.StatusMethodNotAllowed, Detail: "The path has no such method.",
			Allow: e.allowed(r.URL.Path), routing: true,
		})
		return
	}
	info.action = route.rule
	answer, err := e.api.run(w, r, route)
	if err != nil {
		e.api.fail(w, r, err)
		return
	}
	if answer.stream != nil {
		answer.stream(r.Context(), w)
		return
	}
	if answer.location != "" {
		w.Header().Set("Location", answer.location)
		info.target = path.Base(answer.location)
	}
	e.api.write(w, r, answer.status, answer.body)
}

// allowed lists the methods for a 405; of actions it is silent, as Magnum is.
func (e *endpoint) allowed(path string) []string {
	if strings.Contains(path, "/actions") {
		return []string{}
	}
	return slices.Sorted(maps.Keys(e.methods))
}

// run takes the request through what all routes have in common and then to
// its handler.
func (a *API) run(w http.ResponseWriter, r *http.Request, route *route) (response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), longestRequest)
	defer cancel()
	r = r.WithContext(ctx)
	c := &call{Request: r, route: route, base: a.baseURL(r)}
	if route.since != unversioned {
		version, err := parseVersion(r.Header)
		if outOfRange, ok := errors.AsType[*versionRangeError](err); ok {
			setVersionHeaders(w.Header(), outOfRange.requested)
		}
		if err != nil {
			return response{}, err
		}
		if version < route.since {
			return response{}, notAcceptable("The method does not exist in version %s.", version)
		}
		c.version = version
	}
	if !acceptsJSON(r.Header) && !accepts(r.Header.Values("Accept"), route.otherKind()) {
		return response{}, notAcceptable("The answer can only be application/json.")
	}
	if route.since != unversioned {
		setVersionHeaders(w.Header(), c.version.String())
	}
	var err error
	if c.args, err = readArguments(r.URL.RawQuery, route.args); err != nil {
		return response{}, err
	}
	if route.rule == "" { // discovery
		return route.handler(c)
	}
	if err := c.identify(); err != nil {
		return response{}, err
	}
	if err := a.throttled(c); err != nil {
		return response{}, err
	}
	c.policy = a.Policy
	c.admin = a.Policy.IsAdmin(c.caller.Caller)
	if c.admin && route.across != "" {
		if err := c.demand(route.across, c.self()); err != nil {
			return response{}, err
		}
	}
	return route.handler(c)
}

// acceptsJSON tells whether the client takes JSON for an answer.
func acceptsJSON(h http.Header) bool {
	values := h.Values("Accept")
	return len(values) == 0 || accepts(values, "application/json", "application/*", "*/*")
}

// namesJSON tells whether the client says that it takes JSON, other than by
// taking anything. Some error texts are given only then.
func namesJSON(h http.Header) bool { return accepts(h.Values("Accept"), "application/json") }

func accepts(values []string, kinds ...string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			kind, _, err := mime.ParseMediaType(part)
			if err == nil && slices.Contains(kinds, kind) {
				return true
			}
		}
	}
	return false
}

// fail answers with an error. What the caller is not told goes into the log
// with the request's id.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if outOfRange, ok := errors.AsType[*versionRangeError](err); ok {
		a.write(w, r, http.StatusNotAcceptable, outOfRange.wire(namesJSON(r.Header)))
		return
	}
	if errors.Is(err, keystone.ErrInvalidToken) {
		keystone.Refuse(w, r)
		return
	}
	e := answer(err)
	if e.Status >= http.StatusInternalServerError {
		a.Logger.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.Any("error", err))
	}
	if e.Allow != nil {
		w.Header().Set("Allow", strings.Join(e.Allow, ", "))
	}
	switch {
	case e.RetryAfter > 0:
		w.Header().Set("Retry-After", wholeSeconds(e.RetryAfter))
	case e.Status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	a.write(w, r, e.Status, e.wire(namesJSON(r.Header)))
}

// retryAfter is when clients may come back after a 503, in seconds.
const retryAfter = "10"

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// largestKept is the capacity in bytes up to which an answer's buffer is used
// again; one huge list shall not be held for ever.
const largestKept = 1 << 20

// write sends the answer.
func (a *API) write(w http.ResponseWriter, r *http.Request, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer func() {
		if buffer.Cap() <= largestKept {
			buffers.Put(buffer)
		}
	}()
	if f, ok := body.(file); ok {
		w.Header().Set("Content-Type", f.kind)
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if _, err := w.Write(f.content); err != nil {
			a.Logger.LogAttrs(r.Context(), slog.LevelDebug, "the client went away", slog.Any("error", err))
		}
		return
	}
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic(err) // wire types always can be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(buffer.Bytes()); err != nil {
		a.Logger.LogAttrs(r.Context(), slog.LevelDebug, "the client went away", slog.Any("error", err))
	}
}
