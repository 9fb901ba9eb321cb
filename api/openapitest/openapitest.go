// SPDX-License-Identifier: Apache-2.0

// Package openapitest holds what goes over the wire in tests against the
// OpenAPI document of the API.
//
// Answers must conform always: the status documented for the operation, no
// header that is not documented, and a body without an attribute too many.
// Requests must conform when they were granted: what is refused may be wrong,
// and mostly is on purpose.
package openapitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
)

// Document is an OpenAPI document that is valid, with its examples. It may be
// used by many at the same time.
type Document struct {
	*openapi3.T
	paths []string // concrete ones before templates
}

// Load reads a document.
func Load(text []byte) (*Document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	if err := doc.Validate(context.Background(), openapi3.EnableMultiError()); err != nil {
		return nil, fmt.Errorf("the OpenAPI document is not valid: %w", err)
	}
	return &Document{T: doc, paths: doc.Paths.InMatchingOrder()}, nil
}

// Exchange is one request with its answer.
type Exchange struct {
	Request *http.Request // of which the body is not looked at
	Sent    []byte        // its body
	Status  int
	Header  http.Header
	Body    []byte
}

// Handler hands requests on to next and complains about what does not conform.
// Complain is called before the client has the end of the answer, by the
// goroutine of the request. What is answered to a client that has gone is not
// looked at.
func (d *Document) Handler(next http.Handler, complain func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			complain(fmt.Errorf("%s %s: reading the request: %w", r.Method, r.URL, err))
			return
		}
		given := r.Clone(r.Context()) // as it came: handlers may change theirs
		r.Body = io.NopCloser(bytes.NewReader(sent))
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		if r.Context().Err() != nil {
			return // the client has gone, and nothing of this reaches it
		}
		got := recorder.Result()
		if err := d.Check(Exchange{Request: given, Sent: sent, Status: got.StatusCode, Header: got.Header, Body: recorder.Body.Bytes()}); err != nil {
			complain(err)
		}
		maps.Copy(w.Header(), got.Header)
		w.WriteHeader(got.StatusCode)
		_, _ = w.Write(recorder.Body.Bytes()) // the test sees what is missing
	})
}

// Check returns what is wrong with an exchange, or nil.
func (d *Document) Check(x Exchange) error {
	path, arguments, item := d.find(x.Request.URL.EscapedPath())
	input := &openapi3filter.RequestValidationInput{
		Request:    request(x),
		PathParams: arguments,
		Route:      &routers.Route{Spec: d.T, Path: path, PathItem: item, Method: x.Request.Method, Operation: d.operation(path, item, x.Request.Method)},
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true, SkipSettingDefaults: true,
			AuthenticationFunc: authenticated, SchemaValidationOptions: schemaOptions,
		},
	}
	wrong := d.checkAnswer(x, input)
	if x.Status < 300 {
		wrong = errors.Join(wrong, checkRequest(x, input))
	}
	if wrong != nil {
		return fmt.Errorf("not as in the OpenAPI document: %s %s %s\nanswered %d %s\n%w", x.Request.Method, x.Request.URL, x.Sent, x.Status, x.Body, wrong)
	}
	return nil
}

// find returns the documented path that is meant, with its arguments; an empty
// one if there is none. Paths without /v1 and with a slash at the end count, see
// the document's introduction.
func (d *Document) find(escaped string) (path string, arguments map[string]string, item *openapi3.PathItem) {
	if item := d.Paths.Value(escaped); item != nil && !strings.Contains(escaped, "{") {
		return escaped, nil, item
	}
	if escaped != "/v1" && !strings.HasPrefix(escaped, "/v1/") {
		escaped = "/v1" + escaped
	}
	if strings.HasSuffix(escaped, "/detail/") && strings.Count(escaped, "/") == 4 {
		return "", nil, &openapi3.PathItem{}
	}
	escaped = strings.TrimSuffix(escaped, "/")
	for _, path := range d.paths {
		if arguments, ok := match(path, escaped); ok {
			return path, arguments, d.Paths.Value(path)
		}
	}
	return "", nil, &openapi3.PathItem{}
}

