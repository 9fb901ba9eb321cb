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
)

// API answers the requests. It keeps no state of its own.
type API struct {
	Deps
	config Config
	routes *http.ServeMux
}

// New returns the handler of all requests.
func New(config Config, deps Deps) http.Handler {
	config.MaxLimit = cmp.Or(config.MaxLimit, 1000)
	config.MaxBody = cmp.Or(config.MaxBody, 112<<10)
	config.ServiceDownTime = cmp.Or(config.ServiceDownTime, 180*time.Second)
	a := &API{Deps: deps, config: config}
	a.routes = a.mux()
	return a.identify(a.public(a.Authenticate(http.HandlerFunc(a.dispatch))))
}

// public answers what needs no token, and hands on the rest.
func (a *API) public(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case healthcheckPath:
			a.healthcheck(w, r)
		case openAPIPath, openAPIJSONPath:
			a.describe(w, r)
		case "/", "/v1", "/v1/":
			a.dispatch(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
