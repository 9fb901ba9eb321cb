// SPDX-License-Identifier: Apache-2.0

// Package ironictest is an Ironic without hardware: it speaks the bare-metal
// REST API (microversions 1.1 to 1.82) as Ironic 21.4 with fake-hardware does,
// as far as Keelson and the usual clients need it: nodes with their provision
// states, power, maintenance and traits, ports, allocations, drivers. Tests use
// it to show every state and fault; keelsond uses it as the embedded default.
//
//	server := ironictest.New(ironictest.Options{}).
//		Node(nodes.Node{Name: "bm-1", ProvisionState: "available", PowerState: "power off", ResourceClass: "baremetal"})
//	http.Serve(listener, server)
//
// There is no background work: what is due by the clock happens when the next
// request comes, so a test that turns the clock sees each state.
package ironictest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/uuid"
)

// Timing says how long machines take; the zero value means no time at all, as
// with Ironic's fake-hardware: states in between are then hardly ever seen.
type Timing struct {
	Verify, Clean, Deploy, Undeploy, Inspect, Power, Allocate time.Duration
	// CallBack > 0 makes deploys pass through "wait call-back" for that long;
	// CleanWait does the same for cleaning with "clean wait".
	CallBack, CleanWait time.Duration
}

// Options of a server; the zero value is usable.
type Options struct {
	Timing Timing
	// StateFile keeps nodes, ports and allocations over a restart (JSON, mode
	// 0600, replaced in one go). Config drives are not kept: they hold secrets.
	StateFile string
	Now       func() time.Time // nil means time.Now
	Logger    *slog.Logger     // nil means slog.Default
	// MaxLimit is the largest page of a list; 0 means 1000.
	MaxLimit int
	// Record keeps the requests for [Server.Requests]; for tests.
	Record bool
}

// Server is the API as an http.Handler. All its methods may be called from
// several goroutines at once.
type Server struct {
	opt Options
	mux *http.ServeMux

	mu     sync.Mutex
	state  state
	drives map[string]json.RawMessage // config drives by node uuid
	asked  []Request
	faults []*Fault
}

// state is what a restart must not lose.
type state struct {
	Nodes       []*node       `json:"nodes"` // in the order of their making
	Ports       []*port       `json:"ports"`
	Allocations []*allocation `json:"allocations"`
}

// Request is one that the server has had.
type Request struct {
	Method       string
	Path         string // with the query
	Microversion string // as the client sent it; may be empty
	Body         string
}

// String returns "PUT /v1/nodes/…".
func (r Request) String() string { return r.Method + " " + r.Path }

// New returns a server. It panics when there is a state file that cannot be
// read; use [Open] for files that may be damaged.
func New(o Options) *Server {
	s, err := Open(o)
	if err != nil {
		panic(err)
	}
	return s
}

// Open returns a server that goes on with what Options.StateFile holds.
func Open(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxLimit <= 0 {
		o.MaxLimit = 1000
	}
	s := &Server{opt: o, mux: http.NewServeMux(), drives: map[string]json.RawMessage{}}
	for _, r := range s.routes() {
		s.mux.Handle(r.pattern, s.handler(r))
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			writeError(w, &apiError{status: http.StatusNotFound, plain: true})
			return
		}
		writeJSON(w, http.StatusOK, s.versions(r))
	})
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// route is one line of the API.
type route struct {
	pattern string
	since   int // minor version that brought it
	status  int // of success
	handle  func(*call) (any, error)
}

