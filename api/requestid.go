// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/google/uuid"
)

type requestKey struct{}

// requestInfo is what the log tells of a request.
type requestInfo struct {
	id            string
	user, project string // known once the token is
}

func infoOf(ctx context.Context) *requestInfo {
	info, _ := ctx.Value(requestKey{}).(*requestInfo)
	return info
}

// requestID returns the id of the request that ctx belongs to.
func requestID(ctx context.Context) string { return infoOf(ctx).id }

// identify gives the request an id, which every answer carries, writes one log
// line when it has been answered, and turns a panic into a 500.
func (a *API) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := a.Now()
		info := &requestInfo{id: "req-" + uuid.NewString()}
		w.Header().Set("X-Openstack-Request-Id", info.id)
		ctx := context.WithValue(r.Context(), requestKey{}, info)
		recorder := &statusRecorder{ResponseWriter: w}
		defer func() {
			if cause := recover(); cause != nil {
				a.Logger.LogAttrs(ctx, slog.LevelError, "panic in a request",
					slog.String("request_id", info.id), slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
				if recorder.status == 0 {
					a.fail(recorder, r.WithContext(ctx), fmt.Errorf("panic: %v", cause))
				}
			}
			a.Logger.LogAttrs(ctx, levelOf(r), "request",
				slog.String("request_id", info.id),
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
	if r.URL.Path == healthcheckPath {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// statusRecorder remembers the status of an answer for the log.
type statusRecorder struct {
	http.ResponseWriter
	status int
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
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
