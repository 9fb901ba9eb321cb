// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/store"
)

// Error is an answer of 400 and above with a sentence for the caller. Handlers
// return it for what the caller did wrong; everything else they return is
// looked up in [answer].
type Error struct {
	Status int
	Detail string
	Allow  []string // methods of the path, with 405

	RetryAfter time.Duration // with 429 and 503; 0: nothing is known
	// routing marks what was refused before a handler was reached: such
	// answers carry no code and, unless JSON was asked for, no text.
	routing bool
}

func (e *Error) Error() string { return e.Detail }

func badRequest(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &Error{Status: http.StatusForbidden, Detail: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &Error{Status: http.StatusNotFound, Detail: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{Status: http.StatusConflict, Detail: fmt.Sprintf(format, args...)}
}

func notAcceptable(format string, args ...any) error {
	return &Error{Status: http.StatusNotAcceptable, Detail: fmt.Sprintf(format, args...), routing: true}
}

// hasStatus tells whether err is an answer with that status.
func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == status
}

// sentinels is what the errors of lower layers mean to a caller.
var sentinels = []struct {
	err    error
	status int
	detail string
}{
	{store.ErrNotFound, http.StatusNotFound, "The resource could not be found."},
	{store.ErrAmbiguous, http.StatusConflict, "Several resources have that name. Please use the UUID instead."},
	{store.ErrExists, http.StatusConflict, "A resource with that identity exists already."},
	{store.ErrInUse, http.StatusBadRequest, "The cluster template is used by one or more clusters."},
	{store.ErrBadSortKey, http.StatusBadRequest, "The sort_key or sort_dir value is not one that this list can be sorted by."},
	{store.ErrBadMarker, http.StatusNotFound, "The marker could not be found."},
	{catalog.ErrNotFound, http.StatusBadRequest, "A resource that the request names could not be found."},
	{catalog.ErrForbidden, http.StatusForbidden, "A resource that the request names is not permitted."},
	{catalog.ErrAmbiguous, http.StatusConflict, "Several resources have a name that the request uses. Please use the id instead."},
	{catalog.ErrUnavailable, http.StatusServiceUnavailable, "A service that knows what the request names is temporarily unavailable."},
	{keystone.ErrUnavailable, http.StatusServiceUnavailable, "The Keystone service is temporarily unavailable."},
	{store.ErrUnavailable, http.StatusServiceUnavailable, "The database is temporarily unavailable. Please look whether the request was fulfilled before you repeat it."},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "A service that the request needs did not answer in time. Please look whether the request was fulfilled before you repeat it."},
	{store.ErrBusy, http.StatusServiceUnavailable, "Too many operations wait to be worked on. Please try again later."},
	{context.Canceled, 499, "The request was given up by the client."},
}

// answer decides the status and text of every error. The text of an unforeseen
// error stays inside: the caller gets the request id, which is in the log next
// to the error.
func answer(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("The request body is larger than %d bytes.", e.Limit),
		}
	}
	if e, ok := errors.AsType[*store.QuotaError](err); ok {
		return overQuota(e.Limit)
	}
	if e, ok := errors.AsType[*store.StatusError](err); ok {
		return &Error{
			Status: http.StatusBadRequest,
			Detail: fmt.Sprintf("The cluster is in status %s, in which this is not allowed.", e.Status),
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return &Error{Status: s.status, Detail: s.detail}
		}
	}
	if fault.IsPermanent(err) {
		return &Error{Status: http.StatusBadRequest, Detail: sentence(fault.Reason(err, "The request can not be fulfilled"))}
	}
	return &Error{
		Status: http.StatusInternalServerError,
		Detail: "The server could not fulfil the request. Please give your operator the request id, which is in the x-openstack-request-id header.",
	}
}

func overQuota(limit int) *Error {
	return &Error{
		Status: http.StatusForbidden,
		Detail: fmt.Sprintf("The project's quota of %d clusters is used up. Delete a cluster or ask for a larger quota.", limit),
	}
}

// wire renders the error. Title is the detail up to its first full stop; that
// is what the command line client shows.
func (e *Error) wire(wantsJSON bool) v1.Errors {
	w := v1.Error{Status: e.Status, Detail: e.Detail, Links: []v1.Link{}}
	switch {
	case e.routing && wantsJSON:
		w.Title = http.StatusText(e.Status)
	case e.routing:
		w.Detail = ""
	default:
		w.Title, _, _ = strings.Cut(e.Detail, ".")
		w.Code = "client"
		if e.Status >= http.StatusInternalServerError {
			w.Code = "server"
		}
	}
	return v1.Errors{Errors: []v1.Error{w}}
}

// sentence ends s with a full stop.
func sentence(s string) string {
	return strings.TrimSuffix(s, ".") + "."
}
