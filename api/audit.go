// SPDX-License-Identifier: Apache-2.0

package api

import (
	"log/slog"
	"net"
	"net/http"

	"github.com/keelson/keelson/internal/logging"
)

// auditLog is the name under which the log tells who did what.
const auditLog = "keelson.audit"

// longestForwarded is how much of X-Forwarded-For is kept, in bytes.
const longestForwarded = 256

// audit writes who did what, or wanted to do and may not: one line for each
// change that was accepted, and for each refusal to somebody with a valid
// token. Bodies are not part of it, and neither are tokens.
func (a *API) audit(r *http.Request, status int) {
	info := infoOf(r.Context())
	if info.user == "" || info.action == "" {
		return
	}
	outcome := "accepted"
	switch {
	case status == http.StatusForbidden:
		outcome = "denied"
	case r.Method == http.MethodGet || r.Method == http.MethodHead || status >= http.StatusBadRequest:
		return
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	attrs := []slog.Attr{
		slog.String(logging.Name, auditLog),
		slog.String("outcome", outcome),
		slog.String("action", info.action),
		slog.String("target", info.target),
		slog.String("user_id", info.user),
		slog.String("user_domain_id", info.domain),
		slog.String("project_id", info.project),
		slog.String("address", address),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", status),
	}
	// What proxies say is only as true as they are.
	if via := r.Header.Get("X-Forwarded-For"); a.config.ProxyHeaders && via != "" {
		attrs = append(attrs, slog.String("forwarded_for", via[:min(len(via), longestForwarded)]))
	}
	if info.operation != "" {
		attrs = append(attrs, slog.String(logging.Operation, info.operation))
	}
	a.Logger.LogAttrs(r.Context(), slog.LevelInfo, "audit", attrs...)
}
