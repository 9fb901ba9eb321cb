// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// maxBody is Keystone's own limit for a request body, in bytes.
const maxBody = 114688

type object = map[string]any

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.versions)
	mux.HandleFunc("GET /v3", s.version)
	mux.HandleFunc("GET /v3/{$}", s.version)
	mux.HandleFunc("POST /v3/auth/tokens", s.createToken)
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request, *token){
		"GET /v3/auth/tokens":    s.validateToken,
		"DELETE /v3/auth/tokens": s.revokeToken,
		"GET /v3/auth/projects":  s.ownProjects,
		"GET /v3/auth/domains":   s.ownDomains,
		"GET /v3/auth/system":    s.ownSystem,
		"GET /v3/auth/catalog":   s.showCatalog,

		"GET /v3/projects":              s.listProjects,
		"GET /v3/projects/{id}":         s.showProject,
		"GET /v3/users":                 s.listUsers,
		"GET /v3/users/{user}":          s.showUser,
		"GET /v3/users/{user}/projects": s.userProjects,
		"GET /v3/domains":               s.listDomains,
		"GET /v3/domains/{id}":          s.showDomain,
		"GET /v3/roles":                 s.listRoles,
		"GET /v3/roles/{id}":            s.showRole,
		"GET /v3/services":              s.listServices,
		"GET /v3/services/{id}":         s.showService,
		"GET /v3/endpoints":             s.listEndpoints,

		"GET /v3/users/{user}/application_credentials":         s.listCredentials,
		"POST /v3/users/{user}/application_credentials":        s.createCredential,
		"GET /v3/users/{user}/application_credentials/{id}":    s.showCredential,
		"DELETE /v3/users/{user}/application_credentials/{id}": s.deleteCredential,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			caller := s.lookUp(strings.TrimSpace(r.Header.Get("X-Auth-Token")), false)
			if caller == nil {
				s.unauthorized(w, r)
				return
			}
			handle(w, r, caller)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "The resource could not be found.")
	})
	return mux
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Openstack-Request-Id", "req-"+uuid.NewString())
	w.Header().Set("Vary", "X-Auth-Token")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// url returns the public URL of the server, ending in /v3.
func (s *Server) url(r *http.Request) string {
	if s.config.URL != "" {
		return s.config.URL
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host + "/v3"
}

func (s *Server) versions(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", s.url(r)+"/")
	respond(w, http.StatusMultipleChoices, object{"versions": object{"values": []object{s.describeVersion(r)}}})
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) {
	respond(w, http.StatusOK, object{"version": s.describeVersion(r)})
}

func (s *Server) describeVersion(r *http.Request) object {
	return object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []object{{"rel": "self", "href": s.url(r) + "/"}},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

// readBody decodes the JSON body, or answers the request and returns false.
func readBody(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		fail(w, http.StatusRequestEntityTooLarge, "Request is too large.")
		return false
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		// The decoder's own words may repeat a piece of a password.
		fail(w, http.StatusBadRequest, "Expecting to find valid JSON in request body.")
		return false
	}
	return true
}

func respond(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, message string) {
	respond(w, status, object{"error": object{"code": status, "message": message, "title": http.StatusText(status)}})
}

func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.url(r)+`"`)
	fail(w, http.StatusUnauthorized, "The request you have made requires authentication.")
}

func forbidden(w http.ResponseWriter, action string) {
	fail(w, http.StatusForbidden, "You are not authorized to perform the requested action: "+action+".")
}

func notFound(w http.ResponseWriter, kind, id string) {
	fail(w, http.StatusNotFound, "Could not find "+kind+": "+clip(id)+".")
}

// clip keeps what a client sent from growing the answer.
func clip(text string) string {
	if len(text) > 64 {
		return strings.ToValidUTF8(text[:64], "") + "…"
	}
	return text
}
