// SPDX-License-Identifier: Apache-2.0

// Package logging makes the loggers of Keelson's processes. What a line is
// about (the request, the operation, the step) travels in the context, so that
// every layer's lines carry it, also those that have never heard of requests.
package logging

import (
	"context"
	"io"
	"log/slog"
	"slices"
)

// Keys under which lines say what they are about. They are the same in all
// processes, so that one id finds the whole way of a request.
const (
	RequestID       = "request_id"        // req-<uuid> of the REST call
	GlobalRequestID = "global_request_id" // the id that the calling service sent along
	Operation       = "operation"         // uuid
	Cluster         = "cluster"           // uuid
	Step            = "step"              // name
	Node            = "node"              // name
	Name            = "logger"            // which log, for those that are a log of their own
)

// New returns a logger that writes to w, in the form "json" or else "text"
// (key=value), from level on. It writes what contexts carry; see With.
func New(w io.Writer, form string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if form == "json" {
		return slog.New(handler{next: slog.NewJSONHandler(w, options)})
	}
	return slog.New(handler{next: slog.NewTextHandler(w, options)})
}

// Contextual returns a logger that also writes what contexts carry; one that
// does so already is returned as it is.
func Contextual(log *slog.Logger) *slog.Logger {
	if _, already := log.Handler().(handler); already {
		return log
	}
	return slog.New(handler{next: log.Handler()})
}

type contextKey struct{}

// With returns a context whose lines carry these attributes beside those that
// it has already. A key that it has gets the new value; empty text is left out.
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	have, _ := ctx.Value(contextKey{}).([]slog.Attr)
	all := make([]slog.Attr, 0, len(have)+len(attrs))
	for _, a := range have {
		if !names(attrs, a.Key) {
			all = append(all, a)
		}
	}
	for _, a := range attrs {
		if a.Value.Kind() != slog.KindString || a.Value.String() != "" {
			all = append(all, a)
		}
	}
	return context.WithValue(ctx, contextKey{}, all)
}

// Bound returns a logger whose lines carry what the context carries, for calls
// that have no context.
func Bound(ctx context.Context, log *slog.Logger) *slog.Logger {
	attrs, _ := ctx.Value(contextKey{}).([]slog.Attr)
	return slog.New(log.Handler().WithAttrs(attrs))
}

func names(attrs []slog.Attr, key string) bool {
	return slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == key })
}

// handler adds the context's attributes, unless the logger or the line has that
// key of its own.
type handler struct {
	next  slog.Handler
	bound []slog.Attr
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	attrs, _ := ctx.Value(contextKey{}).([]slog.Attr)
	if len(attrs) == 0 {
		return h.next.Handle(ctx, r)
	}
	own := h.bound
	r.Attrs(func(a slog.Attr) bool {
		own = append(slices.Clip(own), a)
		return true
	})
	r = r.Clone()
	for _, a := range attrs {
		if !names(own, a.Key) {
			r.AddAttrs(a)
		}
	}
	return h.next.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.next.WithAttrs(attrs), slices.Concat(h.bound, attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.next.WithGroup(name), nil}
}