// match holds an escaped path against a template.
func match(template, escaped string) (arguments map[string]string, ok bool) {
	names, values := strings.Split(template, "/"), strings.Split(escaped, "/")
	if len(names) != len(values) {
		return nil, false
	}
	arguments = map[string]string{}
	for i, name := range names {
		value, err := url.PathUnescape(values[i])
		if err != nil || !utf8.ValidString(value) {
			return nil, false
		}
		switch name, templated := strings.CutPrefix(name, "{"); {
		case !templated && name != value:
			return nil, false
		case templated && (value == "" || values[i] == "." || values[i] == ".."):
			return nil, false
		case templated:
			arguments[strings.TrimSuffix(name, "}")] = value
		}
	}
	return arguments, true
}

// operation returns what is documented for a method; where nothing is, that
// which is documented for paths and methods that are not there.
func (d *Document) operation(path string, item *openapi3.PathItem, method string) *openapi3.Operation {
	if path == "" {
		return d.refusal(404, "UnknownPath")
	}
	if o := item.GetOperation(method); o != nil {
		return o
	}
	return d.refusal(405, "MethodNotAllowed")
}

func (d *Document) refusal(status int, name string) *openapi3.Operation {
	responses := d.Components.Responses
	return &openapi3.Operation{Responses: openapi3.NewResponses(
		openapi3.WithStatus(status, responses[name]),
		openapi3.WithStatus(401, responses["Unauthorized"]),
		openapi3.WithStatus(503, responses["Unavailable"]),
	)}
}

// request is the one of an exchange with its body, in the form that is
// documented: other names for JSON become application/json.
func request(x Exchange) *http.Request {
	r := x.Request.Clone(x.Request.Context())
	r.Body = io.NopCloser(bytes.NewReader(x.Sent))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.Sent)), nil }
	switch r.Header.Get("Content-Type") {
	case "text/javascript", "application/javascript":
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func checkRequest(x Exchange, input *openapi3filter.RequestValidationInput) error {
	err := openapi3filter.ValidateRequest(x.Request.Context(), input)
	known := append(slices.Clone(input.Route.Operation.Parameters), input.Route.PathItem.Parameters...)
	for name := range x.Request.URL.Query() {
		if known.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			err = errors.Join(err, fmt.Errorf("the query argument %q is not documented", name))
		}
	}
	return err
}

// transport are the headers of HTTP itself.
var transport = []string{"Content-Type", "Content-Length", "Date"}

func (d *Document) checkAnswer(x Exchange, input *openapi3filter.RequestValidationInput) error {
	documented := input.Route.Operation.Responses.Status(x.Status)
	if documented == nil {
		return fmt.Errorf("the status %d is not documented", x.Status)
	}
	var err error
	if x.Request.Method != http.MethodHead {
		err = openapi3filter.ValidateResponse(x.Request.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: x.Status, Header: x.Header, Body: io.NopCloser(bytes.NewReader(x.Body)), Options: input.Options,
		})
	}
	for name := range x.Header {
		known := slices.Contains(transport, name)
		for other := range documented.Value.Headers {
			known = known || http.CanonicalHeaderKey(other) == name
		}
		if !known {
			err = errors.Join(err, fmt.Errorf("the header %s is not documented", name))
		}
	}
	if len(documented.Value.Content) == 0 && len(x.Body) > 0 {
		err = errors.Join(err, errors.New("there is a body, but none is documented"))
	}
	return err
}

// authenticated demands the header that the document names.
func authenticated(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	if name := input.SecurityScheme.Name; input.RequestValidationInput.Request.Header.Get(name) == "" {
		return fmt.Errorf("no %s", name)
	}
	return nil
}

// schemaOptions keep the complaints short, and teach the library the format of
// UUIDs.
var schemaOptions = []openapi3.SchemaValidationOption{
	openapi3.DisableSchemaErrorDetails(),
	openapi3.WithStringFormatValidator("uuid", openapi3.NewCallbackValidator(func(text string) error {
		if id, err := uuid.Parse(text); err != nil || id.String() != text {
			return errors.New("not a UUID in its usual form")
		}
		return nil
	})),
}