func (s *Server) routes() []route {
	return []route{
		{"GET /v1/{$}", 1, 200, s.root},
		{"GET /v1", 1, 200, s.root},

		{"GET /v1/nodes", 1, 200, s.listNodes},
		{"GET /v1/nodes/detail", 1, 200, s.listNodesInDetail},
		{"POST /v1/nodes", 1, 201, s.createNode},
		{"GET /v1/nodes/{node}", 1, 200, s.getNode},
		{"PATCH /v1/nodes/{node}", 1, 200, s.patchNode},
		{"DELETE /v1/nodes/{node}", 1, 204, s.deleteNode},
		{"GET /v1/nodes/{node}/states", 1, 200, s.showStates},
		{"PUT /v1/nodes/{node}/states/provision", 1, 202, s.provision},
		{"PUT /v1/nodes/{node}/states/power", 1, 202, s.power},
		{"PUT /v1/nodes/{node}/maintenance", 1, 202, s.setMaintenance},
		{"DELETE /v1/nodes/{node}/maintenance", 1, 202, s.unsetMaintenance},
		{"GET /v1/nodes/{node}/traits", 37, 200, s.listTraits},
		{"PUT /v1/nodes/{node}/traits", 37, 204, s.setTraits},
		{"DELETE /v1/nodes/{node}/traits", 37, 204, s.deleteTraits},
		{"PUT /v1/nodes/{node}/traits/{trait}", 37, 204, s.addTrait},
		{"DELETE /v1/nodes/{node}/traits/{trait}", 37, 204, s.deleteTrait},
		{"GET /v1/nodes/{node}/ports", 1, 200, s.listPorts},
		{"GET /v1/nodes/{node}/allocation", 52, 200, s.getNodeAllocation},
		{"DELETE /v1/nodes/{node}/allocation", 52, 204, s.deleteNodeAllocation},

		{"GET /v1/ports", 1, 200, s.listPorts},
		{"GET /v1/ports/detail", 1, 200, s.listPortsInDetail},
		{"POST /v1/ports", 1, 201, s.createPort},
		{"GET /v1/ports/{port}", 1, 200, s.getPort},
		{"DELETE /v1/ports/{port}", 1, 204, s.deletePort},

		{"GET /v1/allocations", 52, 200, s.listAllocations},
		{"POST /v1/allocations", 52, 201, s.createAllocation},
		{"GET /v1/allocations/{allocation}", 52, 200, s.getAllocation},
		{"PATCH /v1/allocations/{allocation}", 57, 200, s.patchAllocation},
		{"DELETE /v1/allocations/{allocation}", 52, 204, s.deleteAllocation},

		{"GET /v1/drivers", 1, 200, s.listDrivers},
		{"GET /v1/drivers/{driver}", 1, 200, s.showDriver},
		{"GET /v1/conductors", 49, 200, s.listConductors},
	}
}

// call is one request on its way through a route.
type call struct {
	*http.Request
	minor    int    // negotiated version 1.<minor>
	url      string // of this server, without a trailing slash
	body     []byte
	location string // path that the answer's Location header will name
}

func (s *Server) handler(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, err := newCall(w, req)
		var answer any
		switch {
		case err != nil:
		case c.minor < r.since:
			err = &apiError{status: http.StatusNotFound, text: "The API version does not allow this", plain: true}
		default:
			s.mu.Lock()
			s.advance()
			answer, err = r.handle(c)
			if req.Method != http.MethodGet && err == nil {
				s.advance() // what takes no time is done at once
				err = s.save()
			}
			s.mu.Unlock()
		}
		if err != nil {
			writeError(w, err)
			return
		}
		if c.location != "" {
			w.Header().Set("Location", c.url+"/v1"+c.location)
		}
		writeJSON(w, r.status, answer)
	})
}

// ServeHTTP records the request, applies injected faults and answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20)) // config drives may be large
	if err != nil {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// Ironic takes paths with and without the version and a trailing slash.
	if p := strings.TrimSuffix(r.URL.Path, "/"); p != "" && p != "/v1" && !strings.HasPrefix(p, "/v1/") {
		r.URL.Path = "/v1" + p
	} else if p != "" {
		r.URL.Path = p
	}
	if s.opt.Record {
		s.mu.Lock()
		s.asked = append(s.asked, Request{r.Method, r.URL.RequestURI(), r.Header.Get(versionHeader), string(body)})
		s.mu.Unlock()
	}
	fault := s.takeFault(r)
	if fault == nil {
		s.mux.ServeHTTP(w, r)
		return
	}
	fault.serve(w, r, s.mux)
}

// Requests returns what was asked so far (with Options.Record).
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Forget empties the record of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}

// Fault is something that goes wrong with requests. The first fault that fits
// a request is applied.
type Fault struct {
	Method string // empty: any
	Path   string // part of the path: "/allocations"; empty: any
	Times  int    // how often; 0: until removed

	Delay   time.Duration // before anything else
	Hang    bool          // no answer until the client gives up
	Status  int           // answer this and do nothing
	Message string        // with Status
	Cut     bool          // do what was asked, then cut the connection instead of answering
}

// Inject makes requests go wrong from now on; remove ends that.
func (s *Server) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	injected := &f
	s.faults = append(s.faults, injected)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *Fault) bool { return other == injected })
	}
}

func (s *Server) takeFault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		taken := *f
		if f.Times == 1 {
			s.faults = slices.Delete(s.faults, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		return &taken
	}
	return nil
}

