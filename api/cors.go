// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// What pages of other sites may send and see. Credentials that a browser adds
// by itself are never allowed: requests are made with a token.
var (
	corsMethods = strings.Join([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, ", ")
	corsHeaders = strings.Join([]string{"X-Auth-Token", versionHeader, "Content-Type", "Accept", "Last-Event-ID", requestIDHeader}, ", ")
	corsExposed = strings.Join([]string{
		requestIDHeader, versionHeader, "OpenStack-API-Minimum-Version", "OpenStack-API-Maximum-Version", "Location", "Retry-After",
	}, ", ")
)

// cors tells browsers that pages of the allowed origins may use the API (the
// Fetch standard's CORS protocol). Their preflights need no token; they never
// have one. Without allowed origins it does nothing.
func (a *API) cors(next http.Handler) http.Handler {
	if len(a.config.AllowedOrigins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" || !slices.Contains(a.config.AllowedOrigins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", strconv.Itoa(int(a.config.PreflightAge.Seconds())))
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", corsExposed)
		next.ServeHTTP(w, r)
	})
}
