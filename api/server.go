// SPDX-License-Identifier: Apache-2.0

// Package api is the REST interface: OpenStack's Container Infrastructure API
// as Magnum speaks it, so that Magnum's clients work unmodified.
//
// A request passes, from the outside in: request id and log, the token
// (Keystone), the route table (routes.go), the microversion, and then its
// handler. A handler reads its arguments and body strictly, finds the
// resource, asks the policy, acts through the store in one transaction, and
// returns an answer or an error; it never writes to the connection itself.
// One table (errors.go) turns errors into statuses.
//
// The package starts nothing: a change that needs work on machines is stored
// together with its operation, and conductors do the work.
package api

import (
	"cmp"
	"net/http"
	"time"

	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/logging"
)

// API answers the requests. It keeps no state of its own, but for who listens
// to events and how many requests projects make.
type API struct {
	Deps
	feed   *feed
	config Config

	reads, changes *throttle

	routes *http.ServeMux
	live   http.Handler
}

// New returns the handler of all requests.
func New(config Config, deps Deps) http.Handler {
	config.MaxLimit = cmp.Or(config.MaxLimit, 1000)
	config.MaxBody = cmp.Or(config.MaxBody, 112<<10)
	config.ServiceDownTime = cmp.Or(config.ServiceDownTime, 180*time.Second)
	deps.Logger = logging.Contextual(deps.Logger)
	if deps.Observer == nil {
		deps.Observer = nobody{}
	}
	if deps.Readiness == nil {
		deps.Readiness = health.NewReadiness(deps.Logger)
	}
	config.MaxStreams = cmp.Or(config.MaxStreams, 16)
	config.EventPoll = cmp.Or(config.EventPoll, 500*time.Millisecond)
	a := &API{Deps: deps, config: config, live: health.Live(config.DisabledByFile)}
	a.reads, a.changes = newThrottle(config.Reads), newThrottle(config.Changes)
	a.feed = newFeed(deps.Store, config.EventPoll, config.MaxStreams)
	a.routes = a.mux()
	return a.identify(a.cors(a.public(a.Authenticate(http.HandlerFunc(a.dispatch)))))
}

// public answers what needs no token, and hands on the rest.
func (a *API) public(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case health.LivePath:
			infoOf(r.Context()).route = health.LivePath
			a.live.ServeHTTP(w, r)
		case health.ReadyPath:
			infoOf(r.Context()).route = health.ReadyPath
			a.Readiness.ServeHTTP(w, r)
		case openAPIPath, openAPIJSONPath:
			infoOf(r.Context()).route = r.URL.Path
			a.describe(w, r)
		case "/", "/v1", "/v1/":
			a.dispatch(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
