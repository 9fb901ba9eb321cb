// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// Answers that end a request here. The first has keystonemiddleware's form,
// the second that of Magnum's errors.
const (
	unauthorizedBody = `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`
	unavailableBody  = `{"errors": [{"request_id": "", "code": "server", "status": 503, ` +
		`"title": "The Keystone service is temporarily unavailable", "detail": "The Keystone service is temporarily unavailable.", "links": []}]}`
	retryAfter = "5" // seconds
)

// MiddlewareOption changes how Middleware works.
type MiddlewareOption func(*authenticator)

// ServiceTokenRoles are the roles that make the holder of an X-Service-Token
// a service, which may send expired user tokens: [keystone_authtoken]
// service_token_roles, "service" by default. If required, a service token
// without such a role makes the request invalid; otherwise it is not a
// service's but harmless.
func ServiceTokenRoles(roles []string, required bool) MiddlewareOption {
	return func(a *authenticator) { a.serviceRoles, a.rolesRequired = roles, required }
}

// ServiceType is what the access rules of application credentials call this
// service: [keystone_authtoken] service_type. Without it, tokens that are
// limited by such rules are refused.
func ServiceType(serviceType string) MiddlewareOption {
	return func(a *authenticator) { a.serviceType = serviceType }
}

// Logger is told when Keystone is not available, and, at debug level, which
// requests were refused.
func Logger(log *slog.Logger) MiddlewareOption {
	return func(a *authenticator) { a.log = log }
}

// Middleware lets requests pass that carry a valid X-Auth-Token, with the
// *Token in their context (FromContext). Others are answered 401, with
// WWW-Authenticate naming uri, the public address of Keystone; or 503 when
// Keystone can not be asked. Requests for which public is true pass as they
// are.
func Middleware(v Validator, uri string, public func(*http.Request) bool, options ...MiddlewareOption) func(http.Handler) http.Handler {
	a := &authenticator{
		validator:    v,
		challenge:    `Keystone uri="` + uri + `"`,
		serviceRoles: []string{"service"},
		log:          slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(a)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if public != nil && public(r) {
				next.ServeHTTP(w, r)
				return
			}
			text := strings.TrimSpace(r.Header.Get("X-Auth-Token"))
			token, err := a.authenticate(r, text)
			if err != nil {
				a.refuse(w, r, err)
				return
			}
			ctx := context.WithValue(r.Context(), contextKey{}, &contextValue{token, text, a})
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

type authenticator struct {
	validator     Validator
	challenge     string
	serviceRoles  []string
	rolesRequired bool
	serviceType   string
	log           *slog.Logger
}

func (a *authenticator) authenticate(r *http.Request, text string) (*Token, error) {
	validate := a.validator.Validate
	fromService := false
	if service := strings.TrimSpace(r.Header.Get("X-Service-Token")); service != "" {
		// An invalid service token makes the whole request invalid.
		token, err := a.validator.Validate(r.Context(), service)
		if err != nil {
			return nil, err
		}
		fromService = slices.ContainsFunc(token.Roles, func(role string) bool { return slices.Contains(a.serviceRoles, role) })
		if !fromService && a.rolesRequired {
			return nil, ErrInvalidToken
		}
		if v, ok := a.validator.(ExpiredValidator); ok && fromService {
			validate = v.ValidateExpired
		}
	}
	if text == "" {
		return nil, ErrInvalidToken
	}
	token, err := validate(r.Context(), text)
	if err != nil {
		return nil, err
	}
	// A service passes on requests that the rules allowed where they came in.
	if !fromService && !token.Permits(a.serviceType, r.Method, r.URL.EscapedPath()) {
		return nil, ErrInvalidToken
	}
	return token, nil
}

// refuse answers 401 only when Keystone has refused the token.
func (a *authenticator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Content-Type", "application/json")
	if errors.Is(err, ErrInvalidToken) {
		a.log.DebugContext(r.Context(), "request without a valid token", "method", r.Method, "path", r.URL.Path)
		w.Header().Set("WWW-Authenticate", a.challenge)
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, unauthorizedBody)
		return
	}
	if r.Context().Err() == nil { // else it was the client who left
		a.log.ErrorContext(r.Context(), "token can not be validated", "error", err)
	}
	w.Header().Set("Retry-After", retryAfter)
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, unavailableBody)
}

type contextKey struct{}

type contextValue struct {
	token    *Token
	text     string
	passedBy *authenticator // nil outside Middleware
}

// NewContext returns a context that carries the token, and its text for
// UserToken.
func NewContext(ctx context.Context, token *Token, text string) context.Context {
	return context.WithValue(ctx, contextKey{}, &contextValue{token: token, text: text})
}

// FromContext returns the token that Middleware has validated, or nil on
// public paths.
func FromContext(ctx context.Context) *Token {
	if value, ok := ctx.Value(contextKey{}).(*contextValue); ok {
		return value.token
	}
	return nil
}

// Refuse answers a request that Middleware has let pass as one without a valid
// token: another service did not take it, so it was revoked in the meantime.
func Refuse(w http.ResponseWriter, r *http.Request) {
	a := &authenticator{log: slog.New(slog.DiscardHandler)}
	if value, ok := r.Context().Value(contextKey{}).(*contextValue); ok && value.passedBy != nil {
		a = value.passedBy
	}
	a.refuse(w, r, ErrInvalidToken)
}

// UserToken returns the text of the request's token, for calls to other
// services in the user's name, or "". It is a secret.
func UserToken(ctx context.Context) string {
	if value, ok := ctx.Value(contextKey{}).(*contextValue); ok {
		return value.text
	}
	return ""
}