func (f *Fault) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	wait := func(ctx context.Context, d <-chan time.Time) {
		select {
		case <-d:
		case <-ctx.Done():
		}
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		wait(r.Context(), timer.C)
	}
	switch {
	case f.Hang:
		wait(r.Context(), nil)
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		writeError(w, &apiError{status: f.Status, text: f.Message})
	case f.Cut:
		next.ServeHTTP(&discard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	default:
		next.ServeHTTP(w, r)
	}
}

// discard takes an answer that nobody will get.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

const versionHeader = "X-OpenStack-Ironic-API-Version"

const (
	minMinor = 1
	maxMinor = 82
)

func (s *Server) versions(r *http.Request) map[string]any {
	v1 := version(baseURL(r))
	return map[string]any{
		"name":            "OpenStack Ironic API",
		"description":     "Ironic is an OpenStack project which enables the provision and management of baremetal machines.",
		"default_version": v1,
		"versions":        []any{v1},
	}
}

func version(url string) map[string]any {
	return map[string]any{
		"id": "v1", "status": "CURRENT",
		"links":       []link{{url + "/v1/", "self"}},
		"min_version": "1." + strconv.Itoa(minMinor), "version": "1." + strconv.Itoa(maxMinor),
	}
}

func (s *Server) root(c *call) (any, error) {
	answer := map[string]any{
		"id": "v1", "links": []link{{c.url + "/v1/", "self"}}, "version": version(c.url),
		"media_types": map[string]string{"base": "application/json", "type": "application/vnd.openstack.ironic.v1+json"},
	}
	for _, name := range []string{"nodes", "ports", "drivers", "allocations", "conductors"} {
		answer[name] = []link{{c.url + "/v1/" + name + "/", "self"}, {c.url + "/" + name + "/", "bookmark"}}
	}
	return answer, nil
}

func newCall(w http.ResponseWriter, r *http.Request) (*call, error) {
	asked := r.Header.Get(versionHeader)
	minor := minMinor
	switch strings.ToLower(asked) {
	case "":
	case "latest":
		minor = maxMinor
	default:
		major, rest, ok := strings.Cut(asked, ".")
		n, err := strconv.Atoi(rest)
		if _, majorErr := strconv.Atoi(major); !ok || err != nil || majorErr != nil {
			return nil, &apiError{status: http.StatusNotAcceptable, text: "Invalid value for " + versionHeader + " header", plain: true}
		}
		minor = n
		if major != "1" {
			minor = -1
		}
	}
	w.Header().Set("X-OpenStack-Ironic-API-Minimum-Version", "1."+strconv.Itoa(minMinor))
	w.Header().Set("X-OpenStack-Ironic-API-Maximum-Version", "1."+strconv.Itoa(maxMinor))
	if minor < minMinor || minor > maxMinor {
		return nil, &apiError{status: http.StatusNotAcceptable, plain: true, text: fmt.Sprintf(
			"Version %s was requested but the minor version is not supported by this service. The supported version range is: [1.%d, 1.%d].", asked, minMinor, maxMinor)}
	}
	w.Header().Set(versionHeader, "1."+strconv.Itoa(minor))
	w.Header().Set("OpenStack-Request-Id", "req-"+uuid.NewString())
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return &call{Request: r, minor: minor, url: baseURL(r), body: body}, nil
}

func baseURL(r *http.Request) string { return "http://" + r.Host }

type link struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
}

// links are the two that every resource carries.
func (c *call) links(path string) []link {
	return []link{{c.url + "/v1/" + path, "self"}, {c.url + "/" + path, "bookmark"}}
}

// apiError is an answer that is not a success.
type apiError struct {
	status int
	text   string
	plain  bool // {code, title, description}, as version and routing errors have
}

func (e *apiError) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &apiError{status: status, text: fmt.Sprintf(format, args...)}
}

// writeError packs the error as Ironic does: JSON as text inside JSON.
func writeError(w http.ResponseWriter, err error) {
	e, ok := err.(*apiError)
	if !ok {
		e = &apiError{status: http.StatusInternalServerError, text: err.Error()}
	}
	var inner any
	if e.plain {
		inner = map[string]any{"code": e.status, "title": http.StatusText(e.status), "description": e.text}
	} else {
		code := "Client"
		if e.status >= 500 {
			code = "Server"
		}
		inner = map[string]any{"faultcode": code, "faultstring": e.text, "debuginfo": nil}
	}
	packed, _ := json.Marshal(inner) // strings and numbers only
	writeJSON(w, e.status, map[string]string{"error_message": string(packed)})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	if status == http.StatusNoContent || status == http.StatusAccepted {
		w.WriteHeader(status)
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}

// arguments reads the body's top level, which may hold the named keys only.
func (c *call) arguments(allowed ...string) (map[string]json.RawMessage, error) {
	args := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(c.body)) > 0 {
		if err := json.Unmarshal(c.body, &args); err != nil {
			// Ironic really answers 500 here.
			return nil, refuse(http.StatusInternalServerError, "Expecting value: line 1 column 1 (char 0)")
		}
	}
	for key := range args {
		if !slices.Contains(allowed, key) {
			return nil, refuse(http.StatusBadRequest, "Unexpected arguments: %s", key)
		}
	}
	return args, nil
}

