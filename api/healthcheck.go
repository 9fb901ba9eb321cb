// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"os"
)

const healthcheckPath = "/healthcheck"

// healthcheck answers load balancers in plain text, without a token: 200 OK,
// or 503 while the operator took this process out of service. It looks at
// nothing else: a database that is away would take every process out at once,
// and with them the answers that say so.
func (a *API) healthcheck(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	status, text := http.StatusOK, "OK"
	if a.config.DisabledByFile != "" {
		if _, err := os.Stat(a.config.DisabledByFile); err == nil {
			status, text = http.StatusServiceUnavailable, "DISABLED BY FILE"
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that went away is no fault
}
