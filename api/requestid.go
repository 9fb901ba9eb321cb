// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/logging"
)

type requestKey struct{}

// requestInfo is what the log tells of a request.
type requestInfo struct {
	id          string
	globalID    string // that the caller sent along, or empty
	traceParent string

	route  string // pattern; empty until it is known, and for what is nowhere
	action string // policy rule of the route

	user, domain, project string // known once the token is
	target                string // uuid of what the request is about, once found
	operation             string // uuid of the work that began
}

func infoOf(ctx context.Context) *requestInfo {
	info, _ := ctx.Value(requestKey{}).(*requestInfo)
	return info
}

// requestIDForm is how ids of other services look: their own request id, sent
// along in the header that answers carry ours in. Anything else is not one.
var requestIDForm = regexp.MustCompile(`^req-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$`)

const requestIDHeader = "X-Openstack-Request-Id"

// identify gives the request an id, which every answer and every line of the
// log carries, writes one line when it has been answered, and turns a panic
// into a 500.
func (a *API) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := a.Now()
		info := &requestInfo{id: "req-" + uuid.NewString()}
		if id := r.Header.Get(requestIDHeader); requestIDForm.MatchString(id) {
			info.globalID = id
		}
		w.Header().Set(requestIDHeader, info.id)
		ctx, answered := a.Observer.Request(r)
		info.traceParent = a.Observer.TraceParent(ctx)
		ctx = context.WithValue(ctx, requestKey{}, info)
		ctx = logging.With(ctx, slog.String(logging.RequestID, info.id), slog.String(logging.GlobalRequestID, info.globalID))
		recorder := &statusRecorder{ResponseWriter: w}
		defer func() {
			if cause := recover(); cause != nil {
				a.Logger.LogAttrs(ctx, slog.LevelError, "panic in a request",
					slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
				if recorder.status == 0 {
					a.fail(recorder, r.WithContext(ctx), fmt.Errorf("panic: %v", cause))
				}
			}
			answered(info.route, recorder.status, recorder.sent)
			a.audit(r.WithContext(ctx), recorder.status)
			a.Logger.LogAttrs(ctx, levelOf(r), "request",
				slog.String("method", r.Method),
				slog.String("path", r.URL.Path),
				slog.Int("status", recorder.status),
				slog.String("user_id", info.user),
				slog.String("project_id", info.project),
				slog.Duration("took", a.Now().Sub(started)))
		}()
		next.ServeHTTP(recorder, r.WithContext(ctx))
	})
}

// levelOf keeps the load balancers' questions out of the log.
func levelOf(r *http.Request) slog.Level {
	if r.URL.Path == health.LivePath || r.URL.Path == health.ReadyPath {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// statusRecorder remembers the status of an answer, and how long its body is.
type statusRecorder struct {
	http.ResponseWriter
	status int
	sent   int64 // bytes
}

func (r *statusRecorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