// resource reads the body into v, which may hold the named keys only.
func (c *call) resource(kind string, v any, allowed ...string) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &keys); err != nil {
		return refuse(http.StatusInternalServerError, "Expecting value: line 1 column 1 (char 0)") // so does Ironic
	}
	for key := range keys {
		if !slices.Contains(allowed, key) {
			return refuse(http.StatusBadRequest, "Schema error for %s: Additional properties are not allowed ('%s' was unexpected)", kind, key)
		}
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return refuse(http.StatusBadRequest, "Schema error for %s: %v", kind, err)
	}
	return nil
}

// patch applies the body, a JSON Patch of the named fields, to what was before.
// after must be empty: a removed field is absent from the result.
func (c *call) patch(allowed []string, before, after any) error {
	var operations []struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(c.body, &operations); err != nil {
		return refuse(http.StatusBadRequest, "Schema error for patch: %s is not of type 'array'", c.body)
	}
	for _, op := range operations {
		top, _, _ := strings.Cut(strings.TrimPrefix(op.Path, "/"), "/")
		if !slices.Contains(allowed, top) {
			return refuse(http.StatusBadRequest, "Cannot patch %s. Only the following can be updated: %s", op.Path, strings.Join(allowed, ", "))
		}
		if !c.knows(top) {
			return refuse(http.StatusNotAcceptable, "Request not acceptable.")
		}
	}
	document, err := json.Marshal(before)
	if err != nil {
		return err
	}
	patch, err := jsonpatch.DecodePatch(c.body)
	if err != nil {
		return refuse(http.StatusBadRequest, "Schema error for patch: %v", err)
	}
	patched, err := patch.Apply(document)
	if err != nil {
		return refuse(http.StatusBadRequest, "Couldn't apply patch '%s'. Reason: %v", c.body, err)
	}
	if err := json.Unmarshal(patched, after); err != nil {
		return refuse(http.StatusBadRequest, "Schema error for patch: %v", err)
	}
	return nil
}

// query checks the query's keys.
func (c *call) query(allowed ...string) (map[string]string, error) {
	args := map[string]string{}
	for key, values := range c.URL.Query() {
		if !slices.Contains(allowed, key) {
			return nil, refuse(http.StatusBadRequest, "Unexpected arguments: %s", key)
		}
		args[key] = values[len(values)-1]
	}
	return args, nil
}

// page cuts a list to the page that the query asks for.
func page[T any](s *Server, args map[string]string, all []T, uuidOf func(T) string) (part []T, more bool, err error) {
	limit := s.opt.MaxLimit
	if text, ok := args["limit"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			return nil, false, refuse(http.StatusBadRequest, "Limit must be positive")
		}
		limit = min(limit, n)
	}
	if marker, ok := args["marker"]; ok {
		if uuid.Validate(marker) != nil {
			return nil, false, refuse(http.StatusBadRequest, "Expected UUID for marker: %s", marker)
		}
		at := slices.IndexFunc(all, func(e T) bool { return uuidOf(e) == marker })
		if at < 0 {
			return nil, false, refuse(http.StatusNotFound, "%s could not be found.", marker)
		}
		all = all[at+1:]
	}
	if len(all) == 0 {
		return nil, false, nil
	}
	// Ironic tells of a next page whenever this one is full.
	return all[:min(limit, len(all))], len(all) >= limit, nil
}

// next is the link to the page after one that ends with uuid.
func (c *call) next(path string, args map[string]string, uuid string) string {
	q := c.URL.Query()
	q.Set("marker", uuid)
	if args["limit"] == "" {
		q.Del("limit")
	}
	return c.url + "/v1/" + path + "?" + q.Encode()
}

func fieldList(args map[string]string) []string {
	if args["fields"] == "" {
		return nil
	}
	return strings.Split(args["fields"], ",")
}
